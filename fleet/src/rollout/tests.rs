//! What happens to a rollout, by story.

use std::collections::BTreeMap;

use bucket::{
    AppState, DocumentMetadata, Generation, LastPush, PushId, PushKind, Rollout, RolloutRules, RolloutStage,
    ServerDocument, ServerName, ServerState, Timestamp, Undo, Verdict,
};
use jiff::SignedDuration;
use proptest::prelude::*;

use super::{
    budget::Share,
    next::{Next, Stop, Surroundings, Waiting, next},
    observe::{RowState, observe, row_state},
    plan::{Subject, Wish, plan},
    waves::{Candidate, Undivided, Waves, WavesError},
};
use crate::{
    condition::tests::{release, server},
    identity::{Identity, Origin},
    policy::Policy,
    server::{Reading, Server},
};

/// Servers with agents that do what a story says, and a rollout to them.
struct Story {
    now: Timestamp,
    servers: BTreeMap<ServerName, Server>,
    held: BTreeMap<ServerName, Timestamp>,
    halted: bool,
    rollout: Rollout,
    /// What was written, in order.
    written: Vec<String>,
}

fn name(text: &str) -> ServerName {
    text.parse().unwrap()
}

fn id(text: &str) -> PushId {
    text.parse().unwrap()
}

fn undo() -> Undo {
    let (began, who) = ("2026-11-20T20:00:00Z".parse().unwrap(), "dev".to_owned());
    Undo { id: id("undo1"), began, who, signed_in: false, why: String::new() }
}

impl Story {
    /// Servers `web-1` to `web-{count}`, all in one group, which run release 1 and are to get release 2.
    fn new(count: usize, waves: &str) -> Self {
        let now: Timestamp = "2026-11-20T20:00:00Z".parse().unwrap();
        let mut servers = BTreeMap::new();
        for n in 1..=count {
            let mut server = server(1, 1, 1, AppState::Converged, ServerState::Converged);
            server.name = name(&format!("web-{n}"));
            servers.insert(server.name.clone(), server);
        }
        Self::with(now, servers, waves)
    }

    fn with(now: Timestamp, servers: BTreeMap<ServerName, Server>, waves: &str) -> Self {
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
        let subject = Subject { id: &id("push1"), release: &release(2), who: &who, why: "" };
        let fleet: Vec<Server> = servers.values().cloned().collect();
        let rollout = plan(subject, &wish, &candidates(&servers), &fleet, &policy, now).unwrap();
        Self { now, servers, held: BTreeMap::new(), halted: false, rollout, written: Vec::new() }
    }

    fn decide(&mut self) -> Next {
        self.rollout = observe(self.rollout.clone(), &self.servers);
        let (servers, held) = (&self.servers, &self.held);
        next(&self.rollout, Surroundings { servers, held, halted: self.halted, now: self.now })
    }

