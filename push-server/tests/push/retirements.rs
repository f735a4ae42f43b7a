//! Servers that are retired and restored by the real command.

use serde_json::{Value, json};

use super::{Fixture, failed, ok};

#[tokio::test]
async fn a_retired_server_is_gone_and_comes_back_as_it_was() {
    let fixture = Fixture::new().await;
    let web = fixture.release("web", 1, false).await;
    ok(&fixture.push(&format!("deploy {web} web-1 web-2 --force -m first")));
    // By hand, so that it can be told whether it comes back byte for byte.
    let by_hand = format!("[\"{web}\",   7, \"db/\"]");
    std::fs::write(fixture.path("server/web-2.json"), &by_hand).unwrap();
    fixture.report_web("web-1", "converged", &web, json!({})).await;
    let server = "web-1".parse().unwrap();
    let before = fixture.bucket.document_object(&server).await.unwrap().unwrap();
    assert!(ok(&fixture.push("retire web-1 --dry-run")).contains("web-1: would be retired"));
    assert!(fixture.path("server/web-1.json").exists());
    let retired = fixture.json("retire web-1 web-2 -m scaled-down");
    let push = retired["push"].as_str().unwrap_or_else(|| panic!("{retired}"));
    for gone in ["server/web-1.json", "server/web-2.json", "status/web-1.json"] {
        assert!(!fixture.path(gone).exists(), "{gone}");
    }
    assert_eq!(fixture.json(&format!("show {push}"))["summary"], "2 retired");
    let listed = fixture.json("history web-1");
    let entry = &listed["pushes"][0];
    assert_eq!((&entry["kind"], &entry["app"], &entry["why"]), (&json!("retire"), &Value::Null, &json!("scaled-down")));
    assert!(ok(&fixture.push("pushes")).contains("(whole server)"));
    // Its agent runs all the same, and is shown as what it is.
    fixture.report("web-1");
    assert!(ok(&fixture.push("status web-1")).contains("retired"));
    assert_eq!(fixture.json("status state:retired")["servers"][0]["server"], "web-1");
    // Asked for again it stays as it is; a server that never was is none.
    ok(&fixture.push("retire web-1"));
    assert!(failed(&fixture.push("retire web-9")).contains("no server `web-9`"));
    assert!(failed(&fixture.push(&format!("retry --push {push}"))).contains("has not failed"));
    let undone = fixture.json(&format!("undo {push}"));
    assert_eq!(undone["rows"][0]["result"], "restored", "{undone}");
    let after = fixture.bucket.document_object(&server).await.unwrap().unwrap();
    assert_eq!((&after.content, &after.metadata), (&before.content, &before.metadata));
    assert_eq!(std::fs::read_to_string(fixture.path("server/web-2.json")).unwrap(), by_hand);
    assert!(!fixture.path("retired/web-1.json").exists());
    assert!(failed(&fixture.push(&format!("undo {push}"))).contains("is no longer retired by push"));
    assert_eq!(fixture.json("history web-1")["pushes"][0]["kind"], "undo");
}

#[tokio::test]
async fn a_halt_stops_a_retirement_and_not_its_undo() {
    let fixture = Fixture::new().await;
    let web = fixture.release("web", 1, false).await;
    ok(&fixture.push(&format!("deploy {web} web-1 --force")));
    ok(&fixture.push("halt -m migration"));
    assert!(failed(&fixture.push("retire web-1")).contains("halted all pushes"));
    assert_eq!(fixture.document("web-1"), json!([web]));
    ok(&fixture.push("halt --lift"));
    let retired = fixture.json("retire web-1");
    ok(&fixture.push("halt -m migration"));
    ok(&fixture.push(&format!("undo {}", retired["push"].as_str().unwrap())));
    assert_eq!(fixture.document("web-1"), json!([web]));
    // Somebody set it up anew: an undo leaves that alone.
    ok(&fixture.push("halt --lift"));
    let retired = fixture.json("retire web-1");
    ok(&fixture.push(&format!("deploy {web} web-1 --force")));
    let said = failed(&fixture.push(&format!("undo {}", retired["push"].as_str().unwrap())));
    assert!(said.contains("has a document again"), "{said}");
}
