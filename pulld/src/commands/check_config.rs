//! `pulld check-config`: reads the configuration and tells what it amounts to.

use std::process::ExitCode;

use anyhow::Result;

use crate::config::duration::show;

/// Arguments of `pulld check-config`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 it is good, 1 it is wrong or has something in it that isn't used.")]
pub(crate) struct Arguments {}

pub(crate) fn run(context: &super::Context, _arguments: &Arguments) -> Result<ExitCode> {
    let loaded = context.load()?;
    let settings = &loaded.settings;
    for file in &loaded.files {
        eprintln!("read {}", file.display());
    }
    match &settings.bucket {
        Some(url) => println!("bucket = \"{url}\""),
        None => println!("# bucket is not set: the agent waits"),
    }
    println!("server = \"{}\"", settings.server);
    println!("poll = \"{}\"", show(settings.poll));
    println!("jitter = \"{}\"", show(settings.jitter));
    println!("health_window = \"{}\"", show(settings.health_window));
    println!("transaction_timeout = \"{}\"", show(settings.transaction_timeout));
    println!("prune = {}", settings.prune);
    println!("allowed_apps = {:?}", settings.allowed_apps.globs());
    println!("keep_releases = {}", settings.keep_releases);
    println!("metadata = \"{}\"", settings.metadata);
    if let Some(endpoint) = &settings.bucket_options.endpoint {
        println!("gcs_endpoint = \"{endpoint}\"");
    }
    for warning in &loaded.warnings {
        eprintln!("pulld: {}", super::safe(warning));
    }
    Ok(if loaded.warnings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
