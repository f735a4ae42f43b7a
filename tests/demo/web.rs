//! The web app for the demo's bucket, with both servers running.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use harness::{Programs, Scenario};

use crate::stage::Stage;

/// Where `push serve` listens unless told otherwise.
const USUAL: &str = "127.0.0.1:8000";

/// The running web app. It ends with the demo, however that ends.
pub(crate) struct Web {
    child: Child,
    address: String,
    /// The address to open once, with the token.
    opened: String,
}

impl Web {
    /// Starts it, at its usual address if that is free.
    pub(crate) fn start(stage: &Stage, scenario: &Scenario) -> Result<Self> {
        let listen = if TcpListener::bind(USUAL).is_ok() { USUAL } else { "127.0.0.1:0" };
        stage.command("push serve");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM"]).arg(Programs::get()?.push());
        command.args(["--bucket", &scenario.target().url, "serve", "--refresh", "1s", "--listen", listen]);
        for variable in ["RUNTIME_DIRECTORY", "JOURNAL_STREAM"] {
            command.env_remove(variable);
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("could not start `push serve`")?;
        let mut logged = BufReader::new(child.stderr.take().context("its log is read")?);
        let address = address_in(&mut logged)?;
        // Whatever it says later is for the person at the terminal.
        std::thread::spawn(move || std::io::copy(&mut logged, &mut std::io::stderr()));
        let opened = address_in(&mut BufReader::new(child.stdout.take().context("its words are read")?))?;
        Ok(Self { child, address, opened })
    }

    /// The address that a person opens.
    pub(crate) fn opened(&self) -> &str {
        &self.opened
    }

    /// Whether its overview shows a server, asked as a browser would.
    pub(crate) fn shows(&self, server: &str) -> Result<bool> {
        let host = self.address.trim_start_matches("http://").trim_end_matches('/');
        let mut stream = TcpStream::connect(host).context("the web app does not respond")?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(stream, "GET /servers HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
        let mut page = String::new();
        stream.read_to_string(&mut page).context("the web app does not respond")?;
        ensure!(page.starts_with("HTTP/1.1 200"), "the web app responded {:?}", page.lines().next());
        Ok(page.contains(&format!("/servers/{server}")))
    }

    /// Waits for its end, which Ctrl-C brings.
    pub(crate) fn wait(mut self) -> Result<()> {
        self.child.wait().context("could not wait for `push serve`").map(drop)
    }
}

fn address_in(said: &mut impl BufRead) -> Result<String> {
    let mut line = String::new();
    said.read_line(&mut line).context("could not read what `push serve` says")?;
    let address = line.split_whitespace().find(|word| word.starts_with("http://"));
    Ok(address.with_context(|| format!("`push serve` said {line:?}"))?.to_owned())
}

impl Drop for Web {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
