//! Running a command to its end, with a time limit, and saying well what went wrong.

use std::{
    fmt,
    io::{Read, Write},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

/// What a command printed and how it ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// The command, as a person would have typed it.
    pub command: String,
    /// Its exit status, or 128 and the signal that ended it.
    pub status: i32,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
    /// How long it ran.
    pub took: Duration,
}

impl Output {
    /// Whether it exited with 0.
    pub fn success(&self) -> bool {
        self.status == 0
    }

    /// What it wrote to stdout, without the last newline, if it exited with 0.
    ///
    /// # Errors
    /// Otherwise, with everything it printed.
    pub fn ok(self) -> Result<String> {
        if !self.success() {
            bail!("{self}");
        }
        Ok(self.stdout.trim_end_matches('\n').to_owned())
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` exited with {}", self.command, self.status)?;
        for (name, text) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            for line in text.lines() {
                write!(f, "\n  {name}: {line}")?;
            }
        }
        Ok(())
    }
}

/// Runs `command` to its end, or kills it after `limit`. `shown` is what messages call it.
///
/// # Errors
/// When it can't be started or took too long. An exit status other than 0 is no error yet: see [`Output::ok`].
pub fn run(mut command: Command, shown: &str, stdin: &[u8], limit: Duration) -> Result<Output> {
    let started = Instant::now();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("could not run `{shown}`"))?;
    let mut input = child.stdin.take().context("a piped stdin is there")?;
    let stdin = stdin.to_owned();
    // A command that doesn't read what it was given is free not to.
    thread::spawn(move || drop(input.write_all(&stdin)));
    let stdout = Collected::from(child.stdout.take().context("a piped stdout is there")?);
    let stderr = Collected::from(child.stderr.take().context("a piped stderr is there")?);
    let (status, ended) = loop {
        if let Some(status) = child.try_wait()? {
            break (status, true);
        }
        if started.elapsed() > limit {
            child.kill()?;
            break (child.wait()?, false);
        }
        thread::sleep(Duration::from_millis(2));
    };
    let (stdout, stderr) = if ended { (stdout.all(), stderr.all()) } else { (stdout.so_far(), stderr.so_far()) };
    let output =
        Output { command: shown.to_owned(), status: exit_code(status), stdout, stderr, took: started.elapsed() };
    ensure!(ended, "it was still running after {limit:?}, and killed: {output}");
    Ok(output)
}

/// One word for a shell, in quotes where it needs them.
pub fn quote(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn exit_code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

/// What a pipe brings, read while the command runs.
struct Collected {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: thread::JoinHandle<()>,
}

impl Collected {
    fn from(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let collected = Arc::clone(&bytes);
        let reader = thread::spawn(move || {
            let mut chunk = [0; 8192];
            // What was read until an error is all there is to show.
            while let Ok(length @ 1..) = pipe.read(&mut chunk) {
                collected.lock().expect("nobody panics with it").extend_from_slice(&chunk[..length]);
            }
        });
        Self { bytes, reader }
    }

    /// Everything, once nobody can write to the pipe any more.
    fn all(self) -> String {
        self.reader.join().expect("reading bytes doesn't panic");
        Self::text(&self.bytes)
    }

    /// What came until now: a killed shell's own children may keep the pipe open.
    fn so_far(&self) -> String {
        Self::text(&self.bytes)
    }

    fn text(bytes: &Mutex<Vec<u8>>) -> String {
        String::from_utf8_lossy(&bytes.lock().expect("nobody panics with it")).into_owned()
    }
}
