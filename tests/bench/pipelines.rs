//! Pipelines: checking a file, what a stage costs by itself and with a copy of the commit, stages side by side, and the memory of
//! a run whose stages say much.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;
use harness::TempDir;

use crate::{
    line::git,
    measure::{Run, median, run},
};

const STAGES: usize = 200;
const CHAIN: usize = 50;
const FILES: usize = 10_000;
const ROUNDS: usize = 5;
const CHECK_TARGET_S: f64 = 0.05;
const REFUSED_TARGET_S: f64 = 0.1;
const CHAIN_TARGET_S: f64 = 1.5;
const COPY_TARGET_S: f64 = 1.0;
const SIDE_BY_SIDE_TARGET_S: f64 = 1.5;
const MEMORY_TARGET_MB: u64 = 32;

pub(crate) fn bench(release: &Path) -> Result<()> {
    println!("\npipelines");
    let project = Project::new(release)?;
    let nothing = project.time(&["--version"], true)?;
    let stages: Vec<String> = (0..STAGES).map(|nth| format!("{{ name: s{nth}, build: test, run: true }}")).collect();
    project.commit(&stages.join(", "), "true")?;
    let check = project.time(&["check"], true)? - nothing;
    line("check", check, CHECK_TARGET_S, &format!("for a file of {STAGES} stages, beside the start of the program"));
    for (what, config) in [("bomb", bomb()), ("brackets", "[".repeat(20_000))] {
        fs::write(project.path(".pipeline/config.yaml"), config)?;
        let refused = project.time(&["check"], false)? - nothing;
        line(what, refused, REFUSED_TARGET_S, "until it is refused");
    }
    let stages: Vec<String> = (0..CHAIN).map(|nth| format!("{{ name: s{nth}, exports: {{ x: y }} }}")).collect();
    project.commit(&stages.join(", "), "true")?;
    line("chain", project.time(&["run"], true)?, CHAIN_TARGET_S, &format!("for {CHAIN} stages that do nothing"));

    let one = "{ name: a, build: test, run: true }";
    project.commit(one, "true")?;
    let small = project.time(&["run"], true)?;
    for nth in 0..FILES {
        let path = project.path(&format!("files/{}/{nth}", nth % 100));
        fs::create_dir_all(path.parent().unwrap_or(&path))?;
        fs::write(path, format!("{nth}\n").repeat(100))?;
    }
    project.commit(one, "true")?;
    let copy = project.time(&["run"], true)? - small;
    line("copy", copy, COPY_TARGET_S, &format!("for a copy of {FILES} files, made and removed"));
    let peer = median((0..ROUNDS).map(|_| project.work_tree()).collect::<Result<_>>()?);
    println!("               {peer:>7.2} s for `git worktree add` and `remove`, {:.2} × that", copy / peer);

    let project = Project::new(release)?;
    let four = "{ name: a, build: test, run: true }, { name: b, build: test, run: true }, \
                { name: c, build: test, run: true }, { name: d, build: test, run: true }";
    project.commit(four, "sleep 1")?;
    fs::write(
        project.path(".pipeline/config.yaml"),
        config(four).replace("stages:", "execution: [[a], [b], [c], [d]], stages:"),
    )?;
    project.commit_all()?;
    let took = project.time(&["run", "--jobs", "4"], true)?;
    line("side by side", took, SIDE_BY_SIDE_TARGET_S, "for four stages of one second");

    project.commit(one, "head -c 1073741824 /dev/zero | tr '\\0' x | fold -w 99")?;
    let much = project.run(&["run"], true)?;
    let peak = much.peak >> 20;
    let over = if peak > MEMORY_TARGET_MB { "  over the target" } else { "" };
    println!("  memory       {peak:>7} MB for 1 GiB that a stage says, in {:.1} s{over}", much.wall.as_secs_f64());
    println!(
        "  targets      {CHECK_TARGET_S} s, {REFUSED_TARGET_S} s, {CHAIN_TARGET_S} s, {COPY_TARGET_S} s, \
         {SIDE_BY_SIDE_TARGET_S} s, {MEMORY_TARGET_MB} MB"
    );
    Ok(())
}

