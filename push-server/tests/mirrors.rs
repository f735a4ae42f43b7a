//! Mirrors of real repositories, over `file://` and over http on this machine, by real git.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use axum::{Router, http::StatusCode, http::Uri, response::Redirect};
use bucket::Commit;
use fleet::channel::{branch::Branch, line::Line, repo::RepoUrl};
use push_server::watch::mirror::{FetchError, Mirrors};
use tempfile::TempDir;
use tokio::net::TcpListener;

/// The longest that anything here may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// A repository, in which commits are made, and the directory of mirrors beside it.
struct Repo(TempDir);

impl Repo {
    fn new() -> Self {
        let repo = Self(tempfile::tempdir().unwrap());
        repo.git(&["init", "--quiet", "--initial-branch=main"]);
        repo
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("web.git")
    }

    fn git(&self, arguments: &[&str]) -> String {
        fs::create_dir_all(self.path()).unwrap();
        git(&self.path(), arguments)
    }

    fn url(&self) -> RepoUrl {
        format!("file://{}", self.path().display()).parse().unwrap()
    }

    fn mirrors(&self) -> Mirrors {
        Mirrors::new(self.directory())
    }

    fn directory(&self) -> PathBuf {
        self.0.path().join("mirrors")
    }

    /// The one mirror that there is.
    fn mirror(&self) -> PathBuf {
        let entries = fs::read_dir(self.directory()).unwrap().map(|entry| entry.unwrap().path());
        entries.into_iter().find(|path| path.extension().is_some_and(|ending| ending == "git")).unwrap()
    }

    /// Lands a commit on what is checked out.
    fn commit(&self) -> Commit {
        self.git(&["commit", "--quiet", "--allow-empty", "--message=x"]);
        self.head()
    }

    /// Lands many commits on `main`.
    fn land(&self, count: usize) {
        let commit = "commit refs/heads/main\ncommitter x <x@push.example> 0 +0000\ndata 1\nx";
        let rest = format!("{commit}\n").repeat(count - 1);
        let all = format!("{commit}\nfrom refs/heads/main^0\n{rest}");
        fs::write(self.0.path().join("commits"), all).unwrap();
        let commits = fs::File::open(self.0.path().join("commits")).unwrap();
        let mut git = Command::new("git");
        git.arg("-C").arg(self.path()).args(["fast-import", "--quiet"]).stdin(commits);
        assert!(git.status().unwrap().success());
    }

    fn head(&self) -> Commit {
        self.git(&["rev-parse", "HEAD"]).trim().parse().unwrap()
    }

    /// Merges a side branch with one commit, which is returned before the merge.
    fn merge(&self) -> [Commit; 2] {
        self.git(&["checkout", "--quiet", "-b", "side"]);
        let side = self.commit();
        self.git(&["checkout", "--quiet", "main"]);
        self.git(&["merge", "--quiet", "--no-ff", "--message=x", "side"]);
        self.git(&["branch", "--quiet", "-D", "side"]);
        [side, self.head()]
    }
}

fn git(directory: &Path, arguments: &[&str]) -> String {
    let who = ["-c", "user.name=x", "-c", "user.email=x@push.example"];
    let output = Command::new("git").arg("-C").arg(directory).args(who).args(arguments).output().unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

async fn line_of(mirrors: &Mirrors, url: &RepoUrl, branch: &str) -> Option<Line> {
    let branch: Branch = branch.parse().unwrap();
    mirrors.fetch(url).await.unwrap().line(&branch).await.unwrap()
}

async fn main_line(mirrors: &Mirrors, url: &RepoUrl) -> Line {
    line_of(mirrors, url, "main").await.unwrap()
}

/// Serves a directory as files, from which git takes what `git update-server-info` lists.
fn serve(listener: TcpListener, directory: PathBuf) -> tokio::task::JoinHandle<()> {
    let answer = move |uri: Uri| {
        let path = directory.join(uri.path().trim_start_matches('/'));
        async move { fs::read(path).map_err(|_| StatusCode::NOT_FOUND) }
    };
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await.unwrap() })
}

