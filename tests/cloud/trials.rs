//! Trials of a pipeline over Google's storage: by themselves, with somebody who pushes in between, and of runs that are killed at a
//! write. The agent only reports.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bucket::{Bucket, ReleaseName, ServerName};
use fleet::account::{self, Stage};
use harness::{
    Programs, Target,
    gcs::{Fault, Kind, Request},
};
use jiff::SignedDuration;
use tokio::{task::JoinHandle, time::timeout};

use crate::{trying::World, watching::report};

/// Longest time until something is seen.
const PATIENCE: Duration = Duration::from_mins(1);

/// A repository whose pipeline releases `web` and tries that on `stage-1`, until its test is told to go on.
struct Stand {
    world: World,
    before: Vec<u8>,
    first: ReleaseName,
    /// Whether the agent reports.
    reports: Arc<AtomicBool>,
    agent: JoinHandle<()>,
    /// How many hours the clock of the storage is ahead.
    hours: i64,
}

impl Drop for Stand {
    fn drop(&mut self) {
        self.agent.abort();
    }
}

fn server() -> ServerName {
    "stage-1".parse().unwrap()
}

impl Stand {
    async fn new() -> Self {
        let world = World::over_google().await;
        let first = world.released("web");
        world.document("stage-1", &[first.as_str(), "api/"]).await;
        let (testing, go) = (world.path("testing"), world.path("go"));
        let config = format!(
            "pipelines:\n  web:\n    stages:\n      - {{ name: candidate, publish: {{ package: {{ name: web }} }} }}\n      \
             - {{ name: staging, deploy: {{ server: stage-1, release: '${{candidate.release}}', wait: 30s, \
             test: [sh, -c, 'touch {}; while [ ! -e {} ]; do sleep 0.02; done'] }} }}\n",
            testing.display(),
            go.display()
        );
        world.repo.write("version", "tried").unwrap();
        world.repo.write(".pipeline/config.yaml", &config).unwrap();
        world.repo.write(".pipeline/web/variants.yaml", "variants: {}\n").unwrap();
        world.repo.commit("a pipeline").unwrap();
        let reports = Arc::new(AtomicBool::new(true));
        let agent = tokio::spawn(agent(world.production.clone(), reports.clone()));
        let mut stand = Self { world, before: Vec::new(), first, reports, agent, hours: 0 };
        stand.before = stand.content().await;
        stand
    }

    async fn content(&self) -> Vec<u8> {
        self.world.production.document_object(&server()).await.unwrap().unwrap().content.to_vec()
    }

    /// Whether its test begins, or may go on.
    fn mark(&self, name: &str) -> PathBuf {
        self.world.path(name)
    }

    fn run(&self) -> Child {
        for mark in ["testing", "go"] {
            let _ = std::fs::remove_file(self.mark(mark));
        }
        let mut run = self.world.release(&["run", "-m", "try it"]);
        run.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }

    async fn is_testing(&self) {
        let mark = self.mark("testing");
        let seen = async {
            while !mark.exists() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, seen).await.expect("it is tested");
    }

    /// Lets the test go on, and waits for the end of the run; what it said.
    async fn passes(&self, run: Child) -> String {
        std::fs::write(self.mark("go"), "").unwrap();
        let output = tokio::task::spawn_blocking(|| run.wait_with_output().unwrap()).await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        said
    }

    /// Nothing of a trial is left, and of no push it seems that somebody is at it.
    async fn is_over(&self, moment: &str) {
        let bucket = &self.world.production;
        let holds = bucket.holds(&server()).await.unwrap().map_or(0, |(_, holds)| holds.holds.len());
        assert_eq!(holds, 0, "{moment}");
        for head in bucket.newest_pushes(1000).await.unwrap() {
            let account = account::read(bucket, &head.id).await.unwrap();
            assert_eq!(account.stage, Stage::Over, "{moment}: {account:?}");
        }
    }

    fn push(&self, arguments: &[&str]) -> Command {
        let endpoint = self.world.gcs.as_ref().map(|gcs| gcs.url.clone());
        let mut push = Command::new(Programs::get().unwrap().push());
        Target { url: "gs://acme-push".to_owned(), endpoint }.apply(&mut push);
        push.args(arguments);
        push
    }
}