    /// What a driver does: as long as there is something to do, and then what it waits for.
    fn drive(&mut self) -> Next {
        for _ in 0..1000 {
            match self.decide() {
                Next::Write(names) => names.iter().for_each(|name| self.push(name.as_str(), "push1", 2)),
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
    fn push(&mut self, server: &str, push: &str, to: u8) {
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
        };
        let metadata: DocumentMetadata = before.metadata().clone().carried(*generation, &[]).with_push(&last);
        let document = ServerDocument::parse(format!("[\"{}\"]", release(to)).as_bytes()).unwrap();
        server.document = Reading::Known((Generation(generation.0 + 1), document.with_metadata(metadata)));
        self.written.push(name.to_string());
    }

    /// A server's agent reports what it made of its document.
    fn report(&mut self, server: &str, state: AppState) {
        let server = self.servers.get_mut(&name(server)).unwrap();
        let desired = server.desired(&"web".parse().unwrap()).cloned();
        let generation = server.document.known().map(|(generation, _)| *generation);
        let Reading::Known(status) = &mut server.status else { panic!("it has reported") };
        (status.written, status.state, status.document.generation) = (self.now, state.of_server(), generation);
        status.apps[0].desired.clone_from(&desired);
        status.apps[0].state = state;
        if state == AppState::Converged {
            status.apps[0].installed = desired;
        }
    }

    fn converge(&mut self, servers: &[&str]) {
        for server in servers {
            self.report(server, AppState::Converged);
        }
    }

    fn pass(&mut self, minutes: i64) {
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
    fn settle(&mut self, servers: &[&str]) {
        self.converge(servers);
        self.drive();
        self.pass(2);
        self.converge(servers);
    }

    fn verdict(&mut self, what: &str, wave: usize) {
        let (by, why) = ("dev".to_owned(), String::new());
        self.rollout.verdicts.push(Verdict { what: what.to_owned(), wave, by, at: self.now, why });
    }

    fn state(&self, server: &str) -> RowState {
        let row = self.rollout.row(&name(server)).unwrap();
        row_state(&self.rollout, row, self.servers.get(&row.server), self.now)
    }

    fn waves(&self) -> Vec<Vec<&str>> {
        let rows = self.rollout.waves.iter().map(|wave| wave.rows.iter().map(|row| row.server.as_str()).collect());
        rows.collect()
    }
}

fn candidates(servers: &BTreeMap<ServerName, Server>) -> Vec<Candidate<'_>> {
    let app = "web".parse().unwrap();
    servers.values().map(|server| Candidate { server, from: server.desired(&app) }).collect()
}

fn reports(servers: &[&str]) -> Next {
    Next::Wait(Waiting::Reports(servers.iter().copied().map(name).collect()))
}

#[test]
fn a_wave_is_written_when_the_one_before_has_settled() {
    let mut story = Story::new(3, "1,rest");
    assert_eq!(story.drive(), reports(&["web-1"]));
    assert_eq!(story.written, ["web-1"]);
    story.converge(&["web-1"]);
    let until = story.now + SignedDuration::from_mins(2);
    assert_eq!(story.drive(), Next::Wait(Waiting::Settling(until, vec![name("web-1")])));
    // That time has passed is not enough: it must say so once more.
    story.pass(3);
    assert_eq!(story.drive(), Next::Wait(Waiting::Settling(until, vec![name("web-1")])));
    story.converge(&["web-1"]);
    assert_eq!(story.drive(), reports(&["web-2", "web-3"]));
    assert_eq!(story.written, ["web-1", "web-2", "web-3"]);
    story.settle(&["web-2", "web-3"]);
    assert_eq!(story.drive(), Next::End(RolloutStage::Done));
    assert_eq!(story.drive(), Next::Wait(Waiting::Nothing));
}

#[test]
fn second_wave_fails() {
    let mut story = Story::new(3, "1,1,rest");
    story.drive();
    story.settle(&["web-1"]);
    story.drive();
    assert_eq!(story.written, ["web-1", "web-2"]);
    story.report("web-2", AppState::Quarantined);
    assert_eq!(story.drive(), Next::Stop(Stop::Failures(vec![name("web-2")])));
    for _ in 0..5 {
        story.pass(10);
        assert_eq!(story.drive(), Next::Wait(Waiting::Decision));
    }
    assert_eq!(story.written, ["web-1", "web-2"]);
    // Newest wave first.
    (story.rollout.stage, story.rollout.undo) = (RolloutStage::Undoing, Some(undo()));
    assert_eq!(story.drive(), Next::End(RolloutStage::Undone));
    assert_eq!(story.written[2..], ["web-2", "web-1"]);
}

#[test]
fn a_server_that_dies_right_after_its_first_report_has_not_settled() {
    let mut story = Story::new(2, "1,rest");
    story.drive();
    story.converge(&["web-1"]);
    story.drive();
    // Two polls, a health window, and the time to settle.
    story.pass(14);
    assert_eq!(
        (story.state("web-1"), story.drive()),
        (RowState::Silent, Next::Stop(Stop::Failures(vec![name("web-1")])))
    );
}

#[test]
fn server_falls_silent() {
    let mut story = Story::new(2, "1,rest");
    story.drive();
    story.pass(10);
    assert_eq!(story.drive(), reports(&["web-1"]));
    story.pass(2);
    assert_eq!(story.drive(), Next::Stop(Stop::Failures(vec![name("web-1")])));
}

#[test]
fn a_release_that_fails_after_it_has_settled_stops_what_follows() {
    let mut story = Story::new(3, "1,1,rest");
    story.drive();
    story.settle(&["web-1"]);
    story.drive();
    story.report("web-1", AppState::Unstable);
    assert_eq!(story.drive(), Next::Stop(Stop::Failures(vec![name("web-1")])));
    assert_eq!(story.written, ["web-1", "web-2"]);
}

#[test]
fn taken_over_by_another_push() {
    let mut story = Story::new(3, "1,rest");
    story.drive();
    story.push("web-1", "other", 3);
    story.push("web-2", "other", 3);
    assert_eq!(story.drive(), reports(&["web-3"]));
    let RowState::Left(why) = story.state("web-2") else { panic!("it is still of the rollout") };
    assert!(why.contains(&release(3).stem().to_string()), "{why}");
    story.settle(&["web-3"]);
    assert_eq!(story.drive(), Next::End(RolloutStage::Done));
    assert_eq!(story.written, ["web-1", "web-1", "web-2", "web-3"]);
}

#[test]
fn another_app_of_the_server_takes_nothing_over() {
    let mut story = Story::new(2, "1,rest");
    story.drive();
    let server = story.servers.get_mut(&name("web-1")).unwrap();
    let Reading::Known((generation, document)) = &server.document else { panic!() };
    let metadata = document.metadata().clone().carried(*generation, &[]);
    server.document = Reading::Known((Generation(generation.0 + 1), document.clone().with_metadata(metadata)));
    story.settle(&["web-1"]);
    assert_eq!(story.drive(), reports(&["web-2"]));
}

#[test]
fn document_is_gone() {
    let mut story = Story::new(2, "1,rest");
    story.drive();
    story.servers.get_mut(&name("web-1")).unwrap().document = Reading::Absent;
    assert_eq!(story.drive(), reports(&["web-2"]));
    assert_eq!(story.state("web-1"), RowState::Left("its document is gone".into()));
}

#[test]
fn silent_at_planning_counts_for_nothing() {
    let mut servers = Story::new(4, "rest").servers;
    let now = Story::new(1, "rest").now;
    servers.get_mut(&name("web-1")).unwrap().status = Reading::Absent;
    let mut story = Story::with(now, servers, "1,50%,rest");
    assert_eq!(story.waves(), [vec!["web-2"], vec!["web-3", "web-4"], vec!["web-1"]]);
    story.drive();
    story.settle(&["web-2"]);
    story.drive();
    story.settle(&["web-3", "web-4"]);
    assert_eq!(story.drive(), Next::End(RolloutStage::Done));
    assert_eq!(story.written, ["web-2", "web-3", "web-4", "web-1"]);
    story.pass(60);
    assert_eq!(story.state("web-1"), RowState::Silent);
}

#[test]
fn enough_is_all_of_ten_and_most_of_more() {
    let mut story = Story::new(41, "20,rest");
    story.rollout.rules.stop_at = 3;
    story.drive();
    let first: Vec<String> = story.written.clone();
    let first: Vec<&str> = first.iter().map(String::as_str).collect();
    assert_eq!(first.len(), 20);
    story.report(first[0], AppState::Quarantined);
    story.settle(&first[1..]);
    story.drive();
    assert_eq!(story.written.len(), 41, "19 of 20 are enough");
    let mut story = Story::new(41, "10,rest");
    story.rollout.rules.stop_at = 3;
    story.drive();
    let first: Vec<String> = story.written.clone();
    let first: Vec<&str> = first.iter().map(String::as_str).collect();
    story.report(first[0], AppState::Quarantined);
    story.settle(&first[1..]);
    assert_eq!((story.drive(), story.written.len()), (reports(&first[..1]), 10));
    story.pass(31);
    for server in &first[1..] {
        story.report(server, AppState::Converged);
    }
    story.report(first[0], AppState::Quarantined);
    assert_eq!(story.drive(), Next::Stop(Stop::TooSlow(1, vec![name(first[0])])));
    // A person has it go on: it gets its time once more.
    story.rollout.stage = RolloutStage::Running;
    story.verdict("continue", 1);
    assert_eq!(story.drive(), reports(&first[..1]));
    story.settle(&first[..1]);
    story.drive();
    assert_eq!(story.written.len(), 41);
}

#[test]
fn no_more_are_out_than_the_budget_allows() {
    let mut story = Story::new(8, "1,rest");
    story.rollout.budgets[0].allowed = 2;
    story.drive();
    story.settle(&["web-1"]);
    let waiting = Waiting::Budget { group: Some("prod".into()), out: 2, size: 8, allowed: 2 };
    assert_eq!(story.drive(), Next::Wait(waiting.clone()));
    assert_eq!(story.written, ["web-1", "web-2", "web-3"]);
    assert_eq!(waiting.to_string(), "waiting until fewer servers of group prod are out: 2 of 8 out, 2 allowed");
    story.converge(&["web-2"]);
    story.drive();
    assert_eq!(story.written, ["web-1", "web-2", "web-3", "web-4"]);
    // What is out already may be written: it can't be more out than that.
    story.report("web-7", AppState::Failed);
    story.drive();
    assert_eq!(story.written[4..], ["web-7"]);
}

#[test]
fn a_halt_pauses_and_a_held_server_waits() {
    let mut story = Story::new(4, "1,2,rest");
    let until = story.now + SignedDuration::from_hours(2);
    story.held.insert(name("web-2"), until);
    story.halted = true;
    assert_eq!((story.drive(), story.written.len()), (Next::Wait(Waiting::Halt), 0));
    story.halted = false;
    story.drive();
    story.settle(&["web-1"]);
    story.drive();
    assert_eq!(story.written, ["web-1", "web-3"]);
    story.settle(&["web-3"]);
    story.drive();
    story.settle(&["web-4"]);
    assert_eq!(story.drive(), Next::Wait(Waiting::Holds(until, vec![name("web-2")])));
    story.held.clear();
    assert_eq!(story.drive(), reports(&["web-2"]));
    assert_eq!(story.written, ["web-1", "web-3", "web-4", "web-2"]);
}

#[test]
fn after_a_wave_it_waits_for_a_verdict() {
    let mut story = Story::new(2, "1,rest");
    story.rollout.rules.pause_after = vec![1];
    story.drive();
    story.settle(&["web-1"]);
    for unsure in ["unsure", "fail"] {
        assert_eq!(story.drive(), Next::Wait(Waiting::Verdict(1)));
        story.verdict(unsure, 1);
    }
    story.verdict("pass", 1);
    assert_eq!(story.drive(), reports(&["web-2"]));
}

#[test]
fn who_fails_while_it_is_stopped_is_undone_all_the_same() {
    let mut story = Story::new(4, "2,rest");
    story.rollout.budgets[0].allowed = 1;
    story.drive();
    assert_eq!(story.written, ["web-1"]);
    story.report("web-1", AppState::Degraded);
    story.drive();
    (story.rollout.stage, story.rollout.undo) = (RolloutStage::Undoing, Some(undo()));
    assert_eq!(story.drive(), Next::End(RolloutStage::Undone));
    assert_eq!((story.written[1..].to_vec(), story.state("web-1")), (vec!["web-1".to_owned()], RowState::Undone));
}

#[test]
fn an_undo_skips_waves_and_keeps_the_budget() {
    let mut story = Story::new(4, "2,rest");
    story.drive();
    story.settle(&["web-1", "web-2"]);
    story.drive();
    story.settle(&["web-3", "web-4"]);
    story.drive();
    story.rollout.budgets[0].allowed = 1;
    (story.rollout.stage, story.rollout.undo) = (RolloutStage::Undoing, Some(undo()));
    assert!(matches!(story.drive(), Next::Wait(Waiting::Budget { out: 1, .. })));
    assert_eq!(story.written[4..], ["web-3"]);
    story.converge(&["web-3"]);
    story.drive();
    assert_eq!(story.written[4..], ["web-3", "web-4"]);
}

#[test]
fn an_undo_leaves_a_held_server_until_its_hold_ends() {
    let mut story = Story::new(2, "1,rest");
    story.drive();
    story.settle(&["web-1"]);
    story.drive();
    (story.rollout.stage, story.rollout.undo) = (RolloutStage::Undoing, Some(undo()));
    let until = story.now + SignedDuration::from_hours(2);
    story.held.insert(name("web-1"), until);
    assert_eq!(story.drive(), Next::Wait(Waiting::Holds(until, vec![name("web-1")])));
    assert_eq!(story.written[2..], ["web-2"]);
    story.held.clear();
    assert_eq!(story.drive(), Next::End(RolloutStage::Undone));
}

#[test]
fn a_stage_of_a_newer_program_is_left_alone() {
    let mut story = Story::new(2, "1,rest");
    story.rollout.stage = RolloutStage::from("dreaming".to_owned());
    assert_eq!((story.drive(), story.written.len()), (Next::Wait(Waiting::Nothing), 0));
}

#[test]
fn waves_are_read_as_they_are_written() {
    let divided = |waves: &str, count| {
        let story = Story::new(count, "rest");
        let waves: Waves = waves.parse().unwrap();
        let candidates: Vec<Candidate> = candidates(&story.servers);
        let app = "web".parse().unwrap();
        let divided = waves.divide(&app, &candidates, &story.rollout.budgets, &Policy::default(), story.now);
        divided.map(|waves| waves.iter().map(|wave| wave.rows.len()).collect::<Vec<_>>())
    };
    assert_eq!(divided("1,10%,rest", 40), Ok(vec![1, 4, 35]));
    assert_eq!(divided("web-3+web-4, app:web state:converged", 5), Ok(vec![2, 3]));
    assert_eq!(divided("1,1,1,rest", 2), Ok(vec![1, 1]));
    assert_eq!(divided("100%,rest", 4), Ok(vec![3, 1]), "no wave but the last has a whole group");
    assert_eq!(divided("2,2", 5), Err(Undivided::LeftOut(1)));
    assert_eq!(divided("web-9,rest", 3), Err(Undivided::NotInPush("web-9".into(), name("web-9"))));
    assert_eq!(divided("app:api,rest", 3), Err(Undivided::Empty("app:api".into())));
    assert_eq!(divided("web-1+web-2,rest", 2), Err(Undivided::WholeGroup("web-1+web-2".into(), "prod".into())),);
    assert_eq!("rest,1".parse::<Waves>(), Err(WavesError::RestNotLast));
    for wrong in ["", "0", "0%", "101%", "1,,rest", "a b", "99999999999999999999999"] {
        assert!(matches!(wrong.parse::<Waves>(), Err(WavesError::NoWave(_))), "{wrong}");
    }
    assert!(matches!("stat:x,rest".parse::<Waves>(), Err(WavesError::Filter(_))));
}

/// What an agent does in a minute, whatever the release.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Nothing,
    Converges,
    Fails,
    Hand,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![3 => Just(Fate::Nothing), 6 => Just(Fate::Converges), 1 => Just(Fate::Fails), 1 => Just(Fate::Hand)]
}

/// Which state the story's servers may not be in, whatever happens to them.
fn violation(story: &Story, before: usize) -> Option<String> {
    let rollout = &story.rollout;
    let wave_of =
        |server: &str| rollout.waves.iter().position(|wave| wave.rows.iter().any(|row| row.server.as_str() == server));
    let failed_before =
        rollout.rows().filter(|row| story.state(row.server.as_str()).has_failed() && row.counts()).count();
    let new = &story.written[before..];
    if failed_before >= rollout.rules.stop_at && !new.is_empty() && rollout.stage == RolloutStage::Running {
        return Some(format!("{new:?} were written though {failed_before} had failed"));
    }
    for server in new {
        let wave = wave_of(server)?;
        let is_open = |row: &&bucket::WaveRow| {
            row.counts()
                && !matches!(
                    story.state(row.server.as_str()),
                    RowState::Settled | RowState::Left(_) | RowState::Failed(_) | RowState::Silent
                )
        };
        if let Some(row) = rollout.waves[..wave].iter().flat_map(|wave| &wave.rows).find(is_open) {
            return Some(format!("{server} was written before {} had settled", row.server));
        }
    }
    let written = |server: &str| story.written.iter().filter(|written| *written == server).count();
    rollout.rows().find(|row| written(row.server.as_str()) > 1).map(|row| format!("{} was written twice", row.server))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_happens_no_wave_is_written_too_early(
        count in 2..9_usize,
        waves in prop_oneof![Just("1,rest"), Just("1,2,rest"), Just("25%,50%,rest")],
        allowed in 1..4_usize,
        stop_at in 1..3_usize,
        fates in prop::collection::vec(prop::collection::vec(fate(), 9), 1..40),
    ) {
        let mut story = Story::new(count, waves);
        story.rollout.budgets[0].allowed = allowed;
        story.rollout.rules.stop_at = stop_at;
        for minute in fates {
            let before = story.written.len();
            // By hand is not by the rollout.
            let decided = story.drive();
            prop_assert_eq!(violation(&story, before), None, "{:?}", decided);
            let out = story.rollout.rows().filter(|row| story.state(row.server.as_str()).is_out()).count();
            prop_assert!(story.written.len() == before || out <= allowed, "{} out, {} allowed", out, allowed);
            story.pass(1);
            for (server, fate) in story.rollout.rows().map(|row| row.server.clone()).zip(minute).collect::<Vec<_>>() {
                let is_written = story.rollout.row(&server).is_some_and(|row| row.written.is_some());
                match fate {
                    Fate::Converges => story.converge(&[server.as_str()]),
                    Fate::Fails if is_written => story.report(server.as_str(), AppState::Quarantined),
                    Fate::Hand if !is_written => {
                        story.push(server.as_str(), "other", 3);
                        story.written.pop();
                    }
                    Fate::Nothing | Fate::Fails | Fate::Hand => {}
                }
            }
        }
    }
}
