//! What an overlay has: for each app the artifact of the nearest change, else that of production. Given what was read, this is
//! a pure function.

use std::{collections::BTreeMap, fmt};

use anyhow::{Result, bail, ensure};
use bucket::{
    Ahead, AppName, ArtifactType, CandidatePlace, Change, ChangeId, ChangeState, ImagePlace, RecordedCandidate,
    ReleaseName, Sha256,
};

use crate::images::take::Taken;

/// What is tried, as far as it was read.
#[derive(Debug)]
pub(crate) struct Tried<'a> {
    /// The change.
    pub(crate) id: &'a ChangeId,
    /// What is recorded of it.
    pub(crate) change: &'a Change,
    /// What is ahead of it.
    pub(crate) ahead: &'a Ahead,
    /// Which types of artifacts are taken from those ahead.
    pub(crate) requires: &'a [ArtifactType],
    /// Whether production counts where a change ahead has nothing to give.
    pub(crate) missing_ok: bool,
}

/// What an overlay has.
#[derive(Debug, PartialEq)]
pub(crate) struct Chosen {
    /// One artifact of each app: those of production, or what replaces them, in production's order, then the others.
    pub(crate) artifacts: Vec<Artifact>,
    /// One image of each app that a change has one of: those of production are read from their registry.
    pub(crate) images: Vec<PickedImage>,
    /// What a person has to know: what was expected to be in it, and is not.
    pub(crate) notes: Vec<String>,
}

/// One artifact of an overlay.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Artifact {
    /// A package that was built from a change.
    Candidate(Picked),
    /// A release as it is in production.
    Production(ReleaseName),
}

/// A candidate, and what it must turn out to be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Picked {
    /// Where it lies.
    pub(crate) place: CandidatePlace,
    /// The patchset that it was built from.
    pub(crate) patchset: u32,
    /// As was recorded.
    pub(crate) sha256: Sha256,
    /// As was recorded, in bytes.
    pub(crate) size: u64,
}

/// An image of a change, and what it must turn out to be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PickedImage {
    /// Where it is recorded.
    pub(crate) place: ImagePlace,
    /// The patchset that it was built from.
    pub(crate) patchset: u32,
    /// The sum of its manifest, as was recorded.
    pub(crate) sha256: Sha256,
}

impl Chosen {
    /// The images, as they are noted in the overlay.
    pub(crate) fn taken(&self) -> Vec<Taken> {
        let taken = |PickedImage { place, patchset, sha256 }: &PickedImage| Taken {
            image: format!("{}:{}", place.app(), place.tag()),
            sha256: sha256.clone(),
            change: place.change().clone(),
            patchset: *patchset,
        };
        self.images.iter().map(taken).collect()
    }
}

impl fmt::Display for PickedImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, patchset, .. } = self;
        let gated = if matches!(place, ImagePlace::Gated { .. }) { ", gated" } else { "" };
        write!(f, "the image {}:{} from {}, patchset {patchset}{gated}", place.app(), place.tag(), place.change())
    }
}

impl Artifact {
    /// The release that it is, or would be.
    pub(crate) fn release(&self) -> &ReleaseName {
        match self {
            Self::Candidate(picked) => picked.place.release(),
            Self::Production(release) => release,
        }
    }
}

impl fmt::Display for Artifact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Candidate(Picked { place, patchset, .. }) => {
                let gated = if matches!(place, CandidatePlace::Gated { .. }) { ", gated" } else { "" };
                write!(f, "{} from {}, patchset {patchset}{gated}", place.release().stem(), place.change())
            }
            Self::Production(release) => write!(f, "{} from production", release.stem()),
        }
    }
}

