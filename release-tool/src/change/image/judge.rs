//! Whether an image is promoted, and what is left of that: a pure function of what was read.
//!
//! What decides is what is recorded beside the candidates in the bucket of the releases, and git, as for packages.

use anyhow::{Result, bail};
use bucket::{Change, ChangeId, Commit, Generation, Image, ImageCandidate, RecordedCandidate};

use crate::change::{
    line::Line,
    promotion::{Built, landed},
};

/// What is left to do for one image.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Left {
    /// It gets its tags.
    Tag {
        /// What is recorded of the candidate.
        candidate: Box<ImageCandidate>,
        /// The generation of that.
        generation: Generation,
        /// The commit as which its change landed.
        landed: Commit,
    },
    /// It has them, and nothing is left of the candidate.
    Nothing {
        /// The commit as which it counts.
        landed: Commit,
    },
}

impl Left {
    /// The commit as which it counts.
    pub(crate) fn landed(&self) -> &Commit {
        match self {
            Self::Tag { landed, .. } | Self::Nothing { landed } => landed,
        }
    }
}

/// Whether what is recorded of the image of a commit is this candidate of a change, promoted.
pub(crate) fn is_promoted(image: &Image, id: &ChangeId, digest: &bucket::Sha256) -> bool {
    image.digest == *digest && image.promoted.as_ref().is_some_and(|promoted| promoted.change == *id)
}

/// What is left to do for a candidate that is `recorded` of a change; `candidate` is what is recorded beside it, and `image` what is
/// of the commit as which the change says that it landed.
///
/// # Errors
/// Why it isn't promoted, and what to do.
pub(crate) fn left<'a>(
    (id, change): (&ChangeId, &Change),
    recorded: &RecordedCandidate,
    (candidate, image): (Option<(Generation, ImageCandidate)>, Option<&Image>),
    line: impl FnOnce() -> Result<&'a Line>,
) -> Result<Left> {
    let called = called(recorded);
    let Some((generation, candidate)) = candidate else {
        // The same image may have been published of the merged commit before: then it is recorded as that.
        let is_it = |image: &&Image| {
            is_promoted(image, id, &recorded.sha256) || image.promoted.is_none() && image.digest == recorded.sha256
        };
        return match image.filter(is_it) {
            Some(image) => Ok(Left::Nothing { landed: image.commit.clone() }),
            None => bail!(
                "the candidate `{called}` is gone, and no image was promoted from it: what is left is an image of the merged commit"
            ),
        };
    };
    let ImageCandidate { patchset, commit, tree, base, .. } = &candidate;
    let built = Built { called: &called, patchset: *patchset, commit, tree, base: base.as_ref() };
    let landed = match image.filter(|image| is_promoted(image, id, &recorded.sha256)) {
        // It was found out before, and may be none of the newest commits by now.
        Some(image) => image.commit.clone(),
        None => landed((id, change), &built, line)?,
    };
    Ok(Left::Tag { candidate: Box::new(candidate), generation, landed })
}

/// What an image of a change is called, for people.
pub(crate) fn called(recorded: &RecordedCandidate) -> String {
    let tag = recorded.tag.as_ref().map(ToString::to_string).unwrap_or_default();
    format!("{}:{tag}", recorded.app)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn id() -> ChangeId {
        "web/12".parse().unwrap()
    }

    fn change() -> Change {
        serde_json::from_value(json!({
            "schema": 1, "project": "web", "change": "12", "patchset": 2, "commit": "a".repeat(40), "tree": "e".repeat(40),
            "branch": "main", "needs": [], "state": "merged", "updated": "2026-11-20T19:00:00Z", "by": "dev@x",
        }))
        .unwrap()
    }

    fn recorded() -> RecordedCandidate {
        let release = format!("web/web:dev@ci:2026-11-20T19:05:02Z:{}.deb", "a".repeat(40));
        serde_json::from_value(json!({
            "type": "image", "app": "web", "release": release, "sha256": "07".repeat(32), "size": 3, "tag": "1234",
            "path": format!("candidates/web/12/web/1234@{}.json", "07".repeat(32)), "build": "k3v9", "patchset": 2, "gate": true,
            "at": "2026-11-20T19:05:02Z",
        }))
        .unwrap()
    }

    fn candidate(more: &Value) -> (Generation, ImageCandidate) {
        let mut written = json!({
            "schema": 1, "app": "web", "change": "web/12", "patchset": 2, "commit": "a".repeat(40), "tree": "e".repeat(40),
            "base": "b".repeat(40), "build": "k3v9", "name": "images.example/acme/web", "tag": "1234",
            "digest": format!("sha256:{}", "07".repeat(32)), "media_type": "x", "time": "2026-11-20T19:05:02Z", "who": "dev@x",
        });
        written.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        (Generation(7), serde_json::from_value(written).unwrap())
    }

    fn image(change: &str, digit: &str) -> Image {
        serde_json::from_value(json!({
            "schema": 1, "app": "web", "commit": "c".repeat(40), "name": "images.example/acme/web", "tag": "c".repeat(40),
            "digest": format!("sha256:{}", digit.repeat(32)), "media_type": "x", "time": "2026-11-20T19:05:02Z", "who": "dev@x",
            "promoted": { "change": change, "patchset": 2, "tag": "1234" },
        }))
        .unwrap()
    }

    fn judged(candidate: Option<(Generation, ImageCandidate)>, image: Option<&Image>) -> Result<Left, String> {
        let line = || Err(anyhow::anyhow!("git is asked"));
        left((&id(), &change()), &recorded(), (candidate, image), line).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_recorded_beside_the_candidates_decides_and_then_git() {
        for (more, expected) in [
            (json!({}), "git is asked"),
            (json!({ "patchset": 1 }), "was built of patchset 1, and `web/12` was merged at patchset 2"),
            (json!({ "base": null }), "it is not known what it was built on"),
        ] {
            let refused = judged(Some(candidate(&more)), None).unwrap_err();
            assert!(refused.contains(expected), "{refused}");
        }
    }

    #[test]
    fn what_was_promoted_before_is_known_by_the_record_of_its_image() {
        let (commit, of_it) = ("c".repeat(40).parse::<Commit>().unwrap(), image("web/12", "07"));
        assert_eq!(judged(None, Some(&of_it)), Ok(Left::Nothing { landed: commit.clone() }));
        let left = judged(Some(candidate(&json!({}))), Some(&of_it)).unwrap();
        assert!(matches!(&left, Left::Tag { generation: Generation(7), .. }) && *left.landed() == commit, "{left:?}");
        let published = Image { promoted: None, ..image("web/12", "07") };
        assert_eq!(judged(None, Some(&published)), Ok(Left::Nothing { landed: commit.clone() }));
        for other in [None, Some(&image("web/13", "07")), Some(&image("web/12", "08"))] {
            assert!(judged(None, other).unwrap_err().contains("`web:1234` is gone, and no image was promoted from it"));
            assert_eq!(judged(Some(candidate(&json!({}))), other), Err("git is asked".to_owned()));
        }
    }
}
