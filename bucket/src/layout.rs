//! Where everything lies in a bucket. Nothing outside this crate writes a path.

use std::{fmt, str::FromStr};

use jiff::{Timestamp, civil, tz::TimeZone};

use crate::{
    AppName, BuildId, ChangeId, ChannelName, Commit, ImageTag, NameError, PushId, ReleaseName, RunPlace, ServerName,
    Sha256,
    segment::{escaped, unescaped},
};

/// What marks a directory as a bucket; a bucket of Google's is one by itself.
pub(crate) const MARKER: &str = "push-bucket";
/// Below it, one directory for each app with its releases.
pub(crate) const DEBS: &str = "debs/";
/// Below it, one document for each server.
pub(crate) const SERVER: &str = "server/";
/// Below it, the last report of each server's agent.
pub(crate) const STATUS: &str = "status/";
/// Below it, the document of each server that was retired.
pub(crate) const RETIRED: &str = "retired/";
/// Below it, the holds of each server that has some.
pub(crate) const HOLDS: &str = "holds/";
/// Below it, one directory for each app with one object for each release that is rejected.
pub(crate) const REJECTED: &str = "rejected/";
/// Below it, one directory for each server with one object for each push.
pub(crate) const HISTORY: &str = "history/";
/// Below it, one object for each push, and one for its end.
pub(crate) const PUSHES: &str = "pushes/";
/// Below it, one object for each rollout.
pub(crate) const ROLLOUTS: &str = "rollouts/";
/// Below it, one directory for each app with one object for each channel.
pub(crate) const CHANNELS: &str = "channels/";
/// Below it, one directory for each app with what was seen of each channel.
pub(crate) const CHANNEL_STATES: &str = "channel-state/";
/// Below it, one directory for each app with one object for each commit that there is a container image of.
const IMAGES: &str = "images/";
/// Below it, what the watcher of each machine says of itself.
pub(crate) const WATCHERS: &str = "watchers/";
/// Below it, one directory for each project with one object for each change, in a candidate bucket.
const CHANGES: &str = "changes/";
/// Below it, one directory for each project, in it one for each change, in it one for each build, in a candidate bucket.
pub(crate) const BUILDS: &str = "builds/";
/// Below it, one directory for each project, in it one for each change that is about to be merged.
pub(crate) const CANDIDATES: &str = "candidates/";
/// Below it, one directory for each project with one object for each run of its pipelines.
pub(crate) const RUNS: &str = "runs/";
/// Below it, one directory for each project, in it one for each run, with the files that are kept of it.
pub(crate) const ARTIFACTS: &str = "artifacts/";
/// Below it, one object for each buildset, in a candidate bucket.
pub(crate) const BUILDSETS: &str = "buildsets/";
/// What marks a directory as the overlay of a buildset, which is removed with it.
pub(crate) const OVERLAY: &str = "push-overlay";
/// What follows the name of a push in that of its end.
const END: &str = ".end";
/// How names of objects have a time, to the microsecond, in UTC.
const TIME: &str = "%Y%m%dT%H%M%S.%6fZ";

/// The path of an object, safe as a URL path and as a file's path below a directory.
///
/// At most 1,024 bytes; segments of at most 240 bytes, none empty, none beginning with `.`; no control characters,
/// no backslash.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectPath(String);

