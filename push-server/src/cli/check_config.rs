//! `push check-config`: whether a policy file is valid.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use console::{UsageError, count, print_json, print_line, safe};
use fleet::policy::{Policy, watched::read_text};
use serde_json::json;

/// Validate a policy file, reporting every error with its line and column
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  push check-config skiapush.conf

Exit status:
  0  valid
  1  invalid or unreadable
  2  usage error")]
pub(crate) struct CheckConfig {
    /// Policy file; default: the one of --config
    file: Option<PathBuf>,
}

impl CheckConfig {
    pub(crate) fn run(&self, config: Option<&Path>, as_json: bool) -> Result<bool> {
        let none = || UsageError::new("no policy file specified: use `push check-config FILE` or --config FILE");
        let file = self.file.as_deref().or(config).ok_or_else(none)?;
        let name = safe(&file.display().to_string());
        let text = read_text(file)?;
        let checked = Policy::parse(&name, &text);
        let is_valid = checked.is_ok();
        if as_json {
            let problems = checked.err().unwrap_or_default();
            let problems: Vec<_> = problems
                .iter()
                .map(|problem| json!({ "line": problem.line, "column": problem.column, "text": problem.text }))
                .collect();
            print_json(&json!({ "file": name, "problems": problems }))?;
            return Ok(is_valid);
        }
        match checked {
            Ok(policy) => {
                let servers = count(policy.servers().count(), "server");
                let (groups, apps) = (count(policy.groups().count(), "group"), count(policy.apps_in_waves(), "app"));
                let channels = count(policy.channels().len(), "channel");
                print_line(format_args!("{name}: valid, {servers}, {groups}, {apps} with waves, {channels}"))?;
            }
            Err(problems) => {
                for problem in problems {
                    print_line(format_args!("{name}:{}", safe(&problem.to_string())))?;
                }
            }
        }
        Ok(is_valid)
    }
}