/// Chooses what an overlay has. `production` are the releases of production that are taken, at most one of each app.
///
/// # Errors
/// When the change is not open, one ahead has nothing to give, two equally near ones have the same app, or one says that its
/// candidates lie where only those of others do.
pub(crate) fn choose(tried: &Tried, production: &[ReleaseName]) -> Result<Chosen> {
    let &Tried { id, change, ahead, requires, missing_ok } = tried;
    ensure!(
        change.state == ChangeState::Open,
        "`{id}` is {}, and only what is open is tried: nothing of it would be in the overlay",
        change.state.as_str()
    );
    let mut notes = ended(ahead);
    if last(change).next().is_none() {
        notes
            .push(format!("`{id}` has no candidate of its last patchset, {}: nothing of it is in it", change.patchset));
    }
    let missing = missing(ahead, requires);
    if !missing_ok && let Some((first, _)) = missing.first() {
        let all: Vec<&str> = missing.iter().map(|(_, lacks)| lacks.as_str()).collect();
        bail!(
            "{}: build what is ahead first, as with `release candidate --change {first}`, or say --missing-ok to take \
             production's",
            all.join("; ")
        );
    }
    notes.extend(missing.into_iter().map(|(_, lacks)| format!("{lacks}: production's counts")));

    let mut nearest = nearest(tried, &ArtifactType::Deb, |id, candidate| {
        let RecordedCandidate { patchset, sha256, size, .. } = candidate;
        Ok(Picked { place: candidate.place(id)?, patchset: *patchset, sha256: sha256.clone(), size: *size })
    })?;
    let images = self::nearest(tried, &ArtifactType::Image, |id, candidate| {
        let RecordedCandidate { patchset, sha256, .. } = candidate;
        Ok(PickedImage { place: candidate.image_place(id)?, patchset: *patchset, sha256: sha256.clone() })
    })?;
    let mut place = |release: &ReleaseName| match nearest.remove(release.app()) {
        Some(picked) => Artifact::Candidate(picked),
        None => Artifact::Production(release.clone()),
    };
    let mut artifacts: Vec<Artifact> = production.iter().map(&mut place).collect();
    artifacts.extend(nearest.into_values().map(Artifact::Candidate));
    Ok(Chosen { artifacts, images: images.into_values().collect(), notes })
}

/// The candidate of the nearest change for each app, of one type of artifacts.
fn nearest<P>(
    tried: &Tried,
    artifact: &ArtifactType,
    picked: impl Fn(&ChangeId, &RecordedCandidate) -> Result<P, String>,
) -> Result<BTreeMap<AppName, P>> {
    let &Tried { id, change, ahead, requires, .. } = tried;
    let ahead = ahead.open.iter().filter(|_| requires.contains(artifact));
    let ahead = ahead.map(|(id, change, steps)| (id, change, *steps));
    let mut nearest = BTreeMap::<AppName, (usize, &ChangeId, P)>::new();
    for (id, change, steps) in std::iter::once((id, change, 0)).chain(ahead) {
        for (app, candidate) in offered(change, artifact) {
            let picked = picked(id, candidate).map_err(|reason| anyhow::anyhow!("{reason}; it is not read"))?;
            match nearest.get(&app) {
                Some((as_near, other, _)) if *as_near == steps => bail!(
                    "`{other}` and `{id}` are equally near and both have a candidate of `{app}`: say by --needs which of \
                     them comes first"
                ),
                Some(_) => {}
                None => drop(nearest.insert(app, (steps, id, picked))),
            }
        }
    }
    Ok(nearest.into_iter().map(|(app, (_, _, picked))| (app, picked)).collect())
}

/// The candidates of a change's last patchset.
fn last(change: &Change) -> impl Iterator<Item = &RecordedCandidate> {
    change.candidates.iter().filter(|candidate| candidate.patchset == change.patchset)
}

/// What a change gives of each app, of one type of artifacts: what is gated before what is not, and of these what was recorded last.
fn offered<'a>(change: &'a Change, artifact: &ArtifactType) -> BTreeMap<AppName, &'a RecordedCandidate> {
    let mut offered = BTreeMap::<AppName, &RecordedCandidate>::new();
    for candidate in last(change).filter(|candidate| candidate.artifact == *artifact) {
        let kept = offered.entry(candidate.app.clone()).or_insert(candidate);
        if candidate.gate || !kept.gate {
            *kept = candidate;
        }
    }
    offered
}

