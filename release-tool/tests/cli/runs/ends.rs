//! How runs end, and that nothing of them is left, whatever happened.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    project::{Project, stdout},
    runs::{ensure_cleared, objects, project, ran, results, run, stages, why},
};

/// Longest that something may take to be seen.
const PATIENCE: Duration = Duration::from_mins(1);

/// Waits for something.
#[track_caller]
pub(super) fn wait_for(what: &str, mut is_there: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_there() {
        assert!(Instant::now() < until, "{what} was not seen");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Whether any process has this text in its command line.
pub(super) fn is_running(text: &str) -> bool {
    !running(text).is_empty()
}

/// The processes with this text in their command lines, as `/proc` has them.
fn running(text: &str) -> Vec<String> {
    let all = fs::read_dir("/proc").unwrap().flatten();
    let has_text = |entry: &fs::DirEntry| {
        fs::read(entry.path().join("cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).contains(text))
    };
    all.filter(has_text).map(|entry| entry.file_name().into_string().unwrap()).collect()
}

/// A number of seconds to sleep that no other test has.
pub(super) fn unique() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{}.{}", 86_400 + std::process::id() % 1_000_000, NEXT.fetch_add(1, Ordering::Relaxed) + 1)
}

/// A run that goes on, as soon as a file is there that it makes.
pub(super) fn started(project: &Project, arguments: &[&str], file: &Path) -> Child {
    started_by(&mut run(project, arguments), file)
}

/// The same of a command.
pub(super) fn started_by(command: &mut Command, file: &Path) -> Child {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for("what the stage makes", || {
        if let Some(status) = child.try_wait().unwrap() {
            let mut said = String::new();
            child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
            panic!("it ended too early, {status}: {said}");
        }
        file.exists()
    });
    child
}

#[test]
fn a_stage_that_fails_lets_the_others_end_and_nothing_else_begin() {
    let (mark, sleep) = ("mark", unique());
    let config = "pipelines:
  web:
    execution: [[unit, candidate], [lint, candidate]]
    stages: [{ name: unit, build: unit, run: true }, { name: lint, build: lint, run: true }, { name: candidate, publish: { package: { name: web } } }]
";
    let project = project("", config, "variants: {}\n");
    let mark = project.beside(mark);
    // `unit` ends after `lint` has failed, and leaves a process of another session that doesn't end when it is asked to.
    let variants = format!(
        "variants:
  unit: {{ entrypoint: [sh, -c, 'while [ ! -e {0} ]; do sleep 0.01; done; setsid sh -c \"trap : TERM; sleep {sleep}; sleep {sleep}\" > /dev/null 2>&1 & sleep 0.2'] }}
  lint: {{ entrypoint: [sh, -c, 'touch {0}; exit 1'] }}
",
        mark.display()
    );
    project.write(".pipeline/web/variants.yaml", &variants);
    project.commit();
    let (found, _) = ran(&project, &["-m", "x", "--jobs", "4"], 1);
    assert_eq!(results(&found), ["unit passed", "lint failed", "candidate skipped"]);
    assert_eq!(why(&found, "candidate"), "`lint` did not pass");
    assert!(!is_running(&sleep), "a process of `unit` is left");
    // Nothing is in the bucket but that it ran.
    let run = found["run"].as_str().unwrap();
    let mut written = objects(&project, "");
    written.retain(|path| !path.starts_with(".push"));
    assert_eq!(written, ["push-bucket".to_owned(), format!("runs/project/{run}.json")]);
}

#[test]
fn what_takes_too_long_is_ended_with_all_that_it_started() {
    let sleep = unique();
    let variants = format!(
        "variants: {{ slow: {{ time: 1s, entrypoint: [sh, -c, 'trap \"\" TERM; (setsid sleep {sleep} &) ; exec > /dev/null 2>&1; while :; do sleep {sleep}; done'] }} }}\n"
    );
    let project = project("", &stages("      - { name: slow, build: slow, run: true }\n"), &variants);
    let (found, _) = ran(&project, &[], 1);
    assert_eq!(results(&found), ["slow failed"]);
    assert!(why(&found, "slow").starts_with("it took longer than 1s, and `sh -c "), "{found}");
    assert!(!is_running(&sleep));
}

#[test]
fn with_fail_fast_what_runs_is_ended() {
    let sleep = unique();
    let config = "pipelines: { web: { execution: [[a], [b]], stages: [{ name: a, build: a, run: true }, { name: b, build: b, run: true }] } }\n";
    let project = project("", config, "variants: {}\n");
    let mark = project.beside("mark");
    let variants = format!(
        "variants: {{ a: {{ entrypoint: [sh, -c, 'touch {0}; exec sleep {sleep}'] }}, b: {{ entrypoint: [sh, -c, 'while [ ! -e {0} ]; do sleep 0.01; done; exit 1'] }} }}\n",
        mark.display()
    );
    project.write(".pipeline/web/variants.yaml", &variants);
    project.commit();
    let (found, _) = ran(&project, &["--fail-fast", "--jobs", "2"], 1);
    assert_eq!(results(&found), ["a stopped", "b failed"]);
    assert!(!is_running(&sleep));
}

#[test]
fn a_signal_ends_a_run_and_nothing_is_left_of_it() {
    for (signal, status) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let sleep = unique();
        let project = project(
            "",
            &stages("      - { name: a, build: a, run: true }\n      - { name: b, build: a, run: true }\n"),
            "variants: {}\n",
        );
        let mark = project.beside("mark");
        let variants = format!(
            "variants: {{ a: {{ entrypoint: [sh, -c, '(setsid sleep {sleep} &); touch {}; sleep {sleep}'] }} }}\n",
            mark.display()
        );
        project.write(".pipeline/web/variants.yaml", &variants);
        project.commit();
        let child = started(&project, &["--json"], &mark);
        kill_process(Pid::from_raw(child.id().try_into().unwrap()).unwrap(), signal).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{}", crate::runs::said(&output));
        let found: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
        assert_eq!(results(&found), ["a stopped", "b skipped"]);
        assert_eq!(found["result"], "interrupted");
        assert!(!is_running(&sleep));
        ensure_cleared(&project);
    }
}

#[test]
fn a_copy_that_hangs_takes_no_longer_than_its_stage_may() {
    let (sleep, project) = (unique(), project("", &stages("      - { name: a, build: a }\n"), "variants: {}\n"));
    project.write(".pipeline/web/variants.yaml", "variants: { a: { time: 1s, build: [['true']] } }\n");
    project.write(".gitattributes", "web filter=hangs\n");
    project.commit();
    let filter = project.beside("filter");
    fs::write(&filter, format!("[filter \"hangs\"]\n smudge = \"setsid -w sleep {sleep}\"\n")).unwrap();
    let output = run(&project, &["--json"]).env("GIT_CONFIG_GLOBAL", &filter).output().unwrap();
    let found: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(why(&found, "a"), "it took longer than 1s", "{}", crate::runs::said(&output));
    assert!(!is_running(&sleep));
    ensure_cleared(&project);
}

/// How a run ends that nobody reads.
#[track_caller]
fn ended(child: &mut Child) -> Option<i32> {
    let mut ended = None;
    wait_for("the end of the run", || {
        ended = child.try_wait().unwrap();
        ended.is_some()
    });
    ended.unwrap().code()
}

/// What is recorded of the only run.
fn record(project: &Project) -> Option<serde_json::Value> {
    let path = objects(project, "runs/").pop()?;
    serde_json::from_slice(&fs::read(project.beside("bucket").join(path)).ok()?).ok()
}

#[test]
fn a_run_that_nobody_reads_ends_when_its_time_is_over_or_by_a_signal() {
    for (time, signal, status, why) in
        [("2s", None, 1, "it took longer than 2s"), ("1h", Some(Signal::TERM), 143, "it was stopped")]
    {
        let sleep = unique();
        let script = format!("head -c 30000000 /dev/zero | tr \"\\0\" x | fold -w 99; sleep {sleep}");
        let variants = format!("variants: {{ a: {{ time: {time}, entrypoint: [sh, -c, '{script}'] }} }}\n");
        let project = project("", &stages("      - { name: a, build: a, run: true }\n"), &variants);
        let mut child = run(&project, &[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        if let Some(signal) = signal {
            // All was said, and nothing of it read.
            wait_for("what the stage does in the end", || is_running(&format!("sleep\0{sleep}")));
            kill_process(Pid::from_child(&child), signal).unwrap();
        }
        assert_eq!(ended(&mut child), Some(status), "{time}");
        let recorded = record(&project).unwrap();
        assert!(crate::runs::why(&recorded, "a").starts_with(why), "{recorded}");
        assert!(!is_running(&sleep));
        ensure_cleared(&project);
    }
}

#[test]
fn a_result_that_nobody_reads_keeps_no_signal_from_ending_the_run() {
    // More than a pipe holds.
    let many: Vec<String> =
        (0..600).map(|nth| format!("      - {{ name: {}{nth}, exports: {{ a: b }} }}\n", "x".repeat(50))).collect();
    let project = project("", &stages(&many.concat()), "variants: {}\n");
    let mut child = run(&project, &["--json"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    wait_for("the end of the last stage", || record(&project).is_some_and(|run| run["result"] == "passed"));
    assert!(fs::read_dir(project.beside("tmp")).unwrap().next().is_none(), "what is left is to tell it");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(ended(&mut child), Some(143));
}

#[test]
fn what_a_build_makes_in_the_place_of_a_file_keeps_nobody_waiting() {
    for spoil in [
        "rm release.toml; mkfifo release.toml",
        "rm release.toml; ln -s /dev/zero release.toml",
        "cd \"$HOME/../../../..\"; rm processes; mkfifo processes processes.new",
    ] {
        let variants = format!("variants: {{ a: {{ build: [[sh, -c, 'sleep 1.2; {spoil}']] }} }}\n");
        let config = stages("      - { name: a, build: a, publish: { package: { name: web } } }\n");
        let project = project("", &config, &variants);
        let mut child = run(&project, &["-m", "x"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let is_of_commit = spoil.contains("release.toml");
        assert_eq!(ended(&mut child), Some(i32::from(is_of_commit)), "{spoil}");
        if is_of_commit {
            let recorded = record(&project).unwrap();
            assert!(crate::runs::why(&recorded, "a").contains("not what was committed"), "{recorded}");
        }
        ensure_cleared(&project);
    }
}

#[test]
fn what_a_killed_run_left_is_cleared_up_by_the_next() {
    let sleep = unique();
    let project = project("", &stages("      - { name: a, build: a, run: true }\n"), "variants: {}\n");
    let mark = project.beside("mark");
    // One of its processes has another session, no environment, and has gone elsewhere, and begins something later on.
    let go = project.beside("go");
    let daemon = project.beside("daemon.sh");
    fs::write(&daemon, format!("while [ ! -e {} ]; do sleep 0.05; done\nsleep {sleep}9\n", go.display())).unwrap();
    let variants = format!(
        "variants: {{ a: {{ entrypoint: [sh, -c, 'if [ -e {0} ]; then exit 0; fi; (cd /; env -i setsid sh {1} &); touch {0}; sleep {sleep}'] }} }}\n",
        mark.display(),
        daemon.display()
    );
    project.write(".pipeline/web/variants.yaml", &variants);
    project.commit();
    let mut child = started(&project, &[], &mark);
    let noted = || {
        let work = fs::read_dir(project.beside("tmp")).unwrap().next().unwrap().unwrap().path();
        fs::read_to_string(work.join("processes")).unwrap_or_default()
    };
    wait_for("a note of its processes", || {
        let (noted, running) = (noted(), running(daemon.to_str().unwrap()));
        running.len() == 2 && running.iter().all(|id| noted.contains(&format!("\n{id} ")))
    });
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(is_running(&sleep), "its processes go on without it");
    fs::write(&go, "").unwrap();
    wait_for("what the daemon begins", || is_running(&format!("{sleep}9")));
    assert_ne!(fs::read_dir(project.beside("tmp")).unwrap().count(), 0);
    let (found, said) = ran(&project, &[], 0);
    assert_eq!(results(&found), ["a passed"]);
    assert!(said.contains("a run was killed before it could clear up: ending what is left of it"), "{said}");
    assert!(!is_running(&sleep));
    // That it died is seen: it never ended.
    let record = |path: String| fs::read(project.beside("bucket").join(path)).unwrap();
    let records = objects(&project, "runs/").into_iter().map(|path| serde_json::from_slice(&record(path)).unwrap());
    let ends = records.map(|run: serde_json::Value| (run["result"].clone(), run.get("ended").is_some()));
    let mut ends: Vec<_> = ends.collect();
    ends.sort_by_key(|(_, has_ended)| *has_ended);
    assert_eq!(ends, [("running".into(), false), ("passed".into(), true)]);
}

#[test]
fn a_run_that_goes_on_is_left_alone_by_others_and_what_is_kept_stays() {
    let project = project("", &stages("      - { name: a, build: a, run: true }\n"), "variants: {}\n");
    let (mark, go) = (project.beside("mark"), project.beside("go"));
    let variants = format!(
        "variants: {{ a: {{ entrypoint: [sh, -c, 'touch {}; while [ ! -e {} ]; do sleep 0.01; done'] }} }}\n",
        mark.display(),
        go.display()
    );
    project.write(".pipeline/web/variants.yaml", &variants);
    project.commit();
    let first = started(&project, &["--keep"], &mark);
    fs::write(&go, "").unwrap();
    let second = run(&project, &[]).output().unwrap();
    assert_eq!(second.status.code(), Some(0), "{}", crate::runs::said(&second));
    let output = first.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", crate::runs::said(&output));
    let said = crate::runs::said(&output);
    let kept = said.lines().find_map(|line| line.split_once("the copies are left in `")).unwrap().1;
    let kept = Path::new(kept.split_once('`').unwrap().0);
    assert!(kept.join("stages/web/a/copy/web").is_file());
    // The next run leaves it, too.
    run(&project, &[]).output().unwrap();
    assert!(kept.is_dir());
    fs::remove_dir_all(kept).unwrap();
    ensure_cleared(&project);
}

#[test]
fn of_much_that_is_said_the_beginning_and_the_end_are_shown_and_all_is_kept() {
    let variants = r#"variants: { much: { entrypoint: [sh, -c, 'echo first; head -c 20000000 /dev/zero | tr "\0" "x" | fold -w 99; printf "\033[31mred\n"; echo last'] } }
"#;
    let project = project("", &stages("      - { name: much, build: much, run: true }\n"), variants);
    let (found, said) = ran(&project, &[], 0);
    let shown: usize = said.lines().filter(|line| line.starts_with("much | x")).map(str::len).sum();
    assert!((10_000_000..12_000_000).contains(&shown), "{shown} bytes were shown");
    assert!(said.contains("much | first\n") && said.contains("much | last\n") && said.contains("are left out here"));
    assert!(said.contains("x\\u{1b}[31mred\n"), "control characters are escaped");
    let log = project.path("dist/runs").join(found["run"].as_str().unwrap()).join("web/much.log");
    let log = BufReader::new(fs::File::open(log).unwrap()).lines().count();
    assert_eq!(log, 202_021 + 3);
}

#[test]
fn a_command_that_is_not_there_fails_with_its_name() {
    let variants =
        "variants: { none: { build: [[frobnicate, all]] }, gone: { build: [[rm, -r, src]], entrypoint: ['true'] } }\n";
    let config = "pipelines: { web: { directory: src, variants: web/variants.yaml, execution: [[a], [b]], stages: [{ name: a, build: none }, { name: b, build: gone, run: true }] } }\n";
    let project = project("", config, variants);
    project.write("src/x", "");
    project.commit();
    let mut command = run(&project, &["--json", "--jobs", "1"]);
    let output = command.env("PATH", std::env::var("PATH").unwrap() + ":/also/here").output().unwrap();
    let found: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert!(why(&found, "a").starts_with("`frobnicate` was not found; PATH is "), "{found}");
    assert!(why(&found, "a").ends_with(":/also/here"), "{found}");
}

#[test]
fn what_never_stops_speaking_and_what_begins_again_when_it_is_ended_is_gone_in_the_end() {
    let sleep = unique();
    let project = project("", &stages("      - { name: a, build: a }\n"), "variants: {}\n");
    let script = project.beside("again.sh");
    fs::write(
        &script,
        format!(
            "trap 'setsid sh {} >/dev/null 2>&1 & exit' TERM\nwhile :; do sleep 0.2; : {sleep}; done\n",
            script.display()
        ),
    )
    .unwrap();
    let variants = format!(
        "variants: {{ a: {{ time: 1m, build: [[sh, -c, 'yes {sleep} & sleep 0.2'], [sh, -c, 'setsid sh {} > /dev/null 2>&1 &']] }} }}\n",
        script.display()
    );
    project.write(".pipeline/web/variants.yaml", &variants);
    project.commit();
    let (found, _) = ran(&project, &[], 0);
    assert_eq!(results(&found), ["a passed"]);
    assert!(!is_running(&format!("yes {sleep}").replace(' ', "\0")) && !is_running(script.to_str().unwrap()));
}

#[test]
fn a_signal_before_anything_runs_has_nothing_run() {
    let project = project("", &stages("      - { name: a, build: a }\n"), "variants: {}\n");
    let (slow, ran) = (project.beside("slow"), project.beside("ran"));
    project.write(
        ".pipeline/web/variants.yaml",
        &format!("variants: {{ a: {{ build: [[touch, {}]] }} }}\n", ran.display()),
    );
    project.commit();
    // git takes its time to say what is in the commit.
    let programs = project.beside("programs");
    fs::create_dir(&programs).unwrap();
    let git = format!(
        "#!/bin/sh\ncase \"$*\" in *ls-tree*) touch {}; sleep 1;; esac\nPATH=${{PATH#*:}}\nexec git \"$@\"\n",
        slow.display()
    );
    fs::write(programs.join("git"), git).unwrap();
    fs::set_permissions(programs.join("git"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let child = started_by(run(&project, &[]).env("PATH", path), &slow);
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(143), "{}", crate::runs::said(&output));
    assert!(!ran.exists());
    ensure_cleared(&project);
    let filter = project.beside("filter");
    fs::write(&filter, format!("[filter \"slow\"]\n smudge = \"touch {}; sleep 1; cat\"\n", slow.display())).unwrap();
    // What is typed while a copy is made goes to the whole group: the stage was stopped, and did not fail.
    fs::remove_file(&slow).unwrap();
    project.write(".gitattributes", "web filter=slow\n");
    project.commit();
    let mut command = run(&project, &["--json"]);
    std::os::unix::process::CommandExt::process_group(command.env("GIT_CONFIG_GLOBAL", &filter), 0);
    let child = started_by(&mut command, &slow);
    rustix::process::kill_process_group(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", crate::runs::said(&output));
    let found: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((results(&found), &found["result"]), (vec!["a stopped".to_owned()], &"interrupted".into()));
    assert!(!ran.exists());
    ensure_cleared(&project);
}

#[test]
fn what_cannot_be_removed_takes_no_result_away() {
    let project = project("", &stages("      - { name: a, build: a }\n"), "variants: {}\n");
    let kept = project.beside("kept");
    // Where the run works there is a file in the end.
    let script = format!("run=$(cd \"$HOME/../../../..\" && pwd); mv \"$run\" {0}; touch \"$run\"", kept.display());
    let variants = format!("variants: {{ a: {{ build: [[sh, -c, '{script}']] }} }}\n");
    project.write(".pipeline/web/variants.yaml", &variants);
    project.commit();
    let output = run(&project, &["--json", "--jobs", "1"]).output().unwrap();
    let said = crate::runs::said(&output);
    assert!(said.contains("warning: could not remove the directory of a run"), "{said}");
    let found: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    // Its own build took away where it would go on.
    assert_eq!((&found["result"], output.status.code()), (&"failed".into(), Some(1)));
    assert!(found.get("ended").is_some(), "{found}");
    let record = objects(&project, "runs/").pop().unwrap();
    let record: serde_json::Value =
        serde_json::from_slice(&fs::read(project.beside("bucket").join(record)).unwrap()).unwrap();
    assert_eq!(record, found);
}
