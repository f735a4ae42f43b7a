//! Whole cycles: packages that a person put on hold.

use std::time::Duration;

use bucket::AppState;

use crate::machine::fake::{Behaviour, release};

use super::harness::{Server, pull};

#[tokio::test(start_paused = true)]
async fn an_app_on_hold_stays_as_it_is_and_the_hold_survives_what_else_is_installed() {
    let (one, two, db) = (release("web", 1), release("web", 2), release("db", 1));
    let (server, mut agent) = Server::running(&[&one]).await;
    server.world.set_on_hold("web", true);
    pull(&mut agent).await;
    assert_eq!(server.state_of("web").await, AppState::AptHeld, "whoever pushes next should know");
    server.upload(&two, Behaviour::Good).await;
    server.upload(&db, Behaviour::Good).await;
    server.push(&[&two, &db]).await;
    let cycle = pull(&mut agent).await;
    assert_eq!(server.world.installed("web"), Some((one, true)));
    assert_eq!(server.world.installed("db"), Some((db.clone(), true)));
    assert!(server.world.is_on_hold("web"));
    let app = server.status().await.apps.into_iter().find(|app| app.app == "web").unwrap();
    let reason = format!(
        "`{}` is not installed: the package `web` is on hold on this server, which `apt-mark unhold web` there ends",
        two.stem()
    );
    assert_eq!((app.state, app.reason.as_ref()), (AppState::AptHeld, Some(&reason)));
    assert!(cycle.lines.contains(&format!("web: apt-held: {reason}")), "{cycle:?}");
    // Not even a package that dpkg calls broken is touched.
    server.world.break_package("web");
    let runs = server.world.dpkg_runs().len();
    pull(&mut agent).await;
    assert_eq!((server.world.dpkg_runs().len(), server.state_of("web").await), (runs, AppState::AptHeld));
    server.world.set_on_hold("web", false);
    assert!(pull(&mut agent).await.ok);
    assert_eq!(server.world.installed("web"), Some((two, true)));
    assert_eq!(server.state_of("web").await, AppState::Converged);
}

#[tokio::test(start_paused = true)]
async fn what_is_on_hold_is_not_pruned() {
    let (web, db) = (release("web", 1), release("db", 1));
    let (server, mut agent) = Server::running(&[&web, &db]).await;
    server.configure("prune = true");
    server.world.set_on_hold("web", true);
    server.push(&[&db]).await;
    pull(&mut agent).await;
    assert_eq!(server.world.installed("web"), Some((web, true)));
    assert_eq!(server.state_of("web").await, AppState::AptHeld);
    server.world.set_on_hold("web", false);
    assert!(pull(&mut agent).await.ok);
    assert_eq!(server.world.installed("web"), None);
}

#[tokio::test(start_paused = true)]
async fn the_agents_own_package_is_left_alone_too() {
    let server = Server::new().await;
    let pulld = release("pulld", 1);
    server.upload(&pulld, Behaviour::Good).await;
    server.world.put_foreign("pulld");
    server.world.set_on_hold("pulld", true);
    server.push(&[&pulld]).await;
    let cycle = pull(&mut server.agent()).await;
    assert_eq!((server.world.agent_restarts(), server.world.dpkg_runs().len()), (0, 0), "{cycle:?}");
    assert_eq!(server.state_of("pulld").await, AppState::AptHeld);
    assert!(server.world.is_on_hold("pulld"));
}

#[tokio::test(start_paused = true)]
async fn a_rollback_does_not_override_a_hold_of_a_moment_ago() {
    let (one, two) = (release("web", 1), release("web", 2));
    let (server, mut agent) = Server::running(&[&one]).await;
    server.upload(&two, Behaviour::Crashes).await;
    server.push(&[&two]).await;
    let putting_on_hold = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(server.world.installed("web"), Some((two.clone(), true)), "it is watched");
        server.world.set_on_hold("web", true);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        _ = pull(&mut agent) => {}
        () = putting_on_hold => {}
    }
    assert_eq!(server.world.installed("web"), Some((two, true)));
    assert!(server.world.is_on_hold("web"));
    let app = server.status().await.apps.remove(0);
    assert_eq!(app.state, AppState::Degraded);
    let reason = app.reason.unwrap();
    assert!(reason.contains("cannot roll back: the package `web` is on hold"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn a_package_that_a_renamed_app_would_bring_is_left_alone() {
    let server = Server::new().await;
    let web = release("web", 1);
    let deb =
        crate::machine::fake::Deb { package: "nginx".into(), ..crate::machine::fake::Deb::new(&web, Behaviour::Good) };
    server.upload_deb(&deb).await;
    server.world.put_foreign("nginx");
    server.world.set_on_hold("nginx", true);
    server.push(&[&web]).await;
    pull(&mut server.agent()).await;
    assert_eq!(server.world.dpkg_runs().len(), 0);
    let reason = server.status().await.apps.remove(0).reason.unwrap();
    assert!(reason.contains("apt-mark unhold nginx"), "{reason}");
}
