//! Holds: somebody works on a server, and nobody else's push touches it until then. A hold binds whoever writes, not the
//! agent, and guards against mistakes: names on a command line are no proof.
//!
//! The agent is told of it in its document's metadata, for the people on its machine. What it is told binds nobody.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use bucket::{
    AppName, Bucket, DocumentMetadata, Error, Generation, HeldTrial, Hold, Holds, ServerName, Timestamp, ToldHold,
};
use futures_util::{StreamExt, stream};
use jiff::SignedDuration;
use thiserror::Error;

use crate::{
    identity::Identity,
    policy::{Policy, Role},
    reason::ensure_short,
    server::{Reading, Server},
};

/// The longest hold.
pub const MAX: SignedDuration = SignedDuration::from_hours(30 * 24);

/// The hold of who is on it for a moment.
pub const USUAL: SignedDuration = SignedDuration::from_hours(2);

/// How often a write is repeated because somebody else wrote.
const MAX_WRITES: u32 = 10;

/// Servers whose holds are read at the same time.
const AT_ONCE: usize = 16;

/// The holds of the servers that have some, and of which generation they are. What can't be read binds everybody.
pub type AllHolds = BTreeMap<ServerName, (Generation, Reading<Holds>)>;

/// Holds that were set or have ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// Those.
    pub holds: Vec<Hold>,
    /// Why the agent could not be told. They count all the same.
    pub untold: Option<Untold>,
}

/// The agent could not be told of the holds on its server.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "the agent of `{server}` was not told, so `pulld status` may be wrong about holds there; they bind all the same: {why}"
)]
pub struct Untold {
    server: ServerName,
    why: String,
}

/// A server is on hold.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "nothing was written: {what} on hold on `{server}` by `{by}` until {until}: {why}; `push resume {server}` ends that, and \
     `--held` pushes there whoever set it",
    what = .hold.app.as_ref().map_or("everything is".to_owned(), |app| format!("`{app}` is")),
    by = console::safe(&.hold.by), until = .hold.until, why = console::safe(&.hold.why)
)]
pub struct OnHold {
    /// The server.
    pub server: ServerName,
    /// The hold.
    pub hold: Hold,
}

/// Whether a hold keeps somebody from pushing an app to a server, or from retiring it, without an app. `held` is said by
/// who pushes in spite of their own hold.
///
/// # Errors
/// Which one does.
pub fn judge(
    holds: &Holds,
    server: &ServerName,
    app: Option<&AppName>,
    who: &str,
    held: bool,
    now: Timestamp,
) -> Result<(), Box<OnHold>> {
    let mut binding = holds.in_force(app, now).filter(|hold| !held || hold.by != who);
    match binding.next() {
        Some(first) => Err(Box::new(OnHold { server: server.clone(), hold: first.clone() })),
        None => Ok(()),
    }
}

/// Why a server isn't free for a push.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotFree {
    /// A hold binds whoever pushes.
    #[error(transparent)]
    OnHold(#[from] Box<OnHold>),
    /// Nobody knows.
    #[error("could not read whether `{server}` is on hold: {why}")]
    Unreadable {
        /// The server.
        server: ServerName,
        /// Why its holds can't be read.
        why: String,
    },
}

/// The same, among the holds of all servers as they were read.
///
/// # Errors
/// Which one does, or that it can't be read.
pub fn judge_among(
    all: &AllHolds,
    server: &ServerName,
    app: Option<&AppName>,
    who: &str,
    held: bool,
    now: Timestamp,
) -> Result<(), NotFree> {
    match all.get(server) {
        Some((_, Reading::Known(holds))) => Ok(judge(holds, server, app, who, held, now)?),
        Some((_, Reading::Unreadable(why))) => Err(NotFree::Unreadable { server: server.clone(), why: why.clone() }),
        Some((_, Reading::Absent)) | None => Ok(()),
    }
}

