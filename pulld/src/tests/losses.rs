//! Whole cycles: servers that lose their bucket, their document, their configuration, or their name.

use std::{sync::Arc, time::Duration};

use bucket::{AppState, ServerState, Status};

use crate::{
    machine::fake::{Behaviour, release},
    service::{control::CycleTracker, wake::WakeSignal},
    state::remembered,
};

use super::harness::{Server, poll, pull};

/// What this machine says of itself.
fn local(server: &Server) -> Status {
    serde_json::from_slice(&std::fs::read(server.paths().status()).unwrap()).unwrap()
}

/// Puts an empty directory in the place of the bucket, as unmounting does. Returns where the bucket is meanwhile.
fn unmount(server: &Server) -> std::path::PathBuf {
    let (mount_point, away) = (server.root.path().join("bucket"), server.root.path().join("away"));
    std::fs::rename(&mount_point, &away).unwrap();
    std::fs::create_dir(&mount_point).unwrap();
    away
}

fn mount(server: &Server, away: &std::path::Path) {
    let mount_point = server.root.path().join("bucket");
    std::fs::remove_dir(&mount_point).expect("nothing was written into the mount point");
    std::fs::rename(away, mount_point).unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_unmounted_bucket_is_unreachable_and_nothing_is_written_into_its_mount_point() {
    let web = release("web", 1);
    let (server, mut agent) = Server::running(&[&web]).await;
    let away = unmount(&server);
    for _ in 0..2 {
        let cycle = pull(&mut agent).await;
        assert!(!cycle.ok && cycle.summary.contains("the bucket is unreachable"), "{cycle:?}");
        assert!(cycle.summary.contains("mount the share"), "{cycle:?}");
    }
    assert_eq!(local(&server).apps[0].state, AppState::Converged, "the document as last read still counts");
    let cycle = pull(&mut server.agent()).await;
    assert!(!cycle.ok && cycle.summary.contains("server document not read yet"), "{cycle:?}");
    assert_eq!(local(&server).state, ServerState::Failed);
    let app = &local(&server).apps[0];
    assert_eq!(app.state, AppState::Pending, "no orphan: nobody knows whether the document lists it");
    assert!(app.reason.as_ref().unwrap().contains("could not be read yet"), "{app:?}");
    mount(&server, &away);
    assert!(pull(&mut agent).await.ok);
    assert_eq!((server.world.installed("web"), server.world.dpkg_runs().len()), (Some((web, true)), 1));
}

#[tokio::test(start_paused = true)]
async fn a_bucket_that_appears_is_read_long_before_the_next_poll() {
    let server = Server::new().await;
    server.configure("poll = \"1h\"");
    let away = unmount(&server);
    let (wake_signal, tracker) = (WakeSignal::default(), Arc::new(CycleTracker::new()));
    let mut agent = server.agent();
    let reported = async {
        while !server.paths().status().exists() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(local(&server).summary.contains("the bucket is unreachable"));
        mount(&server, &away);
        let mounted = tokio::time::Instant::now();
        while server.bucket.status_generation(&Server::name()).await.unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        mounted.elapsed()
    };
    tokio::select! {
        () = agent.run(&wake_signal, &tracker) => panic!("the agent ended"),
        // The paused clock also goes on while the agent waits for a real disk.
        took = reported => assert!(took < Duration::from_mins(6), "{took:?} by the paused clock"),
    }
}

/// Whether the document that is kept is said to be gone.
fn kept_as_gone(server: &Server) -> Option<bool> {
    let url = bucket::BucketUrl::File(server.root.path().join("bucket"));
    let kept = remembered::recall(&server.paths().document(), &url, &Server::name()).unwrap();
    kept.map(|kept| kept.gone.is_some())
}

#[tokio::test(start_paused = true)]
async fn a_document_that_is_gone_is_not_shown_as_if_it_counted() {
    let (one, two) = (release("web", 1), release("web", 2));
    let (server, mut agent) = Server::running(&[&one]).await;
    server.upload(&two, Behaviour::Good).await;
    let seen = server.push(&[&two]).await;
    poll(&mut agent).await;
    assert_eq!(kept_as_gone(&server), Some(false));
    server.bucket.delete(&"server/web-1.json".parse().unwrap(), seen).await.unwrap();
    pull(&mut agent).await;
    assert_eq!(kept_as_gone(&server), Some(true));
    // Somebody installs another release, and their dpkg takes its time: both that agent and the next one wait for it.
    server.world.break_package("web");
    for mut agent in [agent, server.agent()] {
        server.world.hold_lock_by(Some((4321, "apt-get")));
        let waits = async {
            tokio::time::sleep(Duration::from_secs(20)).await;
            let said = local(&server);
            assert!(said.warnings.concat().contains("waiting until `apt-get`"), "{:?}", said.warnings);
            assert_eq!((said.document.generation, &said.apps[0].desired), (None, &None), "{said:?}");
            server.world.hold_lock_by(None);
        };
        let (cycle, ()) = tokio::join!(pull(&mut agent), waits);
        assert!(cycle.lines.concat().contains("the server document is gone"), "{cycle:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_document_that_was_there_and_is_gone_is_a_warning_until_there_is_one() {
    let web = release("web", 1);
    let (server, mut agent) = Server::running(&[&web]).await;
    let (seen, _) = server.bucket.server_document(&Server::name()).await.unwrap().unwrap();
    server.bucket.delete(&"server/web-1.json".parse().unwrap(), seen).await.unwrap();
    for _ in 0..2 {
        let cycle = pull(&mut agent).await;
        assert!(cycle.lines.iter().any(|line| line.contains("the server document is gone")), "{cycle:?}");
        let [warning] = &server.status().await.warnings[..] else { panic!("one warning") };
        assert!(warning.contains(&format!("generation {seen} was read before")), "{warning}");
    }
    for _ in 0..2 {
        let mut next = server.agent();
        for _ in 0..2 {
            pull(&mut next).await;
            assert!(server.status().await.warnings.concat().contains("the server document is gone"), "after a restart");
        }
    }
    let mut retired = server.agent();
    pull(&mut retired).await;
    assert!(server.status().await.warnings.concat().contains("if it was retired, remove `pulld` from it, or delete"));
    std::fs::remove_file(server.paths().document()).unwrap();
    for _ in 0..2 {
        pull(&mut retired).await;
        assert_eq!(server.status().await.warnings, Vec::<String>::new(), "a person has said that it is so");
    }
    server.push(&[&web]).await;
    assert!(pull(&mut agent).await.ok);
    assert_eq!(server.status().await.warnings, Vec::<String>::new());
    assert_eq!(kept_as_gone(&server), Some(false));
    let never = Server::new().await;
    pull(&mut never.agent()).await;
    assert_eq!(never.status().await.warnings, Vec::<String>::new(), "a server that never had one has lost none");
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_starts_with_a_wrong_configuration_uses_the_last_valid_one_and_says_so() {
    let (one, two) = (release("web", 1), release("web", 2));
    let (server, _) = Server::running(&[&one]).await;
    server.configure("poll = 5");
    server.upload(&two, Behaviour::Good).await;
    server.push(&[&two]).await;
    let mut agent = server.agent();
    assert!(pull(&mut agent).await.ok);
    assert_eq!(server.world.installed("web"), Some((two, true)), "it pulls as before");
    let warning = server.status().await.warnings.concat();
    for said in ["invalid configuration, keeping the last valid settings", "`poll` is `5`", "pulld check-config"] {
        assert!(warning.contains(said), "{warning}");
    }
    server.configure("");
    pull(&mut agent).await;
    assert_eq!(server.status().await.warnings, Vec::<String>::new());
    // Without the file, and with one that is no good, it waits.
    for spoil in [None, Some("poll = 5"), Some("\u{0}")] {
        match spoil {
            None => std::fs::remove_file(server.paths().settings()).unwrap(),
            Some(content) => std::fs::write(server.paths().settings(), content).unwrap(),
        }
        server.configure("poll = 5");
        let cycle = pull(&mut server.agent()).await;
        assert!(!cycle.ok && cycle.summary.contains("invalid configuration, waiting"), "{cycle:?}");
        server.configure("");
        assert!(pull(&mut server.agent()).await.ok);
    }
}

/// The two machines of one name: their servers share a bucket.
async fn rivals() -> [Server; 2] {
    let (first, second) = (Server::new().await, Server::new().await);
    for (server, id) in [(&first, "1"), (&second, "2")] {
        server.put("etc/machine-id", &id.repeat(32));
        let bucket = first.root.path().join("bucket");
        server.put("etc/pulld/pulld.toml", &format!("bucket = \"file://{}\"\nserver = \"web-1\"\n", bucket.display()));
    }
    [first, second]
}

#[tokio::test(start_paused = true)]
async fn both_of_two_machines_with_one_name_say_so_and_neither_writes_because_the_other_did() {
    let [first, second] = rivals().await;
    let (mut one, mut other) = (first.agent(), second.agent());
    let generation = async || first.bucket.status_generation(&Server::name()).await.unwrap().unwrap();
    let reporter = async || first.status().await.machine;
    poll(&mut one).await;
    assert_eq!(first.status().await.warnings, Vec::<String>::new());
    poll(&mut other).await;
    let warned = |status: &Status| status.warnings.concat().contains("another machine reports as `web-1` too");
    assert!(warned(&first.status().await) && warned(&local(&second)));
    let (written, by_the_other) = (generation().await, reporter().await);
    for _ in 0..20 {
        poll(&mut one).await;
        poll(&mut other).await;
    }
    assert_eq!(generation().await, written, "nobody has anything new to say");
    // The first one's heartbeat: it finds the report of the other.
    tokio::time::advance(Duration::from_mins(17)).await;
    poll(&mut one).await;
    assert_ne!(reporter().await, by_the_other);
    assert!(warned(&first.status().await) && warned(&local(&first)));
    let written = generation().await;
    poll(&mut one).await;
    assert_eq!(generation().await, written);
    // The other one is gone, and is forgotten.
    for _ in 0..4 {
        tokio::time::advance(Duration::from_mins(17)).await;
        poll(&mut one).await;
    }
    assert_eq!(first.status().await.warnings, Vec::<String>::new());
    assert_eq!(local(&first).warnings, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn the_report_of_a_machine_that_was_replaced_long_ago_is_no_rival() {
    let [first, second] = rivals().await;
    poll(&mut first.agent()).await;
    let Some((generation, report)) = first.bucket.status(&Server::name()).await.unwrap() else { panic!("no report") };
    let old = Status { written: "2020-01-01T00:00:00Z".parse().unwrap(), ..report };
    first.bucket.write_status(&old, Some(generation)).await.unwrap();
    poll(&mut second.agent()).await;
    let now = first.status().await;
    assert_ne!(now.machine, old.machine);
    assert_eq!(now.warnings, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_document_of_500_000_bad_entries_leads_to_a_report_that_is_read() {
    let web = release("web", 1);
    let (server, mut agent) = Server::running(&[&web]).await;
    server.configure("prune = true");
    let path = server.root.path().join("bucket/server/web-1.json");
    std::fs::write(path, format!("[{}1]", "1,".repeat(499_999))).unwrap();
    let cycle = pull(&mut agent).await;
    assert!(!cycle.ok && cycle.lines.len() < 30, "{} lines", cycle.lines.len());
    assert!(cycle.lines.contains(&"and 499980 more invalid entries".to_owned()), "{:?}", cycle.lines);
    let status = server.status().await;
    assert_eq!((status.document.bad_entries.len(), status.document.bad_count()), (20, 500_000));
    assert!(status.warnings.concat().contains("the last 496000 entries of the server document are ignored"));
    assert!(std::fs::metadata(server.paths().status()).unwrap().len() < Status::MAX_SIZE as u64);
    assert_eq!(server.world.installed("web"), Some((web, true)), "what is not read may be the app's entry");
}

#[tokio::test(start_paused = true)]
async fn only_root_and_who_may_read_the_journal_may_read_the_report() {
    use std::os::unix::fs::MetadataExt;
    let (server, _) = Server::running(&[]).await;
    let found = std::fs::metadata(server.paths().status()).unwrap();
    assert_eq!(found.mode() & 0o007, 0, "{:o}", found.mode());
    if rustix::process::geteuid().is_root() {
        assert_eq!((found.mode() & 0o777, found.gid()), (0o640, 4));
    }
}
