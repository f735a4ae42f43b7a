//! `[pipeline]`: what holds for every run of the repository's pipelines.

use anyhow::{Context as _, Result, bail};
use bucket::ChangeId;
use console::{Keys, safe};
use fleet::policy::Pattern;
use toml::Table;

use super::keys::{Place, known};

/// Most patterns of servers.
const MAX_SERVERS: usize = 100;

/// `[pipeline]`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PipelineRules {
    /// What the project is called.
    pub(crate) project: Option<String>,
    /// Variables that stages have from whoever starts a run.
    pub(crate) pass: Vec<String>,
    /// The servers on which what is not merged yet may be tried.
    pub(crate) servers: Vec<Pattern>,
    /// Whether a channel may only be moved to what was tried on a server.
    pub(crate) require_trial: bool,
}

impl PipelineRules {
    pub(super) fn parse(table: Table) -> Result<Self> {
        let mut keys = Keys::new("[pipeline]", table, &known(Place::Pipeline))?;
        let project = keys.text("project")?;
        if let Some(project) = &project {
            ChangeId::new(project, "1").context("[pipeline]: invalid `project`")?;
        }
        let pass = keys.texts("pass")?;
        if let Some(bad) = pass.iter().find(|name| name.is_empty() || name.contains(['=', '\0'])) {
            bail!("[pipeline]: invalid `pass`: `{}` is no name of a variable", safe(bad));
        }
        let servers = servers(&keys.texts("servers")?)?;
        Ok(Self { project, pass, servers, require_trial: keys.flag("require_trial")?.unwrap_or(false) })
    }
}

fn servers(listed: &[String]) -> Result<Vec<Pattern>> {
    if listed.len() > MAX_SERVERS {
        bail!("[pipeline]: `servers` has {} patterns, and {MAX_SERVERS} are the most", listed.len());
    }
    let pattern = |text: &String| {
        Pattern::new(text).with_context(|| format!("[pipeline]: invalid `servers`: `{}`", console::cut(text, 80)))
    };
    listed.iter().map(pattern).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<PipelineRules, String> {
        PipelineRules::parse(text.parse().unwrap()).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn servers_are_patterns_of_names_and_not_too_many() {
        let rules = parsed("servers = [\"stage-*\", \"ci\"]").unwrap();
        let allows = |name: &str| rules.servers.iter().any(|pattern| pattern.matches(name));
        assert!(allows("stage-1") && allows("ci") && !allows("web-1"));
        assert_eq!(parsed("pass = []").unwrap().servers, []);
        for (text, expected) in [
            ("[\"stage 1\"]", "invalid `servers`: `stage 1`: a name cannot contain ` `"),
            ("[\"\"]", "must have 1 to"),
            (&format!("[{}]", "\"*\",".repeat(101)), "`servers` has 101 patterns, and 100 are the most"),
        ] {
            let refused = parsed(&format!("servers = {text}")).unwrap_err();
            assert!(refused.contains(expected), "{refused}");
        }
    }
}
