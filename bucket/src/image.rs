//! Container images of an app, which lie in a registry: what was seen there under the tag of a commit, and when.
//! `images/{app}/{commit}.json`.
//!
//! A registry keeps no times, and lets anybody who may write there put another image under the same tag. So what is newer, and
//! which image a commit has, is what is recorded here, once.

use futures_util::{Stream, TryStreamExt};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    AppName, Bucket, ChangeId, Commit, Error, Generation, ImageTag, Metadata, NameError, Object, PageToken,
    ReleaseName, ReleaseParts, Sha256, items, layout,
};

/// Most bytes of a record. It lies in the object's metadata, too, which have 8 KiB.
const MAX_SIZE: u64 = 4 << 10;

/// The metadata that has the whole record, so that a list tells.
const RECORD: &str = "image";

/// Longest user or host of its release's name, in bytes.
const MAX_WORD: usize = 20;

/// The image of one commit. Unknown fields are ignored by readers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Image {
    /// The version of the format: 1.
    pub schema: u32,
    /// The app of which it is.
    pub app: AppName,
    /// The commit that its tag names.
    pub commit: Commit,
    /// What it is called, with its registry: `images.example/acme/web`. Checked by whoever speaks to that.
    pub name: String,
    /// The tag under which it was found: the commit.
    pub tag: String,
    /// The sum of its manifest.
    #[serde(with = "digest")]
    pub digest: Sha256,
    /// What kind of manifest that is.
    pub media_type: String,
    /// The image that it was built on, with its digest, as far as that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// When it was recorded, by the bucket's clock.
    pub time: Timestamp,
    /// The commit of the branch that it counts as; without it, that of its tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub landed: Option<Commit>,
    /// From what it was promoted, if it was a candidate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promoted: Option<PromotedImage>,
    /// Who recorded it.
    pub who: String,
    /// What this program doesn't know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// That an image was a candidate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromotedImage {
    /// The change that it was built from.
    pub change: ChangeId,
    /// Which version of it.
    pub patchset: u32,
    /// The tag that it got besides that of the commit as which the change landed.
    pub tag: ImageTag,
}

/// An image in a list, without being read.
#[derive(Debug)]
pub struct ImageSummary {
    /// The commit that it is of.
    pub commit: Commit,
    /// The generation of its object: there is only ever one.
    pub generation: Generation,
    /// What its metadata says of it; [`Error::Malformed`] of what this program doesn't understand.
    pub image: Result<Image, Error>,
}

impl Image {
    /// What it is called where releases are named, as in a channel.
    ///
    /// # Errors
    /// When app and commit have no room for anything else in a name.
    pub fn release(&self) -> Result<ReleaseName, NameError> {
        release(&self.app, &self.commit, self.time, &self.who)
    }

    /// What is understood of a record, if it is that of this commit of this app.
    fn parse(json: &[u8], app: &AppName, commit: &Commit) -> Result<Self, String> {
        let image: Self = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        if image.schema != 1 {
            return Err(format!("it has schema {}, which this program does not know", image.schema));
        }
        if (&image.app, &image.commit) != (app, commit) {
            return Err(format!("it says that it is commit `{}` of `{}`", image.commit, image.app));
        }
        Ok(image)
    }
}

impl Bucket {
    /// Records an image of a commit that none was recorded of.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] when one is, [`Error::TooLarge`] when what is said of it is too long. Nothing was written then.
    pub async fn record_image(&self, image: &Image) -> Result<Generation, Error> {
        let content = serde_json::to_string(image).expect("what is said of an image is JSON");
        let metadata = Metadata::from([(RECORD.to_owned(), content.clone())]);
        self.write_within(MAX_SIZE, &layout::image(&image.app, &image.commit), content, &metadata, None).await
    }

    /// The images of an app, in no order that says anything.
    pub fn images(&self, app: &AppName) -> impl Stream<Item = Result<ImageSummary, Error>> {
        let (prefix, app) = (layout::images_of(app), app.clone());
        let page = move |after: Option<PageToken>| {
            let prefix = prefix.clone();
            async move { self.list(&prefix, after.as_ref(), 1000).await }
        };
        items(page).try_filter_map(move |info| {
            let summary = layout::image_at(&info.path).map(|(_, commit)| {
                let recorded = info.metadata.get(RECORD).ok_or_else(|| "no program of ours wrote it".to_owned());
                let image = recorded.and_then(|json| Image::parse(json.as_bytes(), &app, &commit));
                let image = image.map_err(|reason| Error::Malformed { object: info.path.to_string(), reason });
                ImageSummary { commit, generation: info.generation, image }
            });
            std::future::ready(Ok(summary))
        })
    }

    /// The image of a commit; `None` when none was recorded.
    ///
    /// # Errors
    /// Also [`Error::Malformed`].
    pub async fn image(&self, app: &AppName, commit: &Commit) -> Result<Option<Image>, Error> {
        let path = layout::image(app, commit);
        let Some(Object { content, .. }) = self.get(&path, MAX_SIZE).await? else { return Ok(None) };
        let malformed = |reason| Error::Malformed { object: path.to_string(), reason };
        Image::parse(&content, app, commit).map(Some).map_err(malformed)
    }
}

/// What an image of a commit is called where releases are named.
///
/// # Errors
/// When app and commit have no room for anything else in a name.
pub(crate) fn release(app: &AppName, commit: &Commit, time: Timestamp, who: &str) -> Result<ReleaseName, NameError> {
    let (user, host) = who.split_once('@').unwrap_or((who, ""));
    let parts = ReleaseParts {
        app: app.clone(),
        user: word(user),
        host: word(host),
        time: Timestamp::from_second(time.as_second()).unwrap_or(time),
        commit: commit.clone(),
    };
    ReleaseName::new(&parts)
}

/// As much of a text as can be part of a release's name.
fn word(text: &str) -> String {
    let kept = text.chars().filter(char::is_ascii_alphanumeric).take(MAX_WORD).collect::<String>();
    if kept.is_empty() { "unknown".to_owned() } else { kept }
}

/// A sum as registries write it: `sha256:` and its digits.
pub(crate) mod digest {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use crate::Sha256;

    const ALGORITHM: &str = "sha256:";

    pub(crate) fn serialize<S: Serializer>(sum: &Sha256, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{ALGORITHM}{sum}"))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Sha256, D::Error> {
        let text = String::deserialize(deserializer)?;
        let sum = text.strip_prefix(ALGORITHM).ok_or_else(|| D::Error::custom("a digest must begin with `sha256:`"))?;
        sum.parse().map_err(D::Error::custom)
    }
}
