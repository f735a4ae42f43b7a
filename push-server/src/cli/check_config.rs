//! `push check-config`: whether a policy file is valid.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use console::{UsageError, count, print_json, print_line, safe};
use fleet::policy::{ChannelRules, Policy, watched::read_text};
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
            let notes: Vec<String> = checked.iter().flat_map(notes).collect();
            let problems = checked.err().unwrap_or_default();
            let problems: Vec<_> = problems
                .iter()
                .map(|problem| json!({ "line": problem.line, "column": problem.column, "text": problem.text }))
                .collect();
            print_json(&json!({ "file": name, "problems": problems, "notes": notes }))?;
            return Ok(is_valid);
        }
        match checked {
            Ok(policy) => {
                let servers = count(policy.servers().count(), "server");
                let (groups, apps) = (count(policy.groups().count(), "group"), count(policy.apps_in_waves(), "app"));
                let channels = count(policy.channels().len(), "channel");
                print_line(format_args!("{name}: valid, {servers}, {groups}, {apps} with waves, {channels}"))?;
                for note in notes(&policy) {
                    print_line(format_args!("{name}: {note}"))?;
                }
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

/// What a valid file has as a consequence that its reader may not expect.
fn notes(policy: &Policy) -> impl Iterator<Item = String> {
    policy.channels().iter().filter_map(|rules| {
        let ChannelRules { app, channel, .. } = rules;
        let max_down = rules.only_max_down()?;
        Some(format!(
            "channel `{channel}` of `{app}` has `MaxDown` and no `Waves`: where the policy asks for no waves either, its followers \
             are one wave, of which at most {max_down} of each group are out at a time"
        ))
    })
}