impl ObjectPath {
    /// Longest path, in bytes (Google Cloud Storage, "Object names").
    pub const MAX: usize = 1024;
    /// Longest segment, in bytes: a file name's 255 less what a `file://` bucket adds for its side files.
    pub const MAX_SEGMENT: usize = 240;

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ObjectPath {
    type Err = NameError;

    fn from_str(path: &str) -> Result<Self, NameError> {
        let wrong = |reason: &str| Err(NameError::new("object path", path, reason));
        if path.len() > Self::MAX {
            return wrong("it is too long");
        }
        if path.chars().any(|c| c.is_control() || c == '\\') {
            return wrong("it has a control character or a backslash");
        }
        for segment in path.split('/') {
            if segment.is_empty() {
                return wrong("it has an empty segment");
            }
            if segment.starts_with('.') {
                return wrong("a segment begins with `.`");
            }
            if segment.len() > Self::MAX_SEGMENT {
                return wrong("a segment is too long");
            }
        }
        Ok(Self(path.to_owned()))
    }
}

impl fmt::Display for ObjectPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `push-bucket`
pub(crate) fn marker() -> ObjectPath {
    ObjectPath(MARKER.to_owned())
}

/// `debs/{app}/{release}.deb`
pub(crate) fn release(name: &ReleaseName) -> ObjectPath {
    ObjectPath(format!("{DEBS}{name}"))
}

/// `debs/{app}/`, the prefix of an app's releases.
pub(crate) fn releases_of(app: &AppName) -> String {
    format!("{DEBS}{app}/")
}

/// The release that lies at `path`, if it is a release's path.
pub(crate) fn release_at(path: &ObjectPath) -> Option<ReleaseName> {
    path.0.strip_prefix(DEBS)?.parse().ok()
}

/// `server/{name}.json`
pub(crate) fn server(name: &ServerName) -> ObjectPath {
    ObjectPath(format!("{SERVER}{name}.json"))
}

/// The server whose document lies at `path`, if it is a server document's path.
pub(crate) fn server_at(path: &ObjectPath) -> Option<ServerName> {
    path.0.strip_prefix(SERVER)?.strip_suffix(".json")?.parse().ok()
}

/// `status/{name}.json`
pub(crate) fn status(name: &ServerName) -> ObjectPath {
    ObjectPath(format!("{STATUS}{name}.json"))
}

/// The server whose status lies at `path`, if it is a status's path.
pub(crate) fn status_at(path: &ObjectPath) -> Option<ServerName> {
    path.0.strip_prefix(STATUS)?.strip_suffix(".json")?.parse().ok()
}

/// `retired/{name}.json`
pub(crate) fn retired(name: &ServerName) -> ObjectPath {
    ObjectPath(format!("{RETIRED}{name}.json"))
}

/// The server whose retired document lies at `path`, if it is such a path.
pub(crate) fn retired_at(path: &ObjectPath) -> Option<ServerName> {
    path.0.strip_prefix(RETIRED)?.strip_suffix(".json")?.parse().ok()
}

/// `holds/{name}.json`
pub(crate) fn holds(name: &ServerName) -> ObjectPath {
    ObjectPath(format!("{HOLDS}{name}.json"))
}

/// The server whose holds lie at `path`, if it is such a path.
pub(crate) fn holds_at(path: &ObjectPath) -> Option<ServerName> {
    path.0.strip_prefix(HOLDS)?.strip_suffix(".json")?.parse().ok()
}

/// `halt.json`
pub(crate) fn halt() -> ObjectPath {
    ObjectPath("halt.json".to_owned())
}

/// `rejected/{app}/{release}.json`
pub(crate) fn rejected(name: &ReleaseName) -> ObjectPath {
    ObjectPath(format!("{}{}.json", rejected_of(name.app()), name.stem()))
}

/// `rejected/{app}/`, the prefix of an app's rejections.
pub(crate) fn rejected_of(app: &AppName) -> String {
    format!("{REJECTED}{app}/")
}

/// The release whose rejection lies at `path`, if it is a rejection's path.
pub(crate) fn rejected_at(path: &ObjectPath) -> Option<ReleaseName> {
    let (app, file) = path.0.strip_prefix(REJECTED)?.split_once('/')?;
    let release = ReleaseName::from_stem(file.strip_suffix(".json")?).ok()?;
    (release.app().as_str() == app).then_some(release)
}

/// `history/{name}/`, the prefix of a server's history.
pub(crate) fn history_of(name: &ServerName) -> String {
    format!("{HISTORY}{name}/")
}

/// `history/{name}/{time}-{id}.json`: in a listing, oldest first.
pub(crate) fn history(name: &ServerName, at: Timestamp, id: &str) -> ObjectPath {
    ObjectPath(format!("{HISTORY}{name}/{}-{id}.json", time(at)))
}

/// `pushes/{time}-{id}.json`: in a listing, oldest first.
pub(crate) fn push(at: Timestamp, id: &PushId) -> ObjectPath {
    ObjectPath(format!("{PUSHES}{}-{id}.json", time(at)))
}

/// `pushes/{time}-{id}.end.json`
pub(crate) fn push_end(at: Timestamp, id: &PushId) -> ObjectPath {
    ObjectPath(format!("{PUSHES}{}-{id}{END}.json", time(at)))
}

/// The time and the ID of the push whose object lies at `path`, and whether it is that of its end.
pub(crate) fn push_at(path: &ObjectPath) -> Option<(Timestamp, PushId, bool)> {
    let name = path.0.strip_prefix(PUSHES)?.strip_suffix(".json")?;
    let (name, is_end) = name.strip_suffix(END).map_or((name, false), |name| (name, true));
    let (time, id) = name.split_once('-')?;
    let time = civil::DateTime::strptime("%Y%m%dT%H%M%S%.fZ", time).ok()?.to_zoned(TimeZone::UTC).ok()?;
    Some((time.timestamp(), id.parse().ok()?, is_end))
}

/// `rollouts/{id}.json`
pub(crate) fn rollout(id: &PushId) -> ObjectPath {
    ObjectPath(format!("{ROLLOUTS}{id}.json"))
}

/// The ID of the rollout whose object lies at `path`, if it is a rollout's path.
pub(crate) fn rollout_at(path: &ObjectPath) -> Option<PushId> {
    path.0.strip_prefix(ROLLOUTS)?.strip_suffix(".json")?.parse().ok()
}

/// `changes/{project}/{id}.json`
pub(crate) fn change(id: &ChangeId) -> ObjectPath {
    ObjectPath(format!("{CHANGES}{}/{}.json", id.project(), id.change()))
}

/// Below it lie the changes of a project, or of all.
pub(crate) fn changes_of(project: Option<&str>) -> String {
    project.map_or_else(|| CHANGES.to_owned(), |project| format!("{CHANGES}{project}/"))
}

/// The change that lies at `path`, if it is a change's path.
pub(crate) fn change_at(path: &ObjectPath) -> Option<ChangeId> {
    path.0.strip_prefix(CHANGES)?.strip_suffix(".json")?.parse().ok()
}

/// `builds/{project}/{id}/{build}/{app}/{release}.deb`
pub(crate) fn built(change: &ChangeId, build: &BuildId, release: &ReleaseName) -> ObjectPath {
    ObjectPath(format!("{BUILDS}{change}/{build}/{release}"))
}

/// The candidate of an ungated build that lies at `path`, if it is such a path.
pub(crate) fn built_at(path: &ObjectPath) -> Option<(ChangeId, BuildId, ReleaseName)> {
    let (project, rest) = path.0.strip_prefix(BUILDS)?.split_once('/')?;
    let (change, rest) = rest.split_once('/')?;
    let (build, release) = rest.split_once('/')?;
    Some((ChangeId::new(project, change).ok()?, build.parse().ok()?, release.parse().ok()?))
}

/// `candidates/{project}/{id}/{app}/{release}.deb`
pub(crate) fn gated(change: &ChangeId, release: &ReleaseName) -> ObjectPath {
    ObjectPath(format!("{CANDIDATES}{change}/{release}"))
}

/// The gated candidate that lies at `path`, if it is such a path.
pub(crate) fn gated_at(path: &ObjectPath) -> Option<(ChangeId, ReleaseName)> {
    let (project, rest) = path.0.strip_prefix(CANDIDATES)?.split_once('/')?;
    let (change, release) = rest.split_once('/')?;
    Some((ChangeId::new(project, change).ok()?, release.parse().ok()?))
}

/// `builds/{project}/{id}/{build}/{app}/{tag}.json`
pub(crate) fn built_image(change: &ChangeId, build: &BuildId, app: &AppName, tag: &ImageTag) -> ObjectPath {
    ObjectPath(format!("{BUILDS}{change}/{build}/{app}/{tag}.json"))
}

/// The image of an ungated build that is recorded at `path`, if it is such a path.
pub(crate) fn built_image_at(path: &ObjectPath) -> Option<(ChangeId, BuildId, AppName, ImageTag)> {
    let (project, rest) = path.0.strip_prefix(BUILDS)?.split_once('/')?;
    let (change, rest) = rest.split_once('/')?;
    let (build, rest) = rest.split_once('/')?;
    let (app, tag) = rest.strip_suffix(".json")?.split_once('/')?;
    Some((ChangeId::new(project, change).ok()?, build.parse().ok()?, app.parse().ok()?, tag.parse().ok()?))
}

/// `candidates/{project}/{id}/{app}/{tag}@{digest}.json`
pub(crate) fn gated_image(change: &ChangeId, app: &AppName, tag: &ImageTag, digest: &Sha256) -> ObjectPath {
    ObjectPath(format!("{CANDIDATES}{change}/{app}/{tag}@{digest}.json"))
}

/// The gated image that is recorded at `path`, if it is such a path.
pub(crate) fn gated_image_at(path: &ObjectPath) -> Option<(ChangeId, AppName, ImageTag, Sha256)> {
    let (project, rest) = path.0.strip_prefix(CANDIDATES)?.split_once('/')?;
    let (change, rest) = rest.split_once('/')?;
    let (app, image) = rest.strip_suffix(".json")?.split_once('/')?;
    let (tag, digest) = image.split_once('@')?;
    Some((ChangeId::new(project, change).ok()?, app.parse().ok()?, tag.parse().ok()?, digest.parse().ok()?))
}

/// `push-overlay`
pub(crate) fn overlay() -> ObjectPath {
    ObjectPath(OVERLAY.to_owned())
}

/// `buildsets/{id}.json`
pub(crate) fn buildset(id: &BuildId) -> ObjectPath {
    ObjectPath(format!("{BUILDSETS}{id}.json"))
}

/// The buildset that lies at `path`, if it is a buildset's path.
pub(crate) fn buildset_at(path: &ObjectPath) -> Option<BuildId> {
    path.0.strip_prefix(BUILDSETS)?.strip_suffix(".json")?.parse().ok()
}

/// `runs/{project}/{run}.json`: in a listing, oldest first.
pub(crate) fn run(place: &RunPlace) -> ObjectPath {
    ObjectPath(format!("{RUNS}{place}.json"))
}

/// `runs/{project}/`, the prefix of a project's runs.
pub(crate) fn runs_of(project: &str) -> String {
    format!("{RUNS}{project}/")
}

/// The run that lies at `path`, if it is a run's path.
pub(crate) fn run_at(path: &ObjectPath) -> Option<RunPlace> {
    path.0.strip_prefix(RUNS)?.strip_suffix(".json")?.parse().ok()
}

/// `artifacts/{project}/{run}/{pipeline}/{stage}/{path}`: a file of a run below those names, each escaped.
pub(crate) fn artifact<'a>(run: &RunPlace, names: impl Iterator<Item = &'a str>) -> ObjectPath {
    let names: Vec<String> = names.map(escaped).collect();
    ObjectPath(artifacts_of(run) + &names.join("/"))
}