async fn listen() -> (TcpListener, RepoUrl) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/.git", listener.local_addr().unwrap()).parse().unwrap();
    (listener, url)
}

#[tokio::test]
async fn what_landed_is_on_the_line_and_side_commits_are_not() {
    let repo = Repo::new();
    let (first, second) = (repo.commit(), repo.commit());
    let mirrors = repo.mirrors();
    let line = main_line(&mirrors, &repo.url()).await;
    assert_eq!((line.len(), line.place(&first), line.place(&second)), (2, Some(0), Some(1)));
    let [side, merge] = repo.merge();
    let last = repo.commit();
    let line = main_line(&mirrors, &repo.url()).await;
    assert_eq!(line.from(2), [merge, last.clone()]);
    assert_eq!(line.place(&side), None);
    assert_eq!(main_line(&repo.mirrors(), &repo.url()).await, line, "as one read anew");
    assert_eq!(main_line(&mirrors, &repo.url()).await.tip(), Some(&last), "nothing new");
}

#[tokio::test]
async fn the_line_is_whole_however_much_landed_at_once() {
    let repo = Repo::new();
    let first = repo.commit();
    let mirrors = repo.mirrors();
    main_line(&mirrors, &repo.url()).await;
    for count in [999, 1000, 1001] {
        let before = main_line(&mirrors, &repo.url()).await.len();
        repo.land(count);
        let line = main_line(&mirrors, &repo.url()).await;
        assert_eq!((line.len(), line.place(&first)), (before + count, Some(0)));
        assert_eq!(main_line(&repo.mirrors(), &repo.url()).await, line, "as one read anew");
    }
}

#[tokio::test]
async fn a_repository_is_fetched_over_http() {
    let repo = Repo::new();
    let first = repo.commit();
    repo.git(&["update-server-info"]);
    let (listener, url) = listen().await;
    let server = serve(listener, repo.path());
    let mirrors = repo.mirrors();
    assert_eq!(main_line(&mirrors, &url).await.tip(), Some(&first));
    let second = repo.commit();
    repo.git(&["update-server-info"]);
    assert_eq!(main_line(&mirrors, &url).await.from(1), [second]);
    server.abort();
    let _ = server.await;
    let error = mirrors.fetch(&url).await.unwrap_err();
    assert!(matches!(error, FetchError::Failed { .. }), "an old picture counts for nothing: {error}");
    assert!(error.to_string().starts_with(&format!("could not fetch `{url}`: ")), "{error}");
}

#[tokio::test]
async fn history_that_was_rewritten_is_read_anew() {
    let repo = Repo::new();
    let (first, second) = (repo.commit(), repo.commit());
    let mirrors = repo.mirrors();
    main_line(&mirrors, &repo.url()).await;
    repo.git(&["reset", "--quiet", "--hard", first.as_str()]);
    assert_eq!(main_line(&mirrors, &repo.url()).await, Line::new(vec![first.clone()]), "shorter");
    repo.git(&["commit", "--quiet", "--allow-empty", "--message=another"]);
    let other = repo.head();
    git(&repo.mirror(), &["gc", "--quiet", "--prune=now"]);
    let line = main_line(&mirrors, &repo.url()).await;
    assert_eq!((line.clone(), line.place(&second)), (Line::new(vec![first.clone(), other.clone()]), None));
    // The old tip is still in the history, as the second parent of a merge.
    repo.git(&["checkout", "--quiet", "-b", "side", first.as_str()]);
    let side = repo.commit();
    repo.git(&["merge", "--quiet", "--no-ff", "--message=x", "main"]);
    let merge = repo.head();
    repo.git(&["branch", "--quiet", "--force", "main", "side"]);
    assert_eq!(main_line(&mirrors, &repo.url()).await, Line::new(vec![first.clone(), side, merge]));
    // Another root: what was known is gone from the mirror.
    repo.git(&["checkout", "--quiet", "--orphan", "new"]);
    let root = repo.commit();
    repo.git(&["branch", "--quiet", "--force", "main", "new"]);
    repo.git(&["branch", "--quiet", "-D", "side"]);
    mirrors.fetch(&repo.url()).await.unwrap();
    git(&repo.mirror(), &["gc", "--quiet", "--prune=now"]);
    assert_eq!(main_line(&mirrors, &repo.url()).await, Line::new(vec![root]));
}

