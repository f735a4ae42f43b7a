//! Whole cycles: agents that die at every boundary, with dpkg or with the whole machine, and what the next one makes of it.

use std::collections::{BTreeMap, BTreeSet};

use bucket::AppState;

use crate::{
    failpoint::{die_at, met},
    machine::fake::{Behaviour, Deb, release},
    state::rescue::Rescue,
    transaction,
};

use super::{
    boundaries::Boundaries,
    harness::{Server, live},
};

/// How many agents it takes to carry out a story that nothing interrupts: one that updates itself is followed by another.
const LIVES: usize = 3;

/// What happens to a server from one document to the next, told by what must be true in the end.
struct Story {
    name: &'static str,
    before: Vec<Deb>,
    next: Vec<Deb>,
    /// Each app, the release that is installed in the end, and what is reported of it.
    end: Vec<(&'static str, Option<u8>, Option<AppState>)>,
    /// The units that no release has any more in the end.
    gone: Vec<&'static str>,
}

fn stories() -> Vec<Story> {
    use AppState::{Converged, Quarantined};
    use Behaviour::{Breaks, Crashes, Good, Refused};
    let at = |app: &str, minute: u8, behaviour| Deb::new(&release(app, minute), behaviour);
    let with = |unit: &str, mut deb: Deb| {
        deb.units.push(format!("{unit}=restart").parse().unwrap());
        deb
    };
    vec![
        Story {
            name: "first install",
            before: vec![],
            next: vec![at("web", 1, Good)],
            end: vec![("web", Some(1), Some(Converged))],
            gone: vec![],
        },
        Story {
            name: "first install that breaks beside one that does not",
            before: vec![],
            next: vec![at("web", 1, Good), at("db", 1, Breaks)],
            end: vec![("web", Some(1), Some(Converged)), ("db", None, Some(Quarantined))],
            gone: vec![],
        },
        Story {
            name: "upgrade",
            before: vec![at("web", 1, Good)],
            next: vec![at("web", 2, Good)],
            end: vec![("web", Some(2), Some(Converged))],
            gone: vec![],
        },
        Story {
            name: "upgrade that is rolled back",
            before: vec![at("web", 1, Good)],
            next: vec![at("web", 2, Crashes)],
            end: vec![("web", Some(1), Some(Quarantined))],
            gone: vec![],
        },
        Story {
            name: "two upgrades, one of which is rolled back",
            before: vec![at("web", 1, Good), at("db", 1, Good)],
            next: vec![at("web", 2, Crashes), at("db", 2, Good)],
            end: vec![("web", Some(1), Some(Quarantined)), ("db", Some(2), Some(Converged))],
            gone: vec![],
        },
        Story {
            name: "removal",
            before: vec![at("web", 1, Good), at("db", 1, Good)],
            next: vec![at("db", 1, Good)],
            end: vec![("web", None, None), ("db", Some(1), Some(Converged))],
            gone: vec![],
        },
        Story {
            name: "update of pulld beside a release that is refused",
            before: vec![at("pulld", 1, Good), at("web", 1, Good)],
            next: vec![at("pulld", 2, Good), at("web", 2, Refused)],
            end: vec![("pulld", Some(2), Some(Converged)), ("web", Some(1), Some(Quarantined))],
            gone: vec![],
        },
        Story {
            name: "update of pulld that breaks",
            before: vec![at("pulld", 1, Good)],
            next: vec![at("pulld", 2, Breaks)],
            end: vec![("pulld", Some(1), Some(Quarantined))],
            gone: vec![],
        },
        Story {
            name: "upgrade that drops a unit",
            before: vec![with("old.service", at("web", 1, Good))],
            next: vec![at("web", 2, Good)],
            end: vec![("web", Some(2), Some(Converged))],
            gone: vec!["old.service"],
        },
        Story {
            name: "upgrade that is rolled back with a unit that it added",
            before: vec![at("web", 1, Good)],
            next: vec![with("new.service", at("web", 2, Crashes))],
            end: vec![("web", Some(1), Some(Quarantined))],
            gone: vec!["new.service"],
        },
        Story {
            name: "upgrade to a package of another name that is rolled back",
            before: vec![at("web", 1, Good)],
            next: vec![Deb { package: "web-next".to_owned(), ..at("web", 2, Breaks) }],
            end: vec![("web", Some(1), Some(Quarantined))],
            gone: vec![],
        },
    ]
}

fn story(name: &str) -> Story {
    stories().into_iter().find(|story| story.name == name).unwrap()
}

/// What dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Death {
    /// The agent; a dpkg run goes on to its end.
    Agent,
    /// The agent and dpkg, in the middle of its work.
    AgentAndDpkg,
    /// The machine, which boots again.
    Machine,
}

