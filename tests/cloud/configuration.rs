//! The configuration of what deploys an image: `push watch` writes the tag there, by real git.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use harness::registry::{Answer, Debian, FakeRegistry};

use crate::{
    images::{World, text},
    messages::until,
    watching::git,
};

/// A repository of configuration that nobody has checked out, as a server has it.
pub(crate) struct Configuration<'a> {
    world: &'a World,
}

/// What `prod/web.yaml` says of an image that has `tag`.
fn manifest(name: &str, tag: &str) -> String {
    format!(
        "# The web.\nspec:\n  containers:\n    - image: \"{name}:{tag}\"   # moved by push watch\n      name: web\n    \
         - image: {name}-sidecar:v1\n    - image: {name}:try-dirty\n"
    )
}

impl<'a> Configuration<'a> {
    pub(crate) fn new(world: &'a World) -> Self {
        let configuration = Self { world };
        let work = world.path("config-work");
        fs::create_dir_all(work.join("prod")).expect("a directory");
        git(&work, &["init", "--quiet", "--initial-branch", "live"]);
        let name = world.name("web").to_string();
        fs::write(work.join("prod/web.yaml"), manifest(&name, "none")).expect("a file");
        fs::write(work.join("staging.yaml"), manifest(&name, "none")).expect("a file");
        std::os::unix::fs::symlink("../staging.yaml", work.join("prod/link.yaml")).expect("a link");
        fs::set_permissions(work.join("prod/web.yaml"), fs::Permissions::from_mode(0o755)).expect("a mode");
        git(&work, &["add", "--all"]);
        git(&work, &["commit", "--quiet", "--message", "begin"]);
        git(&work, &["clone", "--quiet", "--bare", ".", &configuration.repo().to_string_lossy()]);
        configuration
    }

    /// Puts there what its work tree has besides.
    fn add_all(&self) {
        let work = self.world.path("config-work");
        git(&work, &["add", "--all"]);
        git(&work, &["commit", "--quiet", "--message", "more"]);
        git(&work, &["push", "--quiet", &self.repo().to_string_lossy(), "HEAD:live"]);
    }

    pub(crate) fn repo(&self) -> PathBuf {
        self.world.path("config.git")
    }

    fn git(&self, arguments: &[&str]) -> String {
        git(&self.repo(), arguments)
    }

    /// What a channel of it says.
    pub(crate) fn key(&self, files: &str) -> String {
        format!("Config: {{ Repo: 'file://{}', Branch: 'live', Files: [{files}] }}", self.repo().display())
    }

    pub(crate) fn show(&self, path: &str) -> String {
        self.git(&["show", &format!("live:{path}")]) + "\n"
    }

    pub(crate) fn commits(&self) -> usize {
        self.git(&["rev-list", "--count", "live"]).parse().expect("a number")
    }