fn line(what: &str, took: f64, target: f64, of: &str) {
    let over = if took > target { "  over the target" } else { "" };
    println!("  {what:<12} {took:>7.3} s {of}{over}");
}

fn config(stages: &str) -> String {
    format!("pipelines: {{ web: {{ stages: [{stages}] }} }}\n")
}

/// A file whose aliases stand for more than a machine has memory for.
fn bomb() -> String {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for nth in 1..12 {
        let before = format!("*a{}", nth - 1);
        let _ = writeln!(bomb, "a{nth}: &a{nth} [{}]", [before.as_str(); 10].join(", "));
    }
    bomb
}

/// A repository with a pipeline, and a bucket.
struct Project {
    directory: TempDir,
    release: PathBuf,
}

impl Project {
    fn new(release: &Path) -> Result<Self> {
        let project = Self { directory: TempDir::new()?, release: release.to_owned() };
        fs::create_dir(project.directory.path().join("bucket"))?;
        fs::create_dir_all(project.path(".pipeline/web"))?;
        git(&["init", "--quiet", "--initial-branch=main"], &project.path(".git"), "")?;
        let manifest =
            "schema = 1\n[package.web]\ndescription = \"Web\"\nmaintainer = \"A <a@example.org>\"\narch = \"all\"\n";
        fs::write(project.path("release.toml"), manifest)?;
        Ok(project)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join("project").join(path)
    }

    /// Commits a pipeline of these stages, whose variant `test` runs a line of shell.
    fn commit(&self, stages: &str, shell: &str) -> Result<()> {
        fs::write(self.path(".pipeline/config.yaml"), config(stages))?;
        let variants =
            format!("variants: {{ test: {{ entrypoint: [sh, -c, \"{}\"] }} }}\n", shell.replace('\\', "\\\\"));
        fs::write(self.path(".pipeline/web/variants.yaml"), variants)?;
        self.commit_all()
    }

    fn commit_all(&self) -> Result<()> {
        let top = self.path(".");
        let in_it = |arguments: &[&str]| {
            let mut command = Command::new("git");
            command.arg("-C").arg(&top).args(["-c", "user.name=A", "-c", "user.email=a@example.org"]).args(arguments);
            run(&mut command)
        };
        in_it(&["add", "-A"])?;
        in_it(&["commit", "-qm", "x", "--allow-empty"]).map(drop)
    }

    fn run(&self, arguments: &[&str], passes: bool) -> Result<Run> {
        let mut command = Command::new("sh");
        command.args(["-c", if passes { "exec \"$0\" \"$@\"" } else { "! \"$0\" \"$@\"" }]).arg(&self.release);
        command.args(arguments).current_dir(self.path("."));
        command.env("PUSH_BUCKET", format!("file://{}", self.directory.path().join("bucket").display()));
        run(&mut command)
    }

    /// How long that takes, in seconds.
    fn time(&self, arguments: &[&str], passes: bool) -> Result<f64> {
        let runs = (0..ROUNDS).map(|_| Ok(self.run(arguments, passes)?.wall.as_secs_f64()));
        Ok(median(runs.collect::<Result<_>>()?))
    }

    /// How long git takes for a work tree, made and removed.
    fn work_tree(&self) -> Result<f64> {
        let (top, tree) = (self.path("."), self.directory.path().join("tree"));
        let mut add = Command::new("git");
        add.arg("-C").arg(&top).args(["worktree", "add", "--quiet", "--detach"]).arg(&tree);
        let mut remove = Command::new("git");
        remove.arg("-C").arg(&top).args(["worktree", "remove", "--force"]).arg(&tree);
        Ok((run(&mut add)?.wall + run(&mut remove)?.wall).as_secs_f64())
    }
}
