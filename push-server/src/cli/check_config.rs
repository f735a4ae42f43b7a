//! `push check-config`: whether a policy file is as it should be.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::{Misused, print, print_json, show};
use fleet::policy::{Policy, watched::read_text};

/// Checks a policy file, and tells every mistake with its line and column.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  push check-config skiapush.conf

Exit status: 0 when it is good, 1 when it has mistakes or can't be read.")]
pub(crate) struct CheckConfig {
    /// The file; without it, the one of --config.
    file: Option<PathBuf>,
}

impl CheckConfig {
    pub(crate) fn run(&self, config: Option<&Path>, as_json: bool) -> Result<bool> {
        let none = || Misused("no policy file was named: give one, as in `push check-config skiapush.conf`".to_owned());
        let file = self.file.as_deref().or(config).ok_or_else(none)?;
        let name = show::safe(&file.display().to_string());
        let text = read_text(file)?;
        let checked = Policy::parse(&name, &text);
        let good = checked.is_ok();
        if as_json {
            let problems = checked.err().unwrap_or_default();
            let problems: Vec<_> = problems
                .iter()
                .map(|problem| json!({ "line": problem.line, "column": problem.column, "text": problem.text }))
                .collect();
            print_json(&json!({ "file": name, "problems": problems }))?;
            return Ok(good);
        }
        match checked {
            Ok(policy) => {
                let (servers, groups) = (policy.servers().count(), policy.groups().count());
                print(&format!("{name}: good, with {servers} servers and {groups} groups\n"))?;
            }
            Err(problems) => {
                for problem in problems {
                    print(&format!("{name}:{}\n", show::safe(&problem.to_string())))?;
                }
            }
        }
        Ok(good)
    }
}
