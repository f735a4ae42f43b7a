//! Whole cycles: agents that die at every durable write.

use std::panic::AssertUnwindSafe;

use bucket::ReleaseName;
use futures_util::FutureExt;

use crate::{
    machine::fake::{Behaviour, release},
    state::persist::failpoint,
    transaction::{self, rescue::Rescue},
};

use super::harness::{Server, live};

/// What happens to a server from one document to the next, told by what must be true in the end.
struct Story {
    before: Vec<(ReleaseName, Behaviour)>,
    next: Vec<(ReleaseName, Behaviour)>,
    end: Vec<(&'static str, Option<u8>)>,
}

fn stories() -> Vec<Story> {
    let at = |app: &str, minute: u8, behaviour| (release(app, minute), behaviour);
    vec![
        Story {
            before: vec![],
            next: vec![at("web", 1, Behaviour::Good), at("db", 1, Behaviour::Breaks)],
            end: vec![("web", Some(1)), ("db", None)],
        },
        Story {
            before: vec![at("web", 1, Behaviour::Good), at("db", 1, Behaviour::Good)],
            next: vec![at("web", 2, Behaviour::Crashes), at("db", 2, Behaviour::Good)],
            end: vec![("web", Some(1)), ("db", Some(2))],
        },
        Story {
            before: vec![at("pulld", 1, Behaviour::Good), at("web", 1, Behaviour::Good)],
            next: vec![at("pulld", 2, Behaviour::Good), at("web", 2, Behaviour::Refused)],
            end: vec![("pulld", Some(2)), ("web", Some(1))],
        },
        Story {
            before: vec![at("pulld", 1, Behaviour::Good)],
            next: vec![at("pulld", 2, Behaviour::Breaks)],
            end: vec![("pulld", Some(1))],
        },
    ]
}

impl Story {
    async fn begin(&self) -> Server {
        let server = Server::new().await;
        for (release, behaviour) in self.before.iter().chain(&self.next) {
            server.upload(release, *behaviour).await;
        }
        if !self.before.is_empty() {
            server.push(&self.before.iter().map(|(release, _)| release).collect::<Vec<_>>()).await;
            live(&server).await;
            live(&server).await;
        }
        server.push(&self.next.iter().map(|(release, _)| release).collect::<Vec<_>>()).await;
        server
    }

    /// Lets agents live until the story is over, at most so many, and sees that it ended well.
    async fn end(&self, server: &Server, told: &str) {
        for _ in 0..6 {
            live(server).await;
        }
        for (app, minute) in &self.end {
            let expected = minute.map(|minute| (release(app, minute), true));
            assert_eq!(server.world.installed(app), expected, "{app}, {told}");
            if expected.is_some() && *app != "pulld" {
                assert_eq!(server.world.active(&format!("{app}.service")), "active", "{app}, {told}");
            }
        }
        assert!(!server.paths().transaction().exists(), "{told}");
        assert!(!Rescue::new(server.paths().rescue()).is_armed(), "{told}");
        let dpkg_runs = server.world.dpkg_runs().len();
        live(server).await;
        assert_eq!(server.world.dpkg_runs().len(), dpkg_runs, "it ends, {told}");
        for app in server.status().await.apps {
            let good = app.installed.is_some() == server.world.installed(&app.app).is_some();
            assert!(good, "{}: nothing is called installed that isn't, {told}", app.app);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_dies_at_any_durable_write_is_followed_by_one_that_converges() {
    for (number, story) in stories().iter().enumerate() {
        for point in 0.. {
            let server = story.begin().await;
            failpoint::die_after(Some(point));
            let lived = AssertUnwindSafe(live(&server)).catch_unwind().await;
            failpoint::die_after(None);
            let died = lived.is_err();
            story.end(&server, &format!("story {number} cut at {point}")).await;
            if !died {
                assert!(point > 8, "story {number} has only {point} points");
                break;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_kills_every_agent_ends() {
    for (number, story) in stories().iter().enumerate() {
        for point in [4, 8] {
            let server = story.begin().await;
            for _ in 0..40 {
                failpoint::die_after(Some(point));
                let _ = AssertUnwindSafe(live(&server)).catch_unwind().await;
            }
            failpoint::die_after(None);
            for _ in 0..3 {
                live(&server).await;
            }
            let told = format!("story {number}, every agent cut at {point}");
            assert!(!server.paths().transaction().exists(), "{told}");
            let dpkg_runs = server.world.dpkg_runs().len();
            live(&server).await;
            assert_eq!(server.world.dpkg_runs().len(), dpkg_runs, "{told}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_torn_at_any_byte_is_survived() {
    let story = &stories()[1];
    let server = story.begin().await;
    failpoint::die_after(Some(12));
    let _ = AssertUnwindSafe(live(&server)).catch_unwind().await;
    failpoint::die_after(None);
    let path = server.paths().transaction();
    let whole = std::fs::read(&path).unwrap();
    for length in 0..whole.len() {
        std::fs::write(&path, &whole[..length]).unwrap();
        assert_eq!(transaction::load(&path), None, "{length} bytes");
        assert!(!path.exists());
    }
    for garbage in ["null", "[]", "{\"schema\":99}", "\u{feff}{}"] {
        std::fs::write(&path, garbage).unwrap();
        assert_eq!(transaction::load(&path), None, "{garbage}");
    }
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    for _ in 0..3 {
        live(&server).await;
    }
    assert_eq!(server.world.installed("db"), Some((release("db", 2), true)));
    assert!(server.world.installed("web").is_some_and(|(_, good)| good));
}