/// What a hold is, in a line: `web is on hold by dev, expires in 2 h: debugging`. That of a trial says what is tried.
pub fn in_words(hold: &Hold, now: Timestamp) -> String {
    let what = match (&hold.app, &hold.trial) {
        (_, Some(trial)) => format!("`{}` is tried, and on hold", trial.release.stem()),
        (Some(app), None) => format!("{app} is on hold"),
        (None, None) => "on hold".to_owned(),
    };
    let left = console::age(hold.until.duration_since(now));
    let why = if hold.why.is_empty() { String::new() } else { format!(": {}", console::safe(&hold.why)) };
    format!("{what} by {}, expires in {left}{why}", console::safe(&hold.by))
}

/// The trials that were left over on a server, each in a line: their hold is over, and the document still names what was tried.
pub fn left_over(holds: &Reading<Holds>, server: &Server, now: Timestamp) -> Vec<String> {
    let left_over = holds.known().into_iter().flat_map(|holds| holds.left_over(now));
    let is_there = |trial: &HeldTrial| server.desired(trial.release.app()) == Some(&trial.release);
    let words = left_over.filter(|(_, trial)| is_there(trial)).map(|(hold, HeldTrial { push, release, .. })| {
        let (by, ago) = (console::safe(&hold.by), console::ago(now.duration_since(hold.until)));
        format!(
            "`{}` is left over of a trial by {by}, which was to be over {ago}: {}; the next trial on this server puts back what \
             was there before, or `push undo {push}` does now",
            release.stem(),
            console::safe(&hold.why)
        )
    });
    words.collect()
}

/// What a list says of a server's holds, if there are some: `on hold, expires in 2 h`, `web on hold, expires in 2 h`. Of several
/// one of the whole server, and else the one that lasts longest; that they can't be read is one.
pub fn in_short(holds: &Reading<Holds>, now: Timestamp) -> Option<String> {
    if holds.error().is_some() {
        return Some("on hold, as far as that can be read".to_owned());
    }
    let last = holds.known()?.in_force(None, now).max_by_key(|hold| (hold.app.is_none(), hold.until))?;
    let state = if last.trial.is_some() { "on trial" } else { "on hold" };
    let what = last.app.as_ref().map_or(state.to_owned(), |app| format!("{app} {state}"));
    Some(format!("{what}, expires in {}", console::age(last.until.duration_since(now))))
}

/// Reads the holds of all servers that have some; what is `known` of the same generation isn't read again.
///
/// # Errors
/// When they can't be listed.
pub async fn all(bucket: &Bucket, known: &AllHolds) -> Result<AllHolds> {
    let listed = bucket.held_servers().await.context("could not list the holds")?;
    let read = stream::iter(listed).map(async |(server, generation)| {
        let known = known.get(&server).filter(|(seen, holds)| *seen == generation && holds.error().is_none());
        let holds = match known {
            Some((_, holds)) => holds.clone(),
            None => bucket.holds(&server).await.map(|found| found.map(|(_, holds)| holds)).into(),
        };
        (server, (generation, holds))
    });
    Ok(read.buffer_unordered(AT_ONCE).collect().await)
}

/// Whether somebody may set and end holds on a server: a deployer of the app there, or of all of its apps.
///
/// # Errors
/// That they may not.
pub fn may_hold(policy: &Policy, who: &Identity, server: &Server, app: Option<&AppName>) -> Result<()> {
    let least = match app {
        Some(app) => Some(policy.role(who, app, &server.name)),
        None => server.releases().map(|release| policy.role(who, release.app(), &server.name)).min(),
    };
    ensure!(
        least.unwrap_or(policy.highest_role(who)) >= Role::Deployer,
        "`{}` may not set or end holds on `{}`: that takes the role `deployer` for what is held there",
        who.name,
        server.name
    );
    Ok(())
}