#[tokio::test]
async fn a_branch_that_is_gone_has_no_line() {
    let repo = Repo::new();
    let mirrors = repo.mirrors();
    assert_eq!(line_of(&mirrors, &repo.url(), "main").await, None, "no commit yet");
    let tip = repo.commit();
    repo.git(&["branch", "release"]);
    repo.git(&["tag", "v1"]);
    assert!(line_of(&mirrors, &repo.url(), "release").await.is_some());
    assert_eq!(line_of(&mirrors, &repo.url(), "v1").await, None, "a tag is no branch");
    repo.git(&["branch", "--quiet", "-D", "release"]);
    repo.git(&["branch", "release/1"]);
    assert_eq!(line_of(&mirrors, &repo.url(), "release").await, None);
    assert_eq!(line_of(&mirrors, &repo.url(), "release/1").await.unwrap().tip(), Some(&tip));
}

#[tokio::test]
async fn a_repository_with_long_names_of_objects_is_mirrored() {
    let repo = Repo(tempfile::tempdir().unwrap());
    repo.git(&["init", "--quiet", "--initial-branch=main", "--object-format=sha256"]);
    let (first, mirrors) = (repo.commit(), repo.mirrors());
    assert_eq!((main_line(&mirrors, &repo.url()).await.tip(), first.as_str().len()), (Some(&first), 64));
    let second = repo.commit();
    assert_eq!(main_line(&mirrors, &repo.url()).await.from(1), [second]);
}

#[tokio::test]
async fn half_a_history_is_refused() {
    let repo = Repo::new();
    repo.commit();
    repo.commit();
    let half = repo.0.path().join("half");
    let from = repo.url().to_string();
    repo.git(&["clone", "--quiet", "--bare", "--depth=1", &from, half.to_str().unwrap()]);
    let url: RepoUrl = format!("file://{}", half.display()).parse().unwrap();
    let error = repo.mirrors().fetch(&url).await.unwrap_err();
    assert!(error.to_string().contains("shallow"), "{error}");
}

/// A program that leaves a trace, and where.
fn tracing(directory: &Path) -> (PathBuf, PathBuf) {
    let (script, proof) = (directory.join("script"), directory.join("ran"));
    fs::write(&script, format!("#!/bin/sh\n: > '{}'\n", proof.display())).unwrap();
    assert!(Command::new("chmod").arg("+x").arg(&script).status().unwrap().success());
    (script, proof)
}

#[tokio::test]
async fn nothing_runs_that_a_mirror_names() {
    let repo = Repo::new();
    repo.commit();
    let mirrors = repo.mirrors();
    main_line(&mirrors, &repo.url()).await;
    let (script, proof) = tracing(repo.0.path());
    let (mirror, url) = (repo.mirror(), repo.url());
    let ran = |what: &str| fs::remove_file(&proof).unwrap_or_else(|_| panic!("otherwise, git runs {what}"));
    for hooks in [mirror.join("hooks"), repo.0.path().join("elsewhere")] {
        fs::create_dir_all(&hooks).unwrap();
        for hook in ["reference-transaction", "post-update", "pre-push", "pre-auto-gc", "post-index-change"] {
            fs::copy(&script, hooks.join(hook)).unwrap();
        }
        git(&mirror, &["update-ref", "refs/heads/x", "main"]);
        ran("a hook");
        git(&mirror, &["config", "core.hooksPath", repo.0.path().join("elsewhere").to_str().unwrap()]);
    }
    git(&mirror, &["config", "core.fsmonitor", script.to_str().unwrap()]);
    let mut status = Command::new("git");
    status.arg("--git-dir").arg(&mirror).arg("--work-tree").arg(repo.path()).arg("status").stdout(Stdio::null());
    assert!(status.status().unwrap().success());
    ran("what it asks what has changed");
    repo.commit();
    assert_eq!(main_line(&mirrors, &url).await.len(), 2);
    assert!(!proof.exists());
    // Another address for the repository, which is a command.
    git(&mirror, &["config", &format!("url.ext::{} .insteadOf", script.display()), url.as_str()]);
    let mut fetch = Command::new("git");
    fetch.arg("--git-dir").arg(&mirror).args(["fetch", url.as_str()]).env("GIT_ALLOW_PROTOCOL", "ext");
    assert!(!fetch.stderr(Stdio::null()).status().unwrap().success());
    ran("the command");
    let error = mirrors.fetch(&url).await.unwrap_err().to_string();
    assert!(error.contains("transport 'ext' not allowed"), "{error}");
    assert!(!proof.exists());
}

