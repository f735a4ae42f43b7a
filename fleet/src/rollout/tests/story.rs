//! A rollout to servers whose agents do what a test says.

use std::collections::BTreeMap;

use bucket::{
    AppState, DocumentMetadata, Generation, LastPush, PushId, PushKind, Rollout, RolloutRules, RolloutStage,
    ServerDocument, ServerName, ServerState, Timestamp, Undo, Verdict,
};
use jiff::SignedDuration;

use crate::rollout::{
    next::{Next, Surroundings, Waiting, next},
    observe::{RowState, observe, row_state},
    plan::{Subject, plan},
    waves::Candidate,
};
use crate::{
    condition::tests::{release, server},
    identity::{Identity, Origin},
    policy::Policy,
    server::{Reading, Server},
    wish::{Share, Wish},
};

/// Servers with agents that do what a story says, and a rollout to them.
pub(super) struct Story {
    pub(super) now: Timestamp,
    pub(super) servers: BTreeMap<ServerName, Server>,
    pub(super) held: BTreeMap<ServerName, Timestamp>,
    pub(super) halted: bool,
    pub(super) rollout: Rollout,
    /// What was written, in order.
    pub(super) written: Vec<String>,
}

pub(super) fn name(text: &str) -> ServerName {
    text.parse().unwrap()
}

pub(super) fn id(text: &str) -> PushId {
    text.parse().unwrap()
}

pub(super) fn undo() -> Undo {
    let (began, who) = ("2026-11-20T20:00:00Z".parse().unwrap(), "dev".to_owned());
    Undo { id: id("undo1"), began, who, signed_in: false, why: String::new() }
}

impl Story {
    /// Servers `web-1` to `web-{count}`, all in one group, which run release 1 and are to get release 2.
    pub(super) fn new(count: usize, waves: &str) -> Self {
        let now: Timestamp = "2026-11-20T20:00:00Z".parse().unwrap();
        let mut servers = BTreeMap::new();
        for n in 1..=count {
            let mut server = server(1, 1, 1, AppState::Converged, ServerState::Converged);
            server.name = name(&format!("web-{n}"));
            servers.insert(server.name.clone(), server);
        }
        Self::with(now, servers, waves)
    }

    pub(super) fn with(now: Timestamp, servers: BTreeMap<ServerName, Server>, waves: &str) -> Self {
        let policy = Policy::parse("x", "{ Groups: { prod: { Servers: ['web-*'] } } }").unwrap();
        let rules = RolloutRules {
            settle_seconds: 120,
            within_seconds: 1800,
            enough_percent: 95,
            stop_at: 1,
            pause_after: Vec::new(),
            undo_on_stop: false,
        };
        let wish = Wish { waves: waves.parse().unwrap(), rules, max_down: Some(Share::Percent(100)) };
        let who = Identity { name: "dev@build-1".into(), origin: Origin::Local };
        let subject =
            Subject { id: &id("push1"), release: &release(2), who: &who, why: "", held: false, channel: None };
        let rollout = plan(subject, &wish, &candidates(&servers), &servers.values(), &policy, now).unwrap();
        Self { now, servers, held: BTreeMap::new(), halted: false, rollout, written: Vec::new() }
    }

    pub(super) fn decide(&mut self) -> Next {
        self.rollout = observe(self.rollout.clone(), &self.servers);
        let (servers, held) = (&self.servers, &self.held);
        next(&self.rollout, Surroundings { servers, held, halted: self.halted, now: self.now })
    }

    /// What a driver does: as long as there is something to do, and then what it waits for.
    pub(super) fn drive(&mut self) -> Next {
        for _ in 0..1000 {
            match self.decide() {
                Next::Write(names) => names.iter().for_each(|name| self.push(name.as_str(), "push1", 2)),
                Next::Close(names) => names.iter().for_each(|name| self.rewrite(name)),
                Next::Undo(names) => names.iter().for_each(|name| self.push(name.as_str(), "undo1", 1)),
                Next::Stop(stop) => {
                    self.rollout.stage = RolloutStage::Stopped;
                    return Next::Stop(stop);
                }
                Next::End(stage) => {
                    self.rollout.stage = stage.clone();
                    return Next::End(stage);
                }
                Next::Wait(waiting) => return Next::Wait(waiting),
            }
        }
        panic!("it never waits: {:?}", self.written)
    }