/// Puts a server, or one app there, on hold for so long, and tells its agent; an earlier hold of the same operator on the same
/// is replaced.
///
/// # Errors
/// When that is too long, or it can't be written.
pub async fn hold(
    bucket: &Bucket,
    who: &Identity,
    server: &ServerName,
    app: Option<&AppName>,
    (lasts, why): (SignedDuration, &str),
) -> Result<Changed> {
    ensure_short(why)?;
    ensure!(lasts.is_positive() && lasts <= MAX, "a hold lasts at most {} days", MAX.as_hours() / 24);
    let at = bucket.now();
    let until = at.checked_add(lasts).context("the hold ends too late")?;
    let new = Hold {
        app: app.cloned(),
        by: who.name.clone(),
        why: why.to_owned(),
        at,
        until,
        trial: None,
        other: serde_json::Map::new(),
    };
    let write = |holds: &mut Holds| {
        holds.holds.retain(|hold| hold.app != new.app || hold.by != new.by || hold.trial.is_some());
        holds.holds.push(new.clone());
    };
    change(bucket, server, write).await?;
    Ok(Changed { untold: untold(bucket, server).await, holds: vec![new] })
}

/// Ends the holds of an app on a server, or all holds there, whoever set them, and tells its agent. Gives those that were in
/// force. What a trial replaced is still known then, so that it can be put back.
///
/// # Errors
/// When that can't be written.
pub async fn resume(bucket: &Bucket, server: &ServerName, app: Option<&AppName>) -> Result<Changed> {
    let mut ended = Vec::new();
    let now = bucket.now();
    let write = |holds: &mut Holds| {
        let (gone, mut left): (Vec<Hold>, Vec<Hold>) =
            std::mem::take(&mut holds.holds).into_iter().partition(|hold| app.is_none() || hold.app.as_ref() == app);
        let trials = gone.iter().filter(|hold| hold.trial.is_some());
        left.extend(trials.map(|hold| Hold { until: hold.until.min(now), ..hold.clone() }));
        (ended, holds.holds) = (gone, left);
        ended.retain(|hold| hold.until > now);
    };
    change(bucket, server, write).await?;
    Ok(Changed { untold: untold(bucket, server).await, holds: ended })
}

/// Reads, changes and writes the holds of a server, over the generation that was read. Those that are over go, except that of a
/// trial: whoever has put back what was there before takes it away.
pub(crate) async fn change(bucket: &Bucket, server: &ServerName, mut write: impl FnMut(&mut Holds)) -> Result<()> {
    for _ in 0..MAX_WRITES {
        let read = bucket.holds(server).await.with_context(|| format!("could not read the holds of `{server}`"))?;
        let (seen, before) = read.map_or((None, Holds::default()), |(seen, holds)| (Some(seen), holds));
        let mut holds = before.clone();
        write(&mut holds);
        let now = bucket.now();
        holds.holds.retain(|hold| hold.until > now || hold.trial.is_some());
        if holds == before {
            return Ok(());
        }
        match bucket.write_holds(server, &holds, seen).await {
            Ok(_) => return Ok(()),
            Err(Error::Conflict { .. } | Error::AlreadyExists { .. }) => {}
            Err(error) => return Err(error).with_context(|| format!("could not write the holds of `{server}`")),
        }
    }
    bail!("the holds of `{server}` changed {MAX_WRITES} times while they were being written: try again")
}

/// Tells the agent of a server of the holds there, or gives why that failed.
pub(crate) async fn untold(bucket: &Bucket, server: &ServerName) -> Option<Untold> {
    let error = tell(bucket, server).await.err()?;
    Some(Untold { server: server.clone(), why: format!("{error:#}") })
}