#[tokio::test]
async fn a_repository_that_wants_a_password_is_refused_and_nobody_is_asked() {
    let repo = Repo::new();
    let (script, proof) = tracing(repo.0.path());
    let (listener, url) = listen().await;
    let who = [("www-authenticate", "Basic realm=\"x\"")];
    let answer = move || async move { (StatusCode::UNAUTHORIZED, who) };
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await.unwrap() });
    let mut asking = tokio::process::Command::new("git");
    asking.args(["ls-remote", url.as_str()]).env("SSH_ASKPASS", &script).stderr(Stdio::null());
    assert!(!tokio::time::timeout(PATIENCE, asking.status()).await.unwrap().unwrap().success());
    fs::remove_file(&proof).expect("otherwise, git asks");
    let mut watch = watching(&repo, &url);
    let watch = watch.env("SSH_ASKPASS", &script).env_remove("GIT_ASKPASS").output();
    let output = tokio::time::timeout(PATIENCE, watch).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("terminal prompts disabled"), "{said}");
    assert!(!proof.exists());
    // A program that answers for a person is theirs to name, as a credential helper is.
    let mut watch = watching(&repo, &url);
    let output = tokio::time::timeout(PATIENCE, watch.env("GIT_ASKPASS", &script).output()).await.unwrap().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    fs::remove_file(&proof).expect("it is asked");
}

#[tokio::test]
async fn a_server_on_this_machine_sends_git_nowhere_else() {
    let repo = Repo::new();
    repo.commit();
    repo.git(&["update-server-info"]);
    let (listener, elsewhere) = listen().await;
    let other = serve(listener, repo.path());
    let (listener, url) = listen().await;
    let base = elsewhere.to_string();
    let redirect = move |uri: Uri| async move {
        Redirect::temporary(&format!("{base}{}", uri.path_and_query().unwrap().as_str().trim_start_matches("/.git")))
    };
    let server = tokio::spawn(async move { axum::serve(listener, Router::new().fallback(redirect)).await.unwrap() });
    let mut listed = tokio::process::Command::new("git");
    let listed = listed.args(["ls-remote", url.as_str()]).stdout(Stdio::null()).status();
    let redirected = tokio::time::timeout(PATIENCE, listed).await.unwrap().unwrap();
    assert!(redirected.success(), "otherwise, git goes there");
    let error = repo.mirrors().fetch(&url).await.unwrap_err();
    assert!(matches!(error, FetchError::Failed { .. }), "{error}");
    server.abort();
    other.abort();
}

/// The processes that have a text among their arguments.
fn processes_with(text: &str) -> Vec<PathBuf> {
    let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let has_it = |path: &PathBuf| {
        let arguments = fs::read(path.join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&arguments).contains(text)
    };
    processes.filter(has_it).collect()
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test]
async fn a_repository_that_hangs_is_given_up_and_leaves_nothing_behind() {
    let repo = Repo::new();
    let tip = repo.commit();
    repo.git(&["update-server-info"]);
    // The system accepts the connection, and nobody ever reads from it.
    let (listener, url) = listen().await;
    let hasty = Mirrors::with_limit(repo.directory(), Duration::from_secs(1));
    let error = tokio::time::timeout(PATIENCE, hasty.fetch(&url)).await.unwrap().unwrap_err();
    assert!(error.to_string().starts_with(&format!("could not fetch `{url}` within 1s: ")), "{error}");
    assert!(processes_with(url.as_str()).is_empty());
    serve(listener, repo.path());
    assert_eq!(main_line(&repo.mirrors(), &url).await.tip(), Some(&tip));
}

