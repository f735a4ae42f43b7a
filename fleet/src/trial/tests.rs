//! Trials on a directory as a bucket: by themselves, two at once, with somebody who pushes in between, and of runners that die.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bucket::{
    Bucket, Generation, HistoryEntry, PushId, PushKind, ReleaseName, ServerDocument, ServerName, SimulatedMachine,
};
use jiff::SignedDuration;
use tempfile::TempDir;

use super::{Ended, Trial, begin, end, outcome};
use crate::{
    account,
    guard::begin_halt,
    history::way_back,
    hold,
    operation::{Intent, Operator, carry_out},
    outcome::Outcome,
    poke::PokeSettings,
    policy::Policy,
    push,
    server::{self, Reading},
    simulation::{
        agent::Fate,
        world::{World, who},
    },
};

/// A server that runs a release, and who tries others there.
struct Stage {
    directory: TempDir,
    world: World,
    bucket: Bucket,
    /// Three, oldest first.
    releases: Vec<ReleaseName>,
}

impl Stage {
    /// On which the server's document is that, with `{0}`, `{1}` and `{2}` for the releases.
    async fn new(document: Option<&str>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let world = World::new(directory.path(), 1, &[server()], Policy::default()).await.unwrap();
        let bucket = world.bucket().clone();
        let releases = bucket.newest_releases(&web(), 3).await.unwrap();
        let releases = releases.into_iter().rev().map(|release| release.name).collect();
        let stage = Self { directory, world, bucket, releases };
        if let Some(document) = document {
            let document = (0..3)
                .fold(document.to_owned(), |text, n| text.replace(&format!("{{{n}}}"), stage.release(n).as_str()));
            let seen = push::read(&stage.bucket, &server()).await.unwrap();
            let document = ServerDocument::parse(document.as_bytes()).unwrap();
            stage.bucket.write_server_document(&server(), &document, seen.generation).await.unwrap();
        }
        stage
    }

    fn release(&self, n: usize) -> ReleaseName {
        self.releases[n].clone()
    }

    /// Somebody on a machine of their own.
    async fn on_another_machine(&self) -> (SimulatedMachine, Bucket) {
        let driver = self.world.driver("another", SignedDuration::ZERO).await.unwrap();
        let machine = driver.machine().another(SignedDuration::ZERO);
        let bucket = Bucket::open_simulated(self.directory.path(), &machine).await.unwrap();
        (machine, bucket)
    }

    fn trial(&self, n: usize, wait: u64) -> Trial {
        let (wait, test) = (Duration::from_secs(wait), Duration::from_mins(10));
        Trial { id: PushId::random(), server: server(), release: self.release(n), wait, test }
    }

    async fn document(&self) -> String {
        String::from_utf8(self.bucket.document_object(&server()).await.unwrap().unwrap().content.to_vec()).unwrap()
    }

    async fn history(&self) -> Vec<HistoryEntry> {
        let mut history = self.bucket.newest_history(&server(), 100).await.unwrap();
        history.sort_by_key(|entry| entry.generation);
        history
    }

    /// What the last pushes were for.
    async fn kinds(&self, last: usize) -> Vec<PushKind> {
        let history = self.history().await;
        history[history.len() - last..].iter().map(|entry| entry.kind.clone()).collect()
    }

    async fn holds(&self) -> usize {
        self.bucket.holds(&server()).await.unwrap().map_or(0, |(_, holds)| holds.holds.len())
    }

    /// What pages say of trials that were left over.
    async fn left_over(&self) -> Vec<String> {
        let holds = Reading::from(self.bucket.holds(&server()).await.map(|read| read.map(|(_, holds)| holds)));
        hold::left_over(&holds, &server::read(&self.bucket, &server()).await, self.bucket.now())
    }

    async fn pass(&mut self, time: SignedDuration) {
        self.world.pass(self.world.now() + time, |_, _, _| ()).await.unwrap();
    }

    async fn push(&self, by: &str, to: Option<ReleaseName>, held: bool) -> Result<Generation, String> {
        let from = push::read(&self.bucket, &server()).await.unwrap().document.release_of(&web()).cloned();
        let kind = if to.is_some() { PushKind::Deploy } else { PushKind::Remove };
        let intent = Intent { server: server(), app: web(), from, to, kind };
        let operator = Operator { held, ..operator(by) };
        let results = carry_out(&self.bucket, &operator, vec![(intent, None)], |_, _| ()).await;
        results[0].result.clone().map_err(|error| error.to_string())
    }
}

fn server() -> ServerName {
    "stage-1".parse().unwrap()
}

fn web() -> bucket::AppName {
    "web".parse().unwrap()
}

