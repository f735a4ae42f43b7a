//! Whole cycles: units that come and go with releases, and instances of templates.

use bucket::{AppState, OwnedUnit, ReleaseName};

use crate::machine::fake::{Behaviour, Deb, release};

use super::harness::{Server, pull};

fn deb(release: &ReleaseName, units: &str, behaviour: Behaviour) -> Deb {
    Deb { units: OwnedUnit::parse_all(units).unwrap(), ..Deb::new(release, behaviour) }
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_a_release_drops_is_stopped_and_disabled() {
    let (server, one, two) = (Server::new().await, release("web", 1), release("web", 2));
    server.upload_deb(&deb(&one, "web.service=restart old.service=restart", Behaviour::Good)).await;
    server.upload_deb(&deb(&two, "web.service=restart", Behaviour::Good)).await;
    server.push(&[&one]).await;
    let mut agent = server.agent();
    assert!(pull(&mut agent).await.ok);
    assert_eq!(server.world.active("old.service"), "active");
    server.push(&[&two]).await;
    assert!(pull(&mut agent).await.ok);
    assert_eq!(server.world.active("old.service"), "inactive");
    assert_eq!(server.world.disabled(), ["old.service"]);
    assert_eq!(server.world.active("web.service"), "active");
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_moved_to_another_app_runs_on() {
    let (server, web, db) = (Server::new().await, [release("web", 1), release("web", 2)], release("db", 1));
    server.upload_deb(&deb(&web[0], "web.service=restart job.service=restart", Behaviour::Good)).await;
    server.upload_deb(&deb(&web[1], "web.service=restart", Behaviour::Good)).await;
    server.upload_deb(&deb(&db, "job.service=restart", Behaviour::Good)).await;
    server.push(&[&web[0]]).await;
    let mut agent = server.agent();
    assert!(pull(&mut agent).await.ok);
    server.push(&[&web[1], &db]).await;
    assert!(pull(&mut agent).await.ok);
    assert_eq!(server.world.active("job.service"), "active");
    assert!(server.world.disabled().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_rollback_clears_away_what_the_release_added_and_brings_back_what_it_dropped() {
    let (server, one, two) = (Server::new().await, release("web", 1), release("web", 2));
    server.upload_deb(&deb(&one, "web.service=restart old.service=restart", Behaviour::Good)).await;
    server.upload_deb(&deb(&two, "web.service=restart new.service=restart", Behaviour::Crashes)).await;
    server.push(&[&one]).await;
    let mut agent = server.agent();
    assert!(pull(&mut agent).await.ok);
    server.push(&[&two]).await;
    pull(&mut agent).await;
    assert_eq!(server.state_of("web").await, AppState::Quarantined);
    assert_eq!(server.world.installed("web"), Some((one, true)));
    assert_eq!(server.world.active("new.service"), "inactive");
    assert_eq!(server.world.disabled(), ["new.service"]);
    for unit in ["web.service", "old.service"] {
        assert_eq!(server.world.active(unit), "active", "{unit}");
    }
}

#[tokio::test(start_paused = true)]
async fn instances_are_restarted_and_watched_and_their_template_is_never_asked_of_systemd() {
    let (server, one, two) = (Server::new().await, release("web", 1), release("web", 2));
    let units = "web@.service=restart web@a.service=restart web@b.service=restart";
    server.upload_deb(&deb(&one, units, Behaviour::Good)).await;
    server.upload_deb(&deb(&two, "web@.service=restart web@a.service=restart", Behaviour::Good)).await;
    server.push(&[&one]).await;
    let mut agent = server.agent();
    assert!(pull(&mut agent).await.ok);
    assert_eq!(server.world.restarts(), ["web@a.service", "web@b.service"]);
    server.world.start_instance("web@hand.service");
    server.push(&[&two]).await;
    assert!(pull(&mut agent).await.ok);
    assert_eq!(server.world.restarts()[2..], ["web@a.service", "web@hand.service"]);
    assert_eq!(server.world.active("web@b.service"), "inactive", "the release brings it no more");
    assert_eq!(server.world.disabled(), ["web@b.service"]);
    let status = server.status().await;
    let names: Vec<&str> = status.apps[0].units.iter().map(|unit| unit.name.as_str()).collect();
    assert!(names.contains(&"web@a.service") && names.contains(&"web@hand.service"), "{names:?}");
}