#[tokio::test]
async fn a_fetch_that_nobody_waits_for_ends() {
    let repo = Repo::new();
    let (_listener, url) = listen().await;
    let mirrors = repo.mirrors();
    let fetch = tokio::spawn({
        let url = url.clone();
        async move { mirrors.fetch(&url).await.map(drop) }
    });
    until("git runs", || processes_with(url.as_str()).len() > 2).await;
    fetch.abort();
    assert!(fetch.await.unwrap_err().is_cancelled());
    until("git is gone", || processes_with(url.as_str()).is_empty()).await;
}

#[tokio::test]
async fn locks_that_a_killed_git_left_are_removed() {
    let repo = Repo::new();
    repo.commit();
    let mirrors = repo.mirrors();
    main_line(&mirrors, &repo.url()).await;
    let left = ["refs/heads/main.lock", "packed-refs.lock", "HEAD.lock", "objects/pack/tmp_pack_x"];
    for name in left {
        let path = repo.mirror().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    let tip = repo.commit();
    assert_eq!(main_line(&mirrors, &repo.url()).await.tip(), Some(&tip));
    assert!(left.iter().all(|name| !repo.mirror().join(name).exists()));
}

/// A watcher with the same mirrors, and one channel on the repository.
fn watching(repo: &Repo, url: &RepoUrl) -> tokio::process::Command {
    let (bucket, rules) = (repo.0.path().join("bucket"), repo.0.path().join("rules"));
    // Others read it meanwhile.
    if !rules.exists() {
        fs::create_dir_all(&bucket).unwrap();
        fs::write(&rules, format!("{{ Channels: [{{ App: 'web', Repo: '{url}' }}] }}")).unwrap();
    }
    let mut watch = tokio::process::Command::new(env!("CARGO_BIN_EXE_push"));
    watch.args(["watch", "--once", "--mirrors"]).arg(repo.directory());
    watch.env("PUSH_BUCKET", format!("file://{}", bucket.display())).env("PUSH_CONFIG", &rules).kill_on_drop(true);
    watch
}

fn another_process(repo: &Repo, url: &RepoUrl) -> tokio::process::Child {
    // What a git that started it would have it know.
    let of_git = [("GIT_DIR", "/nonexistent"), ("GIT_OBJECT_DIRECTORY", "/nonexistent")];
    watching(repo, url).envs(of_git).spawn().unwrap()
}

#[tokio::test]
async fn two_processes_fetch_one_repository() {
    let repo = Repo::new();
    repo.commit();
    let mirrors = repo.mirrors();
    for _ in 0..5 {
        let tip = repo.commit();
        let [mut one, mut other] = [(); 2].map(|()| another_process(&repo, &repo.url()));
        assert_eq!(main_line(&mirrors, &repo.url()).await.tip(), Some(&tip));
        let ended = async { (one.wait().await.unwrap(), other.wait().await.unwrap()) };
        let (one, other) = tokio::time::timeout(PATIENCE, ended).await.unwrap();
        assert!(one.success() && other.success());
    }
}

#[tokio::test]
async fn a_process_that_was_killed_while_it_copied_keeps_nobody_from_copying() {
    let repo = Repo::new();
    let tip = repo.commit();
    repo.git(&["update-server-info"]);
    let (listener, url) = listen().await;
    let mut other = another_process(&repo, &url);
    let (connection, _) = tokio::time::timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    // Nobody is there to kill its git, which waits for an answer, and has the lock as long as it does.
    other.kill().await.unwrap();
    let hasty = Mirrors::with_limit(repo.directory(), Duration::from_millis(200));
    let error = hasty.fetch(&url).await.unwrap_err();
    assert!(matches!(error, FetchError::Busy { .. }), "{error}");
    drop(connection);
    serve(listener, repo.path());
    assert_eq!(main_line(&repo.mirrors(), &url).await.tip(), Some(&tip));
}