/// What is needed and no longer open: it is in production, or nowhere.
fn ended(ahead: &Ahead) -> Vec<String> {
    let note = |(id, state): &(ChangeId, ChangeState)| {
        format!("`{id}`, which is needed, is {}: production's counts", state.as_str())
    };
    ahead.ended.iter().map(note).collect()
}

/// The changes ahead that have nothing to give, each with what it lacks.
fn missing(ahead: &Ahead, requires: &[ArtifactType]) -> Vec<(ChangeId, String)> {
    if requires.is_empty() {
        return Vec::new();
    }
    let empty = ahead.open.iter().filter(|(_, change, _)| last(change).next().is_none());
    let lacks = |(id, change, _): &(ChangeId, Change, usize)| {
        (id.clone(), format!("`{id}` has no candidate of its last patchset, {}", change.patchset))
    };
    let unknown = ahead.unknown.iter().map(|id| (id.clone(), format!("nothing is known of `{id}`")));
    empty.map(lacks).chain(unknown).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const COMMIT: &str = "7e0ff6059e653eb75a36efb621d0fd66d1ced433";
    const DEB: &[ArtifactType] = &[ArtifactType::Deb];

    fn release(app: &str, minute: u32) -> ReleaseName {
        format!("{app}/{app}:dev@ci:2026-11-20T19:{minute:02}:00Z:{COMMIT}.deb").parse().unwrap()
    }

    fn id(text: &str) -> ChangeId {
        text.parse().unwrap()
    }

    /// A change at patchset 2 with candidates as `app@minute`: with `!` gated, with `~` of patchset 1, with `%` an image.
    fn change(name: &str, candidates: &str) -> Change {
        let id = id(name);
        let candidates = candidates.split_whitespace().map(|text| {
            let (app, minute) = text.trim_end_matches(['!', '~', '%']).split_once('@').unwrap();
            let (release, gate) = (release(app, minute.parse().unwrap()), text.ends_with('!'));
            let is_image = text.ends_with('%');
            let path = match (gate, is_image) {
                (true, _) => format!("candidates/{id}/{release}"),
                (_, true) => format!("builds/{id}/b{minute}/{app}/v{minute}.json"),
                _ => format!("builds/{id}/b{minute}/{release}"),
            };
            json!({
                "type": if is_image { "image" } else { "deb" }, "tag": is_image.then(|| format!("v{minute}")), "app": app, "release": release,
                "sha256": format!("{minute:0>64}"), "size": 3, "path": path, "build": format!("b{minute}"),
                "patchset": if text.ends_with('~') { 1 } else { 2 }, "gate": gate, "at": "2026-11-20T19:00:00Z",
            })
        });
        let candidates: Vec<_> = candidates.collect();
        serde_json::from_value(json!({
            "schema": 1, "project": id.project(), "change": id.change(), "patchset": 2, "commit": COMMIT, "tree": COMMIT,
            "branch": "main", "needs": [], "state": "open", "candidates": candidates,
            "updated": "2026-11-20T19:00:00Z", "by": "dev@ci",
        }))
        .unwrap()
    }

    /// What is chosen for `web/12` with these candidates, those ahead of it (`steps id candidates`), and production.
    fn chosen_by(
        own: &str,
        ahead: &[(usize, &str, &str)],
        production: &[&str],
        wanted: (&[ArtifactType], bool),
    ) -> Result<Chosen> {
        let open = ahead.iter().map(|(steps, name, candidates)| (id(name), change(name, candidates), *steps));
        let ahead = Ahead { open: open.collect(), ended: Vec::new(), unknown: Vec::new() };
        let production: Vec<ReleaseName> = production.iter().map(|app| release(app, 0)).collect();
        let (id, change) = (&id("web/12"), &change("web/12", own));
        choose(&Tried { id, change, ahead: &ahead, requires: wanted.0, missing_ok: wanted.1 }, &production)
    }

    /// The same in short: `app@minute`, with minute 0 for production's, and the changes that it is of.
    fn chosen(own: &str, ahead: &[(usize, &str, &str)], production: &[&str]) -> Result<String, String> {
        let chosen = chosen_by(own, ahead, production, (DEB, false)).map_err(|error| format!("{error:#}"))?;
        Ok(short(&chosen))
    }

    fn short(chosen: &Chosen) -> String {
        let short = |artifact: &Artifact| {
            let of = match artifact {
                Artifact::Candidate(picked) => picked.place.change().to_string(),
                Artifact::Production(_) => "production".to_owned(),
            };
            let minute = artifact.release().time().strftime("%-M").to_string();
            format!("{}@{minute}<{of}", artifact.release().app())
        };
        chosen.artifacts.iter().map(short).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_nearest_counts_for_each_app_and_keeps_its_place() {
        let (near, far) = ((1, "lib/11", "lib@11"), (2, "lib/10", "lib@10 db@10"));
        for (own, ahead, production, expected) in [
            ("", &[][..], &["lib", "web"][..], "lib@0<production web@0<production"),
            ("web@5", &[], &["lib", "web"], "lib@0<production web@5<web/12"),
            ("web@5", &[near], &["web", "lib"], "web@5<web/12 lib@11<lib/11"),
            ("web@5 lib@5", &[near, far], &["lib", "web"], "lib@5<web/12 web@5<web/12 db@10<lib/10"),
            ("", &[near, far], &["cron", "lib"], "cron@0<production lib@11<lib/11 db@10<lib/10"),
            ("web@5", &[], &[], "web@5<web/12"),
        ] {
            assert_eq!(chosen(own, ahead, production).unwrap(), expected, "{own} {ahead:?}");
        }
    }

    #[test]
    fn what_is_gated_counts_before_what_is_not_and_what_was_recorded_last_before_the_rest() {
        for (own, expected) in [
            ("web@1 web@2", "web@2<web/12"),
            ("web@2 web@1", "web@1<web/12"),
            ("web@1! web@2", "web@1<web/12"),
            ("web@1 web@2! web@3", "web@2<web/12"),
            ("web@2! web@1!", "web@1<web/12"),
            ("web@3~ web@1 web@2~", "web@1<web/12"),
            ("web@3% web@1", "web@1<web/12"),
            ("web@3~", "web@0<production"),
        ] {
            assert_eq!(chosen(own, &[], &["web"]).unwrap(), expected, "{own}");
        }
    }

    #[test]
    fn images_of_changes_ahead_are_taken_where_they_are_required() {
        let ahead = [(1, "lib/11", "web@11 web@11% lib@11%"), (2, "lib/10", "lib@10% db@10%")];
        for (own, requires, expected) in [
            ("web@5 web@5%", &[ArtifactType::Image][..], "db:v10<lib/10 lib:v11<lib/11 web:v5<web/12"),
            ("web@5", &[ArtifactType::Image, ArtifactType::Deb], "db:v10<lib/10 lib:v11<lib/11 web:v11<lib/11"),
            ("web@5% web@6%", DEB, "web:v6<web/12"),
            ("", &[], ""),
        ] {
            let chosen = chosen_by(own, &ahead, &["web"], (requires, false)).unwrap();
            let images = chosen
                .images
                .iter()
                .map(|image| format!("{}:{}<{}", image.place.app(), image.place.tag(), image.place.change()));
            assert_eq!(images.collect::<Vec<_>>().join(" "), expected, "{own} {requires:?}");
        }
        let equally = [(1, "lib/11", "lib@11%"), (1, "lib/13", "lib@13%")];
        assert!(
            chosen_by("", &equally, &[], (&[ArtifactType::Image], false))
                .unwrap_err()
                .to_string()
                .contains("equally near")
        );
    }

    #[test]
    fn two_that_are_equally_near_are_named_unless_a_nearer_one_has_the_app() {
        let (one, other) = ((1, "lib/11", "lib@11"), (1, "lib/13", "lib@13"));
        let refused = chosen("web@5", &[one, other], &["web"]).unwrap_err();
        assert!(
            refused.contains("`lib/11` and `lib/13` are equally near and both have a candidate of `lib`"),
            "{refused}"
        );
        assert_eq!(chosen("lib@5", &[one, other], &[]).unwrap(), "lib@5<web/12");
        let further = [one, (2, "lib/13", "lib@13"), (2, "lib/14", "lib@14")];
        assert_eq!(chosen("", &further, &[]).unwrap(), "lib@11<lib/11");
        let apart = [(1, "lib/11", "lib@11"), (1, "db/1", "db@3")];
        assert_eq!(chosen("", &apart, &[]).unwrap(), "db@3<db/1 lib@11<lib/11");
    }

    #[test]
    fn one_ahead_without_a_candidate_of_its_last_patchset_is_an_error_unless_production_may_count() {
        let ahead = [(1, "lib/11", "lib@11~"), (2, "db/1", "")];
        let refused = chosen("web@5", &ahead, &["lib"]).unwrap_err();
        assert!(refused.contains("`lib/11` has no candidate of its last patchset, 2; `db/1` has no"), "{refused}");
        let taken = chosen_by("web@5", &ahead, &["lib"], (DEB, true)).unwrap();
        assert_eq!(short(&taken), "lib@0<production web@5<web/12");
        assert_eq!(taken.notes[0], "`lib/11` has no candidate of its last patchset, 2: production's counts");
    }

    #[test]
    fn only_the_types_that_are_required_are_taken_from_those_ahead() {
        let ahead = [(1, "lib/11", "lib@11 img@3%"), (1, "db/1", "img@4%")];
        assert_eq!(chosen("web@5", &ahead, &["lib"]).unwrap(), "lib@11<lib/11 web@5<web/12");
        let none = chosen_by("web@5", &[(1, "lib/11", "lib@11"), (1, "db/1", "")], &["lib"], (&[], false)).unwrap();
        assert_eq!(short(&none), "lib@0<production web@5<web/12");
    }

    #[test]
    fn what_is_no_longer_open_is_never_in_it_and_that_is_said() {
        let ended = vec![(id("lib/11"), ChangeState::Abandoned), (id("db/1"), ChangeState::Merged)];
        let ahead = Ahead { open: Vec::new(), ended, unknown: Vec::new() };
        let (name, mut own) = (&id("web/12"), change("web/12", "web@5"));
        let tried = |change: &Change, ahead: &Ahead| {
            choose(&Tried { id: name, change, ahead, requires: DEB, missing_ok: false }, &[])
        };
        let notes = tried(&own, &ahead).unwrap().notes;
        assert_eq!(notes[0], "`lib/11`, which is needed, is abandoned: production's counts");
        assert_eq!(notes[1], "`db/1`, which is needed, is merged: production's counts");
        let unknown = Ahead { unknown: vec![id("lib/11")], ..Ahead::default() };
        assert!(tried(&own, &unknown).unwrap_err().to_string().contains("nothing is known of `lib/11`"));
        own.candidates.clear();
        assert!(tried(&own, &Ahead::default()).unwrap().notes[0].contains("nothing of it is in it"));
        own.state = ChangeState::Merged;
        assert!(tried(&own, &Ahead::default()).unwrap_err().to_string().starts_with("`web/12` is merged"));
    }

    #[test]
    fn a_candidate_that_is_said_to_lie_elsewhere_is_refused() {
        let (name, mut own) = (&id("web/12"), change("web/12", "web@5"));
        own.candidates[0].path = format!("builds/web/13/b5/{}", release("web", 5));
        let ahead = &Ahead::default();
        let refused = choose(&Tried { id: name, change: &own, ahead, requires: DEB, missing_ok: false }, &[]);
        let refused = refused.unwrap_err().to_string();
        assert!(
            refused.contains("would lie at `builds/web/12/b5/") && refused.ends_with("it is not read"),
            "{refused}"
        );
    }
}
