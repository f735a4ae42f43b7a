//! Which run made a release, and how the pipelines of a change ended, as `release` tells.

use bucket::{Candidate, CandidateMetadata, CandidatePlace, MadeBy, Run, SourceFile};
use futures_util::TryStreamExt as _;
use serde_json::{Value, json};

use crate::trying::World;

fn made_by() -> MadeBy {
    MadeBy {
        pipeline: "web".parse().unwrap(),
        stage: "candidate".parse().unwrap(),
        run: "web/20261126T233000Z-k3v9".parse().unwrap(),
    }
}

async fn what_a_run_made_says_so_also_once_it_is_promoted(world: World) {
    world.opened("web/1", &[]);
    world.candidate("web/1", "web", true);
    let gated: Vec<Candidate> = world.production.gated_candidates().try_collect().await.unwrap();
    let built = gated[0].clone();
    let CandidatePlace::Gated { change, release } = &built.place else { panic!("{built:?}") };
    let path = built.place.path();
    let content = world.production.get(&path, 1 << 20).await.unwrap().unwrap().content;
    let file = world.path("again.deb");
    std::fs::write(&file, content).unwrap();
    // The same package, as a stage of a run makes it.
    world.production.delete_candidate(&built).await.unwrap();
    let mut facts: CandidateMetadata = built.metadata.unwrap();
    facts.release.made_by = Some(made_by());
    let place = CandidatePlace::Gated { change: change.clone(), release: release.clone() };
    let source = SourceFile::read(&file).unwrap();
    world.production.upload_candidate(&place, &source, &facts, &|_| ()).await.unwrap();
    let found = world.production.candidate(&place).await.unwrap().unwrap();
    assert_eq!(found.metadata.as_ref().unwrap().release.made_by, Some(made_by()));
    world.production.promote(&found, &facts, &"b".repeat(40).parse().unwrap()).await.unwrap();

    let said = String::from_utf8(world.done(&["show", release.as_str()]).stdout).unwrap();
    assert!(said.contains("\nmade by: pipeline web, stage candidate, run web/20261126T233000Z-k3v9\n"), "{said}");
    let expected = json!({ "pipeline": "web", "stage": "candidate", "run": "web/20261126T233000Z-k3v9" });
    assert_eq!(world.json(&["show", release.as_str()])["made_by"], expected);
    let other = world.released("lib");
    let said = String::from_utf8(world.done(&["show", other.as_str()]).stdout).unwrap();
    assert!(!said.contains("made by"), "{said}");
}

#[tokio::test]
async fn over_directories_what_a_run_made_says_so() {
    what_a_run_made_says_so_also_once_it_is_promoted(World::over_directories().await).await;
}

#[tokio::test]
async fn over_google_what_a_run_made_says_so() {
    what_a_run_made_says_so_also_once_it_is_promoted(World::over_google().await).await;
}

#[tokio::test]
async fn a_change_is_shown_with_the_last_run_of_each_of_its_pipelines() {
    let world = World::over_google().await;
    world.opened("web/1", &[]);
    let record = async |id: &str, change: &str, pipelines: &[(&str, &str)]| {
        let pipelines: Vec<Value> = pipelines
            .iter()
            .map(|(name, result)| json!({ "name": name, "stages": [{ "name": "unit", "result": result }] }))
            .collect();
        let run: Run = serde_json::from_value(json!({
            "schema": 1, "project": "web", "run": id, "commit": "a".repeat(40), "dirty": false, "change": change, "patchset": 1,
            "by": "dev@ci", "host": "ci", "began": "2026-11-26T23:30:00Z", "result": "failed", "pipelines": pipelines,
        }))
        .unwrap();
        world.candidates.begin_run(&run).await.unwrap();
    };
    let shown = world.json(&["change", "show", "web/1"]);
    assert_eq!(shown["runs"], json!([]));
    record("20261126T233000Z-a", "web/1", &[("web", "passed"), ("api", "passed")]).await;
    record("20261126T233001Z-b", "web/1", &[("web", "failed")]).await;
    record("20261126T233002Z-c", "web/2", &[("web", "passed")]).await;
    let shown = world.json(&["change", "show", "web/1"]);
    let last: Vec<_> = shown["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|last| [&last["pipeline"], &last["result"], &last["run"]])
        .collect();
    assert_eq!(
        json!(last),
        json!([["web", "failed", "web/20261126T233001Z-b"], ["api", "passed", "web/20261126T233000Z-a"]])
    );
    let said = String::from_utf8(world.done(&["change", "show", "web/1"]).stdout).unwrap();
    let row = said.lines().find(|line| line.starts_with("web ")).unwrap_or_else(|| panic!("{said}"));
    assert!(row.contains("failed") && row.ends_with("web/20261126T233001Z-b"), "{said}");
}