    /// Has the repository run this before it takes a push.
    pub(crate) fn hook(&self, script: &str) {
        let hook = self.repo().join("hooks/pre-receive");
        fs::create_dir_all(self.repo().join("hooks")).expect("a directory");
        fs::write(&hook, format!("#!/bin/bash\nset -eu\ncat > /dev/null\n{script}\n")).expect("a hook");
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).expect("a mode");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_move_is_one_commit_that_changes_the_lines_of_that_image_and_nothing_else() {
    let world = World::new(Debian::Twelve);
    let configuration = Configuration::new(&world);
    let key = configuration.key("'prod/*.yaml'");
    world.configure(&[("web", &format!("Tag: 'prod', {key}"))]);
    let name = world.name("web").to_string();
    let mut expected = 1;
    for message in ["one", "two"] {
        let (commit, _) = world.land("web", message).await;
        let said = world.round();
        expected += 1;
        assert!(said.contains("its configuration names that image since"), "{said}");
        assert_eq!(configuration.show("prod/web.yaml"), manifest(&name, &commit));
        let written = configuration.git(&["log", "-1", "--format=%s%n%b", "live"]);
        assert!(written.contains(&format!("{name}:{commit}")), "{written}");
        let changed = configuration.git(&["diff-tree", "-r", "--no-commit-id", "live"]);
        assert!(changed.starts_with(":100755 100755") && changed.lines().count() == 1, "{changed}");
        let shown = text(&world.push(&["channel", "show", "web"]));
        assert!(shown.contains("prod/*.yaml on live of file://"), "{shown}");
        // A quiet round writes nothing; what is left alone is said.
        let quiet = world.round();
        assert!(quiet.contains("line 7 of `prod/web.yaml` stays as it is") && quiet.contains("-dirty"), "{quiet}");
        assert_eq!(configuration.commits(), expected);
    }
    assert_eq!(configuration.show("staging.yaml"), manifest(&name, "none"), "it isn't among its files");
    // Whoever writes something else there sees it go back: the channel decides.
    let work = world.path("config-work");
    git(&work, &["pull", "--quiet", &configuration.repo().to_string_lossy(), "live"]);
    fs::write(work.join("prod/web.yaml"), manifest(&name, "by-hand")).expect("a file");
    git(&work, &["commit", "--quiet", "--all", "--message", "by hand"]);
    git(&work, &["push", "--quiet", &configuration.repo().to_string_lossy(), "HEAD:live"]);
    world.round();
    assert!(!configuration.show("prod/web.yaml").contains("by-hand"));
    // A rollback is written, too, and then it stays.
    world.ok(&["channel", "rollback", "web", "-m", "it is slow"]);
    world.round();
    let before = configuration.git(&["log", "-1", "--format=%s", "live"]);
    assert!(before.starts_with("web: prod is now "), "{before}");
    assert_eq!(configuration.show("prod/web.yaml"), manifest(&name, &git(&world.repo(), &["rev-parse", "HEAD~1"])));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_somebody_else_was_faster_with_is_made_anew_and_one_that_is_refused_is_said() {
    let world = World::new(Debian::Thirteen);
    let configuration = Configuration::new(&world);
    let key = configuration.key("'prod/web.yaml'");
    world.configure(&[("web", &format!("Tag: 'prod', {key}"))]);
    let (commit, _) = world.land("web", "one").await;
    configuration.hook("echo 'the branch is protected' >&2; exit 1");
    let said = world.failing_round();
    assert!(said.contains("could not write the configuration") && said.contains("protected"), "{said}");
    assert_eq!(configuration.commits(), 1);
    // Somebody commits while ours is on its way, once.
    let race = "[ ! -e raced ] || exit 0; touch raced; unset GIT_QUARANTINE_PATH GIT_OBJECT_DIRECTORY \
                GIT_ALTERNATE_OBJECT_DIRECTORIES\n\
                commit=$(git -c user.name=x -c user.email=x@push.example commit-tree -p live -m theirs 'live^{tree}')\n\
                git update-ref refs/heads/live \"$commit\"";
    configuration.hook(race);
    world.round();
    let subjects = configuration.git(&["log", "--format=%s", "live"]);
    let subjects: Vec<&str> = subjects.lines().collect();
    assert!(subjects.len() == 3 && subjects[1] == "theirs" && subjects[0].starts_with("web: prod"), "{subjects:?}");
    assert!(configuration.show("prod/web.yaml").contains(&commit));
    // Somebody who is always faster: it gives up, and says so.
    world.land("web", "two").await;
    configuration.hook(&race.replace("[ ! -e raced ] || exit 0; ", ""));
    let before = configuration.commits();
    let said = world.failing_round();
    assert!(said.contains("somebody else pushed in between, 3 times"), "{said}");
    assert_eq!(configuration.commits() - before, 4, "it was pushed, and made anew three times");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_channels_that_would_write_one_file_both_leave_it() {
    let world = World::new(Debian::Thirteen);
    let configuration = Configuration::new(&world);
    let (one, other) = (configuration.key("'prod/**'"), configuration.key("'**/web.yaml'"));
    let (commit, _) = world.land("web", "one").await;
    world.configure(&[
        ("web", &format!("Tag: 'prod', {one}")),
        ("web", &format!("Channel: 'beta', Tag: 'beta', {other}")),
    ]);
    let said = world.failing_round();
    assert!(said.contains("is also of the channel `web beta`") && said.contains("of the channel `web prod`"), "{said}");
    assert_eq!(configuration.commits(), 1);
    // The tags move all the same.
    assert_eq!(world.digest("web", "beta").await, world.digest("web", &commit).await);
    let checked = text(&world.push(&["check-config"]));
    assert!(!checked.contains("error"), "{checked}");
}

/// Writes an executable file that notes that it ran, and where, and does no more.
fn noting(path: &Path, ran: &Path) {
    fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
    let script = format!("#!/bin/sh\necho \"$0 in $(pwd)\" >>'{}'\ncat\n", ran.display());
    fs::write(path, script).expect("a script");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a mode");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_is_the_watchers_and_nothing_of_its_machine_has_a_part_in_it() {
    let world = World::new(Debian::Thirteen);
    let configuration = Configuration::new(&world);
    // Two files, of which one has the ends of lines of another system.
    let (work, name) = (world.path("config-work"), world.name("web").to_string());
    let windows = |tag: &str| format!("image: {name}:{tag}\r\nreplicas: 2\r\n# the end\n");
    fs::write(work.join("prod/windows.yaml"), windows("none")).expect("a file");
    configuration.add_all();
    let (home, ran) = (world.path("home"), world.path("ran"));
    for hook in ["pre-push", "reference-transaction", "post-index-change", "pre-commit", "post-commit"] {
        noting(&home.join("hooks").join(hook), &ran);
        noting(&home.join("template/hooks").join(hook), &ran);
    }
    noting(&home.join("filter"), &ran);
    fs::write(home.join("attributes"), "* filter=noting\n").expect("a file");
    let shown = home.display();
    let settings = format!(
        "[core]\nhooksPath = {shown}/hooks\nattributesFile = {shown}/attributes\nautocrlf = true\n[init]\ntemplateDir = {shown}/template\n\
         [filter \"noting\"]\nclean = {shown}/filter\nsmudge = {shown}/filter\nrequired = true\n[user]\nname = x\nemail = x@x\n\
         [author]\nname = x\nemail = x@x\n[committer]\nname = x\nemail = x@x\n[commit]\ngpgSign = true\n"
    );
    fs::write(home.join("gitconfig"), settings).expect("a file");
    // What receives a push runs the hooks of its own side.
    configuration.git(&["config", "core.hooksPath", "hooks"]);
    let key = configuration.key("'prod/*.yaml'");
    world.configure(&[("web", &format!("Tag: 'prod', {key}"))]);
    let ((commit, _), before) = (world.land("web", "one").await, configuration.commits());
    let mut watch = world.command(&["watch", "--once"]);
    watch.env("HOME", &home).env("GIT_CONFIG_GLOBAL", home.join("gitconfig"));
    watch.env("PUSH_USER", "robot").env("PUSH_HOST", "ci").env("GIT_TEMPLATE_DIR", home.join("template"));
    for key in ["GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL", "EMAIL"] {
        watch.env(key, "x");
    }
    let output = watch.output().expect("push runs");
    assert!(output.status.success(), "{}", text(&output));
    let made = configuration.git(&["log", "-1", "--format=%an|%ae|%cn|%ce", "live"]);
    assert_eq!(made, ["robot@ci"; 4].join("|"), "{}", text(&output));
    assert_eq!(configuration.commits(), before + 1, "both files are one commit");
    assert_eq!(configuration.show("prod/web.yaml"), manifest(&name, &commit));
    assert_eq!(configuration.show("prod/windows.yaml"), windows(&commit));
    assert_eq!(fs::read_to_string(&ran).unwrap_or_default(), "", "nothing of them ran");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_whose_server_wants_a_password_is_said_at_once_and_nobody_is_asked() {
    let world = World::new(Debian::Twelve);
    let configuration = Configuration::new(&world);
    configuration.git(&["update-server-info"]);
    let repo = configuration.repo();
    // Everybody may read there.
    let server = FakeRegistry::start(move |asked| {
        if asked.path.contains("git-receive-pack") {
            return Answer::new(401, "").with("www-authenticate", "Basic realm=\"x\"");
        }
        let path = asked.path.split('?').next().unwrap_or_default().trim_start_matches("/config.git/");
        fs::read(repo.join(path)).map_or_else(|_| Answer::new(404, ""), |content| Answer::new(200, content))
    });
    let key = format!("Config: {{ Repo: 'http://{}/config.git', Branch: 'live', Files: ['prod/*'] }}", server.host());
    world.configure(&[("web", &format!("Tag: 'prod', {key}"))]);
    let (_, one) = world.land("web", "one").await;
    let (mut watch, begun) = (world.command(&["watch", "--once"]), Instant::now());
    let output = watch.env_remove("GIT_ASKPASS").output().expect("push runs");
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("could not write the configuration") && said.contains("terminal prompts disabled"), "{said}");
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}: {said}", begun.elapsed());
    assert!(server.asked().iter().any(|asked| asked.path.contains("git-receive-pack")), "{:?}", server.asked());
    assert_eq!((world.digest("web", "prod").await, configuration.commits()), (one, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_apps_in_one_repository_are_two_commits_and_what_is_not_written_is_named() {
    let world = World::new(Debian::Twelve);
    let configuration = Configuration::new(&world);
    let (work, name) = (world.path("config-work"), world.name("web").to_string());
    let pinned = format!("image: {name}:v1@sha256:{}\n", "0".repeat(64));
    fs::write(work.join("prod/pinned.yaml"), &pinned).expect("a file");
    fs::write(work.join("prod/latin.yaml"), b"image: caf\xe9\n").expect("a file");
    fs::create_dir_all(work.join("api")).expect("a directory");
    fs::write(work.join("api/api.yaml"), format!("image: {}:none\n", world.name("api"))).expect("a file");
    configuration.add_all();
    let (web, api) = (configuration.key("'prod/*.yaml'"), configuration.key("'api/*.yaml'"));
    world.configure(&[("web", &format!("Tag: 'prod', {web}")), ("api", &format!("Tag: 'prod', {api}"))]);
    let (of_web, _) = world.land("web", "web").await;
    let (of_api, _) = world.land("api", "api").await;
    let before = configuration.commits();
    // What git is asked is noted.
    let (programs, asked) = (world.path("programs"), world.path("asked"));
    fs::create_dir_all(&programs).expect("a directory");
    let path = std::env::var("PATH").expect("a path");
    let noting = format!("#!/bin/sh\necho \"$*\" >>'{}'\nPATH='{path}' exec git \"$@\"\n", asked.display());
    fs::write(programs.join("git"), noting).expect("a script");
    fs::set_permissions(programs.join("git"), fs::Permissions::from_mode(0o755)).expect("a mode");
    let mut watch = world.command(&["watch", "--once"]);
    let output = watch.env("PATH", format!("{}:{path}", programs.display())).output().expect("push runs");
    let said = text(&output);
    assert!(output.status.success() && !said.contains("somebody else"), "{said}");
    let asked = fs::read_to_string(asked).expect("what git was asked");
    let repo = configuration.repo().display().to_string();
    let counts = ["push", "fetch", "clone"]
        .map(|what| asked.lines().filter(|line| line.contains(&format!(" {what} ")) && line.contains(&repo)).count());
    assert_eq!(counts, [2, 0, 1], "each is pushed once, and nothing is read again: {asked}");
    assert!(said.contains("line 1 of `prod/pinned.yaml` stays as it is, because it has a digest"), "{said}");
    assert!(said.contains("`prod/latin.yaml` stays as it is, because it is not UTF-8 text"), "{said}");
    let subjects = configuration.git(&["log", "-2", "--format=%s", "live"]);
    let expected = |app: &str, commit: &str| format!("{app}: prod is now {}", &commit[..12]);
    let mut subjects: Vec<&str> = subjects.lines().collect();
    subjects.sort_unstable();
    assert_eq!(subjects, [expected("api", &of_api), expected("web", &of_web)]);
    assert_eq!(configuration.commits(), before + 2);
    assert_eq!(configuration.show("prod/web.yaml"), manifest(&name, &of_web));
    assert_eq!(configuration.show("prod/pinned.yaml"), pinned);
    assert_eq!(configuration.show("api/api.yaml"), format!("image: {}:{of_api}\n", world.name("api")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_that_is_killed_as_it_pushes_is_made_up_for_by_one_commit() {
    let world = World::new(Debian::Thirteen);
    let configuration = Configuration::new(&world);
    let key = configuration.key("'prod/web.yaml'");
    world.configure(&[("web", &format!("Tag: 'prod', {key}"))]);
    // Before its commit is taken, and after that.
    for (message, status) in [("before", 1), ("after", 0)] {
        let (commit, digest) = world.land("web", message).await;
        let (before, process, killed) = (configuration.commits(), world.path("process"), world.path("killed"));
        configuration.hook(&format!(
            "until [ -s '{0}' ]; do sleep 0.01; done; kill -KILL \"$(cat '{0}')\"; touch '{1}'; exit {status}",
            process.display(),
            killed.display()
        ));
        let mut watcher = world.command(&["watch", "--once"]).spawn().expect("push runs");
        fs::write(&process, watcher.id().to_string()).expect("a file");
        let ended = watcher.wait().expect("it ends");
        assert_eq!(ended.signal(), Some(9), "{message}");
        assert_eq!(world.digest("web", "prod").await, digest, "{message}: the tag was moved before");
        until("the hook has ended", || killed.exists());
        if status == 0 {
            until("the commit is there", || configuration.commits() == before + 1);
        }
        fs::remove_file(configuration.repo().join("hooks/pre-receive")).expect("the hook");
        for left in [process, killed] {
            fs::remove_file(left).expect("a file");
        }
        for _ in 0..2 {
            world.round();
            assert_eq!(configuration.commits(), before + 1, "{message}: one commit");
            assert!(configuration.show("prod/web.yaml").contains(&commit), "{message}");
        }
    }
}