/// `artifacts/{project}/{run}/`, the prefix of the files that are kept of a run.
pub(crate) fn artifacts_of(run: &RunPlace) -> String {
    format!("{ARTIFACTS}{run}/")
}

/// The run whose file lies at `path`, and the names below which it does, if it is such a path.
pub(crate) fn artifact_at(path: &ObjectPath) -> Option<(RunPlace, Vec<String>)> {
    let mut segments = path.0.strip_prefix(ARTIFACTS)?.split('/');
    let run = RunPlace::new(segments.next()?, segments.next()?.parse().ok()?).ok()?;
    Some((run, segments.map(unescaped).collect::<Option<_>>()?))
}

/// `channels/{app}/{channel}.json`
pub(crate) fn channel(app: &AppName, channel: &ChannelName) -> ObjectPath {
    ObjectPath(format!("{CHANNELS}{app}/{channel}.json"))
}

/// The channel whose object lies at `path`, if it is a channel's path.
pub(crate) fn channel_at(path: &ObjectPath) -> Option<(AppName, ChannelName)> {
    of_channel(path, CHANNELS)
}

/// `channel-state/{app}/{channel}.json`
pub(crate) fn channel_state(app: &AppName, channel: &ChannelName) -> ObjectPath {
    ObjectPath(format!("{CHANNEL_STATES}{app}/{channel}.json"))
}

