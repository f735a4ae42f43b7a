//! The agent, dpkg or the machine dies at every fail point of a real server, forward and back. What comes after converges.
//!
//! A way leads from one document to the next. It is gone once to see which points it meets, and then once for each of them
//! and each kind of death; the points of the agent, of its dpkg runs and of its rescue are in `pulld/src/failpoint`, those of
//! maintainer scripts in [`stage`]. `make test` cuts at a sample of them, `make crash` at all.

mod stage;

use anyhow::Result;
use harness::{AgentRepo, Programs, Scenario, Version};

use crate::PORT;
use stage::{App, Death, Point, Stage, Way, script, wanted};

/// Where the second service listens.
const OTHER_PORT: u16 = 8081;

/// A server whose agent runs from the build's own directory.
fn services() -> Result<(Stage, Vec<Way>)> {
    let scenario = Scenario::new()?;
    let (web, db) = (scenario.service("web", PORT)?, scenario.service("db", OTHER_PORT)?);
    let version =
        |app: &str, name: &str| Version::new(name).preinst(&script("preinst", app)).postinst(&script("postinst", app));
    // The first has a unit that the second drops, and the bad one adds another.
    let one = version("web", "1").beside("web-old.service");
    let one = App::serving("web", &web.release(scenario.target(), &one)?, "1", PORT);
    let two = App::serving("web", &web.release(scenario.target(), &version("web", "2"))?, "2", PORT);
    let bad = version("web", "bad").beside("web-new.service").check("exit 1\n");
    let bad = web.release(scenario.target(), &bad)?;
    let db = App::serving("db", &db.release(scenario.target(), &version("db", "1"))?, "1", OTHER_PORT);
    let rolled_back = one.in_place_of(&bad);
    let ways = vec![
        Way::new("upgrade beside a first install", &[&one], &[&two, &db]),
        Way::new("upgrade that is rolled back beside a removal", &[&one, &db], &[&rolled_back]),
    ];
    let stage = Stage::on(scenario, &Programs::get()?.pulld_with_fail_points()?)?;
    Ok((stage, ways))
}

/// A server whose agent came with a package, and is updated.
fn agents() -> Result<(Stage, Vec<Way>)> {
    let scenario = Scenario::new()?;
    let agent = AgentRepo::of(&scenario.path("pulld"), &Programs::get()?.pulld_with_fail_points()?)?;
    let one = App::agent(&agent.release(scenario.target(), "one")?);
    let two = App::agent(&agent.release(scenario.target(), "two")?);
    agent.replace_program("#!/bin/sh\nexit 1\n")?;
    let rescued = one.in_place_of(&agent.release(scenario.target(), "exits")?);
    let ways = vec![
        Way::new("update of pulld", &[&one], &[&two]),
        Way::new("update of pulld that is rescued", &[&one], &[&rescued]),
    ];
    let stage = Stage::updating(scenario)?;
    Ok((stage, ways))
}

/// Cuts ways at some moments.
fn cut(mut stage: Stage, samples: &[(&Way, &str, usize, Death)]) -> Result<()> {
    for (way, point, earlier, death) in samples {
        let met = stage.cut(way, &Point::new(point, *earlier), *death, &way.most_restarts())?;
        assert!(met, "`{}` did not meet `{point}`", way.name);
    }
    println!("{} deaths, a sample of them all", samples.len());
    Ok(())
}

#[test]
fn services_are_as_they_should_be_after_every_death_forward_and_back() -> Result<()> {
    let (mut stage, ways) = services()?;
    if let Some(points) = wanted() {
        return stage.cut_everywhere(&ways, &points);
    }
    let (_, restarts) = stage.go(&ways[0])?;
    assert_eq!(
        restarts,
        ways[0].most_restarts(),
        "what is measured where nothing is cut is what is expected of the sample"
    );
    let samples = [
        (&ways[0], "persist.write(transaction.json).end", 0, Death::Agent),
        (&ways[0], "packages.stand_by.end", 0, Death::Agent),
        (&ways[0], "runner.stand_by", 0, Death::Dpkg),
        (&ways[0], "runner.dpkg(--install).begin", 0, Death::AgentAndDpkg),
        (&ways[0], "persist.remove(web-old.service.dsh-also).end", 0, Death::Machine),
        (&ways[1], "services.stop(web-new.service).end", 0, Death::Agent),
        (&ways[1], "persist.write(quarantine.json).end", 0, Death::Agent),
        (&ways[1], "script.preinst(web)", 1, Death::AgentAndDpkg),
        (&ways[1], "script.postinst(web)", 1, Death::Machine),
    ];
    cut(stage, &samples)
}

#[test]
fn the_agent_is_as_it_should_be_after_every_death_in_its_own_update_and_its_rescue() -> Result<()> {
    let (stage, ways) = agents()?;
    if let Some(points) = wanted() {
        return stage.cut_everywhere(&ways, &points);
    }
    let samples = [
        (&ways[0], "runner.dpkg(--install).end", 0, Death::AgentAndDpkg),
        (&ways[0], "systemctl(daemon-reload).end", 2, Death::AgentAndDpkg),
        (&ways[1], "rescue.lock.end", 0, Death::Machine),
    ];
    cut(stage, &samples)
}