    /// Somebody pushes a release to a server.
    pub(super) fn push(&mut self, server: &str, push: &str, to: u8) {
        let (name, now) = (name(server), self.now);
        let server = self.servers.get_mut(&name).unwrap();
        let Reading::Known((generation, before)) = &server.document else { panic!("{name} has no document") };
        let last = LastPush {
            id: id(push),
            time: now,
            app: "web".parse().unwrap(),
            from: None,
            to: Some(release(to)),
            kind: PushKind::Deploy,
            who: "dev@build-1".into(),
            why: String::new(),
            generation: None,
            settle_seconds: Some(120),
            recorded: false,
            without_waves: false,
            channel: None,
        };
        let metadata: DocumentMetadata = before.metadata().clone().carried(*generation, &[]).with_push(&last);
        let document = ServerDocument::parse(format!("[\"{}\"]", release(to)).as_bytes()).unwrap();
        server.document = Reading::Known((Generation(generation.0 + 1), document.with_metadata(metadata)));
        self.written.push(name.to_string());
    }

    /// A server's document is written once more as it is.
    fn rewrite(&mut self, name: &ServerName) {
        let server = self.servers.get_mut(name).unwrap();
        let Reading::Known((generation, document)) = &server.document else { panic!("{name} has no document") };
        let metadata = document.metadata().clone().telling(&[], *generation);
        server.document = Reading::Known((Generation(generation.0 + 1), document.clone().with_metadata(metadata)));
    }

    /// A server's agent reports what it made of its document.
    pub(super) fn report(&mut self, server: &str, state: AppState) {
        let server = self.servers.get_mut(&name(server)).unwrap();
        let desired = server.desired(&"web".parse().unwrap()).cloned();
        let generation = server.document.known().map(|(generation, _)| *generation);
        let Reading::Known(status) = &mut server.status else { panic!("it has reported") };
        (status.written, status.state, status.document.generation) = (self.now, state.of_server(), generation);
        let app = &mut status.apps[0];
        if (app.state, &app.desired) != (state, &desired) {
            app.since = self.now;
        }
        (app.state, app.desired) = (state, desired.clone());
        if state == AppState::Converged {
            app.installed = desired;
        }
    }

    pub(super) fn converge(&mut self, servers: &[&str]) {
        for server in servers {
            self.report(server, AppState::Converged);
        }
    }

    pub(super) fn pass(&mut self, minutes: i64) {
        self.now += SignedDuration::from_mins(minutes);
        // Those that are well keep reporting.
        let quiet: Vec<ServerName> =
            self.rollout.rows().filter(|row| row.written.is_none()).map(|row| row.server.clone()).collect();
        for name in quiet {
            if let Some(Reading::Known(status)) = self.servers.get_mut(&name).map(|server| &mut server.status) {
                status.written = self.now;
            }
        }
    }

    /// Converge, and stay so for as long as it takes.
    pub(super) fn settle(&mut self, servers: &[&str]) {
        self.converge(servers);
        self.drive();
        self.pass(2);
        self.converge(servers);
    }

    pub(super) fn verdict(&mut self, what: &str, wave: usize) {
        let (by, why) = ("dev".to_owned(), String::new());
        self.rollout.verdicts.push(Verdict { what: what.to_owned(), wave, by, at: self.now, why });
    }

    pub(super) fn state(&self, server: &str) -> RowState {
        let row = self.rollout.row(&name(server)).unwrap();
        row_state(&self.rollout, row, self.servers.get(&row.server), self.now)
    }

    pub(super) fn waves(&self) -> Vec<Vec<&str>> {
        let rows = self.rollout.waves.iter().map(|wave| wave.rows.iter().map(|row| row.server.as_str()).collect());
        rows.collect()
    }
}

pub(super) fn candidates(servers: &BTreeMap<ServerName, Server>) -> Vec<Candidate<'_>> {
    let app = "web".parse().unwrap();
    servers.values().map(|server| Candidate { server, from: server.desired(&app) }).collect()
}

pub(super) fn reports(servers: &[&str]) -> Next {
    Next::Wait(Waiting::Reports(servers.iter().copied().map(name).collect()))
}
