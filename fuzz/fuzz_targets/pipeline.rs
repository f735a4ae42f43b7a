//! Any text: a file of pipelines is read or refused, each mistake with a place in it; what was read has an order without circles, in
//! which all stages can run.

#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use pipeline::{Action, Known, read};

fuzz_target!(|text: &str| {
    let known = Known { project: Some("web"), packages: &["web"], chosen: &[], allowed: &Action::ALL, require_trial: false, leads: &|_| Ok(pipeline::Leads::Directory), refused: &|_| Vec::new() };
    // Each half is read as the other file, too.
    let (config, variants) = text.split_once("\n---\n").unwrap_or((text, text));
    match read(config.as_bytes(), &known, |_| Ok(variants.as_bytes().to_vec())) {
        Err(problems) => {
            assert!(!problems.is_empty());
            assert!(problems.iter().all(|problem| !problem.text.is_empty() && problem.place.line > 0));
        }
        Ok(checked) => {
            for pipeline in &checked.pipelines.pipelines {
                let mut passed = BTreeSet::new();
                while passed.len() < pipeline.stages.len() {
                    let ready = |stage: &usize| !passed.contains(stage) && pipeline.order.after(*stage).is_subset(&passed);
                    let ready = (0..pipeline.stages.len()).find(ready).expect("a stage can begin");
                    passed.insert(ready);
                }
            }
        }
    }
});