impl Death {
    /// What it means for a server whose agent has just died.
    pub(super) fn strike(self, server: &Server) {
        match self {
            Self::Agent => server.world.let_dpkg_end(),
            Self::AgentAndDpkg => server.world.kill_dpkg(),
            Self::Machine => {
                server.world.boot();
                std::fs::remove_dir_all(server.root.path().join("run")).ok();
            }
        }
    }
}

impl Story {
    async fn begin(&self) -> Server {
        let server = Server::new().await;
        server.configure("prune = true\nkeep_releases = 1");
        for deb in self.before.iter().chain(&self.next) {
            if server.bucket.release(&deb.release).await.unwrap().is_none() {
                server.upload_deb(deb).await;
            }
        }
        if !self.before.is_empty() {
            server.push(&self.before.iter().map(|deb| &deb.release).collect::<Vec<_>>()).await;
            live(&server).await;
            live(&server).await;
        }
        server.push(&self.next.iter().map(|deb| &deb.release).collect::<Vec<_>>()).await;
        server
    }

    /// Lets agents live until the story is over, at most so many, and sees that it ended well.
    async fn end(&self, server: &Server, told: &str) {
        for _ in 0..6 {
            live(server).await;
        }
        let status = server.status().await;
        for (app, minute, state) in &self.end {
            let expected = minute.map(|minute| (release(app, minute), true));
            assert_eq!(server.world.installed(app), expected, "{app}, {told}");
            let reported = status.apps.iter().find(|reported| reported.app == *app);
            assert_eq!(reported.map(|app| app.state), *state, "{app}, {told}: {reported:?}");
            let installed = expected.map(|(release, _)| release);
            assert_eq!(reported.and_then(|app| app.installed.clone()), installed, "{app}, {told}");
            if installed.is_some() && *app != "pulld" {
                let unit = format!("{app}.service");
                assert_eq!(server.world.active(&unit), "active", "{app}, {told}");
                assert_eq!(server.world.runs(&unit), installed, "what runs is what is installed: {app}, {told}");
            }
        }
        for unit in &self.gone {
            assert_eq!(server.world.active(unit), "inactive", "{unit}, {told}");
            assert!(server.world.disabled().iter().any(|disabled| disabled == unit), "{unit} stays enabled, {told}");
        }
        server.is_settled(told).await;
        assert!(!server.paths().transaction().exists(), "{told}");
        assert!(!Rescue::new(server.paths().rescue()).is_armed(), "{told}");
        let dpkg_runs = server.world.dpkg_runs().len();
        live(server).await;
        assert_eq!(server.world.dpkg_runs().len(), dpkg_runs, "it ends, {told}");
    }
}

async fn lives(server: &Server, count: usize) {
    for _ in 0..count {
        live(server).await;
    }
}

/// How often each unit was restarted.
fn restarts(server: &Server) -> BTreeMap<String, usize> {
    let mut count = BTreeMap::new();
    for unit in server.world.restarts() {
        *count.entry(unit).or_default() += 1;
    }
    count
}

/// Cuts a story at a point that it had met `earlier` times before; gives whether it came to that.
async fn cut(story: &Story, (point, earlier): (&str, usize), death: Death, needed: &BTreeMap<String, usize>) -> bool {
    let server = story.begin().await;
    let has_died = die_at(point, earlier, lives(&server, LIVES)).await.is_none();
    if has_died {
        death.strike(&server);
    }
    let told = format!("`{}`, {death:?} cut at `{point}` after {earlier}", story.name);
    story.end(&server, &told).await;
    for (unit, count) in restarts(&server) {
        let needed = needed.get(&unit).copied().unwrap_or_default();
        assert!(count <= needed + 1, "`{unit}` was restarted {count} times where {needed} are needed, {told}");
    }
    has_died
}