/// Has a server's document tell of the holds that are in force, and say what it said before. The holds are read after the
/// document that is written over: of two who tell at the same time, the later one tells of what both have written.
async fn tell(bucket: &Bucket, server: &ServerName) -> Result<()> {
    for _ in 0..MAX_WRITES {
        let Some(document) = bucket.document_object(server).await? else { return Ok(()) };
        let holds = bucket.holds(server).await?.map(|(_, holds)| holds).unwrap_or_default();
        let mut in_force: Vec<ToldHold> = holds.in_force(None, bucket.now()).map(ToldHold::from).collect();
        in_force.reverse();
        let before = DocumentMetadata::from(document.metadata.clone());
        let told = before.holds();
        let after = before.telling(&in_force, document.generation);
        if after.holds() == told {
            return Ok(());
        }
        match bucket.write_document_metadata(server, document, &after).await {
            Ok(_) => return Ok(()),
            Err(Error::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    bail!("its document changed {MAX_WRITES} times meanwhile")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::condition::tests::now;

    fn on_hold(app: Option<&str>, by: &str, hours: i64) -> Hold {
        Hold {
            app: app.map(|app| app.parse().unwrap()),
            by: by.to_owned(),
            why: "debugging".to_owned(),
            at: now(),
            until: now() + SignedDuration::from_hours(hours),
            trial: None,
            other: serde_json::Map::new(),
        }
    }

    #[test]
    fn a_hold_binds_everybody_until_it_ends_and_who_set_it_unless_they_say_so() {
        let server: ServerName = "web-1".parse().unwrap();
        let (web, api): (AppName, AppName) = ("web".parse().unwrap(), "api".parse().unwrap());
        let web_held = Holds { holds: vec![on_hold(Some("web"), "dev", 2)], ..Holds::default() };
        let all_held = Holds { holds: vec![on_hold(None, "dev", 2)], ..Holds::default() };
        let both = Holds { holds: vec![on_hold(None, "dev", 2), on_hold(Some("web"), "ops", 2)], ..Holds::default() };
        let later = now() + SignedDuration::from_hours(2);
        for (case, holds, app, who, held, time, want) in [
            ("another's push of that app", &web_held, Some(&web), "ops", false, now(), false),
            ("another who says so", &web_held, Some(&web), "ops", true, now(), false),
            ("its own without a word", &web_held, Some(&web), "dev", false, now(), false),
            ("its own with it", &web_held, Some(&web), "dev", true, now(), true),
            ("another app", &web_held, Some(&api), "ops", false, now(), true),
            ("a retirement, whatever is held", &web_held, None, "ops", false, now(), false),
            ("all apps", &all_held, Some(&api), "ops", false, now(), false),
            ("a second one holds on", &both, Some(&web), "dev", true, now(), false),
            ("it has ended", &all_held, Some(&web), "ops", false, later, true),
        ] {
            assert_eq!(judge(holds, &server, app, who, held, time).is_ok(), want, "{case}");
        }
        let told = judge(&web_held, &server, Some(&web), "ops", false, now()).unwrap_err().to_string();
        assert!(told.contains("`web` is on hold on `web-1` by `dev` until") && told.contains(": debugging;"), "{told}");
        assert_eq!(in_words(&web_held.holds[0], now()), "web is on hold by dev, expires in 2 h: debugging");
    }

    #[test]
    fn a_list_says_what_is_on_hold_and_for_how_long() {
        let of = |holds: Vec<Hold>| Reading::Known(Holds { holds, ..Holds::default() });
        for (holds, want) in [
            (of(vec![]), None),
            (of(vec![on_hold(None, "dev", 0)]), None),
            (of(vec![on_hold(Some("web"), "dev", 2)]), Some("web on hold, expires in 2 h")),
            (of(vec![on_hold(None, "dev", 2), on_hold(Some("web"), "ops", 30)]), Some("on hold, expires in 2 h")),
            (of(vec![on_hold(None, "dev", 2), on_hold(None, "ops", 5)]), Some("on hold, expires in 5 h")),
            (Reading::Absent, None),
            (Reading::Unreadable("malformed".to_owned()), Some("on hold, as far as that can be read")),
        ] {
            assert_eq!(in_short(&holds, now()).as_deref(), want, "{holds:?}");
        }
    }
}
