//! Retirements that are interrupted between any two requests: the same command finishes them.

use bucket::{PushKind, ServerName, Timestamp};
use fleet::{
    account::{self, Stage},
    retire::{restore, retire},
};
use harness::gcs::{Fault, Kind};

use crate::writing::{World, ok, operator};

const SERVER: &str = "web-1";

async fn world() -> (World, ServerName) {
    let world = World::new().await;
    ok(&world.push("web", 1, &[SERVER], PushKind::Deploy).await);
    let status = serde_json::json!({
        "server": SERVER, "machine": "m", "written": Timestamp::now(), "state": "converged", "summary": "",
        "agent": {"version": "1", "started": Timestamp::now(), "poll_seconds": 300},
        "document": {"generation": null, "error": null}, "apps": []
    });
    world.gcs.put("fleet", "status/web-1.json", status.to_string());
    (world, SERVER.parse().unwrap())
}

#[tokio::test]
async fn a_retirement_that_is_cut_off_anywhere_is_finished_by_the_same_command() {
    let steps = [
        (Kind::Insert, "pushes/"),
        (Kind::Insert, "retired/"),
        (Kind::Delete, "server/"),
        (Kind::Insert, "history/"),
        (Kind::Delete, "status/"),
    ];
    for (kind, prefix) in steps {
        let (world, server) = world().await;
        let before = world.bucket.document_object(&server).await.unwrap().unwrap();
        world.gcs.fail(kind, prefix, Fault::Status(403, None));
        let cut = retire(&world.bucket, &operator(), vec![server.clone()]).await;
        assert!(cut[0].result.is_err() || !cut[0].incomplete.is_empty(), "{prefix}: {cut:?}");
        // Nothing is lost at any moment.
        let document = world.bucket.document_object(&server).await.unwrap();
        let kept = world.bucket.retired(&server).await.unwrap();
        assert!(document.is_some() || kept.is_some(), "{prefix}");
        world.gcs.heal();
        let done = retire(&world.bucket, &operator(), vec![server.clone()]).await;
        assert!(done[0].result.is_ok() && done[0].incomplete.is_empty(), "{prefix}: {done:?}");
        assert_eq!(world.bucket.document_object(&server).await.unwrap(), None, "{prefix}");
        assert_eq!(world.bucket.status(&server).await.unwrap(), None, "{prefix}");
        let kept = world.bucket.retired(&server).await.unwrap().unwrap();
        assert_eq!((&kept.document.content, &kept.document.metadata), (&before.content, &before.metadata), "{prefix}");
        let id = done[0].push.clone().unwrap();
        let history = world.history(SERVER).await;
        let entries: Vec<_> = history.iter().filter(|entry| entry.kind == PushKind::Retire).collect();
        assert_eq!((entries.len(), entries[0].push.as_ref()), (1, Some(&id)), "{prefix}: {history:?}");
        let account = account::read(&world.bucket, &id).await.unwrap();
        assert_eq!((account.stage, account.summary().as_str()), (Stage::Over, "1 retired"), "{prefix}");
    }
}

#[tokio::test]
async fn an_undo_that_is_cut_off_anywhere_is_finished_by_the_same_command() {
    for (kind, prefix) in
        [(Kind::Insert, "pushes/"), (Kind::Insert, "server/"), (Kind::Insert, "history/"), (Kind::Delete, "retired/")]
    {
        let (world, server) = world().await;
        let before = world.bucket.document_object(&server).await.unwrap().unwrap();
        let retired = retire(&world.bucket, &operator(), vec![server.clone()]).await;
        let id = retired[0].push.clone().unwrap();
        let undo = async || {
            let account = account::read(&world.bucket, &id).await.unwrap();
            let rows: Vec<_> = account.rows.iter().collect();
            restore(&world.bucket, &operator(), &account, &rows).await.unwrap()
        };
        world.gcs.fail(kind, prefix, Fault::Status(403, None));
        let cut = undo().await;
        assert!(cut[0].result.is_err() || !cut[0].incomplete.is_empty(), "{prefix}: {cut:?}");
        world.gcs.heal();
        if cut[0].result.is_err() || prefix == "retired/" {
            let done = undo().await;
            assert!(done[0].result.is_ok() && done[0].incomplete.is_empty(), "{prefix}: {done:?}");
        }
        let after = world.bucket.document_object(&server).await.unwrap().unwrap();
        assert_eq!((&after.content, &after.metadata), (&before.content, &before.metadata), "{prefix}");
        assert!(!world.bucket.is_retired(&server).await.unwrap(), "{prefix}");
    }
}

#[tokio::test]
async fn a_push_in_between_keeps_its_server() {
    let (world, server) = world().await;
    // The storage is unavailable for the deletion until somebody has pushed.
    world.gcs.fail(Kind::Delete, "server/", Fault::Status(503, None));
    let meanwhile = async {
        while !world.bucket.is_retired(&server).await.unwrap() {
            tokio::task::yield_now().await;
        }
        ok(&world.push("web", 2, &[SERVER], PushKind::Deploy).await);
        world.gcs.heal();
    };
    let who = operator();
    let (refused, ()) = tokio::join!(retire(&world.bucket, &who, vec![server.clone()]), meanwhile);
    let error = refused[0].result.as_ref().unwrap_err().to_string();
    assert!(error.contains("another push changed its document"), "{error}");
    assert!(world.bucket.document_object(&server).await.unwrap().is_some());
    assert!(world.history(SERVER).await.iter().all(|entry| entry.kind != PushKind::Retire));
}
