//! The key `check`: what must succeed before a release counts as healthy.

use anyhow::{Context, Result, bail};
use bucket::{Check, CheckCommand, CheckPace, Probe};
use toml::{Table, Value};

use console::{Keys, Mismatch};

use super::keys::{Place, known};

/// What `check` may be.
const EXPECTED: &str =
    "a command, as in [\"/usr/bin/web\", \"--health\"], or a table, as in { http = \"http://127.0.0.1:8000/healthz\" }";

/// The two ways to write it.
enum Form {
    Command(Vec<String>),
    Table(Table),
}

/// Takes the key from a package's table; none if it isn't there, or is an empty array.
pub(super) fn parse(at: &str, keys: &mut Keys) -> Result<Option<Check>> {
    let form = keys.take("check", EXPECTED, |value| match value {
        Value::Table(table) => Ok(Form::Table(table.clone())),
        Value::Array(words) => {
            let word = |word: &Value| word.as_str().map(str::to_owned).ok_or(Mismatch::Unexpected);
            words.iter().map(word).collect::<Result<_, _>>().map(Form::Command)
        }
        _ => Err(Mismatch::Unexpected),
    })?;
    match form {
        None => Ok(None),
        Some(Form::Command(words)) if words.is_empty() => Ok(None),
        Some(Form::Command(words)) => {
            let command: CheckCommand = words.try_into().with_context(|| format!("{at}: invalid `check`"))?;
            Ok(Some(Check { probe: Probe::Command(command), pace: None }))
        }
        Some(Form::Table(table)) => with_pace(&format!("{at} check"), table).map(Some),
    }
}

/// A probe, and how often it is tried.
fn with_pace(at: &str, table: Table) -> Result<Check> {
    let mut keys = Keys::new(at, table, &known(Place::Check))?;
    let http = keys.parsed("http", "a URL of the server itself, as in \"http://127.0.0.1:8000/healthz\"")?;
    let tcp = keys.parsed("tcp", "an address of the server itself, as in \"127.0.0.1:5432\"")?;
    let command = keys.texts("command")?;
    let probe = match (http, tcp, command.is_empty()) {
        (Some(url), None, true) => Probe::Http(url),
        (None, Some(address), true) => Probe::Tcp(address),
        (None, None, false) => Probe::Command(command.try_into().with_context(|| format!("{at}: invalid `command`"))?),
        (None, None, true) => bail!("{at}: one of `http`, `tcp` and `command` is missing"),
        _ => bail!("{at}: `http`, `tcp` and `command` are mutually exclusive: keep one of them"),
    };
    let default = CheckPace::DEFAULT;
    let timeout = keys.duration("timeout", CheckPace::TIMEOUTS)?.unwrap_or(default.timeout());
    let interval = keys.duration("interval", CheckPace::INTERVALS)?.unwrap_or(default.interval());
    let (least, most) = (*CheckPace::ATTEMPTS.start(), *CheckPace::ATTEMPTS.end());
    let attempts = keys.number("attempts", least.into()..=most.into())?;
    let attempts = attempts.and_then(|attempts| u32::try_from(attempts).ok()).unwrap_or(default.attempts());
    let pace = CheckPace::new(timeout, interval, attempts).with_context(|| format!("{at}: the check is too slow"))?;
    Ok(Check { probe, pace: Some(pace) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_has_the_defaults() {
        let default = CheckPace::DEFAULT;
        let seconds = |time: std::time::Duration| format!("`\"{}s\"`", time.as_secs());
        for (name, default) in [
            ("timeout", seconds(default.timeout())),
            ("interval", seconds(default.interval())),
            ("attempts", format!("`{}`", default.attempts())),
        ] {
            let key = crate::manifest::keys::keys(Place::Check).find(|key| key.name == name).unwrap();
            assert_eq!(key.default, default, "{name}");
        }
    }

    fn parsed(text: &str) -> Result<Option<Check>> {
        let table: Table = format!("check = {text}").parse()?;
        parse("[package.web]", &mut Keys::new("[package.web]", table, &["check"])?)
    }

    #[test]
    fn a_check_is_carried_as_the_agent_reads_it() {
        for (text, value) in [
            ("[\"/x\", \"-a\"]", "/x -a"),
            ("{ command = [\"/x\", \"-a\"] }", "timeout=5s interval=1s attempts=10 /x -a"),
            (
                "{ http = \"http://127.0.0.1:8000/healthz\", attempts = 3 }",
                "timeout=5s interval=1s attempts=3 http://127.0.0.1:8000/healthz",
            ),
            (
                "{ tcp = \"127.0.0.1:5432\", timeout = \"500ms\", interval = \"2s\" }",
                "timeout=500ms interval=2s attempts=10 tcp://127.0.0.1:5432",
            ),
        ] {
            assert_eq!(parsed(text).unwrap().unwrap().to_string(), value, "{text}");
        }
        assert_eq!(parsed("[]").unwrap(), None);
    }

    #[test]
    fn what_is_no_check_is_refused_with_its_place() {
        for (text, expected) in [
            ("1", "[package.web]: `check` is `1`, but must be a command"),
            ("[1]", "[package.web]: `check` is `[1]`, but must be a command"),
            ("[\"web\"]", "[package.web]: invalid `check`"),
            ("[\"/x\\nEssential:\"]", "[package.web]: invalid `check`"),
            ("{}", "[package.web] check: one of `http`, `tcp` and `command` is missing"),
            ("{ htp = \"x\" }", "[package.web] check: unknown key `htp`; did you mean `http`?"),
            (
                "{ http = \"http://10.0.0.1/\" }",
                "[package.web] check: `http` is `\"http://10.0.0.1/\"`, but must be a URL",
            ),
            ("{ http = \"https://127.0.0.1/\" }", "it must begin with `http://`"),
            ("{ tcp = \"db:5432\" }", "[package.web] check: `tcp` is `\"db:5432\"`, but must be an address"),
            ("{ tcp = \"127.0.0.1:1\", command = [\"/x\"] }", "mutually exclusive"),
            ("{ command = [\"x\"] }", "[package.web] check: invalid `command`"),
            ("{ tcp = \"127.0.0.1:1\", timeout = \"2m\" }", "[package.web] check: `timeout` is `\"2m\"`"),
            ("{ tcp = \"127.0.0.1:1\", timeout = 5 }", "must be a duration from `100ms` to `1m`"),
            ("{ tcp = \"127.0.0.1:1\", attempts = 0 }", "must be a whole number from 1 to 100"),
            (
                "{ tcp = \"127.0.0.1:1\", timeout = \"1m\", attempts = 100 }",
                "[package.web] check: the check is too slow",
            ),
        ] {
            let error = format!("{:#}", parsed(text).unwrap_err());
            assert!(error.contains(expected), "{text}\ngave: {error}\nexpected: {expected}");
        }
    }
}
