//! Servers that somebody works on, with the real command.

use std::{collections::BTreeSet, process::Command, sync::Arc, time::Duration};

use bucket::{BucketUrl, DocumentMetadata, Hold, Holds, PushId, ReleaseName, Timestamp};
use fleet::{
    identity::{Identity, Origin},
    operation::Operator,
    poke::PokeSettings,
    trial::{self, Ended, Trial},
};
use jiff::SignedDuration;
use serde_json::{Map, json};

use super::{Fixture, failed, ok};

impl Fixture {
    /// As another operator.
    pub(super) fn push_as(&self, who: &str, arguments: &str) -> std::process::Output {
        let url = BucketUrl::File(self.directory.path().to_owned());
        let mut command = Command::new(env!("CARGO_BIN_EXE_push"));
        command.env("PUSH_BUCKET", url.to_string()).env("PUSH_USER", who).args(arguments.split_whitespace());
        command.output().unwrap()
    }
}

#[tokio::test]
async fn a_hold_binds_everybodys_push_until_it_is_ended() {
    let fixture = Fixture::new().await;
    let (old, new) = (fixture.release("web", 1, false).await, fixture.release("web", 2, false).await);
    let api = fixture.release("api", 1, false).await;
    ok(&fixture.push(&format!("deploy {old} web-1 web-2 --force")));
    let first = fixture.json(&format!("deploy {new} web-1"));
    let first = first["push"].as_str().unwrap();
    let said = ok(&fixture.push("hold web-1 --app web --for 3d -m debugging"));
    assert!(said.contains("web-1: web is on hold by dev@") && said.contains("expires in"), "{said}");
    // Back too: a hold binds everybody's push, whatever it is for.
    for verb in [
        format!("deploy {old} web-1"),
        "rollback web web-1".to_owned(),
        "rollback web web-1 --dry-run".to_owned(),
        format!("undo {first}"),
        "remove web web-1".to_owned(),
        "retire web-1".to_owned(),
    ] {
        for who in ["dev", "ops"] {
            let said = failed(&fixture.push_as(who, &verb));
            assert!(said.contains("`web` is on hold on `web-1` by `dev@") && said.contains(": debugging"), "{said}");
        }
    }
    assert!(failed(&fixture.push_as("ops", &format!("deploy {old} web-1 --held"))).contains("on hold"));
    assert_eq!(fixture.document("web-1"), json!([new]));
    let said = failed(&fixture.push_as("ops", "rollback web web-1 web-2"));
    assert!(said.contains("web-1: error"), "{said}");
    let pushes = fixture.json("pushes rollback");
    let shown = fixture.json(&format!("show {}", pushes["pushes"][0]["id"].as_str().unwrap()));
    assert!(shown["rows"].to_string().contains("not written: on hold"), "{shown}");
    // Another app goes there, and who set it says so.
    ok(&fixture.push_as("ops", &format!("deploy {api} web-1 --install")));
    ok(&fixture.push("rollback web web-1 --held"));
    assert_eq!(fixture.document("web-1"), json!([old, api]));
    let said = ok(&fixture.push("status web-1"));
    assert!(
        said.contains("web is on hold by dev@") && said.contains(", expires in ") && said.contains(": debugging"),
        "{said}"
    );
    assert!(ok(&fixture.push("status")).contains(", web on hold, expires in "));
    assert!(fixture.json("status web-1")["holds"][0]["by"].as_str().unwrap().starts_with("dev@"));
    assert!(ok(&fixture.push_as("ops", "resume web-1")).contains("ended: web is on hold by dev@"));
    ok(&fixture.push_as("ops", &format!("deploy {new} web-1")));
    assert!(!ok(&fixture.push("status")).contains("on hold"));
    assert!(ok(&fixture.push("resume web-1")).contains("nothing was on hold"));
}

