//! Any text: what is taken as a run, its place, or the path of an artifact is the text itself and stays below its prefix; any
//! record of a run is read or refused, and can be read again once it was written.

#![no_main]

use bucket::{ArtifactPath, ObjectPath, Run, RunId, RunPlace};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(id) = text.parse::<RunId>() {
        assert_eq!(id.as_str(), text);
        assert!(id.as_str() >= &*id.time().strftime("%Y%m%dT%H%M%SZ").to_string());
    }
    if let Ok(place) = text.parse::<RunPlace>() {
        assert_eq!(place.to_string(), text);
        assert!(format!("runs/{place}.json").parse::<ObjectPath>().is_ok());
    }
    if let Ok(path) = text.parse::<ArtifactPath>() {
        assert_eq!(path.as_str(), text);
        assert!(path.as_str().split('/').all(|segment| !["", ".", ".."].contains(&segment)));
    }
    if let Ok(run) = serde_json::from_str::<Run>(text) {
        let json = serde_json::to_string(&run).expect("a run is JSON");
        let again: Run = serde_json::from_str(&json).expect("what was written is a run");
        assert_eq!((again.place(), again.pipelines.len()), (run.place(), run.pipelines.len()));
    }
});
