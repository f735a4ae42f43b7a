//! Whole cycles: what the agent reports while it works.

use std::{cell::RefCell, time::Duration};

use bucket::{Activity, AppState, ReleaseName, Status};

use crate::{
    failpoint,
    machine::fake::{Behaviour, Deb, release},
};

use super::harness::{FakeAgent, Server, poll, pull};

/// How long dpkg takes: time enough for a report.
const LASTING: Duration = Duration::from_secs(5);

/// Uploads a release whose preparation takes as long as its installation.
async fn upload_lasting(server: &Server, release: &ReleaseName, behaviour: Behaviour) {
    server.world.put_foreign("libc6");
    server.upload_deb(&Deb { depends: vec!["libc6".into()], ..Deb::new(release, behaviour) }).await;
    server.world.slow_dpkg_down(LASTING);
}

/// The reports in the bucket while an agent pulls, each once, the one from before included.
async fn reports_while_pulling(server: &Server, agent: &mut FakeAgent) -> Vec<Status> {
    reports_while(server, Box::pin(pull(agent))).await
}

/// The same while something else lasts.
async fn reports_while<T>(server: &Server, lasting: impl Future<Output = T> + Unpin) -> Vec<Status> {
    let seen = RefCell::new(vec![server.status().await]);
    let read = async || {
        let status = server.status().await;
        if seen.borrow().last() != Some(&status) {
            seen.borrow_mut().push(status);
        }
    };
    let watching = async {
        loop {
            read().await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        _ = lasting => {}
        () = watching => {}
    }
    read().await;
    seen.into_inner()
}

fn of_web(reports: &[Status]) -> Vec<(AppState, Option<Activity>)> {
    reports.iter().map(|status| (status.apps[0].state, status.apps[0].activity)).collect()
}

#[tokio::test(start_paused = true)]
async fn an_update_is_followed_in_the_bucket_by_four_reports() {
    let (one, two) = (release("web", 1), release("web", 2));
    let (server, mut agent) = Server::running(&[&one]).await;
    upload_lasting(&server, &two, Behaviour::Good).await;
    let generation = server.push(&[&two]).await;
    let reports = reports_while_pulling(&server, &mut agent).await;
    assert_eq!(
        of_web(&reports),
        [
            (AppState::Converged, None),
            (AppState::Pending, Some(Activity::Downloading)),
            (AppState::Pending, Some(Activity::Installing)),
            (AppState::Pending, Some(Activity::WatchingHealth)),
            (AppState::Converged, None),
        ]
    );
    assert!(reports[1..].iter().all(|status| status.document.generation == Some(generation)));
    let local: Status = serde_json::from_slice(&std::fs::read(server.paths().status()).unwrap()).unwrap();
    assert_eq!(local.apps[0].activity, None, "`pulld status` ends with what there is");
}

#[tokio::test(start_paused = true)]
async fn what_is_reported_when_work_begins_does_not_delay_it_by_queries_of_systemd() {
    let (one, two) = (release("web", 1), release("web", 2));
    let (server, mut agent) = Server::running(&[&one]).await;
    upload_lasting(&server, &two, Behaviour::Good).await;
    server.push(&[&two]).await;
    let (reports, met) = failpoint::met(reports_while_pulling(&server, &mut agent), |_| ()).await;
    let place = |point: &str| met.iter().position(|met| met == point).unwrap();
    let before = &met[place("bucket.server_document_if_changed.end")..place("bucket.open_release(web).begin")];
    assert!(before.iter().all(|point| !point.starts_with("services.")), "{before:?}");
    let units: Vec<_> = reports[..2].iter().map(|status| &status.apps[0].units).collect();
    assert!(!units[0].is_empty() && units[0] == units[1], "the units are told as they were: {units:?}");
}

#[tokio::test(start_paused = true)]
async fn a_rollback_is_told_of_the_app_that_is_rolled_back_alone() {
    let (web, db) = ([release("web", 1), release("web", 2)], [release("db", 1), release("db", 2)]);
    let (server, mut agent) = Server::running(&[&web[0], &db[0]]).await;
    upload_lasting(&server, &web[1], Behaviour::Crashes).await;
    upload_lasting(&server, &db[1], Behaviour::Good).await;
    server.push(&[&web[1], &db[1]]).await;
    let reports = reports_while_pulling(&server, &mut agent).await;
    assert_eq!(
        of_web(&reports),
        [
            (AppState::Converged, None),
            (AppState::Pending, Some(Activity::Downloading)),
            (AppState::Pending, Some(Activity::Installing)),
            (AppState::Pending, Some(Activity::WatchingHealth)),
            (AppState::Pending, Some(Activity::RollingBack)),
            (AppState::Pending, Some(Activity::RollingBack)),
            (AppState::Quarantined, None),
        ]
    );
    let of_db: Vec<_> = reports.iter().map(|status| status.apps[1].activity).collect();
    assert_eq!(of_db[3..], [Some(Activity::WatchingHealth), None, None, None]);
    // What is installed is what is told, and the previous release is there before its own gate is over.
    let installed: Vec<_> = reports.iter().map(|status| status.apps[0].installed.clone().unwrap()).collect();
    let ([one, two], told) = (web, reports.iter().map(|status| status.apps[0].reason.clone().unwrap_or_default()));
    assert_eq!(installed, [&one, &one, &one, &two, &two, &one, &one].map(Clone::clone));
    let told: Vec<String> = told.collect();
    assert!(told[4].contains("does not stay up") && !told[4].contains("restored"), "{told:?}");
    assert!(told[5].contains("does not stay up"), "{told:?}");
    assert!(told[5].contains(&format!("`{}` is restored, and has to pass its health gate", one.stem())), "{told:?}");
    let since: Vec<_> = reports[4..6].iter().map(|status| status.apps[0].activity_since).collect();
    assert_eq!(since[0], since[1]);
}

#[tokio::test(start_paused = true)]
async fn what_is_resumed_is_reported_like_what_is_new() {
    let (one, two) = (release("web", 1), release("web", 2));
    for (interrupted_after, activities) in [
        (7, vec![Activity::Installing, Activity::WatchingHealth]),
        (12, vec![Activity::WatchingHealth]),
        (15, vec![Activity::RollingBack]),
    ] {
        let (server, mut agent) = Server::running(&[&one]).await;
        let is_bad = interrupted_after == 15;
        upload_lasting(&server, &two, if is_bad { Behaviour::Crashes } else { Behaviour::Good }).await;
        let generation = server.push(&[&two]).await;
        let killed = tokio::time::timeout(Duration::from_secs(interrupted_after), pull(&mut agent)).await;
        assert!(killed.is_err());
        drop(agent);
        // What the last process reported is of no use for this.
        let (seen, _) = server.bucket.status(&Server::name()).await.unwrap().unwrap();
        server.bucket.delete(&"status/web-1.json".parse().unwrap(), seen).await.unwrap();
        let mut agent = server.agent();
        let seen = RefCell::new(Vec::<Status>::new());
        let watching = async {
            loop {
                if let Some((_, status)) = server.bucket.status(&Server::name()).await.unwrap()
                    && seen.borrow().last() != Some(&status)
                {
                    seen.borrow_mut().push(status);
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            _ = pull(&mut agent) => {}
            () = watching => {}
        }
        let reports = seen.into_inner();
        let mut told: Vec<_> = reports.iter().filter_map(|status| status.apps[0].activity).collect();
        told.dedup();
        assert_eq!(told, activities, "interrupted after {interrupted_after} s");
        for status in reports.iter().filter(|status| status.apps[0].activity.is_some()) {
            let app = &status.apps[0];
            assert_eq!((app.state, app.desired.as_ref()), (AppState::Pending, Some(&two)));
            assert_eq!(status.document.generation, Some(generation), "as the process before read it");
        }
        let ended = if is_bad { AppState::Quarantined } else { AppState::Converged };
        assert_eq!(server.state_of("web").await, ended);
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_holds_dpkgs_lock_is_named_after_five_seconds_and_no_longer_than_it_is_waited_for() {
    let web = release("web", 1);
    let (server, mut agent) = Server::running(&[]).await;
    server.upload(&web, Behaviour::Good).await;
    server.push(&[&web]).await;
    server.world.hold_lock_by(Some((4321, "apt-get")));
    let letting_go = async {
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert_eq!(server.status().await.apps[0].reason, None, "most are done sooner");
        tokio::time::sleep(Duration::from_secs(6)).await;
        server.world.hold_lock_by(Some((4322, "unattended-upgr")));
        tokio::time::sleep(Duration::from_secs(10)).await;
        server.world.hold_lock_by(None);
        std::future::pending::<()>().await;
    };
    let reports = tokio::select! {
        reports = reports_while_pulling(&server, &mut agent) => reports,
        () = letting_go => unreachable!(),
    };
    let told: Vec<_> =
        reports[1..].iter().map(|status| (status.apps[0].activity, status.apps[0].reason.clone())).collect();
    let installing = Some(Activity::Installing);
    let waiting = |holder: &str| Some(format!("waiting for the dpkg lock, held by {holder}"));
    let expected = [
        (installing, None),
        (installing, waiting("`apt-get` (process 4321)")),
        (installing, waiting("`unattended-upgr` (process 4322)")),
    ];
    assert!(told.windows(3).any(|three| three == expected), "{told:?}");
    assert_eq!(told.last(), Some(&(None, None)));
    let since = reports.iter().filter(|status| status.apps.first().is_some_and(|app| app.activity == installing));
    let since: std::collections::BTreeSet<_> = since.map(|status| status.apps[0].activity_since).collect();
    assert!(since.len() == 1 && !since.contains(&None), "it is installing since one time: {since:?}");
}

#[tokio::test(start_paused = true)]
async fn an_app_that_waits_for_its_retry_or_is_retried_in_vain_is_not_reported_again() {
    let web = release("web", 1);
    let (server, mut agent) = Server::running(&[]).await;
    server.push(&[&web]).await;
    pull(&mut agent).await;
    let failed = server.bucket.status(&Server::name()).await.unwrap();
    assert_eq!(server.state_of("web").await, AppState::Failed);
    poll(&mut agent).await;
    assert_eq!(server.bucket.status(&Server::name()).await.unwrap(), failed, "it waits");
    tokio::time::advance(Duration::from_mins(1)).await;
    poll(&mut agent).await;
    assert_eq!(server.bucket.status(&Server::name()).await.unwrap(), failed, "it was retried");
}

#[tokio::test(start_paused = true)]
async fn a_new_push_of_what_failed_is_pending_before_it_has_an_outcome() {
    let web = release("web", 1);
    let (server, mut agent) = Server::running(&[]).await;
    server.push(&[&web]).await;
    pull(&mut agent).await;
    assert_eq!(server.state_of("web").await, AppState::Failed);
    upload_lasting(&server, &web, Behaviour::Good).await;
    let generation = server.push(&[&web]).await;
    let reports = reports_while_pulling(&server, &mut agent).await;
    let about_it = reports.iter().filter(|status| status.document.generation == Some(generation));
    assert!(about_it.clone().count() > 1);
    assert!(about_it.clone().all(|status| status.apps[0].state != AppState::Failed), "{:?}", of_web(&reports));
}

#[tokio::test(start_paused = true)]
async fn a_bucket_that_takes_no_reports_does_not_keep_an_update_from_succeeding() {
    let (one, two) = (release("web", 1), release("web", 2));
    let (server, mut agent) = Server::running(&[&one]).await;
    server.upload(&two, Behaviour::Good).await;
    server.push(&[&two]).await;
    let reports = server.root.path().join("bucket/status");
    std::fs::remove_dir_all(&reports).unwrap();
    std::fs::write(&reports, "no directory").unwrap();
    assert!(pull(&mut agent).await.ok);
    assert_eq!(server.world.installed("web"), Some((two, true)));
    std::fs::remove_file(&reports).unwrap();
    poll(&mut agent).await;
    assert_eq!(server.state_of("web").await, AppState::Converged, "it is reported as soon as that is possible");
}

#[tokio::test(start_paused = true)]
async fn what_failed_and_is_tried_again_by_itself_is_told_once_dpkg_is_at_it_or_waits() {
    let web = release("web", 1);
    let (server, mut agent) = Server::running(&[]).await;
    server.push(&[&web]).await;
    pull(&mut agent).await;
    assert_eq!(server.state_of("web").await, AppState::Failed);
    upload_lasting(&server, &web, Behaviour::Crashes).await;
    server.world.hold_lock_by(Some((4321, "apt-get")));
    let at_last = async {
        tokio::time::sleep(LASTING + Duration::from_secs(20)).await;
        server.world.hold_lock_by(None);
        std::future::pending::<()>().await;
    };
    tokio::time::advance(Duration::from_mins(1)).await;
    let reports = tokio::select! {
        reports = reports_while(&server, Box::pin(poll(&mut agent))) => reports,
        () = at_last => unreachable!("it waits for ever"),
    };
    let told: Vec<_> = reports.iter().map(|status| &status.apps[0]).collect();
    let waits = "waiting for the dpkg lock, held by `apt-get` (process 4321)";
    assert!(told.iter().any(|app| app.reason.as_deref() == Some(waits)), "{told:#?}");
    for activity in [Activity::Installing, Activity::WatchingHealth, Activity::RollingBack] {
        assert!(told.iter().any(|app| app.activity == Some(activity)), "{activity}: {told:#?}");
    }
    assert!(
        told[1..told.len() - 1].iter().all(|app| app.state == AppState::Failed && app.reason.is_some()),
        "{told:#?}"
    );
}

#[tokio::test(start_paused = true)]
async fn who_holds_the_lock_is_named_also_while_a_removal_waits() {
    let (web, db) = (release("web", 1), release("db", 1));
    let (server, _) = Server::running(&[&web, &db]).await;
    server.configure("prune = true");
    server.push(&[&db]).await;
    server.world.hold_lock_by(Some((4321, "apt-get")));
    let at_last = async {
        tokio::time::sleep(Duration::from_secs(20)).await;
        server.world.hold_lock_by(None);
        std::future::pending::<()>().await;
    };
    let mut agent = server.agent();
    let reports = tokio::select! {
        reports = reports_while(&server, Box::pin(pull(&mut agent))) => reports,
        () = at_last => unreachable!("it waits for ever"),
    };
    let waits = "waiting for the dpkg lock, held by `apt-get` (process 4321)";
    assert!(reports.iter().any(|status| status.warnings == [waits]), "{reports:#?}");
    assert!(reports.last().unwrap().warnings.is_empty());
    assert_eq!(server.world.installed("web"), None);
}
