//! What the options of every command lead to: the directory, the bucket, and where packages go.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bucket::{Bucket, BucketOptions, BucketUrl, TopicName};
use clap::Args;
use console::{Threads, UsageError};
use fleet::policy::{Policy, watched::load_policy};

use crate::manifest::{Candidates, Manifest};

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Bucket
    #[arg(
        long,
        help = "Bucket: gs://NAME or file:///DIRECTORY",
        value_name = "URL",
        env = "PUSH_BUCKET",
        global = true
    )]
    pub(crate) bucket: Option<BucketUrl>,
    /// Run in this directory, which contains release.toml [default: the current one]
    #[arg(short = 'C', value_name = "DIR", default_value = ".", global = true, hide_default_value = true)]
    pub(crate) directory: PathBuf,
    /// Directory for built packages, relative to release.toml [default: dist]
    #[arg(long, value_name = "DIR", global = true)]
    pub(crate) out: Option<PathBuf>,
    /// Print results as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// How often at most something is tried of a bucket, if that is not as often as usual.
    #[arg(skip)]
    pub(crate) attempts: Option<usize>,
}

impl Options {
    /// The directory of `release.toml`, absolute and without links: what git calls it.
    pub(crate) fn directory(&self) -> Result<PathBuf> {
        let shown = self.directory.display();
        self.directory.canonicalize().with_context(|| format!("directory not found: `{shown}`"))
    }

    /// Opens the bucket that the command line, the environment or `manifest` names, in this order.
    pub(crate) async fn open_bucket(&self, manifest: Option<&Manifest>) -> Result<Bucket> {
        let from_file = || manifest.and_then(|manifest| manifest.bucket.clone());
        let Some(url) = self.bucket.clone().or_else(from_file) else {
            return Err(UsageError::new(
                "no bucket specified: use --bucket URL, set PUSH_BUCKET, or add to release.toml: \
                 [bucket] url = \"gs://acme-push\"",
            )
            .into());
        };
        let options = bucket_options(self.attempts)?;
        Bucket::open(&url, &options).await.with_context(|| format!("could not open the bucket `{url}`"))
    }

    /// Whether the command line, the environment or `manifest` names a bucket.
    pub(crate) fn has_bucket(&self, manifest: &Manifest) -> bool {
        self.bucket.is_some() || manifest.bucket.is_some()
    }

    /// Like [`Options::open_bucket`], with the `release.toml` of the directory if there is one.
    pub(crate) async fn find_bucket(&self) -> Result<Bucket> {
        self.open_bucket(self.find_manifest()?.as_ref()).await
    }

    /// Like [`Options::find_bucket`], for those who mean what is released: an overlay is never taken for that.
    pub(crate) async fn production(&self) -> Result<Bucket> {
        self.production_of(self.find_manifest()?.as_ref()).await
    }

    /// Like [`Options::production`], with this `release.toml` if there is one.
    pub(crate) async fn production_of(&self, manifest: Option<&Manifest>) -> Result<Bucket> {
        let bucket = self.open_bucket(manifest).await?;
        let overlay = bucket.overlay().await.context("could not find out whether the bucket is an overlay")?;
        if let Some(buildset) = overlay {
            let (id, change) = (buildset.buildset, buildset.change);
            let text = format!("the bucket is the overlay of the buildset `{id}` of `{change}`, and gone with it");
            let hint = "name the bucket of the releases by --bucket";
            return Err(UsageError::new(text).with_hint(hint).into());
        }
        Ok(bucket)
    }

    /// The `release.toml` of the directory, if there is one. A broken one is no reason not to use another bucket.
    pub(crate) fn find_manifest(&self) -> Result<Option<Manifest>> {
        match self.directory().and_then(|directory| Manifest::read_if_there(&directory)) {
            Err(_) if self.bucket.is_some() => Ok(None),
            found => found,
        }
    }

    /// Where uploads are announced: what `manifest` says, if its bucket is the one that is used.
    pub(crate) fn announce<'a>(&self, manifest: Option<&'a Manifest>) -> Option<&'a TopicName> {
        let manifest = manifest.filter(|manifest| self.bucket.is_none() || self.bucket == manifest.bucket)?;
        manifest.announce.as_ref()
    }

    /// What `release.toml` says of changes that are not merged yet.
    pub(crate) fn candidates(&self) -> Result<Candidates> {
        self.candidates_of(Manifest::read_if_there(&self.directory()?)?.as_ref())
    }

    /// Like [`Options::candidates`], with this `release.toml` if there is one.
    pub(crate) fn candidates_of(&self, manifest: Option<&Manifest>) -> Result<Candidates> {
        let none = "no candidate bucket specified: add to release.toml: [candidates] bucket = \"gs://acme-ci\"";
        Ok(self.ensure_apart(manifest)?.ok_or_else(|| UsageError::new(none))?)
    }

    /// Like [`Options::candidates`], if it says anything of them.
    pub(crate) fn find_candidates(&self) -> Result<Option<Candidates>> {
        self.ensure_apart(Manifest::read_if_there(&self.directory()?)?.as_ref())
    }

    /// What is said of candidates, whose bucket is none that releases go to.
    fn ensure_apart(&self, manifest: Option<&Manifest>) -> Result<Option<Candidates>> {
        let candidates = manifest.and_then(|manifest| manifest.candidates.clone());
        if candidates.as_ref().is_some_and(|candidates| self.bucket.as_ref() == Some(&candidates.bucket)) {
            let same = "the bucket of the releases, by --bucket or PUSH_BUCKET, is the candidate bucket: what is not merged \
                        has a bucket of its own";
            return Err(UsageError::new(same).into());
        }
        Ok(candidates)
    }

    /// The directory for built packages, for a project in `directory`.
    pub(crate) fn out(&self, directory: &Path) -> PathBuf {
        directory.join(self.out.as_deref().unwrap_or(Path::new("dist")))
    }
}

impl Candidates {
    /// Opens the candidate bucket.
    pub(crate) async fn open(&self) -> Result<Bucket> {
        self.open_within(None).await
    }

    /// The same, where something is tried so often at most.
    pub(crate) async fn open_within(&self, attempts: Option<usize>) -> Result<Bucket> {
        let options = bucket_options(attempts)?;
        let url = &self.bucket;
        Bucket::open(url, &options).await.with_context(|| format!("could not open the candidate bucket `{url}`"))
    }
}

/// How buckets are reached.
fn bucket_options(attempts: Option<usize>) -> Result<BucketOptions> {
    let options = BucketOptions::from_env(|key| std::env::var(key).ok())?;
    Ok(BucketOptions { attempts: attempts.unwrap_or(options.attempts), ..options })
}

/// The variable that names the policy file, as for `push`.
pub(crate) const CONFIG: &str = "PUSH_CONFIG";

/// The policy, if there is one at hand.
///
/// # Errors
/// When it can't be read, or all that is wrong with it.
pub(crate) fn policy() -> Result<Option<Policy>> {
    let file = std::env::var(CONFIG).ok().filter(|file| !file.is_empty());
    file.map(|file| load_policy(Path::new(&file))).transpose()
}

/// Waits for something that talks to a bucket.
pub(crate) fn wait_for<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    console::block_on(Threads::Two, work)
}
