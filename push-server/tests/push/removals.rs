//! Apps that are taken off servers by the real command.

use serde_json::{Value, json};

use super::{Fixture, failed, ok};

#[tokio::test]
async fn an_app_is_taken_off_and_an_undo_puts_it_back() {
    let fixture = Fixture::new().await;
    let (web, api) = (fixture.release("web", 1, false).await, fixture.release("api", 1, false).await);
    for release in [&web, &api] {
        ok(&fixture.push(&format!("deploy {release} web-1 web-2 --force")));
    }
    let before = fixture.document("web-1");
    let said = ok(&fixture.push("remove web web-1 --dry-run"));
    assert!(said.contains(&format!("web-1: would be removed: {}", web.stem())), "{said}");
    assert!(said.contains("stays installed and keeps running on 1 server until the agent's `prune`"), "{said}");
    assert_eq!(fixture.document("web-1"), before, "it was a dry run");
    let removed = fixture.json("remove web app:web -m moved");
    assert_eq!((&removed["pushes"][0]["from"], &removed["pushes"][0]["to"]), (&json!(web), &Value::Null));
    for server in ["web-1", "web-2"] {
        assert_eq!(fixture.document(server), json!([api]), "{removed}");
    }
    let push = removed["push"].as_str().unwrap();
    let listed = fixture.json("history web-1");
    let newest = &listed["pushes"][0];
    assert_eq!((&newest["kind"], &newest["to"], &newest["why"]), (&json!("remove"), &Value::Null, &json!("moved")));
    let said = ok(&fixture.push("history web-1"));
    assert!(said.contains("removed") && said.contains("→ (nothing)"), "{said}");
    // The agent still has the package: what it is said to do is done all the same.
    assert_eq!(fixture.json(&format!("show {push}"))["summary"], "2 pending");
    fixture.report_web("web-1", "orphan", &web, json!({ "desired": null })).await;
    assert_eq!(fixture.json(&format!("show {push}"))["summary"], "1 removed, 1 pending");
    assert!(failed(&fixture.push("remove web web-1")).contains("does not name `web`: nothing to remove"));
    let undone = fixture.json(&format!("undo {push}"));
    assert_eq!(fixture.document("web-1"), json!([api, web]), "{undone}");
    assert_eq!(fixture.json(&format!("show {push}"))["summary"], "2 superseded");
}

#[tokio::test]
async fn the_undo_of_a_first_deploy_takes_the_app_off() {
    let fixture = Fixture::new().await;
    let (web, api) = (fixture.release("web", 1, false).await, fixture.release("api", 1, false).await);
    ok(&fixture.push(&format!("deploy {api} web-1 --force")));
    let first = fixture.json(&format!("deploy {web} web-1 --install"));
    let said = ok(&fixture.push(&format!("undo {}", first["push"].as_str().unwrap())));
    assert!(said.contains(&format!("{} → (nothing)", web.stem())) && said.contains("stays installed"), "{said}");
    assert_eq!(fixture.document("web-1"), json!([api]));
    // And that is undone again.
    let listed = fixture.json("pushes undo");
    ok(&fixture.push(&format!("undo {}", listed["pushes"][0]["id"].as_str().unwrap())));
    assert_eq!(fixture.document("web-1"), json!([api, web]));
}

#[tokio::test]
async fn a_halt_stops_a_removal_and_a_rejection_does_not() {
    let fixture = Fixture::new().await;
    let web = fixture.release("web", 1, false).await;
    ok(&fixture.push(&format!("deploy {web} web-1 --force")));
    ok(&fixture.push("reject web@0000 -m CVE"));
    ok(&fixture.push("halt -m migration"));
    assert!(failed(&fixture.push("remove web web-1")).contains("halted all pushes"));
    assert_eq!(fixture.document("web-1"), json!([web]));
    ok(&fixture.push("halt --lift"));
    ok(&fixture.push("remove web web-1"));
    assert_eq!(fixture.document("web-1"), json!([]));
}
