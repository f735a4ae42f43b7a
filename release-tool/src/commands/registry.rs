//! `release registry`: the images of an overlay, served for as long as its buildset lasts.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::Args;
use console::{note, print_json, print_line, warning};
use registry::{Client, Host};
use serde_json::json;

use crate::{
    buildset::{
        make::{existing, locate},
        run::{Ended, Signals},
    },
    images::{
        configure::Tool,
        serve::{Served, Wanted},
    },
    options::{Options, wait_for},
};

/// How often it is seen whether the buildset has ended.
const LOOK: Duration = Duration::from_secs(1);

/// Serve the images of an overlay, and read others through
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  release registry /srv/try --from images.example            serve what is in the overlay, else in images.example
  release registry /srv/try --listen 10.0.0.5:5000           for jobs on other machines

It prints where it is, and ends with the buildset, or when it is stopped. Its own images win; others are
read through from the registries that --from names, and nothing is written there. Pushing needs the password
in registry/auth.json of the overlay, and so does what is read through with a credential.")]
pub(crate) struct Registry {
    /// Directory of the overlay
    #[arg(value_name = "DIR")]
    overlay: PathBuf,
    #[command(flatten)]
    serving: Serving,
}

/// How the registry of a buildset is to be.
#[derive(Debug, Args)]
pub(crate) struct Serving {
    /// Registry from which images are read through that the overlay lacks; the first one has those whose name says none
    #[arg(long, value_name = "REGISTRY")]
    from: Vec<Host>,
    /// Address and port on which the overlay's images are served, for jobs on other machines
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Write a configuration of this client, which finds the overlay's images first, into the overlay's directory
    #[arg(long, value_name = "CLIENT", value_enum)]
    configure: Vec<Tool>,
}

impl Serving {
    /// Serves the images of an overlay, and says how the configurations that were asked for are used.
    ///
    /// Whoever has its password reads the other registries with `owner`.
    pub(crate) async fn start(&self, owner: Client, overlay: &Path) -> Result<Served> {
        let wanted = Wanted { from: self.from.clone(), listen: self.listen, owner };
        let started = Served::start(overlay, wanted).await;
        let served = started.with_context(|| format!("could not serve the images of `{}`", overlay.display()))?;
        for tool in &self.configure {
            note(served.configure(*tool)?);
        }
        Ok(served)
    }
}

impl Registry {
    pub(crate) fn run(self, options: &Options) -> Result<ExitCode> {
        wait_for(async {
            let mut signals = Signals::listen()?;
            let directory = locate(&options.directory.join(&self.overlay))?;
            let there = existing(&directory).await?;
            let (_, buildset) = there
                .with_context(|| format!("`{directory}` is no overlay: make one with `release buildset start`"))?;
            let images = options.find_manifest()?.map(|manifest| manifest.images).unwrap_or_default();
            let served = self.serving.start(images.client()?, Path::new(&directory)).await?;
            if options.json {
                let said: serde_json::Map<_, _> =
                    served.variables().into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect();
                print_json(&said)?;
            } else {
                print_line(&served.address)?;
            }
            let mut is_warned = false;
            loop {
                tokio::select! {
                    signal = signals.next() => return Ok(ExitCode::from(Ended::by(signal).status)),
                    () = tokio::time::sleep(LOOK) => {}
                }
                let there = match existing(&directory).await {
                    Ok(there) => there,
                    // It serves on: whether the buildset has ended is seen another time.
                    Err(error) => {
                        if !is_warned {
                            warning(format_args!("could not see whether the buildset has ended: {error:#}"));
                        }
                        is_warned = true;
                        continue;
                    }
                };
                if there.is_none_or(|(_, there)| there.buildset != buildset.buildset) {
                    note(format_args!("the buildset `{}` has ended, and its registry with it", buildset.buildset));
                    return Ok(ExitCode::SUCCESS);
                }
            }
        })
    }
}
