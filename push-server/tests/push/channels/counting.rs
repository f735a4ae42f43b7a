//! How often a watcher runs git.

use std::os::unix::fs::PermissionsExt as _;

use super::Channels;
use crate::ok;

/// What git is run for in a round, each once for a repository.
const IN_A_ROUND: [&str; 4] = ["fetch", "for-each-ref", "gc", "rev-list"];

#[tokio::test]
async fn each_repository_is_fetched_once_in_a_round_and_git_runs_for_no_release() {
    let (mut channels, commits, _) = Channels::following(&["web-1"], ["one", "two", "three"]).await;
    for commit in commits.iter().cycle().take(20) {
        channels.release(commit).await;
    }
    let other = channels.elsewhere.path().join("other");
    channels.git(&format!("clone --quiet --bare . {}", other.display()));
    let rules = r#"[{ App: "web", Repo: "REPO", Servers: ["web-*"], From: "beta" },
        { App: "web", Channel: "beta", Repo: "REPO", Servers: ["beta-*"] }, { App: "api", Repo: "REPO" },
        { App: "db", Repo: "file://OTHER" }, { App: "cron", Repo: "file://OTHER" }]"#;
    channels.configure(&rules.replace("OTHER", &other.display().to_string()), "");
    let (bin, log) = (channels.elsewhere.path().join("bin"), channels.elsewhere.path().join("gits"));
    let path = std::env::var("PATH").unwrap();
    std::fs::create_dir(&bin).unwrap();
    std::fs::write(
        bin.join("git"),
        format!("#!/bin/sh\necho \"$*\" >>'{}'\nPATH='{path}' exec git \"$@\"\n", log.display()),
    )
    .unwrap();
    std::fs::set_permissions(bin.join("git"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let round = |first: &str| {
        let _ = std::fs::remove_file(&log);
        let mut watch = channels.command("watch --once");
        ok(&watch.env("PATH", format!("{}:{path}", bin.display())).output().unwrap());
        let log = std::fs::read_to_string(&log).unwrap();
        for verb in IN_A_ROUND.map(|verb| if verb == "fetch" { first } else { verb }) {
            let runs = log.lines().filter(|line| line.split(' ').any(|word| word == verb));
            assert_eq!(runs.count(), 2, "{verb}, of two repositories: {log}");
        }
        assert_eq!(log.lines().count(), 2 * IN_A_ROUND.len(), "{log}");
    };
    round("clone");
    for _ in 0..2 {
        round("fetch");
    }
}
