//! Runs of pipelines: their records, the files that are kept of them, and what releases say of the run that made them.

use bucket::{
    Artifact, ArtifactPlace, Error, MadeBy, PipelineHead, ReleaseMetadata, ReleaseName, Run, RunHead, RunPlace,
    RunResult, SourceFile, StageResult,
};
use futures_util::TryStreamExt as _;
use serde_json::json;

use crate::world::World;

const COMMIT: &str = "7e0ff6059e653eb75a36efb621d0fd66d1ced433";

fn run(project: &str, id: &str) -> Run {
    let stages =
        json!([{ "name": "unit", "result": "waiting" }, { "name": "ship", "after": ["unit"], "result": "waiting" }]);
    serde_json::from_value(json!({
        "schema": 1, "project": project, "run": id, "commit": COMMIT, "branch": "topic", "dirty": false, "change": "acme/12",
        "patchset": 3, "by": "dev@ci", "host": "ci", "note": "für alle", "began": "2026-11-26T23:30:00Z",
        "result": "running", "pipelines": [{ "name": "web", "stages": stages }], "later": [1, null],
    }))
    .unwrap()
}

pub(crate) async fn a_run_is_recorded_from_beginning_to_end_and_listed_without_being_read(world: World) {
    let bucket = &world.bucket;
    let mut first = run("acme", "20261126T233000Z-k3v9");
    let place = first.place().unwrap();
    assert_eq!(bucket.run(&place).await.unwrap(), None);
    let begun = bucket.begin_run(&first).await.unwrap();
    assert_eq!(bucket.run(&place).await.unwrap(), Some((begun, first.clone())));
    assert!(matches!(bucket.begin_run(&first).await, Err(Error::AlreadyExists { .. })));

    first.pipelines[0].stages[0].result = StageResult::Failed;
    first.pipelines[0].stages[1].result = StageResult::Skipped;
    (first.result, first.ended) = (RunResult::Failed, Some("2026-11-26T23:31:00Z".parse().unwrap()));
    let ended = bucket.update_run(&first, begun).await.unwrap();
    assert!(matches!(bucket.update_run(&first, begun).await, Err(Error::Conflict { .. })));
    assert_eq!(bucket.run(&place).await.unwrap(), Some((ended, first.clone())));

    for (project, id) in [("acme", "20261126T233001Z-a"), ("acme", "20250101T000000Z-z"), ("web", "20261127T000000Z-a")]
    {
        bucket.begin_run(&run(project, id)).await.unwrap();
    }
    world.create("runs/acme/readme.txt", "no run").await;
    let foreign = "runs/acme/20261126T233002Z-foreign.json";
    world.create(foreign, "{").await;
    let listed = bucket.runs("acme", 9).await.unwrap();
    let ids: Vec<_> = listed.iter().map(|summary| summary.place.run().as_str()).collect();
    let newest_first =
        ["20261126T233002Z-foreign", "20261126T233001Z-a", "20261126T233000Z-k3v9", "20250101T000000Z-z"];
    assert_eq!(ids, newest_first);
    assert_eq!(listed[0].head, None);
    assert_eq!((listed[2].generation, &listed[2].place), (ended, &place));
    let head = RunHead {
        result: RunResult::Failed,
        commit: COMMIT.parse().unwrap(),
        change: Some("acme/12".parse().unwrap()),
        patchset: Some(3),
        ended: first.ended,
        pipelines: vec![PipelineHead { name: "web".parse().unwrap(), result: RunResult::Failed }],
        more: 0,
    };
    assert_eq!(listed[2].head, Some(head));
    assert_eq!(bucket.runs("acme", 2).await.unwrap(), listed[..2]);
    assert_eq!(bucket.runs("none", 2).await.unwrap(), []);
    let projects: Vec<String> = bucket.run_projects().try_collect().await.unwrap();
    assert_eq!(projects, ["acme", "web"]);
    let unreadable = bucket.run(&listed[0].place).await;
    assert!(matches!(unreadable, Err(Error::Malformed { .. })), "{unreadable:?}");
}