/// The channel of which what was seen lies at `path`, if it is such a path.
pub(crate) fn channel_state_at(path: &ObjectPath) -> Option<(AppName, ChannelName)> {
    of_channel(path, CHANNEL_STATES)
}

fn of_channel(path: &ObjectPath, prefix: &str) -> Option<(AppName, ChannelName)> {
    let (app, channel) = path.0.strip_prefix(prefix)?.strip_suffix(".json")?.split_once('/')?;
    Some((app.parse().ok()?, channel.parse().ok()?))
}

/// `images/{app}/{commit}.json`
pub(crate) fn image(app: &AppName, commit: &Commit) -> ObjectPath {
    ObjectPath(format!("{IMAGES}{app}/{commit}.json"))
}

/// `images/{app}/`, the prefix of an app's images.
pub(crate) fn images_of(app: &AppName) -> String {
    format!("{IMAGES}{app}/")
}

/// The commit whose image lies at `path`, and its app, if it is an image's path.
pub(crate) fn image_at(path: &ObjectPath) -> Option<(AppName, Commit)> {
    let (app, commit) = path.0.strip_prefix(IMAGES)?.strip_suffix(".json")?.split_once('/')?;
    Some((app.parse().ok()?, commit.parse().ok()?))
}

/// `watchers/{host}.json`
pub(crate) fn watcher(host: &ServerName) -> ObjectPath {
    ObjectPath(format!("{WATCHERS}{host}.json"))
}

/// The machine whose watcher's report lies at `path`, if it is such a path.
pub(crate) fn watcher_at(path: &ObjectPath) -> Option<ServerName> {
    path.0.strip_prefix(WATCHERS)?.strip_suffix(".json")?.parse().ok()
}

/// A time as names of objects have it: they sort by it.
pub(crate) fn time(time: Timestamp) -> String {
    time.to_zoned(TimeZone::UTC).strftime(TIME).to_string()
}
