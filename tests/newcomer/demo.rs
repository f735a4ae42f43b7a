//! `make demo`, whatever the directory is called, and the three commands that it ends with.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use harness::{Programs, TempDir, control_groups_of};
use rustix::process::{Pid, Signal, kill_process};

/// Longest time for a command that the demo proposes.
const PATIENCE: Duration = Duration::from_mins(2);

/// The running demo. Killed when dropped; what it made goes with it.
struct Demo(Child);

impl Drop for Demo {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn its_three_commands_work_and_ctrl_c_leaves_nothing() -> Result<()> {
    // Programs keep their images beside themselves, where cargo marks its target directory.
    let directory = TempDir::new()?;
    let place = directory.path().join("a:b, c");
    fs::create_dir(&place)?;
    fs::write(place.join("CACHEDIR.TAG"), "Signature: 8a477f597d28d172789f06886806bc55\n")?;
    let built = Programs::get()?.push();
    for name in ["demo", "pulld", "push", "release"] {
        fs::hard_link(built.with_file_name(name), place.join(name))
            .with_context(|| format!("could not link `{name}`"))?;
    }
    let mut demo = Command::new(place.join("demo"));
    demo.env_remove("DEMO_EXIT").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut demo = Demo(demo.spawn()?);
    let mut errors = demo.0.stderr.take().context("stderr is piped")?;
    let mut story = Vec::new();
    let mut commands: Option<Vec<String>> = None;
    // Kept until the end: it is a terminal that stays open.
    let mut terminal = BufReader::new(demo.0.stdout.take().context("stdout is piped")?).lines();
    for line in terminal.by_ref() {
        let line = line?;
        match (&mut commands, line.strip_prefix("   $ ")) {
            (Some(commands), Some(command)) => commands.push(command.to_owned()),
            (None, _) if line.ends_with("another terminal:") => commands = Some(Vec::new()),
            _ => {}
        }
        let waits = line.contains("Press Ctrl-C");
        story.push(line);
        if waits {
            break;
        }
    }
    let Some(commands) = commands else {
        let mut said = String::new();
        errors.read_to_string(&mut said)?;
        anyhow::bail!("the demo did not get there:\n{}\n{said}", story.join("\n"));
    };
    let mut outputs = Vec::new();
    for command in &commands {
        let mut shell = Command::new("sh");
        shell.args(["-c", command]);
        outputs.push(harness::run(shell, command, b"", PATIENCE)?.ok()?);
    }
    assert_eq!(outputs.len(), 3, "{}", story.join("\n"));
    ensure!(outputs[0].contains("web-1"), "{outputs:?}");
    for output in &outputs[1..] {
        ensure!(output.contains("converged") && output.contains("hello"), "{output}");
    }

    let pid = demo.0.id();
    kill_process(i32::try_from(pid).ok().and_then(Pid::from_raw).context("a pid is positive")?, Signal::INT)?;
    assert_eq!(demo.0.wait()?.code(), Some(130));
    let left: Vec<_> = fs::read_dir(place.join("machines/run"))?.flatten().map(|entry| entry.path()).collect();
    assert_eq!(left, Vec::<std::path::PathBuf>::new());
    let deadline = Instant::now() + Duration::from_secs(20);
    while !control_groups_of(pid)?.is_empty() {
        assert!(Instant::now() < deadline, "control groups are left: {:?}", control_groups_of(pid)?);
        std::thread::yield_now();
    }
    Ok(())
}
