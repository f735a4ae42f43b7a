//! Of which app a trial is, as far as that is known before anything runs.

use crate::{
    actions::Action,
    config::Pipeline,
    template::{Piece, Template},
};

/// What the `release` of a trial stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tried<'a> {
    /// What this run publishes of this app.
    App(&'a str),
    /// What no stage of this run publishes: a release that the file names.
    Other,
    /// That turns out when it is its turn.
    Unknown,
}

/// What the `release` of a trial of the stage at this place stands for.
pub(crate) fn tried<'a>(pipeline: &'a Pipeline, mut at: usize, release: &'a Template) -> Tried<'a> {
    let mut release = release;
    // A file with a mistake in it may have values that stand for each other.
    for _ in 0..=pipeline.stages.len() {
        let [Piece::Value { stage, name, .. }] = release.pieces.as_slice() else {
            return if release.as_plain().is_some() { Tried::Other } else { Tried::Unknown };
        };
        if let Some(stage) = stage {
            let Some(found) = pipeline.stages.iter().position(|other| other.name == *stage) else {
                return Tried::Unknown;
            };
            at = found;
        }
        let given = pipeline.stages[at].actions.iter().find_map(|action| match action {
            Action::Publish(publish) if name == "release" => Some(Ok(publish.package.as_str())),
            Action::Exports(exports) => {
                exports.iter().find(|export| export.name == *name).map(|export| Err(&export.value))
            }
            _ => None,
        });
        match given {
            Some(Ok(app)) => return Tried::App(app),
            Some(Err(value)) => release = value,
            None => return Tried::Unknown,
        }
    }
    Tried::Unknown
}
