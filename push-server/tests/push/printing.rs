//! What the command prints, for people and for programs.

use std::process::Command;

use bucket::BucketUrl;
use serde_json::{Value, json};

use super::{Fixture, failed, ok, text};

#[tokio::test]
async fn waiting_says_when_the_agent_polls() {
    let fixture = Fixture::new().await;
    fixture.release("web", 1, false).await;
    fixture.report("web-1");
    let output = fixture.push("deploy web web-1 --wait --timeout 2s");
    assert!(failed(&output).contains("web-1: the agent polls within 5 min"), "{}", text(&output));
}

#[tokio::test]
async fn two_servers_are_compared_with_the_notes_between() {
    let fixture = Fixture::new().await;
    fixture.report("web-1");
    fixture.report("web-2");
    fixture.release("web", 3, false).await;
    ok(&fixture.push("deploy web web-2"));
    fixture.release("db", 1, false).await;
    ok(&fixture.push("deploy db web-2 --install"));
    // The names say another order than the uploads.
    fixture.release("web", 2, false).await;
    fixture.release("web", 1, false).await;
    ok(&fixture.push("deploy web web-1"));
    let said = ok(&fixture.push("diff web-1 web-2"));
    assert!(said.contains("web  web-1 is ahead: 000000000000, and 000000000000 on web-2"), "{said}");
    let note = |n: u8| said.find(&format!("[2J {n}\n"));
    assert!(note(1).is_some() && note(1) < note(2) && note(3).is_none(), "{said}");
    assert!(said.contains("db  only on web-2"), "{said}");
    assert!(ok(&fixture.push("diff web-2 web-1")).contains("web-2 is behind"));
    let json: Value = serde_json::from_slice(&fixture.push("diff web-1 web-2 --json").stdout).unwrap();
    assert_eq!(
        (&json["apps"][1]["relation"], json["apps"][1]["notes"].as_array().unwrap().len()),
        (&json!("ahead"), 2)
    );
    assert!(ok(&fixture.push("diff web-1 web-1")).contains("web  the same"));
    assert!(failed(&fixture.push("diff web-1 wbe-2")).contains("did you mean `web-2`?"));
}

#[tokio::test]
async fn hostile_text_reaches_the_terminal_escaped() {
    let fixture = Fixture::new().await;
    fixture.release("web", 1, false).await;
    ok(&fixture.push("deploy web web-1 --force -m \u{1b}]0;x\u{7}"));
    for verb in ["list web", "history web-1", "status web-1", "status"] {
        let output = fixture.push(verb);
        assert!(!text(&output).contains('\u{1b}'), "{verb}: {}", text(&output).escape_debug());
    }
}

#[tokio::test]
async fn usage_errors_are_told_apart_from_failures() {
    let fixture = Fixture::new().await;
    for arguments in ["deploy", "deploy web", "deploy ../x web-1", "deploy web ../x", "frobnicate"] {
        let output = fixture.push(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments}: {}", text(&output));
    }
}

#[tokio::test]
async fn no_json_has_a_key_twice() {
    let fixture = Fixture::new().await;
    let web = fixture.release("web", 1, false).await;
    let policy = fixture.path("policy");
    std::fs::write(&policy, "{ Servers: { 'web-1': { AppName: [] } } }").unwrap();
    let policy = policy.display().to_string();
    for (arguments, status) in [
        (format!("deploy {web} web-1 --dry-run --force --json"), 0),
        // It waits in vain: no agent reports.
        ("deploy web web-1 --force -m first --wait --timeout 10ms --json".to_owned(), 1),
        ("deploy web web-2 --json".to_owned(), 1),
        ("rollback web web-1 --json".to_owned(), 1),
        ("status --json".to_owned(), 0),
        ("status web-1 --json".to_owned(), 0),
        ("list --json".to_owned(), 0),
        ("list web --json".to_owned(), 0),
        ("history --json".to_owned(), 0),
        ("history web-1 --json".to_owned(), 0),
        (format!("check-config {policy} --json"), 1),
    ] {
        let output = fixture.push(&arguments);
        assert_eq!(output.status.code(), Some(status), "{arguments}: {}", text(&output));
        let printed = String::from_utf8(output.stdout).unwrap();
        console::parse_with_unique_keys(&printed).unwrap_or_else(|error| panic!("{arguments}: {error}: {printed}"));
    }
}

#[tokio::test]
async fn a_reader_that_went_away_is_no_failure() {
    let fixture = Fixture::new().await;
    fixture.release("web", 1, false).await;
    ok(&fixture.push("deploy web web-1 --force"));
    let url = BucketUrl::File(fixture.directory.path().to_owned()).to_string();
    for arguments in ["completions bash", "list web", "list", "status", "status --json", "history", "--help"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut push = Command::new(env!("CARGO_BIN_EXE_push"));
        let push = push.env("PUSH_BUCKET", &url).args(arguments.split_whitespace()).stdout(writer);
        let output = push.output().unwrap();
        assert_eq!((output.status.code(), text(&output)), (Some(0), String::new()), "{arguments}");
    }
}
