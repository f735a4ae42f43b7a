//! Stories: a command a line, and comments. Pure.

use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use bucket::ServerName;
use clap::Parser;
use fleet::{policy::Policy, rollout::decide::Decision, simulation::agent::Fate, wish::Share};

use crate::cli::waves::WaveOptions;

/// Most servers of a story that counts them.
const MAX_SERVERS: usize = 10_000;

/// A story, line by line.
#[derive(Debug)]
pub(super) struct Story {
    /// Its lines, those without a command too.
    pub(super) lines: Vec<Line>,
}

/// One line of a story.
#[derive(Debug)]
pub(super) struct Line {
    /// As it was written.
    pub(super) text: String,
    /// What it says to do, if that is not a comment.
    pub(super) command: Option<Command>,
}

/// What a line of a story says to do.
#[derive(Debug)]
pub(super) enum Command {
    /// These servers are there.
    Servers(Vec<ServerName>),
    /// The random numbers of how long agents take.
    Seed(u64),
    /// The rules.
    Policy(Box<Policy>),
    /// What becomes of a release on a server from now on.
    Agent(ServerName, Fate),
    /// A machine is turned on or off.
    Turn(ServerName, bool),
    /// A rollout to all servers begins.
    Rollout(Box<WaveOptions>),
    /// Time passes, and somebody drives the rollout; without a time, until nothing happens without a person.
    Run(Option<Duration>),
    /// Time passes, and nobody drives the rollout.
    Wait(Duration),
    /// Somebody else pushes another release.
    Push(ServerName),
    /// A server is put on hold.
    Hold(ServerName, Duration),
    /// The holds of a server end.
    Resume(ServerName),
    /// All pushes are halted, or no longer.
    Halt(bool),
    /// A person decides about the rollout.
    Decide(Decision),
    /// The rollout and its servers are shown.
    Show,
}

/// As a line is written.
#[derive(Debug, Parser)]
#[command(no_binary_name = true, disable_help_flag = true, disable_help_subcommand = true)]
enum Words {
    Servers {
        #[arg(required = true)]
        servers: Vec<String>,
    },
    Seed {
        number: u64,
    },
    Agent {
        server: ServerName,
        does: Fate,
    },
    Off {
        server: ServerName,
    },
    On {
        server: ServerName,
    },
    Rollout(WaveOptions),
    Run {
        #[arg(value_parser = console::duration::parse)]
        time: Option<Duration>,
    },
    Wait {
        #[arg(value_parser = console::duration::parse)]
        time: Duration,
    },
    Push {
        server: ServerName,
    },
    Hold {
        server: ServerName,
        #[arg(value_parser = console::duration::parse)]
        time: Duration,
    },
    Resume {
        server: ServerName,
    },
    Halt,
    Lift,
    Pass,
    Fail,
    Unsure,
    Continue {
        #[arg(long)]
        max_down: Option<Share>,
    },
    Stop,
    Undo,
    Abandon,
    Show,
}

impl Story {
    /// Reads a story.
    ///
    /// # Errors
    /// The first line that is wrong, and which word of it.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let lines = text.lines().enumerate().map(|(at, text)| {
            let command = command(text.trim()).map_err(|error| anyhow!("line {}: {error:#}", at + 1))?;
            Ok(Line { text: text.trim().to_owned(), command })
        });
        Ok(Self { lines: lines.collect::<Result<_>>()? })
    }
}

fn command(line: &str) -> Result<Option<Command>> {
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    if let Some(rules) = line.strip_prefix("policy ") {
        let policy = Policy::parse("the policy of the story", rules);
        let policy = policy.map_err(|problems| anyhow!("policy: {}", console::safe(&problems[0].text)))?;
        return Ok(Some(Command::Policy(Box::new(policy))));
    }
    let words = Words::try_parse_from(line.split_whitespace()).map_err(|error| anyhow!(in_a_line(&error)))?;
    Ok(Some(match words {
        Words::Servers { servers } => Command::Servers(names(&servers)?),
        Words::Seed { number } => Command::Seed(number),
        Words::Agent { server, does } => Command::Agent(server, does),
        Words::Off { server } => Command::Turn(server, false),
        Words::On { server } => Command::Turn(server, true),
        Words::Rollout(options) => Command::Rollout(Box::new(options)),
        Words::Run { time } => Command::Run(time),
        Words::Wait { time } => Command::Wait(time),
        Words::Push { server } => Command::Push(server),
        Words::Hold { server, time } => Command::Hold(server, time),
        Words::Resume { server } => Command::Resume(server),
        Words::Halt => Command::Halt(true),
        Words::Lift => Command::Halt(false),
        Words::Pass => Command::Decide(Decision::Pass),
        Words::Fail => Command::Decide(Decision::Fail),
        Words::Unsure => Command::Decide(Decision::Unsure),
        Words::Continue { max_down: None } => Command::Decide(Decision::Continue),
        Words::Continue { max_down: Some(share) } => Command::Decide(Decision::ContinueWith(share)),
        Words::Stop => Command::Decide(Decision::Stop),
        Words::Undo => Command::Decide(Decision::Undo),
        Words::Abandon => Command::Decide(Decision::Abandon),
        Words::Show => Command::Show,
    }))
}

/// `3` stands for web-1, web-2 and web-3.
fn names(words: &[String]) -> Result<Vec<ServerName>> {
    if let [count] = words
        && let Ok(count) = count.parse::<usize>()
    {
        if !(1..=MAX_SERVERS).contains(&count) {
            bail!("`{count}`: a story has at least 1 and at most {MAX_SERVERS} servers");
        }
        return (1..=count).map(|n| Ok(format!("web-{n}").parse()?)).collect();
    }
    words.iter().map(|word| word.parse().map_err(|error| anyhow!("{error}"))).collect()
}

/// What clap says of a line, which names the word, without what it would say of a command line.
fn in_a_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let said = text.split("\n\nUsage:").next().unwrap_or_default().trim().trim_start_matches("error: ");
    said.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named_by_line_and_word() {
        for (story, expected) in [
            ("# fine\n\nserver 3", "line 3: unrecognized subcommand 'server'"),
            (
                "servers 3\nagent web-2 rols-back",
                "line 2: invalid value 'rols-back' for '<DOES>': an agent does one of",
            ),
            ("servers 0", "line 1: `0`: a story has at least 1"),
            ("servers web_1/x", "line 1: "),
            ("rollout --waves rest,1", "line 1: invalid value 'rest,1' for '--waves <WAVES>': `rest` must be the last"),
            ("rollout --wave 1", "line 1: unexpected argument '--wave' found"),
            ("run soon", "line 1: invalid value 'soon' for '[TIME]'"),
            ("hold web-1", "line 1: the following required arguments were not provided: <TIME>"),
            ("policy { Group: {} }", "line 1: policy: unknown key `Group`"),
        ] {
            let said = format!("{:#}", Story::parse(story).unwrap_err());
            assert!(said.starts_with(expected), "{story}: {said}");
        }
    }

    #[test]
    fn comments_are_kept_and_do_nothing() {
        let story = Story::parse("# why\n\n  servers 2  \n").unwrap();
        let lines: Vec<(&str, bool)> =
            story.lines.iter().map(|line| (line.text.as_str(), line.command.is_some())).collect();
        assert_eq!(lines, [("# why", false), ("", false), ("servers 2", true)]);
    }
}