/// A story that nothing cuts.
struct Uncut {
    /// How many points it meets.
    met: usize,
    /// Those to cut it at, each with how often it had met that before. At the others nothing outside of the agent has changed
    /// since the point before: whoever dies there leaves the same.
    points: Vec<(String, usize)>,
    /// How often each unit is restarted.
    restarts: BTreeMap<String, usize>,
}

async fn uncut(story: &Story) -> Uncut {
    let server = story.begin().await;
    let boundaries = Boundaries::of(&server);
    let watched = boundaries.clone();
    let ((), names) = met(lives(&server, LIVES), move |name| watched.see(name)).await;
    let mut changed = boundaries.end(&names);
    changed[0] = true;
    story.end(&server, &format!("`{}`, not cut", story.name)).await;
    let mut times: BTreeMap<&String, usize> = BTreeMap::new();
    let numbered = names.iter().map(|name| {
        let earlier = times.entry(name).or_default();
        *earlier += 1;
        (name.clone(), *earlier - 1)
    });
    let points = numbered.zip(changed).filter_map(|(point, changed)| changed.then_some(point)).collect();
    Uncut { met: names.len(), points, restarts: restarts(&server) }
}

#[tokio::test(start_paused = true)]
async fn whatever_dies_at_any_boundary_is_followed_by_an_agent_that_converges() {
    let mut cuts = 0;
    let mut cut_at = BTreeSet::new();
    for story in stories() {
        let Uncut { met, points, restarts } = uncut(&story).await;
        cut_at.extend(points.iter().map(|(point, _)| point.clone()));
        let mut missed = Vec::new();
        for (point, earlier) in &points {
            for death in [Death::Agent, Death::AgentAndDpkg, Death::Machine] {
                // Without dpkg it is the agent's own death.
                if death == Death::AgentAndDpkg && point != "dpkg.begin" {
                    continue;
                }
                cuts += 1;
                if !cut(&story, (point, *earlier), death, &restarts).await {
                    missed.push(point);
                }
            }
        }
        // A report of what is done right now is dropped when that ends: it may come or not.
        missed.retain(|point| !point.starts_with("meanwhile."));
        assert!(missed.is_empty(), "`{}` did not meet {missed:?} again", story.name);
        println!("`{}`: {} of its {met} points leave something else than the one before", story.name, points.len());
    }
    println!("{cuts} deaths");
    for boundary in [
        "persist.rename(*.deb).end",
        "persist.write(transaction.json).end",
        "dpkg.begin",
        "dpkg.end",
        "services.restart(web.service).end",
        "persist.write(quarantine.json).end",
        "services.disable(old.service).end",
        "persist.write(armed).end",
        "cache.clear.end",
        "report.local.end",
        "bucket.write_status.end",
    ] {
        assert!(cut_at.contains(boundary), "nothing died at `{boundary}`: {cut_at:#?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_kills_every_agent_ends() {
    for story in stories() {
        for point in ["packages.execute.begin", "dpkg.end", "services.daemon_reload.end", "packages.resume.end"] {
            let server = story.begin().await;
            for _ in 0..40 {
                let _ = die_at(point, 0, live(&server)).await;
                server.world.let_dpkg_end();
            }
            lives(&server, 3).await;
            let told = format!("`{}`, every agent cut at `{point}`", story.name);
            assert!(!server.paths().transaction().exists(), "{told}");
            let dpkg_runs = server.world.dpkg_runs().len();
            live(&server).await;
            assert_eq!(server.world.dpkg_runs().len(), dpkg_runs, "{told}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_torn_at_any_byte_is_survived() {
    let server = story("two upgrades, one of which is rolled back").begin().await;
    assert!(die_at("persist.write(transaction.json).end", 1, live(&server)).await.is_none());
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
    lives(&server, 3).await;
    assert_eq!(server.world.installed("db"), Some((release("db", 2), true)));
    assert!(server.world.installed("web").is_some_and(|(_, good)| good));
}
