//! `release buildset run`: whatever becomes of its command, the overlay is gone, and what the command said is said.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::process::ExitStatusExt as _,
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
};

use bucket::TryResult;
use futures_util::TryStreamExt as _;
use harness::gcs::{Fault, Kind};
use jiff::SignedDuration;
use rustix::process::{Pid, Signal, kill_process};

use crate::trying::World;

/// A command that says where it runs, and then waits for a signal, for a minute at most.
const WAITS: &str = "trap 'exit 7' INT TERM; echo $PUSH_BUCKET; for i in $(seq 600); do sleep 0.1; done";

/// A world with a change to try.
async fn world() -> World {
    with_change(World::over_directories().await)
}

fn with_change(world: World) -> World {
    world.released("lib");
    world.opened("web/2", &[]);
    world.candidate("web/2", "web", false);
    world
}

fn run<'a>(more: &[&'a str], script: &'a str) -> Vec<&'a str> {
    [&["buildset", "run", "--change", "web/2"], more, &["--", "sh", "-c", script]].concat()
}

/// How the change was tried, oldest first, and of how many artifacts.
async fn tries(world: &World) -> Vec<(TryResult, usize)> {
    let (_, change) = world.change(&"web/2".parse().unwrap()).await;
    change.tries.iter().map(|one| (one.result, one.sha256.len())).collect()
}

/// The directories of overlays that are there.
fn overlays(world: &World) -> Vec<String> {
    let names = fs::read_dir(world.directory.path()).unwrap().map(|entry| entry.unwrap().file_name());
    names.map(|name| name.into_string().unwrap()).filter(|name| name.starts_with("push-buildset-")).collect()
}

/// Nothing is left of a try, here or in the candidate bucket.
async fn is_over(world: &World) {
    assert_eq!(overlays(world), [] as [&str; 0]);
    let left: Vec<_> = world.candidates.buildsets().try_collect().await.unwrap();
    assert_eq!(left, []);
}

/// Starts a command, and gives the line that says that it runs.
fn begun(mut command: Command) -> (Child, BufReader<ChildStdout>, String) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert!(line.starts_with("file:///"), "{line:?}");
    (child, said, line.trim().to_owned())
}

fn signalled(child: &mut Child, signal: Signal) -> ExitStatus {
    kill_process(Pid::from_child(child), signal).unwrap();
    child.wait().unwrap()
}

#[tokio::test]
async fn what_a_command_says_is_said_and_recorded_and_the_overlay_is_gone() {
    let world = world().await;
    let before = world.all().await;
    let script = "test -d \"${PUSH_BUCKET#file://}/debs/web\" && test -n \"$PUSH_BUILDSET\" && echo tried";
    let output = world.done(&run(&[], script));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "tried\n", "and nothing else");
    is_over(&world).await;
    for status in [1, 3, 255] {
        let output = world.release(&run(&[], &format!("exit {status}"))).output().unwrap();
        assert_eq!(output.status.code(), Some(status));
        is_over(&world).await;
    }
    let output = world.release(&run(&[], "kill -9 $$")).output().unwrap();
    assert_eq!(output.status.code(), Some(137), "as a shell tells it");
    is_over(&world).await;
    let none = world.refused(&["buildset", "run", "--change", "web/2", "--", "/no/such/program"], 1);
    assert!(none.contains("could not run `/no/such/program`"), "{none}");
    is_over(&world).await;
    let failed = (TryResult::Failed, 2);
    assert_eq!(
        tries(&world).await,
        [(TryResult::Passed, 2), failed, failed, failed, (TryResult::Interrupted, 2)],
        "each with lib of production and web of the change; what did not run was no try"
    );
    assert_eq!(world.all().await, before);
}

