//! Output of the demo: plain lines; colour and a running clock only on a terminal.

use std::{
    cell::Cell,
    io::{self, IsTerminal, Write},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

const BOLD: &str = "1";
const DIM: &str = "2";
const GREEN: &str = "32";
const RED: &str = "31";

/// Where the demo plays.
pub(crate) struct Stage {
    terminal: bool,
    colour: bool,
    acts: Cell<u32>,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let terminal = io::stdout().is_terminal();
        let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { terminal, colour, acts: Cell::new(0) }
    }

    pub(crate) fn title(&self, text: &str) {
        println!("{}", self.paint(BOLD, text));
    }

    /// The next part of the story.
    pub(crate) fn act(&self, text: &str) {
        self.acts.set(self.acts.get() + 1);
        println!("\n{} {}", self.paint(BOLD, &format!("{}.", self.acts.get())), self.paint(BOLD, text));
    }

    #[expect(clippy::unused_self, reason = "who speaks is the stage, like everywhere else")]
    pub(crate) fn say(&self, text: &str) {
        println!("   {text}");
    }

    /// A command that a person would type.
    pub(crate) fn command(&self, text: &str) {
        println!("   {}", self.paint(BOLD, &format!("$ {text}")));
    }

    /// What a program said.
    pub(crate) fn quote(&self, text: &str) {
        for line in text.lines() {
            println!("     {}", self.paint(DIM, line));
        }
    }

    /// Something that held, and how long it took.
    pub(crate) fn done(&self, what: &str, took: Duration) {
        println!("   {} {what} in {:.1} s", self.paint(GREEN, "ok"), took.as_secs_f64());
    }

    /// Something that held, and after how long.
    pub(crate) fn timing(&self, what: &str, after: Duration) {
        println!("   {} {what}, after {:.1} s", self.paint(GREEN, "ok"), after.as_secs_f64());
    }

    /// Does something that may take long, with a running clock on a terminal.
    pub(crate) fn work<T>(&self, what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        if !self.terminal {
            println!("   .. {what}");
            return work();
        }
        let (done, wait) = mpsc::channel::<()>();
        let line = format!("   {what} …");
        let clock = thread::spawn(move || {
            let started = Instant::now();
            // Ends when the other end is dropped.
            while wait.recv_timeout(Duration::from_millis(100)) == Err(mpsc::RecvTimeoutError::Timeout) {
                print!("\r\x1b[2K{line} {:.0} s", started.elapsed().as_secs_f64());
                drop(io::stdout().flush());
            }
            print!("\r\x1b[2K");
            drop(io::stdout().flush());
        });
        let result = work();
        drop(done);
        drop(clock.join());
        result
    }

    /// A step of the demo failed.
    pub(crate) fn failed(&self, error: &anyhow::Error) {
        println!();
        eprintln!("{} {error:#}", self.paint(RED, "demo: failed:"));
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
