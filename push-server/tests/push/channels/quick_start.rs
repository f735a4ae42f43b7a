//! The quick start of docs/channels.md, played; and what is said when something of it is missing.

use std::os::unix::fs::symlink;

use super::{Channels, only};
use crate::{failed, ok};

const PAGE: &str = include_str!("../../../../docs/channels.md");

/// The first block of a language on the page.
fn block(language: &str) -> &'static str {
    let (_, after) = PAGE.split_once(&format!("```{language}\n")).unwrap();
    after.split_once("```").unwrap().0
}

#[tokio::test]
async fn the_quick_start_does_what_the_page_says() {
    let mut channels = Channels::new("").await;
    let one = channels.commit("one");
    let one = channels.release(&one).await;
    let rules = block("json5").replace("https://git.example/acme/web.git", "REPO");
    let rules = rules.replace("REPO", &format!("file://{}", channels.repo().display()));
    let directory = channels.elsewhere.path().to_owned();
    std::fs::write(directory.join("skiapush.conf"), rules).unwrap();
    let commands = block("sh").lines().map(|line| line.split(" #").next().unwrap().trim());
    // The one that goes on for ever is played by others.
    let (endless, commands): (Vec<&str>, Vec<&str>) =
        commands.partition(|line| line.ends_with("watch --config skiapush.conf"));
    assert_eq!((endless.len(), commands.len()), (1, 4));
    for (nth, command) in commands.into_iter().enumerate() {
        let arguments = command.strip_prefix("push ").unwrap().replace('\'', "");
        let said = ok(&channels.command(&arguments).current_dir(&directory).output().unwrap());
        match nth {
            1 => assert_eq!(channels.document("web-1"), only(&one)),
            3 => assert!(said.contains("1 of 1 server"), "{said}"),
            _ => {}
        }
    }
    // What lands and is released goes out with the next round.
    let two = channels.commit("two");
    let two = channels.release(&two).await;
    channels.round();
    assert_eq!(channels.document("web-1"), only(&two));
}

#[tokio::test]
async fn a_program_that_is_missing_is_named() {
    let channels = Channels::new("").await;
    channels.commit("one");
    let programs = channels.elsewhere.path().join("programs");
    std::fs::create_dir(&programs).unwrap();
    let round = || failed(&channels.command("watch --once").env("PATH", &programs).output().unwrap());
    let said = round();
    assert!(said.contains("because there is no `timeout`: install the package `coreutils`"), "{said}");
    symlink("/usr/bin/timeout", programs.join("timeout")).unwrap();
    let said = round();
    assert!(said.contains("because there is no `git`: install the package `git`"), "{said}");
}