fn operator(name: &str) -> Operator {
    Operator {
        who: who(name),
        reason: "pipeline web, stage staging".to_owned(),
        policy: Arc::default(),
        poke: PokeSettings::None,
        held: false,
        without_waves: false,
        channel: None,
    }
}

fn silent(_: &str) {}

fn never() -> bool {
    false
}

#[tokio::test]
async fn what_was_there_is_put_back_to_the_byte() {
    for before in [
        r#"["{0}"]"#,
        r#"["api/", "{0}", 7]"#,
        r#"["web/", 7]"#,
        r#"["api"]"#,
        "[]",
        r#"["{0}", "{2}"]"#,
        r#"["{1}", "api"]"#,
    ] {
        let stage = Stage::new(Some(before)).await;
        let (before, ci, trial) = (stage.document().await, operator("ci"), stage.trial(1, 0));
        let generation = begin(&stage.bucket, &ci, &trial, never, silent).await.unwrap();
        let seen = push::read(&stage.bucket, &server()).await.unwrap();
        assert_eq!((seen.generation, seen.document.release_of(&web())), (Some(generation), Some(&trial.release)));
        let error = stage.push("ops", Some(stage.release(2)), false).await.unwrap_err();
        assert!(error.contains("`web` is on hold on `stage-1` by `ci`") && error.contains("stage staging"), "{error}");
        let ended = end(&stage.bucket, &ci, &trial, silent).await.unwrap();
        let is_same = before.starts_with(&format!("[\n  \"{}\"", trial.release));
        assert_eq!(ended, if is_same { Ended::AsBefore } else { Ended::PutBack }, "{before}");
        assert_eq!((stage.document().await, stage.holds().await), (before.clone(), 0));
        assert_eq!(end(&stage.bucket, &ci, &trial, silent).await.unwrap(), Ended::AsBefore, "twice is as good as once");
        if !is_same {
            assert_eq!(stage.kinds(2).await, [PushKind::Trial, PushKind::TrialEnd]);
        }
        assert!(stage.history().await.iter().all(|entry| entry.who != "ci" || entry.why == ci.reason));
    }
}

#[tokio::test]
async fn a_trial_leaves_nothing_to_go_back_to() {
    let stage = Stage::new(None).await;
    stage.push("dev", Some(stage.release(2)), false).await.unwrap();
    let trial = stage.trial(1, 0);
    begin(&stage.bucket, &operator("ci"), &trial, never, silent).await.unwrap();
    end(&stage.bucket, &operator("ci"), &trial, silent).await.unwrap();
    let history = stage.history().await;
    assert_eq!(way_back(&history, &web(), &stage.release(2), None), Some(&stage.release(0)));
}

