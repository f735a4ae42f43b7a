//! `pulld check-config`: reads the configuration and prints the resulting settings.

use std::process::ExitCode;

use anyhow::Result;
use console::{duration::show, note, print_line, safe, warning};

/// Arguments of `pulld check-config`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit status: 0 valid; 1 invalid, or contains unknown keys")]
pub(crate) struct Arguments {}

pub(crate) fn run(context: &super::Context, _arguments: &Arguments) -> Result<ExitCode> {
    let loaded = context.load()?;
    let settings = &loaded.settings;
    for file in &loaded.files {
        note(format_args!("read `{}`", file.display()));
    }
    let mut lines = vec![match &settings.bucket {
        Some(url) => format!("bucket = \"{url}\""),
        None => "# bucket is not set: the agent waits".to_owned(),
    }];
    lines.extend([
        format!("server = \"{}\"", settings.server),
        format!("poll = \"{}\"", show(settings.poll)),
        format!("jitter = \"{}\"", show(settings.jitter)),
        format!("health_window = \"{}\"", show(settings.health_window)),
        format!("transaction_timeout = \"{}\"", show(settings.transaction_timeout)),
        format!("prune = {}", settings.prune),
        format!("allowed_apps = {:?}", settings.allowed_apps.globs()),
        format!("keep_releases = {}", settings.keep_releases),
        format!("metadata = \"{}\"", settings.metadata),
    ]);
    if let Some(endpoint) = &settings.bucket_options.endpoint {
        lines.push(format!("gcs_endpoint = \"{endpoint}\""));
    }
    for line in &lines {
        print_line(safe(line))?;
    }
    loaded.warnings.iter().for_each(warning);
    Ok(if loaded.warnings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