#[tokio::test]
async fn a_signal_goes_to_the_command_and_the_overlay_is_gone() {
    let world = world().await;
    for signal in [Signal::INT, Signal::TERM] {
        let (mut child, _said, _) = begun(world.release(&run(&[], WAITS)));
        assert_eq!(overlays(&world).len(), 1);
        assert_eq!(signalled(&mut child, signal).code(), Some(7), "what the command made of it");
        is_over(&world).await;
    }
    assert_eq!(tries(&world).await, [(TryResult::Interrupted, 2); 2]);
}

#[tokio::test]
async fn what_the_command_has_left_running_is_gone_before_the_overlay_is() {
    let world = world().await;
    // A shell that is ended, and its child that is told nothing and goes on writing.
    let writes = "while :; do echo x > ${PUSH_BUCKET#file://}/late; sleep 0.02; done";
    let script = format!("echo $PUSH_BUCKET; ({writes}) & echo $!; wait");
    let quiet = format!("echo $PUSH_BUCKET; setsid sh -c '{writes}' > /dev/null 2>&1 & echo $!");
    for (script, signal, status) in [(&script, Some(Signal::TERM), 143), (&quiet, None, 0)] {
        let (mut child, mut said, url) = begun(world.release(&run(&[], script)));
        let mut left = String::new();
        said.read_line(&mut left).unwrap();
        let left = std::path::PathBuf::from(format!("/proc/{}", left.trim()));
        let ended = match signal {
            Some(signal) => signalled(&mut child, signal),
            None => child.wait().unwrap(),
        };
        assert_eq!(ended.code(), Some(status), "as the command's own end has it");
        assert!(!left.exists(), "{}", left.display());
        assert!(!std::path::Path::new(url.strip_prefix("file://").unwrap()).exists());
        is_over(&world).await;
    }
}

#[tokio::test]
async fn what_a_try_puts_into_its_overlay_is_recorded_with_it() {
    let world = world().await;
    let release = world.release(&[]).get_program().to_str().unwrap().to_owned();
    let script = format!("cd {} && {release} -m 'another one' cron", world.repo.directory().display());
    let output = world.release(&run(&[], &script)).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(tries(&world).await, [(TryResult::Passed, 3)], "lib, web of the change, and what the try has built");
    is_over(&world).await;
}

#[tokio::test]
async fn whoever_is_ended_while_the_overlay_is_made_leaves_nothing_or_what_is_found() {
    let world = with_change(World::over_google().await);
    let gcs = world.gcs.as_ref().unwrap();
    let downloads = |requests: &[harness::gcs::Request]| {
        requests.iter().filter(|request| request.kind == Kind::Get && request.object.starts_with("debs/lib/")).count()
    };
    for signal in [Signal::INT, Signal::TERM, Signal::KILL] {
        gcs.fail(Kind::Get, "debs/lib/", Fault::NeverAnswer);
        let before = downloads(&gcs.requests());
        let mut command = world.release(&run(&[], "echo never"));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        gcs.until(|requests| downloads(requests) > before).await;
        assert_eq!(overlays(&world).len(), 1);
        let status = signalled(&mut child, signal);
        gcs.heal();
        if signal == Signal::KILL {
            assert_eq!(overlays(&world).len(), 1);
            gcs.set_clock_ahead(SignedDuration::from_hours(25));
            world.done(&["sweep"]);
        } else {
            assert_eq!(status.code(), Some(128 + signal.as_raw()), "as a shell tells it");
        }
        is_over(&world).await;
    }
    assert_eq!(tries(&world).await, [], "nothing was tried");
}

#[tokio::test]
async fn inside_of_a_buildset_of_the_same_change_that_is_used_again() {
    let world = world().await;
    let release = world.release(&[]).get_program().to_str().unwrap().to_owned();
    let inner = format!(
        "echo $PUSH_BUCKET; cd {} && {release} buildset run --change web/2 -- sh -c 'echo $PUSH_BUCKET; exit 5'",
        world.repo.directory().display()
    );
    let output = world.release(&run(&[], &inner)).output().unwrap();
    assert_eq!(output.status.code(), Some(5), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!((lines.len(), lines[0]), (2, lines[1]), "{said}");
    assert_eq!(tries(&world).await, [(TryResult::Failed, 2)], "it is one try");
    is_over(&world).await;
    // Of another change it would be an overlay of an overlay.
    world.opened("web/3", &[]);
    let inner = format!("cd {} && {release} buildset start --change web/3", world.repo.directory().display());
    let said = world.release(&run(&[], &inner)).output().unwrap();
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("the bucket is the overlay of the buildset"), "{said}");
}