pub(crate) async fn a_run_with_more_than_fits_is_recorded_all_the_same(world: World) {
    let mut large = run("acme", "20261126T233000Z-k3v9");
    let artifact = json!({ "stage": "unit", "path": "x/".repeat(300) + "y", "size": 3, "sha256": "07".repeat(32) });
    large.pipelines[0].artifacts = serde_json::from_value(json!(vec![artifact; 1000])).unwrap();
    large.pipelines = vec![large.pipelines[0].clone(); 60];
    world.bucket.begin_run(&large).await.unwrap();
    let (_, read) = world.bucket.run(&large.place().unwrap()).await.unwrap().unwrap();
    let web = &read.pipelines[0];
    assert_eq!((read.pipelines.len(), web.artifacts.len() + web.artifacts_left_out), (60, 1000));
    let head = world.bucket.runs("acme", 1).await.unwrap()[0].head.clone().unwrap();
    assert_eq!((head.pipelines.len(), head.more), (RunHead::MAX_PIPELINES, 20));
}

pub(crate) async fn a_file_of_a_stage_is_kept_once_and_found_with_its_run(world: World) {
    let bucket = &world.bucket;
    let place = |run: &str, path: &str| ArtifactPlace {
        run: format!("acme/{run}").parse().unwrap(),
        pipeline: "web".parse().unwrap(),
        stage: ".unit".parse().unwrap(),
        path: path.parse().unwrap(),
    };
    let file = world.scratch.path().join("report.xml");
    std::fs::write(&file, "<all well/>").unwrap();
    let file = SourceFile::read(&file).unwrap();
    let places = [place("20261126T233000Z-k3v9", ".coverage/a b\n%.xml"), place("20261126T233000Z-k3v9", "report.xml")];
    for place in places.iter().chain(&[place("20261126T233000Z-k3v99", "report.xml")]) {
        assert_eq!(bucket.artifact(place).await.unwrap(), None);
        bucket.upload_artifact(place, &file, &|_| ()).await.unwrap();
    }
    assert!(matches!(bucket.upload_artifact(&places[1], &file, &|_| ()).await, Err(Error::AlreadyExists { .. })));
    let run: RunPlace = places[0].run.clone();
    let kept: Vec<Artifact> = bucket.artifacts(&run).try_collect().await.unwrap();
    assert_eq!(kept.iter().map(|artifact| artifact.place.clone()).collect::<Vec<_>>(), places);
    assert_eq!((kept[0].size, kept[0].sha256.as_ref()), (11, Some(&file.sha256)));
    assert_eq!(bucket.artifact(&places[1]).await.unwrap().as_ref(), Some(&kept[1]));
    let mut content = bucket.download_artifact(&kept[0]).await.unwrap().unwrap();
    assert_eq!(content.chunk().await.unwrap().as_deref(), Some(&b"<all well/>"[..]));
}

pub(crate) async fn a_release_says_which_run_made_it(world: World) {
    let name: ReleaseName = format!("web/web:dev@ci:2026-11-26T23:30:00Z:{COMMIT}.deb").parse().unwrap();
    let made_by = MadeBy {
        pipeline: "web".parse().unwrap(),
        stage: "candidate".parse().unwrap(),
        run: "acme/20261126T233000Z-k3v9".parse().unwrap(),
    };
    let metadata = ReleaseMetadata { made_by: Some(made_by), ..super::documents::facts() };
    let deb = world.scratch.path().join("web.deb");
    std::fs::write(&deb, "deb").unwrap();
    world.bucket.upload_release(&name, &SourceFile::read(&deb).unwrap(), &metadata, &|_| ()).await.unwrap();
    assert_eq!(world.bucket.release(&name).await.unwrap().unwrap().metadata, Ok(metadata));
}