/// Says as long as it may that it runs what the document names.
async fn agent(bucket: Bucket, reports: Arc<AtomicBool>) {
    loop {
        if reports.load(Ordering::Relaxed) {
            report(&bucket, &server()).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_tried_is_put_back_and_what_somebody_pushes_meanwhile_stays() {
    let stand = Stand::new().await;
    let run = stand.run();
    stand.is_testing().await;
    let tried = stand.content().await;
    assert!(tried != stand.before, "{}", String::from_utf8_lossy(&tried));
    let said = stand.passes(run).await;
    assert!(said.contains("put back what stage-1 had before"), "{said}");
    assert_eq!(stand.content().await, stand.before);
    stand.is_over("passed").await;

    // Somebody ends the hold and pushes: that stays, and is said.
    let other = stand.world.released("web");
    let run = stand.run();
    stand.is_testing().await;
    for arguments in [&["resume", "stage-1"][..], &["deploy", other.as_str(), "stage-1", "-m", "urgent"]] {
        let output = stand.push(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let theirs = stand.content().await;
    let said = stand.passes(run).await;
    assert!(
        said.contains("warning: `web` on `stage-1` was changed by") && said.contains("it stays as it is"),
        "{said}"
    );
    assert_eq!(stand.content().await, theirs);
    assert!(String::from_utf8_lossy(&theirs).contains(other.as_str()));
    stand.is_over("somebody pushed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_a_bucket_that_is_away_fails_after_three_attempts_and_the_rest_goes_on() {
    let world = World::over_google().await;
    let gcs = world.gcs.as_ref().unwrap();
    let config = "pipelines:\n  web:\n    execution: [[candidate], [unit]]\n    stages:\n      - { name: candidate, publish: \
                  { package: { name: web } } }\n      - { name: unit, exports: { x: y } }\n";
    world.repo.write(".pipeline/config.yaml", config).unwrap();
    world.repo.commit("a pipeline").unwrap();
    gcs.fail(Kind::List, "debs/web/", Fault::Status(503, None));
    let before = gcs.requests().len();
    let output = world.release(&["run", "-m", "x"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("could not list the releases of `web`") && said.contains("unit: passed"), "{said}");
    let asked = gcs.requests()[before..].iter().filter(|request| request.kind == Kind::List).count();
    assert_eq!(asked, 3, "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_trials_are_required_a_channel_is_moved_only_to_what_was_tried() {
    let world = World::over_google().await;
    let first = world.released("web");
    world.document("stage-1", &[first.as_str()]).await;
    let manifest = world.repo.directory().join("release.toml");
    let rules = std::fs::read_to_string(&manifest).unwrap() + "[pipeline]\nrequire_trial = true\n";
    world.repo.write("release.toml", &rules).unwrap();
    world.repo.write("version", "moved").unwrap();
    // Which release is tried turns out in the run, so that nothing can be said against it before.
    let config = "pipelines:\n  web:\n    stages:\n      - { name: candidate, publish: { package: { name: web } } }\n      \
                  - { name: staging, deploy: { server: stage-1, release: '${candidate.release}${setup.tag}', wait: 30s } }\n      \
                  - { name: ship, channel: [{ app: web }] }\n";
    let earlier = config.replace("${candidate.release}${setup.tag}", "web/${setup.note}");
    let policy = world.path("rules");
    std::fs::write(
        &policy,
        "{ Channels: [{ App: 'web', Repo: 'https://git.example/web', Moves: 'told', Servers: ['x'] }] }",
    )
    .unwrap();
    let agent = tokio::spawn(agent(world.production.clone(), Arc::new(AtomicBool::new(true))));
    let run = async |config: &str| {
        world.repo.write(".pipeline/config.yaml", config).unwrap();
        world.repo.commit("a pipeline").unwrap();
        let note = first.as_str().strip_prefix("web/").unwrap();
        let mut run = world.release(&["run", "-m", note]);
        run.env("PUSH_CONFIG", &policy).stdin(Stdio::null());
        let output = tokio::task::spawn_blocking(move || run.output().unwrap()).await.unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let pointed = async || world.production.channel(&"web".parse().unwrap(), &"prod".parse().unwrap()).await.unwrap();

    let (status, said) = run(&earlier).await;
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("staging: passed") && said.contains("ship: failed"), "{said}");
    assert!(said.contains("no stage before `ship` has tried it on a server"), "{said}");
    assert_eq!(pointed().await, None);
    let (status, said) = run(config).await;
    assert_eq!(status, Some(0), "{said}");
    let (_, channel) = pointed().await.expect("it was moved");
    assert!(channel.release.is_some_and(|release| release != first));
    agent.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_tries_what_it_has_released_in_the_older_spelling_too() {
    let world = World::over_google().await;
    let first = world.released("web");
    world.document("stage-1", &[first.as_str()]).await;
    let content = async || world.production.document_object(&server()).await.unwrap().unwrap().content.to_vec();
    let before = content().await;
    // Which release is tried is not said: what the stage publishes.
    let config = "pipelines:\n  web:\n    stages:\n      - name: production\n        publish: [{ type: package, name: web }]\n        \
                  testDeploy: [{ server: stage-1, wait: 30s }]\n        exports: { at: '${.generation}' }\n      - { name: after, build: \
                  say, run: { arguments: ['${production.release} at ${production.at} ${production.generation}'] } }\n";
    world.repo.write("version", "tried").unwrap();
    world.repo.write(".pipeline/config.yaml", config).unwrap();
    world.repo.write(".pipeline/web/variants.yaml", "variants: { say: { entrypoint: [echo] } }\n").unwrap();
    world.repo.commit("a pipeline").unwrap();
    let agent = tokio::spawn(agent(world.production.clone(), Arc::new(AtomicBool::new(true))));
    let mut run = world.release(&["run", "-m", "try it"]);
    run.stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || run.output().unwrap()).await.unwrap();
    agent.abort();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    let pushed = said.lines().find_map(|line| line.strip_prefix("production | pushed ")).expect(&said);
    let (stem, generation) = pushed.split_once(" to stage-1, generation ").expect(pushed);
    let release = world.production.newest_releases(&"web".parse().unwrap(), 1).await.unwrap().remove(0).name;
    assert!(release != first && release.stem() == stem, "{release}: {said}");
    assert!(said.contains(&format!("after | {release} at {generation} {generation}\n")), "{said}");
    assert_eq!(content().await, before);
}

/// When a run is killed: at a write of its trial's beginning or end, which is done and never answered, or isn't done.
#[derive(Debug, Clone, Copy)]
enum Moment {
    Begins(&'static str, bool),
    Waits,
    Tests,
    Ends(&'static str, bool),
}

#[tokio::test(flavor = "multi_thread")]
async fn wherever_a_run_is_killed_in_its_trial_the_next_one_puts_back_what_was_there() {
    let mut stand = Stand::new().await;
    for moment in [
        Moment::Begins("holds/stage-1", false),
        Moment::Begins("holds/stage-1", true),
        Moment::Begins("pushes/", false),
        Moment::Begins("pushes/", true),
        Moment::Begins("history/stage-1", false),
        Moment::Waits,
        Moment::Tests,
        Moment::Ends("pushes/", true),
        Moment::Ends("server/stage-1", false),
        Moment::Ends("server/stage-1", true),
        Moment::Ends("holds/stage-1", false),
    ] {
        let name = format!("{moment:?}");
        kill_at(&stand, moment).await;
        // Whoever comes before its hold is over would have to wait for it.
        stand.hours += 2;
        stand.world.gcs.as_ref().unwrap().set_clock_ahead(SignedDuration::from_hours(stand.hours));
        let next = stand.run();
        let said = stand.passes(next).await;
        assert_eq!(stand.content().await, stand.before, "{name}: {said}");
        let is_left = matches!(
            moment,
            Moment::Begins("history/stage-1", _) | Moment::Waits | Moment::Tests | Moment::Ends("pushes/", _)
        ) || matches!(moment, Moment::Ends("server/stage-1", false));
        assert_eq!(said.contains("which a trial left over"), is_left, "{name}: {said}");
        stand.is_over(&name).await;
    }
    assert!(String::from_utf8_lossy(&stand.before).contains(stand.first.as_str()));
}

/// Begins a run and kills it at that moment.
async fn kill_at(stand: &Stand, moment: Moment) {
    let gcs = stand.world.gcs.as_ref().unwrap();
    let before = gcs.requests().len();
    let fail = |object: &str, is_done: bool| {
        gcs.fail(Kind::Insert, object, if is_done { Fault::KeepAnswer } else { Fault::NeverAnswer });
        gcs.requests().len()
    };
    let writes = |object: &'static str, from: usize| {
        let is_it = move |request: &Request| request.kind == Kind::Insert && request.object.contains(object);
        gcs.until(move |requests| requests[from..].iter().any(is_it))
    };
    stand.reports.store(!matches!(moment, Moment::Waits), Ordering::Relaxed);
    if let Moment::Begins(object, is_done) = moment {
        fail(object, is_done);
    }
    let mut run = stand.run();
    match moment {
        Moment::Begins(object, _) => writes(object, before).await,
        Moment::Waits => {
            writes("history/stage-1", before).await;
            let asked = gcs.requests().len();
            let is_status = |request: &Request| request.object == "status/stage-1.json";
            gcs.until(|requests| requests[asked..].iter().any(is_status)).await;
        }
        Moment::Tests => stand.is_testing().await,
        Moment::Ends(object, is_done) => {
            stand.is_testing().await;
            let from = fail(object, is_done);
            std::fs::write(stand.mark("go"), "").unwrap();
            writes(object, from).await;
        }
    }
    run.kill().unwrap();
    let output = run.wait_with_output().unwrap();
    assert!(output.status.code().is_none(), "{moment:?}: it ended before: {}", String::from_utf8_lossy(&output.stderr));
    gcs.heal();
    stand.reports.store(true, Ordering::Relaxed);
}