#[tokio::test]
async fn what_is_kept_is_named_and_stopped() {
    let world = world().await;
    let output = world.done(&run(&["--keep"], "true"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let [left] = &overlays(&world)[..] else { panic!("one overlay is left: {said}") };
    assert!(said.contains("kept: file:///") && said.contains(left.as_str()), "{said}");
    world.done(&["buildset", "stop", world.path(left).to_str().unwrap()]);
    is_over(&world).await;
}

#[tokio::test]
async fn who_is_killed_leaves_what_can_be_found() {
    let world = world().await;
    let (mut child, _said, url) = begun(world.release(&run(&[], WAITS)));
    assert_eq!(signalled(&mut child, Signal::KILL).signal(), Some(9));
    let left: Vec<_> = world.candidates.buildsets().try_collect().await.unwrap();
    let (_, buildset) = world.candidates.buildset(&left[0].id).await.unwrap().unwrap();
    assert_eq!((url, &buildset.host), (format!("file://{}", buildset.directory), &"build-1".to_owned()));
    assert_eq!(tries(&world).await, []);
    world.done(&["buildset", "stop", &buildset.directory]);
    is_over(&world).await;
}

#[tokio::test]
async fn a_candidate_bucket_that_is_emptied_meanwhile_fails_the_try_and_nothing_else() {
    let world = world().await;
    let before = world.all().await;
    let script = format!("rm -r {0}/changes {0}/builds {0}/buildsets", world.ci().display());
    let said = world.refused(&run(&[], &script), 1);
    assert!(said.contains("could not record how `web/2` was tried"), "{said}");
    assert!(
        said.contains("nothing is known of `web/2` any more: the candidate bucket was emptied meanwhile"),
        "{said}"
    );
    is_over(&world).await;
    // What the command itself said counts before that.
    world.opened("web/2", &[]);
    let output = world.release(&run(&[], &format!("{script} 2>/dev/null; exit 3"))).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(world.all().await, before);
}

#[tokio::test]
async fn a_start_that_was_killed_is_made_up_for_by_the_same_command() {
    let world = with_change(World::over_google().await);
    let gcs = world.gcs.as_ref().unwrap();
    let out = world.path("overlay");
    let arguments = ["buildset", "start", "--change", "web/2", "--out", out.to_str().unwrap()];
    let downloads = |requests: &[harness::gcs::Request]| {
        requests.iter().filter(|request| request.kind == Kind::Get && request.object.starts_with("debs/lib/")).count()
    };
    for (signal, is_left) in [(Signal::TERM, false), (Signal::KILL, true)] {
        gcs.fail(Kind::Get, "debs/lib/", Fault::NeverAnswer);
        let before = downloads(&gcs.requests());
        let mut child = world.release(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        gcs.until(|requests| downloads(requests) > before).await;
        let status = signalled(&mut child, signal);
        gcs.heal();
        assert_eq!((status.signal().is_some(), out.exists()), (is_left, is_left));
        let left: Vec<_> = world.candidates.buildsets().try_collect().await.unwrap();
        assert_eq!(left.len(), usize::from(is_left));
    }
    let made = world.json(&arguments);
    let left: Vec<_> = world.candidates.buildsets().try_collect().await.unwrap();
    assert_eq!(left.iter().map(|left| left.id.as_str()).collect::<Vec<_>>(), [made["buildset"].as_str().unwrap()]);
    assert!(out.join("debs/lib").exists() && out.join("debs/web").exists());
}
