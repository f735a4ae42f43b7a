//! The real command against a bucket in a directory.

mod channels;
mod holds;
mod kills;
mod pushes;
mod removals;
mod retirements;
mod rollouts;
mod simulate;

use std::{
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

use bucket::{Bucket, BucketOptions, BucketUrl, Release, ReleaseMetadata, ReleaseName, ServerDocument};
use serde_json::{Value, json};

struct Fixture {
    directory: tempfile::TempDir,
    bucket: Bucket,
}

impl Fixture {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = BucketUrl::File(directory.path().to_owned());
        let bucket = Bucket::open(&url, &BucketOptions::default()).await.unwrap();
        Self { directory, bucket }
    }

    async fn release(&self, app: &str, minute: u8, dirty: bool) -> ReleaseName {
        let name = release(app, minute);
        let metadata = ReleaseMetadata {
            dirty,
            note: format!("note\u{1b}[2J {minute}"),
            services: vec![format!("{app}.service")],
            sha256: [0; 32].into(),
            size: 3,
            package: app.parse().unwrap(),
            version: format!("0+{minute}"),
            architecture: "all".parse().unwrap(),
            repo: String::new(),
            branch: "main".to_owned(),
            made_by: None,
        };
        let deb = self.directory.path().join(".deb");
        std::fs::write(&deb, "deb").unwrap();
        self.bucket.upload_release(&name, &bucket::SourceFile::read(&deb).unwrap(), &metadata, &|_| ()).await.unwrap();
        std::fs::remove_file(deb).unwrap();
        name
    }

    fn path(&self, object: &str) -> std::path::PathBuf {
        self.directory.path().join(object)
    }

    fn push(&self, arguments: &str) -> Output {
        self.push_with(arguments, "")
    }

    /// With that on its stdin.
    fn push_with(&self, arguments: &str, input: &str) -> Output {
        let url = BucketUrl::File(self.directory.path().to_owned());
        let mut command = Command::new(env!("CARGO_BIN_EXE_push"));
        command.env("PUSH_BUCKET", url.to_string()).env("PUSH_USER", "dev").args(arguments.split_whitespace());
        let mut push = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // It need not read it.
        let _ = push.stdin.take().unwrap().write_all(input.as_bytes());
        push.wait_with_output().unwrap()
    }

    /// A server whose agent has just reported, of a machine that was only set up.
    fn report(&self, server: &str) {
        let now = bucket::Timestamp::now();
        let report = json!({
            "server": server, "machine": "m", "written": now, "state": "converged", "summary": "no server document",
            "agent": { "version": "1", "started": now, "poll_seconds": 300, "heartbeat_seconds": 900 },
            "document": { "generation": null, "error": null }, "apps": [],
        });
        std::fs::create_dir_all(self.path("status")).unwrap();
        std::fs::write(self.path(&format!("status/{server}.json")), report.to_string()).unwrap();
    }

    fn document(&self, server: &str) -> Value {
        serde_json::from_slice(&std::fs::read(self.path(&format!("server/{server}.json"))).unwrap()).unwrap()
    }
}

fn release(app: &str, minute: u8) -> ReleaseName {
    format!("{app}/{app}:dev@build-1:2026-11-20T19:{minute:02}:02Z:{minute:040x}.deb").parse().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn ok(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(output));
    text(output)
}

fn failed(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", text(output));
    text(output)
}

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
async fn waiting_says_when_the_agent_polls() {
    let fixture = Fixture::new().await;
    fixture.release("web", 1, false).await;
    fixture.report("web-1");
    let output = fixture.push("deploy web web-1 --wait --timeout 2s");
    assert!(failed(&output).contains("web-1: the agent polls within 5 min"), "{}", text(&output));
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