#[tokio::test]
async fn a_trial_is_shown_as_one_and_what_it_left_over_is_undone_by_hand() {
    let fixture = Fixture::new().await;
    let (old, new) = (fixture.release("web", 1, false).await, fixture.release("web", 2, false).await);
    ok(&fixture.push(&format!("deploy {old} web-1 --force")));
    let operator = Operator {
        who: Identity { name: "ci@build-1".to_owned(), origin: Origin::Local },
        reason: "pipeline web, stage staging".to_owned(),
        policy: Arc::default(),
        poke: PokeSettings::None,
        held: false,
        without_waves: false,
        channel: None,
    };
    let (server, release) = ("web-1".parse().unwrap(), new.clone());
    let (wait, test) = (Duration::ZERO, Duration::from_mins(1));
    let trial = Trial { id: PushId::random(), server, release, wait, test };
    trial::begin(&fixture.bucket, &operator, &trial, || false, |_| ()).await.unwrap();
    let said = ok(&fixture.push("status web-1"));
    assert!(said.contains(&format!("`{}` is tried, and on hold by ci@build-1, expires in", new.stem())), "{said}");
    assert!(ok(&fixture.push("status")).contains(", web on trial, expires in "));
    let said = ok(&fixture.push("history web-1"));
    assert!(said.contains("tried") && said.contains("pipeline web, stage staging"), "{said}");
    assert!(failed(&fixture.push(&format!("deploy {old} web-1"))).contains("is on hold on `web-1` by `ci@build-1`"));

    ok(&fixture.push("resume web-1"));
    let left_over = fixture.json("status web-1")["left_over"][0].as_str().unwrap().to_owned();
    assert!(ok(&fixture.push("status web-1")).contains(&left_over), "{left_over}");
    let undo = left_over.split('`').find(|words| words.starts_with("push undo ")).unwrap();
    ok(&fixture.push(undo.strip_prefix("push ").unwrap()));
    assert_eq!(
        (fixture.document("web-1"), fixture.json("status web-1")["left_over"].clone()),
        (json!([old]), json!([]))
    );
    let ended = trial::end(&fixture.bucket, &operator, &trial, |_| ()).await.unwrap();
    assert_eq!((ended, fixture.bucket.holds(&trial.server).await.unwrap().unwrap().1.holds), (Ended::AsBefore, vec![]));
}

#[tokio::test]
async fn the_document_tells_of_holds_and_says_what_it_said_before() {
    let fixture = Fixture::new().await;
    let (old, new) = (fixture.release("web", 1, false).await, fixture.release("web", 2, false).await);
    ok(&fixture.push(&format!("deploy {old} web-1 --force")));
    let server = "web-1".parse().unwrap();
    let read = async || fixture.bucket.document_object(&server).await.unwrap().unwrap();
    let told = async || DocumentMetadata::from(read().await.metadata).holds();
    let before = read().await;

    ok(&fixture.push("hold web-1 --app web -m debugging"));
    let after = read().await;
    assert_eq!((after.content, after.generation > before.generation), (before.content, true));
    assert_eq!(told().await[0].why, "debugging");
    assert_eq!(fixture.json("history web-1")["unrecorded"], json!(null), "nobody edited it by hand");
    ok(&fixture.push(&format!("deploy {new} web-1 --held")));
    assert_eq!(told().await.len(), 1, "a push goes on telling of it");

    // Whoever was killed before the agent was told is made up for by the next.
    let (seen, mut holds) = fixture.bucket.holds(&server).await.unwrap().unwrap();
    holds.holds.push(Hold { by: "ops".into(), ..holds.holds[0].clone() });
    fixture.bucket.write_holds(&server, &holds, Some(seen)).await.unwrap();
    ok(&fixture.push("hold web-1"));
    let newest_first = told().await;
    assert_eq!((newest_first.len(), newest_first[1].by.as_str()), (3, "ops"), "{newest_first:?}");
    let known = read().await.generation;
    ok(&fixture.push("resume web-1 --app api"));
    assert_eq!(read().await.generation, known, "what it tells already is not written again");
    ok(&fixture.push("resume web-1"));
    assert_eq!((told().await, fixture.document("web-1")), (vec![], json!([new])));

    // It counts also if the agent can't be told.
    std::fs::write(fixture.path("server/web-1.json"), vec![b' '; 2 << 20]).unwrap();
    let said = ok(&fixture.push("hold web-1"));
    assert!(said.contains("on hold by dev@") && said.contains("the agent of `web-1` was not told"), "{said}");
    assert_eq!(fixture.bucket.holds(&server).await.unwrap().unwrap().1.holds.len(), 1);
}

