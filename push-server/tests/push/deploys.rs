//! Deploying, going back, and what keeps somebody from that.

use std::path::Path;

use bucket::{Release, ReleaseName, ServerDocument};
use serde_json::{Value, json};

use super::{Fixture, failed, ok, release};

#[tokio::test]
async fn a_name_that_may_be_misspelt_needs_force() {
    let fixture = Fixture::new().await;
    let web = fixture.release("web", 1, false).await;
    let said = failed(&fixture.push("deploy web web-1"));
    assert!(said.contains("no server `web-1` has a document or a report") && said.contains("--force"), "{said}");
    assert!(!fixture.path("server").exists());
    ok(&fixture.push("deploy web web-1 --force -m first"));
    assert_eq!(fixture.document("web-1"), json!([web]));
    // The server is known now, but another app on it is as new.
    fixture.release("api", 1, false).await;
    let said = failed(&fixture.push("deploy api web-1"));
    assert!(said.contains("does not have `api` yet") && said.contains("--install"), "{said}");
    // And what is meant for servers that are known says nothing of those that aren't.
    assert!(failed(&fixture.push("deploy api wbe-1 --install")).contains("--force"));
    ok(&fixture.push("deploy api web-1 --install"));
    assert_eq!(fixture.document("web-1").as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn what_was_uploaded_last_is_deployed_and_a_time_of_the_future_never() {
    let fixture = Fixture::new().await;
    fixture.release("web", 30, false).await;
    let last = fixture.release("web", 2, false).await;
    fixture.report("web-1");
    ok(&fixture.push("deploy web web-1"));
    assert_eq!(fixture.document("web-1"), json!([last]));
    let future = last.as_str().replace("2026-", "9999-");
    let (from, to) = (fixture.path("scratch.deb"), future.parse::<ReleaseName>().unwrap());
    std::fs::write(&from, "deb").unwrap();
    let metadata = fixture.bucket.release(&last).await.unwrap().unwrap().metadata.unwrap();
    let deb = bucket::SourceFile::read(&from).unwrap();
    fixture.bucket.upload_release(&to, &deb, &metadata, &|_| ()).await.unwrap();
    let said = ok(&fixture.push("deploy web web-1"));
    assert!(said.contains("no change") && fixture.document("web-1") == json!([last]), "{said}");
    assert!(ok(&fixture.push("list web")).contains("wrong time"));
    ok(&fixture.push(&format!("deploy {} web-1", to.stem())));
    assert_eq!(fixture.document("web-1"), json!([to]));
}

#[tokio::test]
async fn the_first_deploy_to_a_server_whose_agent_reports_needs_no_force() {
    let fixture = Fixture::new().await;
    let web = fixture.release("web", 1, false).await;
    fixture.report("web-1");
    let said = ok(&fixture.push("deploy web web-1 -m first"));
    assert!(!said.contains("warning"), "{said}");
    assert_eq!(fixture.document("web-1"), json!([web]));
}

#[tokio::test]
async fn a_mistyped_name_is_named_and_the_nearest_offered() {
    let fixture = Fixture::new().await;
    let clock = fixture.release("clock", 1, false).await;
    fixture.report("web-1");
    ok(&fixture.push("deploy clock web-1"));
    let (app, server) = (
        "no app `clokc` in the bucket; did you mean `clock`?",
        "no server `wbe-1` has a document or a report; did you mean `web-1`?",
    );
    let full = format!("deploy {} web-1", clock.to_string().replace("clock", "clokc"));
    for (arguments, expected) in [
        ("deploy clokc web-1", app),
        ("deploy clokc@0000 web-1", app),
        (&full, app),
        ("rollback clokc web-1", app),
        ("list clokc", app),
        ("list clokc --json", app),
        ("deploy clock wbe-1", server),
        ("rollback clock wbe-1", server),
        ("history wbe-1", server),
        ("status wbe-1", server),
    ] {
        let said = failed(&fixture.push(arguments));
        assert!(said.contains(expected), "{arguments}: {said}");
    }
    assert!(!fixture.path("server/wbe-1.json").exists());
}

#[tokio::test]
async fn an_app_alone_means_its_newest_clean_release() {
    let fixture = Fixture::new().await;
    fixture.release("web", 1, false).await;
    let newest_clean = fixture.release("web", 2, false).await;
    let dirty = fixture.release("web", 3, true).await;
    ok(&fixture.push("deploy web web-1 --force"));
    assert_eq!(fixture.document("web-1"), json!([newest_clean]));
    let said = ok(&fixture.push(&format!("deploy {} web-1", dirty.stem())));
    assert!(said.contains("dirty"), "{said}");
    assert_eq!(fixture.document("web-1"), json!([dirty]));
}

#[tokio::test]
async fn a_filter_means_the_servers_that_it_matches_and_that_have_the_app() {
    let fixture = Fixture::new().await;
    let (web, db) = (fixture.release("web", 1, false).await, fixture.release("db", 1, false).await);
    ok(&fixture.push("deploy web web-1 web-2 --force"));
    ok(&fixture.push("deploy db db-1 --force"));
    let next = fixture.release("web", 2, false).await;
    let policy = fixture.path("policy.json5");
    std::fs::write(&policy, "{ Groups: { all: { Servers: ['*-1'] } } }").unwrap();
    let said = ok(&fixture.push(&format!("--config {} deploy web group:all", policy.display())));
    assert!(said.contains("left out 1 server without `web`"), "{said}");
    assert_eq!(
        ["web-1", "web-2", "db-1"].map(|server| fixture.document(server)),
        [json!([next]), json!([web]), json!([db])]
    );
    ok(&fixture.push(&format!("rollback web app:web release:{}", next.stem())));
    assert_eq!(fixture.document("web-1"), json!([web]));
    let shown = ok(&fixture.push("status app:web state:never"));
    assert!(shown.contains("web-1") && shown.contains("web-2") && !shown.contains("db-1"), "{shown}");
    assert!(failed(&fixture.push("deploy web group:alll")).contains("no server matches `group:alll`"));
    assert_eq!(fixture.push("deploy web state:faild").status.code(), Some(2));
}

#[tokio::test]
async fn servers_are_read_from_stdin() {
    let fixture = Fixture::new().await;
    let web = fixture.release("web", 1, false).await;
    for server in ["web-1", "web-2"] {
        fixture.report(server);
    }
    ok(&fixture.push_with("deploy web -", "web-1\n\nweb-2\n"));
    assert_eq!(["web-1", "web-2"].map(|server| fixture.document(server)), [json!([web]), json!([web])]);
    assert_eq!(fixture.push_with("deploy web -", "\n").status.code(), Some(2));
}

#[tokio::test]
async fn what_is_rejected_is_never_pushed_and_never_chosen_until_that_is_taken_back() {
    let fixture = Fixture::new().await;
    let (old, good) = (fixture.release("web", 1, false).await, fixture.release("web", 2, false).await);
    fixture.report("web-1");
    for release in [&old, &good] {
        ok(&fixture.push(&format!("deploy {} web-1", release.stem())));
    }
    let bad = fixture.release("web", 3, false).await;
    let commit = format!("web@{}", bad.commit());
    let said = ok(&fixture.push(&format!("reject {commit} -m CVE")));
    assert!(said.contains("rejected") && !said.contains("still on"), "{said}");
    assert!(ok(&fixture.push("list web")).contains("rejected"));
    // It is the newest: the one before is chosen.
    assert!(ok(&fixture.push("deploy web web-1")).contains("no change"));
    for arguments in [format!("deploy {commit} web-1"), format!("deploy {commit} web-1 --force")] {
        let said = failed(&fixture.push(&arguments));
        assert!(said.contains("is rejected") && said.contains("push unreject"), "{arguments}: {said}");
    }
    assert_eq!(fixture.document("web-1"), json!([good]));
    // Nor is it gone back to.
    let said = ok(&fixture.push(&format!("reject {} -m CVE", good.stem())));
    assert!(said.contains("still on 1 server: web-1"), "{said}");
    ok(&fixture.push(&format!("reject {} -m CVE", old.stem())));
    assert!(failed(&fixture.push("rollback web web-1")).contains("is rejected"));
    ok(&fixture.push(&format!("unreject {commit}")));
    assert!(failed(&fixture.push(&format!("unreject {commit}"))).contains("is not rejected"));
    ok(&fixture.push("deploy web web-1"));
    assert_eq!(fixture.document("web-1"), json!([bad]));
}

#[tokio::test]
async fn while_all_is_halted_nothing_goes_forward() {
    let fixture = Fixture::new().await;
    let first = fixture.release("web", 1, false).await;
    fixture.report("web-1");
    ok(&fixture.push("deploy web web-1"));
    let second = fixture.release("web", 2, false).await;
    ok(&fixture.push("deploy web web-1"));
    assert_eq!(fixture.push("halt").status.code(), Some(2));
    ok(&fixture.push("halt -m outage"));
    for arguments in ["deploy web web-1 --force", "halt -m again"] {
        let said = failed(&fixture.push(arguments));
        assert!(said.contains("`dev@") && said.contains("halted all pushes") && said.contains("outage"), "{said}");
    }
    assert_eq!(fixture.document("web-1"), json!([second]));
    ok(&fixture.push("rollback web web-1"));
    assert_eq!(fixture.document("web-1"), json!([first]));
    // What nobody can read may be a halt.
    std::fs::write(fixture.path("halt.json"), "{").unwrap();
    assert!(failed(&fixture.push("deploy web web-1")).contains("could not read whether all pushes are halted"));
    ok(&fixture.push("halt --lift"));
    // What somebody else wrote there reaches the terminal escaped.
    let hostile = "{\"schema\":1,\"by\":\"x\\u001b[2J\",\"why\":\"y\\u001b[2J\",\"at\":\"2026-11-20T19:05:02Z\"}";
    std::fs::write(fixture.path("halt.json"), hostile).unwrap();
    let said = failed(&fixture.push("deploy web web-1"));
    assert!(said.contains("halted all pushes") && !said.contains('\u{1b}'), "{said}");
    ok(&fixture.push("halt --lift"));
    ok(&fixture.push("halt -m outage"));
    ok(&fixture.push("halt --lift"));
    ok(&fixture.push("deploy web web-1"));
    assert_eq!(fixture.document("web-1"), json!([second]));
}

#[tokio::test]
async fn a_dry_run_writes_nothing() {
    let fixture = Fixture::new().await;
    fixture.release("web", 1, false).await;
    let said = ok(&fixture.push("deploy web web-1 --force --dry-run"));
    assert!(said.contains("would be pushed") && said.contains("note: 1 server would restart units"), "{said}");
    assert!(!fixture.path("server").exists() && !fixture.path("history").exists());
}

#[tokio::test]
async fn a_release_that_does_not_exist_is_not_pushed() {
    let fixture = Fixture::new().await;
    fixture.release("web", 1, false).await;
    let said = failed(&fixture.push(&format!("deploy {} web-1 --force", release("web", 9))));
    assert!(said.contains("does not exist"), "{said}");
    assert!(failed(&fixture.push("deploy api web-1 --force")).contains("no app `api` in the bucket"));
    assert!(!fixture.path("server").exists());
}

#[tokio::test]
async fn rolling_back_twice_goes_back_twice() {
    let fixture = Fixture::new().await;
    let mut releases = Vec::new();
    for minute in 1..=3 {
        releases.push(fixture.release("web", minute, false).await);
        ok(&fixture.push("deploy web web-1 --force"));
    }
    for before in [&releases[1], &releases[0]] {
        ok(&fixture.push("rollback web web-1 -m slow"));
        assert_eq!(fixture.document("web-1"), json!([before]));
    }
    assert!(failed(&fixture.push("rollback web web-1")).contains("no earlier release"));
    let history: Value = serde_json::from_slice(&fixture.push("history web-1 --json").stdout).unwrap();
    let kinds: Vec<_> =
        history["pushes"].as_array().unwrap().iter().map(|push| push["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["rollback", "rollback", "deploy", "deploy", "deploy"]);
    assert_eq!(history["pushes"][0]["why"], "slow");
    assert_eq!(history["unrecorded"], Value::Null);
}

#[tokio::test]
async fn a_malformed_document_is_refused_and_left_alone() {
    let fixture = Fixture::new().await;
    fixture.release("web", 1, false).await;
    std::fs::create_dir_all(fixture.path("server")).unwrap();
    for content in ["", "null", "{}", "[] []", "[\"web\"", "\u{feff}[]"] {
        std::fs::write(fixture.path("server/web-1.json"), content).unwrap();
        let said = failed(&fixture.push("deploy web web-1 --force"));
        assert!(said.contains("malformed"), "{content:?}: {said}");
        assert_eq!(std::fs::read_to_string(fixture.path("server/web-1.json")).unwrap(), content);
    }
    assert!(!fixture.path("history").exists());
}

#[tokio::test]
async fn what_is_not_understood_is_kept() {
    let fixture = Fixture::new().await;
    let web = fixture.release("web", 1, false).await;
    std::fs::create_dir_all(fixture.path("server")).unwrap();
    std::fs::write(fixture.path("server/web-1.json"), r#"[{"new": 1}, "../x", "web/", 7]"#).unwrap();
    ok(&fixture.push("deploy web web-1 --force"));
    assert_eq!(fixture.document("web-1"), json!([{ "new": 1 }, "../x", web, 7]));
    let said = ok(&fixture.push("history web-1"));
    assert!(!said.contains("no history entry"), "{said}");
    std::fs::write(fixture.path("server/web-1.json"), json!([web]).to_string()).unwrap();
    let said = ok(&fixture.push("history web-1"));
    assert!(said.contains("no history entry"), "{said}");
}

#[tokio::test]
async fn operators_at_once_lose_nothing() {
    let fixture = Fixture::new().await;
    let apps: Vec<String> = (0..12).map(|n| format!("app{n}")).collect();
    for app in &apps {
        fixture.release(app, 1, false).await;
    }
    let shared = &fixture;
    std::thread::scope(|scope| {
        let pushes: Vec<_> =
            apps.iter().map(|app| scope.spawn(move || shared.push(&format!("deploy {app} web-1 --force")))).collect();
        for push in pushes {
            ok(&push.join().unwrap());
        }
    });
    assert_eq!(fixture.document("web-1").as_array().unwrap().len(), apps.len());
    assert_eq!(std::fs::read_dir(fixture.path("history/web-1")).unwrap().count(), apps.len());
}

#[tokio::test]
async fn a_second_operator_of_the_same_app_gets_a_conflict() {
    let fixture = Fixture::new().await;
    let (first, second, third) = (
        fixture.release("web", 1, false).await,
        fixture.release("web", 2, false).await,
        fixture.release("web", 3, false).await,
    );
    ok(&fixture.push(&format!("deploy {first} web-1 --force")));
    // What an operator saw before somebody else pushed.
    let request = fleet::push::Request {
        id: bucket::PushId::random(),
        settle_seconds: None,
        began: jiff::Timestamp::now(),
        server: "web-1".parse().unwrap(),
        app: third.app().clone(),
        to: Some(third),
        from: Some(first),
        only_as_seen: false,
        kind: bucket::PushKind::Deploy,
        who: "ops@build-2".to_owned(),
        reason: String::new(),
        without_waves: false,
        channel: None,
    };
    ok(&fixture.push(&format!("deploy {second} web-1")));
    let seen = fleet::push::read(&fixture.bucket, &request.server).await.unwrap();
    let seen = fleet::push::fill(&fixture.bucket, &request.server, seen).await;
    let error = fleet::push::push(&fixture.bucket, &request, seen).await.unwrap_err().to_string();
    assert!(error.contains("another push changed") && error.contains(second.stem()), "{error}");
    assert_eq!(fixture.document("web-1"), json!([second]));
}

#[tokio::test]
async fn one_servers_failure_does_not_stop_the_others() {
    let fixture = Fixture::new().await;
    let web = fixture.release("web", 1, false).await;
    std::fs::create_dir_all(fixture.path("server")).unwrap();
    std::fs::write(fixture.path("server/web-1.json"), "broken").unwrap();
    let output = fixture.push("deploy web web-1 web-2 --force --json");
    assert_eq!(output.status.code(), Some(1));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let results: Vec<_> =
        said["pushes"].as_array().unwrap().iter().map(|push| push["result"].as_str().unwrap()).collect();
    assert_eq!(results, ["failed", "pushed"]);
    assert_eq!(fixture.document("web-2"), json!([web]));
}

#[tokio::test]
async fn a_document_of_the_library_is_what_the_command_wrote() {
    let fixture = Fixture::new().await;
    let web = fixture.release("web", 1, false).await;
    ok(&fixture.push("deploy web web-1 --force"));
    let content = std::fs::read(fixture.path("server/web-1.json")).unwrap();
    let document = ServerDocument::parse(&content).unwrap();
    assert_eq!(document.releases().collect::<Vec<_>>(), [&web]);
    let found: Option<Release> = fixture.bucket.release(&web).await.unwrap();
    assert_eq!(found.unwrap().name, web);
    assert!(Path::new(&fixture.path(&format!("debs/{web}"))).exists());
}
