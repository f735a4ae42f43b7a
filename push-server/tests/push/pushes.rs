//! Pushes as a whole: listed, shown, retried and undone by the real command.

use bucket::{ReleaseName, Timestamp};
use serde_json::{Value, json};

use super::{Fixture, failed, ok};

impl Fixture {
    /// What the agent of a server says of `web`, about the document that is there now.
    pub(crate) async fn report_web(&self, server: &str, state: &str, installed: &ReleaseName, rest: Value) {
        let now = Timestamp::now();
        let (generation, document) = self.bucket.server_document(&server.parse().unwrap()).await.unwrap().unwrap();
        let mut app = json!({
            "app": "web", "desired": document.release_of(&"web".parse().unwrap()), "installed": installed,
            "package": "web", "state": state, "since": now, "reason": null,
        });
        app.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        let report = json!({
            "server": server, "machine": "m", "written": now, "state": "converged", "summary": "",
            "agent": { "version": "1", "started": now, "poll_seconds": 300, "heartbeat_seconds": 900 },
            "document": { "generation": generation, "error": null }, "apps": [app],
        });
        std::fs::create_dir_all(self.path("status")).unwrap();
        std::fs::write(self.path(&format!("status/{server}.json")), report.to_string()).unwrap();
    }

    /// What the command prints as JSON.
    pub(crate) fn json(&self, arguments: &str) -> Value {
        let output = self.push(&format!("{arguments} --json"));
        let text = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments}: {error}: {text}"))
    }

    /// Deploys a release, and gives the ID of the push.
    fn deploy(&self, release: &ReleaseName, servers: &str) -> String {
        let told = self.json(&format!("deploy {release} {servers} --force -m for-all"));
        told["push"].as_str().unwrap_or_else(|| panic!("{told}")).to_owned()
    }
}

#[tokio::test]
async fn what_ran_decides_what_a_rollback_restores() {
    let fixture = Fixture::new().await;
    let good = fixture.release("web", 1, false).await;
    let (bad, worse) = (fixture.release("web", 2, false).await, fixture.release("web", 3, false).await);
    for release in [&good, &bad, &worse] {
        fixture.deploy(release, "web-1");
    }
    fixture.report_web("web-1", "quarantined", &good, json!({ "rolled_back": [worse, bad] })).await;
    let said = ok(&fixture.push("rollback web web-1 --dry-run"));
    assert!(said.contains(&format!("{} → {}", worse.stem(), good.stem())), "{said}");
    // It is gone from the bucket, and the server still has it.
    std::fs::remove_file(fixture.path(&format!("debs/{good}"))).unwrap();
    assert!(failed(&fixture.push("rollback web web-1")).contains("does not exist"));
    fixture.report_web("web-1", "quarantined", &good, json!({ "rolled_back": [worse, bad], "cached": [good] })).await;
    let said = ok(&fixture.push("rollback web web-1"));
    assert!(said.contains("only the server's own cache has it"), "{said}");
    assert_eq!(fixture.document("web-1"), json!([good]));
}

