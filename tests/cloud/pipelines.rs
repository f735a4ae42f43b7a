//! The three pipelines of docs/candidates.md, played.

use std::{env, path::Path, process::Command};

use bucket::{ReleaseName, Timestamp};
use futures_util::TryStreamExt as _;
use harness::Programs;

use crate::trying::World;

const PAGE: &str = include_str!("../../docs/candidates.md");

/// The blocks of commands of a section, in order.
fn blocks(section: &str) -> Vec<&'static str> {
    let (_, after) = PAGE.split_once(&format!("\n## {section}\n")).expect("the page has the section");
    let section = after.split("\n## ").next().unwrap_or_default();
    section.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap_or_default()).collect()
}

/// Runs commands as a job of a pipeline does, in a repository, at a time of its own.
#[track_caller]
fn play(world: &World, script: &str, minute: u32) {
    let mut job = Command::new("sh");
    let environment = world.release(&[]);
    for (key, value) in environment.get_envs() {
        match value {
            Some(value) => job.env(key, value),
            None => job.env_remove(key),
        };
    }
    let programs = Programs::get().expect("our programs").release();
    let programs = programs.parent().expect("a directory").display();
    let path = format!("{programs}:{}", env::var("PATH").unwrap_or_default());
    job.args(["-ec", script]).current_dir(world.repo.directory()).env("PATH", path).env("NUMBER", "12");
    let output = job.env("PUSH_TIME", format!("2026-11-20T20:{minute:02}:00Z")).output().expect("sh runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {}\n{said}", output.status);
}

fn git(directory: &Path, arguments: &[&str]) {
    let status = Command::new("git").current_dir(directory).args(arguments).status().expect("git runs");
    assert!(status.success(), "git {arguments:?}");
}

#[tokio::test]
async fn check_gate_and_promote_do_what_the_page_says() {
    for world in [World::over_directories().await, World::over_google().await] {
        let (lib, web) = (world.released("lib"), world.released("web"));
        world.document("web-1", &[lib.as_str(), web.as_str()]).await;
        let origin = world.path("origin.git");
        git(world.directory.path(), &["init", "--quiet", "--bare", "--initial-branch=main", "origin.git"]);
        git(world.repo.directory(), &["remote", "add", "origin", origin.to_str().expect("a path")]);
        git(world.repo.directory(), &["push", "--quiet", "--set-upstream", "origin", "main"]);
        // What is tried: the server's document names it, it is there, and it is not what production has.
        let test = "#!/bin/sh\nset -ex\noverlay=${PUSH_BUCKET#file://}\ngrep web: \"$overlay/server/web-1.json\"\n\
                    test \"$(ls \"$overlay/debs\" | wc -l)\" -ge 2\n";
        world.repo.write("test.sh", test).expect("a file");
        git(world.repo.directory(), &["add", "test.sh"]);
        git(world.repo.directory(), &["update-index", "--chmod=+x", "test.sh"]);
        std::fs::set_permissions(
            world.repo.directory().join("test.sh"),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .expect("a program");
        world.repo.commit("change 12").expect("a commit");

        let [check, gate, promote] = blocks("In a pipeline")[..] else { panic!("the page has three pipelines") };
        let (before, written) = (world.all().await, world.writes().len());
        play(&world, check, 1);
        assert_eq!(world.all().await, before, "a check leaves production as it is");
        assert_eq!(world.writes().len(), written, "and does not even ask: {:#?}", world.writes());
        play(&world, gate, 2);
        let gated: Vec<_> = world.production.gated_candidates().try_collect().await.expect("a listing");
        let gated: Vec<ReleaseName> = gated.iter().map(|candidate| candidate.place.release().clone()).collect();
        assert_eq!(gated.len(), 3, "one of each package of release.toml");
        play(&world, promote, 3);

        let at: Timestamp = "2026-11-20T20:02:00Z".parse().expect("a time");
        for release in &gated {
            let there = world.production.release(release).await.expect("an answer").expect("a release");
            assert_eq!(release.time(), at, "what was tried in the gate");
            let promoted = there.promoted.expect("it was promoted");
            assert_eq!((promoted.change.to_string().as_str(), promoted.patchset), ("web/12", 1));
        }
        let left: Vec<_> = world.production.gated_candidates().try_collect().await.expect("a listing");
        assert_eq!(left, []);
        let (_, change) = world.change(&"web/12".parse().expect("a change")).await;
        assert_eq!(change.tries.len(), 2, "one in the check, one in the gate");
        let listed = world.done(&["list", "web", "--names", "--limit", "1"]).stdout;
        let web = gated.iter().find(|release| release.app().as_str() == "web").expect("a candidate of web");
        assert_eq!(String::from_utf8_lossy(&listed).trim(), web.as_str(), "it is the newest release");
    }
}
