//! What a channel points to goes out in waves, on servers with real agents.

use std::{
    fs,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use bucket::{AppState, ReleaseName};
use harness::{Programs, Scenario};
use serde_json::Value;

use crate::{
    app::{App, runs, work},
    unpacked,
};

/// Version 2 does not stay up.
const WORK: &str = "#!/usr/bin/perl\nexit 3 if $ARGV[0] eq '2';\nsleep;\n";

/// Longest time until the watcher has seen or done something.
const PATIENCE: Duration = Duration::from_mins(1);

fn release(web: &App, version: u8) -> Result<ReleaseName> {
    let unit = format!(
        "[Unit]\nDescription=web\n[Service]\nExecStart=/usr/lib/web/work {version}\n[Install]\nWantedBy=multi-user.target\n"
    );
    web.release("", &[("web.service", &unit)])
}

/// A watcher, which is killed when this is dropped.
struct Watcher(Child);

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_broken_release_reaches_the_first_wave_only_and_the_commit_that_mends_it_reaches_all() -> Result<()> {
    let scenario = Scenario::over_gcs()?;
    let web = App::with_program(&scenario, "web", WORK)?;
    let one = release(&web, 1)?;
    let (first, second) = (scenario.server("web-1")?, scenario.server("web-2")?);
    for server in [&first, &second] {
        scenario.deploy(&one, server)?;
    }
    for server in [&first, &second] {
        scenario.wait_until_converged(server, &one)?;
    }
    let (rules, repo) = (scenario.path("rules"), scenario.path("web"));
    let channel = format!("App: 'web', Repo: 'file://{}', Servers: ['web-*']", repo.display());
    // More would have to fail for a rollout by hand to stop.
    let waves = "Waves: ['web-1', 'rest'], Settle: '2s', StopAt: 2, MaxDown: '100%'";
    fs::write(&rules, format!("{{ Channels: [{{ {channel}, {waves} }}] }}"))?;
    let rules = rules.to_str().context("a path")?;
    let mut push = Command::new(Programs::get()?.push());
    push.args(["watch", "--poll", "1s", "--config", rules]).arg("--mirrors").arg(scenario.path("mirrors"));
    push.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(scenario.path("watcher"))?);
    scenario.target().apply(&mut push);
    let _watcher = Watcher(push.spawn()?);
    let json = |arguments: &[&str]| -> Result<Value> {
        let output = scenario.push(&[arguments, &["--json", "--config", rules]].concat())?.ok()?;
        Ok(serde_json::from_str(&output)?)
    };

    let two = release(&web, 2)?;
    scenario.wait_for_app(&first, &two, AppState::Quarantined)?;
    let rolled_back = first.wait_until("the channel names who rolled its release back", PATIENCE, |_| {
        Ok(json(&["channel", "show", "web"])?["rolled_back"].get(0).cloned())
    })?;
    assert_eq!((&rolled_back["release"], &rolled_back["server"]), (&two.to_string().into(), &"web-1".into()));
    let stages = || -> Result<Vec<(String, String)>> {
        let listed = json(&["rollout", "list"])?;
        let rollouts = listed["rollouts"].as_array().context("a list")?;
        let text = |value: &Value| value.as_str().map(str::to_owned).context("a text");
        rollouts.iter().map(|rollout| Ok((text(&rollout["release"])?, text(&rollout["stage"])?))).collect()
    };
    first.wait_until("its rollout has stopped", PATIENCE, |_| {
        Ok((stages()? == [(two.stem().to_owned(), "stopped".to_owned())]).then_some(()))
    })?;
    assert_eq!(runs(&first, "web.service")?, work("web", "1"), "its agent went back");
    assert_eq!((runs(&second, "web.service")?, unpacked(&second, "web")?), (work("web", "1"), 1));

    let three = release(&web, 3)?;
    for server in [&first, &second] {
        scenario.wait_until_converged(server, &three)?;
        assert_eq!(runs(server, "web.service")?, work("web", "3"));
    }
    let seen = second.sh(&format!("journalctl -u pulld | grep -c '{}' || true", two.stem()))?;
    assert_eq!((seen.as_str(), unpacked(&second, "web")?), ("0", 2), "the broken one never came there");
    first.wait_until("the rollout of what mends it is done", PATIENCE, |_| {
        let done = [(three.stem(), "done"), (two.stem(), "abandoned")]
            .map(|(release, stage)| (release.to_owned(), stage.to_owned()));
        Ok((stages()? == done).then_some(()))
    })?;
    let history = json(&["history", "web-2"])?;
    let to: Vec<&Value> = history["pushes"].as_array().context("a list")?.iter().map(|push| &push["to"]).collect();
    ensure!(to == [three.as_str(), one.as_str()], "{history:#}");
    assert_eq!(history["pushes"][0]["channel"], "prod");
    Ok(())
}