#[tokio::test]
async fn a_retry_leaves_the_document_and_asks_the_agent_in_its_metadata() {
    let fixture = Fixture::new().await;
    let (good, bad) = (fixture.release("web", 1, false).await, fixture.release("web", 2, false).await);
    fixture.deploy(&good, "web-1 web-2");
    let push = fixture.deploy(&bad, "web-1 web-2");
    fixture.report_web("web-1", "quarantined", &good, json!({ "rolled_back": [bad] })).await;
    fixture.report_web("web-2", "converged", &bad, json!({})).await;
    assert_eq!(fixture.json(&format!("show {push}"))["summary"], "1 rolled back, 1 runs it");
    let before = std::fs::read(fixture.path("server/web-1.json")).unwrap();
    let said = ok(&fixture.push("retry web web-1 --dry-run"));
    assert!(said.contains("(same release, retried)") && !said.contains("warning"), "{said}");
    assert!(ok(&fixture.push("retry web web-2 --dry-run")).contains("does not report that this release failed"));
    let retried = fixture.json(&format!("retry --push {push} -m disk-was-full"));
    assert_eq!(retried["pushes"].as_array().unwrap().len(), 1, "only where it failed: {retried}");
    assert_eq!(std::fs::read(fixture.path("server/web-1.json")).unwrap(), before);
    let (_, document) = fixture.bucket.server_document(&"web-1".parse().unwrap()).await.unwrap().unwrap();
    let [retry] = &document.metadata().retries()[..] else { panic!("{document:?}") };
    assert_eq!((json!(retry.id), &retry.release), (retried["push"].clone(), &bad));
    let listed = fixture.json("pushes retry");
    assert_eq!((&listed["pushes"][0]["of"], &listed["pushes"][0]["why"]), (&json!(push), &json!("disk-was-full")));
    assert!(failed(&fixture.push(&format!("retry --push {push}"))).contains("has not failed on any server"));
}

#[tokio::test]
async fn an_undo_restores_what_ran_before_on_all_servers_of_a_push() {
    let fixture = Fixture::new().await;
    let (good, bad) = (fixture.release("web", 1, false).await, fixture.release("web", 2, false).await);
    let worse = fixture.release("web", 3, false).await;
    fixture.deploy(&good, "web-1 web-2 web-3 web-4");
    fixture.deploy(&bad, "web-1");
    fixture.report_web("web-1", "quarantined", &good, json!({ "rolled_back": [bad] })).await;
    let push = fixture.deploy(&worse, "web-1 web-2 web-3");
    fixture.deploy(&good, "web-3");
    let undone = fixture.json(&format!("undo {push} -m slow"));
    for server in ["web-1", "web-2"] {
        assert_eq!(fixture.document(server), json!([good]), "{server}: {undone}");
    }
    let failed: Vec<&Value> =
        undone["pushes"].as_array().unwrap().iter().filter(|row| row["result"] == "failed").collect();
    assert_eq!((failed.len(), &failed[0]["server"]), (1, &json!("web-3")), "somebody has pushed there since");
    let history = fixture.json("history web-2");
    assert_eq!((&history["pushes"][0]["kind"], &history["pushes"][0]["push"]), (&json!("undo"), &undone["push"]));
    assert_eq!(fixture.json(&format!("show {push}"))["summary"], "3 superseded");
    let said = super::failed(&fixture.push(&format!("undo {push} web-4")));
    assert!(said.contains("did not go to `web-4`"), "{said}");
    assert!(super::failed(&fixture.push("show abc123")).contains("there is no push abc123"));
}

#[tokio::test]
async fn a_push_is_listed_once_whatever_its_number_of_servers() {
    let fixture = Fixture::new().await;
    let web = fixture.release("web", 1, false).await;
    let first = fixture.deploy(&web, "web-1 web-2 web-3");
    let second = fixture.deploy(&web, "web-4");
    let listed = fixture.json("pushes");
    let ids: Vec<&Value> = listed["pushes"].as_array().unwrap().iter().map(|push| &push["id"]).collect();
    assert_eq!(ids, [&json!(second), &json!(first)]);
    assert_eq!((&listed["pushes"][1]["servers"], &listed["pushes"][1]["unwritten"]), (&json!(3), &json!(0)));
    let table = ok(&fixture.push("pushes for-all --limit 1"));
    assert!(table.contains(&second) && !table.contains(&first), "{table}");
    assert!(!ok(&fixture.push("pushes nobody-wrote-this")).contains(&first));
    let said = ok(&fixture.push(&format!("show {first}")));
    assert!(said.contains("3 pending") && said.contains("web-3"), "{said}");
    assert!(failed(&fixture.push(&format!("continue {first}"))).contains("is over"));
    assert!(failed(&fixture.push(&format!("stop {first}"))).contains("is over"));
}