#[tokio::test]
async fn at_whatever_write_a_runner_dies_the_next_one_mends_it() {
    // What the document has, in turn.
    let before = [r#"["{0}", "api/"]"#, r#"["web/"]"#, "[]"];
    for writes in 0..40_u8 {
        if !dies_and_is_mended(i64::from(writes), before[usize::from(writes % 3)]).await {
            assert!(writes > 10, "a trial has more than {writes} writes");
            return;
        }
    }
    panic!("a trial has fewer writes");
}

/// A runner dies after so many writes, and the next one tries something else; whether the first one died.
async fn dies_and_is_mended(writes: i64, document: &str) -> bool {
    let mut stage = Stage::new(Some(document)).await;
    let before = stage.document().await;
    let (machine, bucket) = stage.on_another_machine().await;
    let dying = stage.trial(1, 0);
    machine.dies_after(writes);
    let began = begin(&bucket, &operator("dying"), &dying, never, silent).await;
    let ended = end(&bucket, &operator("dying"), &dying, silent).await;
    if !machine.is_dead() {
        assert_eq!((began.is_ok(), ended.unwrap(), stage.document().await), (true, Ended::PutBack, before));
        return false;
    }
    let is_there = stage.document().await.contains(dying.release.as_str());
    let (next, ci) = (stage.trial(2, 0), operator("next"));
    // As long as its hold lasts, it may be alive.
    if stage.holds().await == 1 {
        let error = begin(&stage.bucket, &ci, &next, never, silent).await.unwrap_err().to_string();
        assert!(error.contains("timed out waiting for its turn on `stage-1`") && error.contains("dying"), "{error}");
    }
    stage.pass(SignedDuration::from_mins(16)).await;
    let left = stage.left_over().await;
    assert_eq!(left.len(), usize::from(is_there), "{writes}: {left:?}");
    let said = Mutex::new(Vec::new());
    let began = begin(&stage.bucket, &ci, &next, never, |text| said.lock().unwrap().push(text.to_owned())).await;
    began.unwrap_or_else(|error| panic!("{writes}: {error:#}"));
    let said = said.into_inner().unwrap();
    assert_eq!(said.iter().any(|text| text.contains("a trial left over")), is_there, "{writes}: {said:?}");
    assert_eq!(end(&stage.bucket, &ci, &next, silent).await.unwrap(), Ended::PutBack, "{writes}");
    assert_eq!((stage.document().await, stage.holds().await), (before, 0), "{writes}");
    // Each push that was written is in the history, whoever died right after it: what the test wrote by hand over the first one is
    // the only gap.
    let history = stage.history().await;
    let rows: Vec<_> = history.iter().map(|entry| (entry.from.clone(), entry.to.clone())).collect();
    let gaps = rows.windows(2).skip(1).filter(|pair| pair[0].1 != pair[1].0).count();
    assert_eq!(gaps, 0, "{writes}: {rows:?}");
    // And of no push it seems that somebody is still at it.
    for head in stage.bucket.newest_pushes(100).await.unwrap() {
        let account = account::read(&stage.bucket, &head.id).await.unwrap();
        assert_eq!(account.stage, account::Stage::Over, "{writes}: {account:?}");
    }
    true
}

#[tokio::test]
async fn two_that_want_one_server_take_turns_and_say_for_whom() {
    let stage = Stage::new(None).await;
    let before = stage.document().await;
    let (first, second) = (stage.trial(1, 0), stage.trial(2, 60));
    begin(&stage.bucket, &operator("one"), &first, never, silent).await.unwrap();
    let waits = Arc::new(tokio::sync::Notify::new());
    let (bucket, notify, trial) = (stage.bucket.clone(), waits.clone(), second.clone());
    let other = tokio::spawn(async move {
        let say = |text: &str| {
            assert!(
                text.contains("waits for its turn on stage-1") && text.contains("is tried, and on hold by one"),
                "{text}"
            );
            notify.notify_one();
        };
        begin(&bucket, &operator("two"), &trial, never, say).await
    });
    waits.notified().await;
    assert_eq!(end(&stage.bucket, &operator("one"), &first, silent).await.unwrap(), Ended::PutBack);
    other.await.unwrap().unwrap();
    end(&stage.bucket, &operator("two"), &second, silent).await.unwrap();
    assert_eq!(stage.document().await, before);
    let kinds = stage.kinds(4).await;
    assert_eq!(kinds, [PushKind::Trial, PushKind::TrialEnd, PushKind::Trial, PushKind::TrialEnd]);
}

#[tokio::test]
async fn what_somebody_pushes_in_between_stays() {
    // Another release, the very one that is tried, and none; each after the operator has ended the hold.
    for to in [Some(2), Some(1), None] {
        let stage = Stage::new(None).await;
        let trial = stage.trial(1, 0);
        begin(&stage.bucket, &operator("ci"), &trial, never, silent).await.unwrap();
        hold::resume(&stage.bucket, &server(), None).await.unwrap();
        stage.push("ops", to.map(|n| stage.release(n)), false).await.unwrap();
        let theirs = stage.document().await;
        let Ended::Theirs(text) = end(&stage.bucket, &operator("ci"), &trial, silent).await.unwrap() else {
            panic!("{to:?}: it was put back")
        };
        let text = text.to_string();
        assert!(text.contains("`web` on `stage-1` was changed by `ops` while it was tried"), "{text}");
        assert_eq!((stage.document().await, stage.holds().await), (theirs, 0), "{to:?}");
    }
    // A retry chooses nothing.
    let stage = Stage::new(None).await;
    let (before, trial) = (stage.document().await, stage.trial(1, 0));
    begin(&stage.bucket, &operator("ci"), &trial, never, silent).await.unwrap();
    let (from, to) = (Some(trial.release.clone()), Some(trial.release.clone()));
    let retry = Intent { server: server(), app: web(), from, to, kind: PushKind::Retry };
    let by = Operator { held: true, ..operator("ci") };
    assert!(carry_out(&stage.bucket, &by, vec![(retry, None)], |_, _| ()).await[0].is_pushed());
    assert_eq!(end(&stage.bucket, &operator("ci"), &trial, silent).await.unwrap(), Ended::PutBack);
    assert_eq!(stage.document().await, before);
}

#[tokio::test]
async fn an_operator_who_works_there_is_not_waited_for_and_what_is_refused_writes_nothing() {
    let stage = Stage::new(None).await;
    let objects = || walk(stage.directory.path());
    let trial = stage.trial(1, 60);
    hold::hold(&stage.bucket, &who("ops"), &server(), None, (hold::USUAL, "debugging")).await.unwrap();
    let before = objects();
    let error = begin(&stage.bucket, &operator("ci"), &trial, never, silent).await.unwrap_err().to_string();
    assert!(error.contains("on hold on `stage-1` by `ops`") && error.contains("debugging"), "{error}");
    assert_eq!(end(&stage.bucket, &operator("ci"), &trial, silent).await.unwrap(), Ended::AsBefore);
    let policy = Policy::parse("skiapush.conf", r#"{ Servers: { "stage-1": { AppNames: ["api"] } } }"#).unwrap();
    let ci = Operator { policy: Arc::new(policy), ..operator("ci") };
    let error = begin(&stage.bucket, &ci, &trial, never, silent).await.unwrap_err().to_string();
    assert!(error.contains("does not allow `web` on `stage-1`"), "{error}");
    let error = begin(&stage.bucket, &operator("ci"), &trial, || true, silent).await.unwrap_err().to_string();
    assert!(error.contains("was given up"), "{error}");
    let elsewhere = Trial { server: "stag-1".parse().unwrap(), ..trial };
    let error = begin(&stage.bucket, &operator("ci"), &elsewhere, never, silent).await.unwrap_err().to_string();
    assert!(error.contains("no server `stag-1`") && error.contains("did you mean `stage-1`?"), "{error}");
    assert_eq!(objects(), before);
}

/// All that lies in a directory.
fn walk(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() { found.extend(walk(&entry)) } else { found.push(entry) }
    }
    found.sort();
    found
}

#[tokio::test]
async fn under_a_halt_nothing_is_tried_and_what_was_there_is_put_back() {
    let stage = Stage::new(None).await;
    let (before, trial) = (stage.document().await, stage.trial(1, 0));
    begin(&stage.bucket, &operator("ci"), &trial, never, silent).await.unwrap();
    begin_halt(&stage.bucket, &who("ops"), "outage").await.unwrap();
    assert_eq!(end(&stage.bucket, &operator("ci"), &trial, silent).await.unwrap(), Ended::PutBack);
    let second = stage.trial(2, 0);
    let error = begin(&stage.bucket, &operator("ci"), &second, never, silent).await.unwrap_err().to_string();
    assert!(error.contains("halted all pushes"), "{error}");
    assert_eq!(end(&stage.bucket, &operator("ci"), &second, silent).await.unwrap(), Ended::AsBefore);
    assert_eq!((stage.document().await, stage.holds().await), (before, 0));
}

#[tokio::test]
async fn what_cannot_be_put_back_now_is_left_over_and_the_next_puts_it_back() {
    let stage = Stage::new(None).await;
    let (before, trial) = (stage.document().await, stage.trial(1, 0));
    begin(&stage.bucket, &operator("ci"), &trial, never, silent).await.unwrap();
    hold::hold(&stage.bucket, &who("ops"), &server(), Some(&web()), (hold::USUAL, "look at this")).await.unwrap();
    let error = format!("{:#}", end(&stage.bucket, &operator("ci"), &trial, silent).await.unwrap_err());
    assert!(error.contains("could not put back") && error.contains("look at this"), "{error}");
    let left = stage.left_over().await;
    assert!(left.len() == 1 && left[0].contains("by ci") && left[0].contains("push undo"), "{left:?}");
    let ended = hold::resume(&stage.bucket, &server(), None).await.unwrap();
    assert_eq!((ended.holds.len(), stage.left_over().await.len()), (1, 1), "what a trial left over is no hold to end");
    let next = stage.trial(2, 0);
    begin(&stage.bucket, &operator("next"), &next, never, silent).await.unwrap();
    end(&stage.bucket, &operator("next"), &next, silent).await.unwrap();
    assert_eq!((stage.document().await, stage.holds().await), (before, 0));
}

#[tokio::test]
async fn what_the_agent_makes_of_it_is_the_outcome() {
    let mut stage = Stage::new(None).await;
    for (fate, label) in [(Fate::Converges, "converged"), (Fate::RollsBack, "rolled-back")] {
        stage.world.change(&server(), |agent, _| agent.fate = fate).unwrap();
        let trial = stage.trial(1, 1);
        let generation = begin(&stage.bucket, &operator("ci"), &trial, never, silent).await.unwrap();
        let timed_out = outcome(&stage.bucket, &trial, generation, silent).await;
        let text = timed_out.to_string();
        assert!(text.contains("timed out") && text.contains("(last: the agent polls within"), "{text}");
        stage.pass(SignedDuration::from_mins(10)).await;
        let found: Outcome = outcome(&stage.bucket, &trial, generation, silent).await;
        assert_eq!(found.label(), label, "{found}");
        end(&stage.bucket, &operator("ci"), &trial, silent).await.unwrap();
        stage.pass(SignedDuration::from_mins(10)).await;
    }
}