#[tokio::test]
async fn of_holds_and_pushes_that_race_none_is_lost_and_the_agent_is_told_of_all() {
    let fixture = Fixture::new().await;
    let old = fixture.release("web", 1, false).await;
    ok(&fixture.push(&format!("deploy {old} web-1 --force")));
    let mut apps: Vec<ReleaseName> = Vec::new();
    for n in 0..4 {
        apps.push(fixture.release(&format!("app{n}"), 1, false).await);
    }
    let push = &|who: String, arguments: String| ok(&fixture.push_as(&who, &arguments));
    std::thread::scope(|scope| {
        for (n, release) in apps.iter().enumerate() {
            scope.spawn(move || push(format!("dev{n}"), "hold web-1 --app web".to_owned()));
            scope.spawn(move || push("ops".to_owned(), format!("deploy {release} web-1 --install")));
        }
    });
    let server = "web-1".parse().unwrap();
    let (_, document) = fixture.bucket.server_document(&server).await.unwrap().unwrap();
    assert_eq!(document.releases().count(), 5);
    let (_, holds) = fixture.bucket.holds(&server).await.unwrap().unwrap();
    let in_force: BTreeSet<String> = holds.holds.into_iter().map(|hold| hold.by).collect();
    let told: BTreeSet<String> = document.metadata().holds().into_iter().map(|hold| hold.by).collect();
    assert_eq!((in_force.len(), told), (4, in_force));
}

#[tokio::test]
async fn a_hold_ends_by_itself_and_one_that_cannot_be_read_binds() {
    let fixture = Fixture::new().await;
    let (old, new) = (fixture.release("web", 1, false).await, fixture.release("web", 2, false).await);
    ok(&fixture.push(&format!("deploy {old} web-1 --force")));
    assert!(failed(&fixture.push("hold web-1 --for 31d")).contains("at most 30 days"));
    assert!(failed(&fixture.push("hold web-9")).contains("no server `web-9`"));
    let at = Timestamp::now() - SignedDuration::from_hours(3);
    let until = at + SignedDuration::from_hours(2);
    let hold = Hold { app: None, by: "ops".into(), why: String::new(), at, until, trial: None, other: Map::new() };
    let holds = Holds { holds: vec![hold], ..Holds::default() };
    let server = "web-1".parse().unwrap();
    let seen = fixture.bucket.write_holds(&server, &holds, None).await.unwrap();
    ok(&fixture.push(&format!("deploy {new} web-1")));
    assert!(!ok(&fixture.push("status web-1")).contains("on hold"));
    // What is over goes when somebody writes, and what isn't understood stays.
    let mut later = holds.clone();
    later.other.insert("later".to_owned(), json!([1]));
    fixture.bucket.write_holds(&server, &later, Some(seen)).await.unwrap();
    ok(&fixture.push("hold web-1"));
    let (_, kept) = fixture.bucket.holds(&server).await.unwrap().unwrap();
    assert_eq!((kept.holds.len(), &kept.other["later"]), (1, &json!([1])));
    assert!(kept.holds[0].by.starts_with("dev@"), "{kept:?}");
    std::fs::write(fixture.path("holds/web-1.json"), "{").unwrap();
    let said = failed(&fixture.push(&format!("deploy {old} web-1 --held")));
    assert!(said.contains("could not read whether `web-1` is on hold"), "{said}");
    assert_eq!(fixture.document("web-1"), json!([new]));
}

#[tokio::test]
async fn when_a_report_came_goes_by_the_bucket_and_not_by_its_servers_clock() {
    let fixture = Fixture::new().await;
    fixture.report("web-1");
    let path = fixture.path("status/web-1.json");
    let mut report: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    report["written"] = json!(Timestamp::now() - SignedDuration::from_hours(48));
    std::fs::write(&path, report.to_string()).unwrap();
    for shown in ["status", "status web-1", "status state:no-document"] {
        let said = ok(&fixture.push(shown));
        assert!(!said.contains("not reporting") && !said.contains("2 d ago"), "{shown}: {said}");
    }
}
