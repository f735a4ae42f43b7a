//! Pushes in waves by the real command, on servers whose agents are played.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use bucket::{Bucket, BucketUrl, ReleaseName, ServerName, Timestamp};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::{Fixture, failed, ok, text};

/// What the agents make of a release: by server, the state that each reports of it. Of others it is `converged`.
type Fates = Arc<Mutex<BTreeMap<(String, ReleaseName), &'static str>>>;

/// Agents that report what they make of their documents, again and again.
struct Agents {
    fates: Fates,
    task: JoinHandle<()>,
}

impl Drop for Agents {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Agents {
    fn of(fixture: &Fixture, servers: usize) -> Self {
        let (bucket, fates) = (fixture.bucket.clone(), Fates::default());
        let known = fates.clone();
        let task = tokio::spawn(async move {
            loop {
                for n in 1..=servers {
                    report(&bucket, &format!("web-{n}").parse().unwrap(), &known).await;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        Self { fates, task }
    }

    fn will(&self, server: &str, release: &ReleaseName, state: &'static str) {
        self.fates.lock().unwrap().insert((server.to_owned(), release.clone()), state);
    }
}

struct Serve(Child);

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn report(bucket: &Bucket, server: &ServerName, fates: &Fates) {
    let Ok(Some((generation, document))) = bucket.server_document(server).await else { return };
    let Some(release) = document.releases().next() else { return };
    let fate = fates.lock().unwrap().get(&(server.to_string(), release.clone())).copied().unwrap_or("converged");
    let Ok(seen) = bucket.status(server).await else { return };
    let (now, seen) = (Timestamp::now(), seen.map(|(seen, _)| seen));
    let status = json!({
        "server": server, "machine": "m", "written": now, "state": if fate == "quarantined" { "failed" } else { fate },
        "summary": "", "agent": { "version": "1", "started": now, "poll_seconds": 300, "heartbeat_seconds": 900 },
        "document": { "generation": generation, "error": null },
        "apps": [{ "app": "web", "desired": release, "installed": release, "state": fate, "since": now }],
    });
    // A bucket that is away for a moment is away for agents too.
    let _ = bucket.write_status(&serde_json::from_value(status).unwrap(), seen).await;
}

impl Fixture {
    /// Servers with the first release, and another one to roll out.
    async fn fleet(&self, servers: usize) -> (Agents, ReleaseName, ReleaseName) {
        let (first, second) = (self.release("web", 1, false).await, self.release("web", 2, false).await);
        let names: Vec<String> = (1..=servers).map(|n| format!("web-{n}")).collect();
        ok(&self.push(&format!("deploy {first} {} --force", names.join(" "))));
        let agents = Agents::of(self, servers);
        for name in names {
            while self.bucket.status(&name.parse().unwrap()).await.unwrap().is_none() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        (agents, first, second)
    }

    /// What the command ends with, while the agents go on.
    async fn pushed(&self, arguments: &str) -> std::process::Output {
        let mut command = self.command(arguments);
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    fn command(&self, arguments: &str) -> Command {
        let url = BucketUrl::File(self.directory.path().to_owned());
        let mut command = Command::new(env!("CARGO_BIN_EXE_push"));
        command.env("PUSH_BUCKET", url.to_string()).env("PUSH_USER", "dev").args(arguments.split_whitespace());
        command.env_remove("RUNTIME_DIRECTORY").env_remove("JOURNAL_STREAM");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn rollout(&self) -> Value {
        let listed = self.json("rollout list");
        assert_eq!(listed["rollouts"].as_array().map(Vec::len), Some(1), "{listed}");
        listed["rollouts"][0].clone()
    }

    /// The web app over this bucket, as a process that is killed with what comes with it.
    fn serve(&self) -> Serve {
        let mut command = self.command("serve --listen 127.0.0.1:0 --refresh 1s");
        Serve(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Waits until a rollout is in a stage.
    async fn until(&self, stage: &str) {
        while self.rollout()["stage"] != stage {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// How often a push wrote the document of a server, by what is recorded of it.
    fn written(&self, server: &str, push: &str) -> usize {
        let history = self.json(&format!("history {server}"));
        history["pushes"].as_array().unwrap().iter().filter(|entry| entry["push"] == push).count()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn waves_follow_each_other_and_a_bad_one_stops_them() {
    let fixture = Fixture::new().await;
    let (agents, first, second) = fixture.fleet(4).await;
    agents.will("web-2", &second, "quarantined");
    let dry = ok(&fixture.pushed("deploy web app:web --waves 1,1,rest --dry-run").await);
    assert!(dry.contains("wave 1 (1): web-1\nwave 2 (1): web-2\nwave 3 (rest): web-3 web-4"), "{dry}");
    assert!(!fixture.path("rollouts").exists(), "it was a dry run");
    let said = failed(&fixture.pushed("deploy web app:web --waves 1,1,rest --settle 1s -m fix --wait").await);
    assert!(said.contains("has stopped: 1 server failed: web-2"), "{said}");
    assert!(said.contains("web-1 to stay converged"), "{said}");
    let documents = || [1, 2, 3, 4].map(|n| fixture.document(&format!("web-{n}")));
    assert_eq!(documents(), [json!([second]), json!([second]), json!([first]), json!([first])]);
    let rollout = fixture.rollout();
    assert_eq!(rollout["stage"], "stopped");
    let listed = ok(&fixture.push("rollout list"));
    assert!(listed.contains("DRIVEN") && listed.contains("stopped") && listed.contains(" ago"), "{listed}");
    let id = rollout["id"].as_str().unwrap();
    let shown = ok(&fixture.push(&format!("rollout show {id}")));
    assert!(shown.contains("web-1: runs it") && shown.contains("web-2: rolled-back"), "{shown}");
    assert!(shown.contains("web-3: not written yet"), "{shown}");
    // It is no push that was cut off, and stays stopped whoever carries it on.
    let push = ok(&fixture.push(&format!("show {id}")));
    assert!(!push.contains("cut off"), "{push}");
    assert!(failed(&fixture.pushed(&format!("rollout wait {id}")).await).contains("has stopped"));
    for arguments in [format!("undo {id} web-1"), format!("undo {id} --dry-run"), format!("stop {id}")] {
        let said = failed(&fixture.push(&arguments));
        assert!(said.contains("goes out in waves: use `push rollout "), "{said}");
    }
    // What is said of the push is said of its rollout, which keeps to its budget.
    let said = ok(&fixture.pushed(&format!("undo {id} -m bad --wait")).await);
    assert!(said.contains("is undone"), "{said}");
    assert_eq!(documents(), [1, 2, 3, 4].map(|_| json!([first])));
    let history = fixture.json("history web-2");
    assert_eq!((&history["pushes"][0]["kind"], &history["pushes"][0]["why"]), (&json!("undo"), &json!("bad")));
    assert_eq!(fixture.rollout()["stage"], "undone");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_failed_is_excused_when_a_person_has_it_go_on() {
    let fixture = Fixture::new().await;
    let (agents, _, second) = fixture.fleet(3).await;
    agents.will("web-1", &second, "degraded");
    failed(&fixture.pushed("deploy web app:web --waves 1,rest --settle 1s --pause-after 2 --max-down 3 --wait").await);
    let id = fixture.rollout()["id"].as_str().unwrap().to_owned();
    let said = ok(&fixture.push(&format!("continue {id} -m known")));
    assert!(said.contains(&format!("rollout {id} is running")), "{said}");
    let said = failed(&fixture.pushed(&format!("rollout wait {id} --timeout 5s")).await);
    assert!(said.contains("waiting for a verdict on wave 2"), "{said}");
    ok(&fixture.push(&format!("rollout pass {id}")));
    assert!(ok(&fixture.pushed(&format!("rollout wait {id}")).await).contains("is done"));
    assert!(failed(&fixture.push(&format!("rollout stop {id}"))).contains("is done: `stop` does not apply"));
    for server in ["web-1", "web-2", "web-3"] {
        assert_eq!((fixture.document(server), fixture.written(server, &id)), (json!([second]), 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_that_failed_servers_use_up_can_be_raised() {
    let fixture = Fixture::new().await;
    let (agents, first, second) = fixture.fleet(3).await;
    agents.will("web-1", &second, "degraded");
    ok(&fixture.push("deploy web app:web --waves rest --settle 1s --stop-at 2 --max-down 1"));
    let id = fixture.rollout()["id"].as_str().unwrap().to_owned();
    let said = failed(&fixture.pushed(&format!("rollout wait {id} --timeout 5s")).await);
    assert!(said.contains("waiting until fewer servers are out: 1 of 3 out, 1 allowed"), "{said}");
    assert_eq!(fixture.document("web-2"), json!([first]));
    let said = failed(&fixture.push(&format!("rollout continue {id} --max-down 1")));
    assert!(said.contains("`1` is no more than may be out at a time already"), "{said}");
    assert!(failed(&fixture.push(&format!("rollout continue {id}"))).contains("is running: `continue` does not apply"));
    ok(&fixture.push(&format!("rollout continue {id} --max-down 2 -m down")));
    while fixture.document("web-3") != json!([second]) {
        failed(&fixture.pushed(&format!("rollout wait {id} --timeout 3s")).await);
    }
    assert_eq!(fixture.document("web-2"), json!([second]));
    // The failed server still counts: a person decides about it.
    assert_eq!(fixture.rollout()["stage"], "running");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_outlasts_a_bucket_that_is_away_and_says_so_once() {
    let fixture = Fixture::new().await;
    let (_agents, _, second) = fixture.fleet(2).await;
    ok(&fixture.push("deploy web app:web --waves 1,rest --settle 1s --pause-after 1 --max-down 2"));
    let id = fixture.rollout()["id"].as_str().unwrap().to_owned();
    let mut driver = fixture.command(&format!("rollout wait {id}")).spawn().unwrap();
    let stderr = BufReader::new(driver.stderr.take().unwrap());
    let (lines, mut said) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| lines.send(line)));
    let mut until = async |text: &str| {
        let mut seen = Vec::new();
        while let Some(line) = said.recv().await {
            seen.push(line);
            if seen.last().is_some_and(|line| line.contains(text)) {
                break;
            }
        }
        seen
    };
    until("waiting for a verdict on wave 1").await;
    let away = fixture.directory.path().with_extension("away");
    std::fs::rename(fixture.directory.path(), &away).unwrap();
    let warned = until(&format!("warning: could not carry rollout {id} on, will retry: ")).await;
    assert!(warned.last().unwrap().contains("no longer exists"), "{warned:?}");
    // That the next look says nothing more takes as long as it comes after this one.
    tokio::time::sleep(Duration::from_secs(3)).await;
    std::fs::rename(&away, fixture.directory.path()).unwrap();
    ok(&fixture.push(&format!("rollout pass {id}")));
    let rest = until("nothing says this").await;
    assert!(!rest.iter().any(|line| line.contains("warning")), "{rest:?}");
    assert!(driver.wait().unwrap().success(), "{rest:?}");
    assert_eq!(fixture.document("web-2"), json!([second]));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_drivers_that_are_killed_write_each_server_once() {
    let fixture = Fixture::new().await;
    let (_agents, _, second) = fixture.fleet(6).await;
    ok(&fixture.push("deploy web app:web --waves 1,50%,rest --settle 1s --max-down 2"));
    let id = fixture.rollout()["id"].as_str().unwrap().to_owned();
    let start = || -> Child { fixture.command(&format!("rollout wait {id}")).spawn().unwrap() };
    let mut drivers = [start(), start()];
    for millis in (20..400).step_by(20) {
        for driver in &mut drivers {
            tokio::time::sleep(Duration::from_millis(millis / 2)).await;
            driver.kill().unwrap();
            driver.wait().unwrap();
            *driver = start();
        }
    }
    let [one, other] = drivers.map(|driver| tokio::task::spawn_blocking(move || driver.wait_with_output().unwrap()));
    for ended in [one.await.unwrap(), other.await.unwrap()] {
        assert!(ended.status.success(), "{}", text(&ended));
    }
    assert_eq!(fixture.rollout()["stage"], "done");
    for server in (1..=6).map(|n| format!("web-{n}")) {
        assert_eq!((fixture.document(&server), fixture.written(&server, &id)), (json!([second]), 1), "{server}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_web_app_carries_it_on_also_after_it_was_killed() {
    let fixture = Fixture::new().await;
    let (_agents, first, second) = fixture.fleet(4).await;
    let said = ok(&fixture.push("deploy web app:web --waves 1,1,rest --settle 1s --max-down 2"));
    assert!(said.contains("a running `push serve` of this bucket carries it on"), "{said}");
    let id = fixture.rollout()["id"].as_str().unwrap().to_owned();
    let shown = fixture.json(&format!("show {id}"));
    assert_eq!((&shown["stage"], fixture.document("web-1")), (&json!("under way"), json!([first])), "{shown}");
    let serve = fixture.serve();
    while fixture.document("web-1") != json!([second]) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // It has yet to settle: this is between two waves.
    drop(serve);
    assert_eq!([fixture.document("web-2"), fixture.document("web-3")], [json!([first]), json!([first])]);
    let _serve = fixture.serve();
    fixture.until("done").await;
    for server in (1..=4).map(|n| format!("web-{n}")) {
        assert_eq!((fixture.document(&server), fixture.written(&server, &id)), (json!([second]), 1), "{server}");
    }
    let by = fixture.rollout()["driven"]["by"].as_str().unwrap().to_owned();
    assert!(by.starts_with("push serve of dev"), "{by}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_and_the_web_app_drive_one_rollout_together() {
    let fixture = Fixture::new().await;
    let (agents, first, second) = fixture.fleet(5).await;
    agents.will("web-3", &second, "quarantined");
    let _serve = fixture.serve();
    let said = failed(&fixture.pushed("deploy web app:web --waves 2,1,rest --settle 1s --max-down 5 --wait").await);
    assert!(said.contains("has stopped: 1 server failed: web-3"), "{said}");
    let id = fixture.rollout()["id"].as_str().unwrap().to_owned();
    assert_eq!([fixture.document("web-4"), fixture.document("web-5")], [json!([first]), json!([first])]);
    ok(&fixture.push(&format!("rollout undo {id} -m bad")));
    fixture.until("undone").await;
    for server in (1..=5).map(|n| format!("web-{n}")) {
        assert_eq!(fixture.document(&server), json!([first]), "{server}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_server_waits_and_is_named() {
    let fixture = Fixture::new().await;
    let (_agents, first, second) = fixture.fleet(2).await;
    ok(&fixture.push("hold web-2 --for 2h -m debugging"));
    ok(&fixture.push("deploy web app:web --waves 1,rest --settle 1s"));
    let id = fixture.rollout()["id"].as_str().unwrap().to_owned();
    let said = failed(&fixture.pushed(&format!("rollout wait {id} --timeout 8s")).await);
    assert!(said.contains("waiting for web-2, on hold, the first until"), "{said}");
    assert_eq!([fixture.document("web-1"), fixture.document("web-2")], [json!([second]), json!([first])]);
    ok(&fixture.push("resume web-2"));
    ok(&fixture.pushed(&format!("rollout wait {id}")).await);
    assert_eq!(fixture.document("web-2"), json!([second]));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_set_a_hold_rolls_out_there_all_the_same_and_undoes_that_too() {
    let fixture = Fixture::new().await;
    let (_agents, first, second) = fixture.fleet(2).await;
    ok(&fixture.push("hold web-2 --for 2h -m debugging"));
    let dry = ok(&fixture.push("deploy web app:web --waves 1,rest --dry-run"));
    assert!(dry.contains("note: 1 server on hold, written when that ends: web-2"), "{dry}");
    let waves = "--waves 1,rest --settle 1s --max-down 2 --held";
    assert!(!ok(&fixture.push(&format!("deploy web app:web {waves} --dry-run"))).contains("on hold"));
    ok(&fixture.pushed(&format!("deploy web app:web {waves} --wait")).await);
    assert_eq!(fixture.document("web-2"), json!([second]));
    let id = fixture.rollout()["id"].as_str().unwrap().to_owned();
    // What they want of it, nobody else does there.
    ok(&fixture.push_as("ops", &format!("rollout undo {id}")));
    let said = failed(&fixture.pushed(&format!("rollout wait {id} --timeout 3s")).await);
    assert!(said.contains("waiting for web-2, on hold"), "{said}");
    assert_eq!([fixture.document("web-1"), fixture.document("web-2")], [json!([first]), json!([second])]);
}

#[tokio::test]
async fn one_that_nobody_may_write_is_not_begun() {
    let fixture = Fixture::new().await;
    let (first, second) = (fixture.release("web", 1, false).await, fixture.release("web", 2, false).await);
    ok(&fixture.push(&format!("deploy {first} web-1 web-2 --force")));
    let deploy = |more: &str| fixture.push(&format!("deploy {second} web-1 web-2 --waves 1,rest {more}"));
    ok(&fixture.push("halt -m night"));
    assert!(failed(&deploy("")).contains("halted all pushes"));
    ok(&fixture.push("halt --lift"));
    ok(&fixture.push(&format!("reject {second} -m CVE")));
    assert!(failed(&deploy("--dry-run")).contains("is rejected"));
    assert!(!fixture.path("rollouts").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_has_its_waves_as_json_and_goes_by_the_buckets_clock() {
    let fixture = Fixture::new().await;
    drop(fixture.fleet(4).await);
    // Nothing was ever heard of one, and the clock of another's server is two days behind.
    std::fs::remove_file(fixture.path("status/web-4.json")).unwrap();
    let path = fixture.path("status/web-2.json");
    let mut report: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    report["written"] = json!(Timestamp::now() - jiff::SignedDuration::from_hours(48));
    std::fs::write(&path, report.to_string()).unwrap();
    ok(&fixture.push("hold web-3 -m debugging"));
    let plan = fixture.json("deploy web app:web --waves 1,50%,rest --settle 2m --stop-at 2 --pause-after 1 --dry-run");
    let wave = |what: &str, servers: &[&str]| json!({ "what": what, "servers": servers });
    assert_eq!(
        plan["waves"],
        json!([wave("1", &["web-1"]), wave("50%", &["web-2", "web-3"]), wave("rest", &["web-4"])]),
        "{plan}"
    );
    let budget = json!([{ "group": null, "servers": 4, "allowed": 1, "out": ["web-4"] }]);
    assert_eq!((&plan["budgets"], &plan["silent"], &plan["held"]), (&budget, &json!(["web-4"]), &json!(["web-3"])));
    let told = ok(&fixture.push("deploy web app:web --waves 1,rest --dry-run"));
    for expected in [
        "note: 1 server not reporting: in the last wave, and counted for nothing: web-4",
        "warning: 1 server in no group out already (web-4): others wait until fewer are; --max-down allows more",
    ] {
        assert!(told.contains(expected), "{told}");
    }
    let rules = &plan["rules"];
    assert_eq!((&rules["settle_seconds"], &rules["stop_at"]), (&json!(120), &json!(2)), "{plan}");
    assert_eq!((&rules["within_seconds"], &rules["pause_after"]), (&json!(1800), &json!([1])), "{plan}");
    assert!(!fixture.path("rollouts").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_is_rejected_meanwhile_stops_it() {
    let fixture = Fixture::new().await;
    let (_agents, first, _) = fixture.fleet(2).await;
    ok(&fixture.push("deploy web app:web --waves 1,rest --settle 1s"));
    let id = fixture.rollout()["id"].as_str().unwrap().to_owned();
    ok(&fixture.push(&format!("reject web@{:040x} -m CVE", 2)));
    let said = failed(&fixture.pushed(&format!("rollout wait {id}")).await);
    assert!(said.contains("has stopped: web-1: ") && said.contains("is rejected"), "{said}");
    assert_eq!(fixture.document("web-1"), json!([first]));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_lost_the_role_stops_it() {
    let fixture = Fixture::new().await;
    let (_agents, first, second) = fixture.fleet(2).await;
    ok(&fixture.push("deploy web app:web --waves 1,rest --settle 1s"));
    let id = fixture.rollout()["id"].as_str().unwrap().to_owned();
    let rules = fixture.path(".rules");
    std::fs::write(&rules, "{ Roles: [{ Role: 'deployer', Who: ['somebody-else'] }] }").unwrap();
    let said = failed(&fixture.pushed(&format!("rollout wait {id} --config {}", rules.display())).await);
    assert!(said.contains("has stopped: web-1:") && said.contains("may not push"), "{said}");
    assert_eq!([fixture.document("web-1"), fixture.document("web-2")], [json!([first]), json!([first])]);
    let said = failed(&fixture.push(&format!("rollout continue {id} --config {}", rules.display())));
    assert!(said.contains("may not decide about rollout"), "{said}");
    ok(&fixture.push(&format!("rollout continue {id}")));
    ok(&fixture.pushed(&format!("rollout wait {id}")).await);
    assert_eq!([fixture.document("web-1"), fixture.document("web-2")], [json!([second]), json!([second])]);
}

#[tokio::test]
async fn what_cannot_be_divided_is_refused_before_anything_is_written() {
    let fixture = Fixture::new().await;
    let web = fixture.release("web", 1, false).await;
    ok(&fixture.push(&format!("deploy {web} web-1 web-2 --force")));
    let next = fixture.release("web", 2, false).await;
    for (waves, expected) in [
        ("1", "leave out 1 of the servers: end them with `rest`"),
        ("web-9,rest", "the push does not go to it"),
        ("app:api,rest", "has no servers that an earlier wave does not have"),
        ("1,rest --pause-after 3", "cannot wait for a verdict after wave 3, because it has 2 waves"),
    ] {
        let said = failed(&fixture.push(&format!("deploy {next} web-1 web-2 --waves {waves}")));
        assert!(said.contains(expected), "{said}");
    }
    for wrong in ["--waves rest,1", "--waves 0", "--waves 1,rest --settle 2h", "--settle 2m", "--max-down 3"] {
        let output = fixture.push(&format!("deploy {next} web-1 web-2 {wrong}"));
        assert_eq!(output.status.code(), Some(2), "{wrong}: {}", text(&output));
    }
    let said = failed(&fixture.push(&format!("deploy {next} web-1 wbe-2 --waves 1,rest")));
    assert!(said.contains("the waves of a rollout are decided once, and 1 server cannot be pushed to"), "{said}");
    assert!(!fixture.path("rollouts").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_asks_for_waves_and_only_an_admin_sets_them_aside() {
    let fixture = Fixture::new().await;
    let (_agents, first, second) = fixture.fleet(4).await;
    let rules = fixture.path("rules.conf");
    let write = |admin: &str| {
        let text = format!(
            "{{ Groups: {{ prod: {{ Servers: ['web-1', 'web-2', 'web-3'], Waves: '1,rest', Settle: '1s', MaxDown: 2 }}, \
             edge: {{ Servers: ['web-4'], Waves: 'rest' }} }}, \
             Roles: [{{ Role: 'deployer', Who: ['dev@*'] }}, {{ Role: 'admin', Who: ['{admin}'] }}] }}"
        );
        std::fs::write(&rules, text).unwrap();
    };
    write("ops");
    let checked = ok(&fixture.push(&format!("check-config {}", rules.display())));
    assert!(checked.contains("valid, 0 servers, 2 groups, 0 apps with waves"), "{checked}");
    let deploy = |arguments: &str| fixture.push(&format!("--config {} deploy web {arguments}", rules.display()));
    let dry = ok(&deploy("group:prod --dry-run"));
    assert!(dry.contains("asks for these waves for group `prod`") && dry.contains("wave 1 (1): web-1"), "{dry}");
    assert!(dry.contains("2 of 3 servers of group prod may be out"), "{dry}");
    let said = failed(&deploy("app:web"));
    assert!(said.contains("asks for different waves, 1,rest, settling for 1s for group `prod` and rest"), "{said}");
    assert!(failed(&deploy("web-1 --waves all -m down")).contains("takes the role `admin`"));
    assert!(!fixture.path("rollouts").exists());
    ok(&deploy("group:prod -m fix"));
    let id = fixture.rollout()["id"].as_str().unwrap().to_owned();
    assert!(ok(&fixture.pushed(&format!("rollout wait {id}")).await).contains("is done"));
    assert_eq!(
        [1, 3, 4].map(|n| fixture.document(&format!("web-{n}"))),
        [&second, &second, &first].map(|it| json!([it]))
    );
    // An admin says why, and that is kept with the push and with each row of it.
    write("dev@*");
    let deploy = |arguments: &str| {
        fixture.push(&format!("--config {} deploy {} app:web {arguments}", rules.display(), first.stem()))
    };
    assert!(failed(&deploy("--waves all")).contains("requires a reason: add one"));
    let said = ok(&deploy("--waves all -m down"));
    assert!(said.contains("all servers at once, and not in the waves that are asked for: 1,rest"), "{said}");
    assert_eq!(fixture.document("web-3"), json!([first]));
    assert!(ok(&fixture.push("history web-3")).contains("deployed all at once"));
    let pushes = fixture.json("pushes");
    assert_eq!(
        (&pushes["pushes"][0]["without_waves"], &pushes["pushes"][1]["without_waves"]),
        (&json!(true), &json!(false))
    );
    let id = pushes["pushes"][0]["id"].as_str().unwrap();
    assert!(ok(&fixture.push(&format!("show {id}"))).contains("web deployed all at once by dev"));
}
