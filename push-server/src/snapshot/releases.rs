//! The releases of one app, newest first, in little memory.
//!
//! A fleet has a million releases, and pages show a hundred: so a release is a row of numbers here, about 140 bytes with
//! its commit and note, and becomes a [`Listed`] with a name only when it is looked at.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap, HashSet},
    fmt::Write as _,
};

use bucket::{AppName, Commit, PassedOver, Promoted, Release, ReleaseName, Timestamp};

/// The releases of one app, in order of their age. Immutable; [`AppReleases::with`] makes another.
#[derive(Debug, Clone, Default)]
pub struct AppReleases {
    app: Option<AppName>,
    /// Newest first: by when they were uploaded, and else in the order of [`ReleaseName`].
    rows: Vec<Row>,
    /// Where they are, in the reverse order of [`ReleaseName`].
    by_name: Vec<u32>,
    /// Commits and notes of the rows, one after the other.
    texts: String,
    /// What many releases have in common: builders, repositories, branches, reasons. The first is empty.
    words: Vec<Box<str>>,
    /// Those that were candidates, by where their commits begin in `texts`.
    promoted: HashMap<usize, Promoted>,
    /// Where the newest release is that may be chosen for being that.
    latest: Option<usize>,
    /// Where the last release of each builder is by its name, the last of these first.
    tips: Vec<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Row {
    time: Moment,
    uploaded: Moment,
    size: u64,
    /// Where in `texts` the commit begins; the note follows it.
    text: usize,
    note: u32,
    /// `user@host`, in `words`, as are the next three.
    builder: u32,
    repo: u32,
    branch: u32,
    unusable: u32,
    commit: u8,
    dirty: bool,
    mark: Option<Mark>,
}

/// A moment to the microsecond, in half the room of a [`Timestamp`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Moment(i64);

impl Moment {
    fn of(time: Timestamp) -> Self {
        Self(time.as_microsecond())
    }

    fn timestamp(self) -> Timestamp {
        Timestamp::from_microsecond(self.0).expect("it was made of one")
    }
}

/// Why a clean release isn't chosen for being the newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Its name has a time after its upload.
    FromTheFuture,
    /// It was made from a release of the original system.
    Adopted,
}

/// One release, as lists show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<'a> {
    /// Its name.
    pub name: ReleaseName,
    /// When it was uploaded, by the bucket's clock.
    pub uploaded: Timestamp,
    /// Size of the object in bytes, by the bucket.
    pub size: u64,
    /// Why it isn't chosen for being the newest, though it is clean and can be deployed.
    pub mark: Option<Mark>,
    /// That it was a candidate, if it was.
    pub promoted: Option<&'a Promoted>,
    /// Whether it was built with uncommitted changes.
    pub dirty: bool,
    /// Why it was built.
    pub note: &'a str,
    /// URL of the repository's origin; empty when it has none.
    pub repo: &'a str,
    /// The branch it was built from; empty when none.
    pub branch: &'a str,
    /// Why nothing more is known of it, and it can't be deployed: its metadata is missing or unreadable.
    pub unusable: Option<&'a str>,
}

impl Listed<'_> {
    /// The commit that it counts as: the one as which its change landed, else the one that it was built from.
    pub fn commit(&self) -> &Commit {
        self.promoted.map_or_else(|| self.name.commit(), |promoted| &promoted.landed)
    }
}

/// Some releases of an app, newest first. To skip and to count costs next to nothing: only what comes out gets a name.
struct Newest<'a, I> {
    releases: &'a AppReleases,
    rows: I,
}

impl<'a, I: Iterator<Item = &'a Row>> Iterator for Newest<'a, I> {
    type Item = Listed<'a>;

    fn next(&mut self) -> Option<Listed<'a>> {
        self.rows.next().map(|row| self.releases.listed(row))
    }

    fn nth(&mut self, n: usize) -> Option<Listed<'a>> {
        self.rows.nth(n).map(|row| self.releases.listed(row))
    }

    fn count(self) -> usize {
        self.rows.count()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.rows.size_hint()
    }
}

impl AppReleases {
    /// Of these releases of one app, in any order.
    pub fn new(releases: Vec<Release>) -> Self {
        let mut gathered = Gathered::default();
        gathered.extend(releases);
        gathered.done()
    }

    /// These and some more.
    pub(super) fn with(&self, more: Vec<Release>) -> Self {
        let words = self.words.iter().zip(0..).map(|(word, index)| (word.clone(), index)).collect();
        let mut gathered = Gathered { releases: self.clone(), words };
        gathered.extend(more);
        gathered.done()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The releases, newest first.
    pub fn newest(&self) -> impl Iterator<Item = Listed<'_>> {
        Newest { releases: self, rows: self.rows.iter() }
    }

    /// Those that have all of `words` in their name, note or branch, whatever the case, newest first. An index of them
    /// isn't kept: ten thousand are looked through in a few milliseconds.
    pub fn found(&self, words: &[String]) -> impl Iterator<Item = Listed<'_>> {
        let words: Vec<String> = words.iter().map(|word| word.to_lowercase()).collect();
        let mut text = String::new();
        let matches = move |row: &&Row| {
            if words.is_empty() {
                return true;
            }
            text.clear();
            self.write_stem(row, &mut text);
            let _ = write!(text, " {} {}", self.note(row), self.word(row.branch));
            let text = text.to_lowercase();
            words.iter().all(|word| text.contains(word))
        };
        Newest { releases: self, rows: self.rows.iter().filter(matches) }
    }

    /// The newest release, if it may be chosen for being that, or the newest that may: one that is clean and can be deployed.
    pub fn latest(&self) -> Option<Listed<'_>> {
        self.latest.map(|index| self.listed(&self.rows[index]))
    }

    /// The same, without those that are `rejected`.
    pub fn latest_but(&self, rejected: &BTreeSet<ReleaseName>) -> Option<Listed<'_>> {
        let from = self.latest?;
        let deployable = self.rows[from..].iter().filter(|row| self.is_deployable(row));
        deployable.map(|row| self.listed(row)).find(|listed| !rejected.contains(&listed.name))
    }

    /// One of them by name.
    pub fn get(&self, name: &ReleaseName) -> Option<Listed<'_>> {
        self.row(name).map(|row| self.listed(row))
    }

    /// Whether a release was built with uncommitted changes; `None` when it isn't among them. Cheaper than to get it.
    pub fn is_dirty(&self, name: &ReleaseName) -> Option<bool> {
        self.row(name).map(|row| row.dirty)
    }

    /// How many of them are newer than `name`. If it isn't among them, nobody knows when it was uploaded: then what counts is
    /// the time in its name.
    pub fn newer_than(&self, name: &ReleaseName) -> usize {
        self.place(name).unwrap_or_else(|| self.rows.partition_point(|row| row.uploaded > Moment::of(name.time())))
    }

    /// Those that are newer than `oldest` and not newer than `newest`, newest first.
    pub fn between(&self, oldest: &ReleaseName, newest: &ReleaseName) -> impl Iterator<Item = Listed<'_>> {
        let (first, end) = (self.newer_than(newest), self.newer_than(oldest));
        Newest { releases: self, rows: self.rows[first.min(end)..end].iter() }
    }

    /// Whether `name` is one of them.
    pub(super) fn contains(&self, name: &ReleaseName) -> bool {
        self.row(name).is_some()
    }

    /// The last release of each builder by its name, and when it was built, the last of these first.
    pub(super) fn tips(&self) -> impl Iterator<Item = (Timestamp, ReleaseName)> {
        self.tips.iter().map(|index| &self.rows[*index as usize]).map(|row| (row.time.timestamp(), self.name(row)))
    }

    /// Whether a page would show the same of both.
    pub(super) fn shows_same(&self, other: &Self) -> bool {
        self.rows.len() == other.rows.len()
            && self.rows.iter().zip(&other.rows).all(|(row, of_other)| self.shown(row) == other.shown(of_other))
    }

    fn shown(&self, row: &Row) -> impl PartialEq {
        let words = [row.builder, row.repo, row.branch, row.unusable].map(|word| self.word(word));
        let promoted = self.promoted.get(&row.text);
        (row.time, row.uploaded, row.size, (row.dirty, row.mark, promoted), self.commit(row), self.note(row), words)
    }

    fn listed(&self, row: &Row) -> Listed<'_> {
        Listed {
            name: self.name(row),
            uploaded: row.uploaded.timestamp(),
            size: row.size,
            mark: row.mark,
            promoted: self.promoted.get(&row.text),
            dirty: row.dirty,
            note: self.note(row),
            repo: self.word(row.repo),
            branch: self.word(row.branch),
            unusable: Some(self.word(row.unusable)).filter(|reason| !reason.is_empty()),
        }
    }

    fn name(&self, row: &Row) -> ReleaseName {
        let mut text = format!("{}/", self.app());
        self.write_stem(row, &mut text);
        text.push_str(".deb");
        text.parse().expect("a row was made of a release name")
    }

    fn write_stem(&self, row: &Row, text: &mut String) {
        let _ = write!(text, "{}:{}:{}:{}", self.app(), self.word(row.builder), row.time.timestamp(), self.commit(row));
    }

    fn app(&self) -> &str {
        self.app.as_ref().map_or("", AppName::as_str)
    }

    /// Whether it may be chosen for being the newest.
    fn is_deployable(&self, row: &Row) -> bool {
        !row.dirty && row.mark.is_none() && self.word(row.unusable).is_empty()
    }

    fn commit(&self, row: &Row) -> &str {
        &self.texts[row.text..][..usize::from(row.commit)]
    }

    fn note(&self, row: &Row) -> &str {
        &self.texts[row.text + usize::from(row.commit)..][..row.note as usize]
    }

    fn word(&self, index: u32) -> &str {
        &self.words[index as usize]
    }

    /// What decides between releases of one second, in the order of their names' text.
    fn rest<'a>(&'a self, row: &'a Row) -> impl Iterator<Item = u8> {
        rest(self.word(row.builder), self.commit(row))
    }

    fn row(&self, name: &ReleaseName) -> Option<&Row> {
        self.place(name).map(|place| &self.rows[place])
    }

    /// Where `name` is among them.
    fn place(&self, name: &ReleaseName) -> Option<usize> {
        let at = self.by_name.partition_point(|place| self.is_newer(&self.rows[*place as usize], name));
        let place = *self.by_name.get(at)? as usize;
        self.is(&self.rows[place], name).then_some(place)
    }

    fn is_newer(&self, row: &Row, name: &ReleaseName) -> bool {
        let time = Moment::of(name.time());
        row.time > time || (row.time == time && self.rest(row).gt(rest_of(name)))
    }

    fn is(&self, row: &Row, name: &ReleaseName) -> bool {
        self.app.as_ref() == Some(name.app()) && row.time == Moment::of(name.time()) && self.rest(row).eq(rest_of(name))
    }
}

fn rest<'a>(builder: &'a str, commit: &'a str) -> impl Iterator<Item = u8> {
    // With what follows them in a name: that is how one that is the beginning of another sorts.
    builder.bytes().chain(*b":").chain(commit.bytes()).chain(*b".")
}

fn rest_of(name: &ReleaseName) -> impl Iterator<Item = u8> {
    let builder = name.user().bytes().chain(*b"@").chain(name.host().bytes());
    builder.chain(*b":").chain(name.commit().as_str().bytes()).chain(*b".")
}

/// Releases of an app that are being listed, page by page.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    releases: AppReleases,
    words: HashMap<Box<str>, u32>,
}

impl Gathered {
    /// Takes in some more. Those of another app than the first are passed over.
    pub(super) fn extend(&mut self, releases: impl IntoIterator<Item = Release>) {
        for release in releases {
            let app = self.releases.app.get_or_insert_with(|| release.name.app().clone());
            if app == release.name.app() {
                self.push(&release);
            }
        }
    }

    fn push(&mut self, release: &Release) {
        let Release { name, metadata, size, uploaded, promoted, .. } = release;
        let mark = match release.passed_over() {
            Some(PassedOver::FromTheFuture) => Some(Mark::FromTheFuture),
            Some(PassedOver::Adopted) => Some(Mark::Adopted),
            Some(PassedOver::Dirty | PassedOver::Unusable(_)) | None => None,
        };
        let metadata = metadata.as_ref();
        let (note, repo, branch) = metadata.map_or(("", "", ""), |metadata| {
            (metadata.note.as_str(), metadata.repo.as_str(), metadata.branch.as_str())
        });
        let commit = name.commit().as_str();
        let text = self.releases.texts.len();
        self.releases.texts.push_str(commit);
        self.releases.texts.push_str(note);
        self.word("");
        let row = Row {
            time: Moment::of(name.time()),
            uploaded: Moment::of(*uploaded),
            size: *size,
            text,
            // An object's metadata is bounded by far less.
            note: u32::try_from(note.len()).expect("a note is shorter than 4 GiB"),
            builder: self.word(&format!("{}@{}", name.user(), name.host())),
            repo: self.word(repo),
            branch: self.word(branch),
            unusable: self.word(metadata.err().map_or("", String::as_str)),
            commit: u8::try_from(commit.len()).expect("a commit has 40 or 64 digits"),
            dirty: metadata.is_ok_and(|metadata| metadata.dirty),
            mark,
        };
        self.releases.promoted.extend(promoted.clone().map(|promoted| (text, promoted)));
        self.releases.rows.push(row);
    }

    fn word(&mut self, word: &str) -> u32 {
        if let Some(index) = self.words.get(word) {
            return *index;
        }
        let index = u32::try_from(self.releases.words.len()).expect("there aren't 2³² releases");
        self.releases.words.push(word.into());
        self.words.insert(word.into(), index);
        index
    }

    /// All that was gathered, in order, each once.
    pub(super) fn done(self) -> AppReleases {
        let mut releases = self.releases;
        let mut rows = std::mem::take(&mut releases.rows);
        let by_name = |a: &Row, b: &Row| b.time.cmp(&a.time).then_with(|| releases.rest(b).cmp(releases.rest(a)));
        rows.sort_by(by_name);
        rows.dedup_by(|a, b| a.time == b.time && releases.rest(a).eq(releases.rest(b)));
        // What was uploaded in one moment stays in the order of the names.
        rows.sort_by_key(|row| Reverse(row.uploaded));
        rows.shrink_to_fit();
        let places = 0..u32::try_from(rows.len()).expect("there aren't 2³² releases");
        let mut places: Vec<u32> = places.collect();
        places.sort_by(|a, b| by_name(&rows[*a as usize], &rows[*b as usize]));
        releases.texts.shrink_to_fit();
        releases.words.shrink_to_fit();
        releases.latest = rows.iter().position(|row| releases.is_deployable(row));
        let mut builders: HashSet<u32> = HashSet::new();
        let is_last = |place: &&u32| builders.insert(rows[**place as usize].builder);
        releases.tips = places.iter().filter(is_last).copied().collect();
        releases.by_name = places;
        releases.rows = rows;
        releases
    }
}

#[cfg(test)]
mod tests {
    use bucket::{Generation, ReleaseMetadata};

    use super::*;

    fn release(builder: &str, second: u8, commit: &str, dirty: bool) -> Release {
        let time = format!("2026-11-20T19:05:{second:02}Z");
        let name: ReleaseName = format!("web/web:{builder}:{time}:{commit}.deb").parse().unwrap();
        let metadata = ReleaseMetadata {
            dirty,
            note: format!("Für {builder} {second}"),
            services: Vec::new(),
            sha256: [0; 32].into(),
            size: 3,
            package: "web".parse().unwrap(),
            version: "1".into(),
            architecture: "all".parse().unwrap(),
            repo: "https://example.org/web".into(),
            branch: "main".into(),
            made_by: None,
        };
        let uploaded = name.time();
        Release {
            name,
            generation: Generation(1),
            size: 3,
            uploaded,
            adopted: None,
            promoted: None,
            metadata: Ok(metadata),
        }
    }

    /// Names that are hard to keep in order: the same second, and parts that begin other parts.
    fn awkward() -> Vec<Release> {
        let (sha1, sha256) = ("7e0ff6059e653eb75a36efb621d0fd66d1ced433", "7e".repeat(32));
        let longer = format!("{sha1}{}", "0".repeat(24));
        vec![
            release("dev@build-1", 2, sha1, false),
            release("dev@build-10", 2, sha1, true),
            release("dev@build-1", 2, &longer, false),
            release("an@build-1", 2, sha1, false),
            release("dev.b@build-1", 2, sha1, false),
            release("dev@build-1", 3, &sha256, true),
            release("dev@build-1", 1, sha1, false),
        ]
    }

    fn names(releases: &AppReleases) -> Vec<ReleaseName> {
        releases.newest().map(|listed| listed.name).collect()
    }

    #[test]
    fn what_was_uploaded_in_one_order_comes_back_in_that_of_the_names() {
        let releases = AppReleases::new(awkward());
        let mut right: Vec<ReleaseName> = awkward().into_iter().map(|release| release.name).collect();
        right.sort_by(|a, b| b.cmp(a));
        assert_eq!(names(&releases), right);
        for (place, name) in right.iter().enumerate() {
            assert_eq!(releases.newer_than(name), place, "{name}");
            assert_eq!(releases.get(name).map(|listed| listed.name).as_ref(), Some(name));
            assert!(releases.contains(name));
        }
        let listed = releases.get(&awkward()[1].name).unwrap();
        assert_eq!(
            (listed.note, listed.repo, listed.branch),
            ("Für dev@build-10 2", "https://example.org/web", "main")
        );
        assert_eq!((listed.size, listed.dirty, listed.unusable), (3, true, None));
        assert_eq!(releases.is_dirty(&awkward()[0].name), Some(false));
        assert_eq!(releases.is_dirty(&awkward()[1].name), Some(true));
        assert_eq!(releases.newest().nth(2), releases.get(&right[2]));
    }

    #[test]
    fn what_is_not_among_them_is_not_found() {
        let releases = AppReleases::new(awkward());
        let absent = release("ops@build-1", 2, "7e0ff6059e653eb75a36efb621d0fd66d1ced433", false).name;
        assert_eq!(
            (releases.get(&absent), releases.is_dirty(&absent), releases.contains(&absent)),
            (None, None, false)
        );
        assert_eq!(releases.newer_than(&absent), 1);
        let other: ReleaseName = absent.as_str().replace("web", "api").parse().unwrap();
        assert!(!releases.contains(&other));
        assert_eq!((AppReleases::default().newer_than(&absent), AppReleases::default().latest()), (0, None));
        assert_eq!(AppReleases::default().get(&absent), None);
    }

    #[test]
    fn the_latest_is_neither_dirty_nor_unknown() {
        let mut all = awkward();
        all.push(release("ops@build-1", 4, &"a".repeat(40), false));
        all[7].metadata = Err("metadata has no `sha256`".into());
        let releases = AppReleases::new(all);
        assert_eq!(releases.newest().next().unwrap().unusable, Some("metadata has no `sha256`"));
        let latest = releases.latest().unwrap();
        assert_eq!((latest.name, latest.unusable), (names(&releases)[2].clone(), None));
    }

    #[test]
    fn what_was_uploaded_last_is_the_newest_whatever_its_name_says() {
        let mut all = awkward();
        let (backfilled, ahead, adopted) = (6, 5, 1);
        all[backfilled].uploaded = "2026-11-20T19:06:00Z".parse().unwrap();
        // Of the year 2026 by its name, uploaded an hour before that.
        all[ahead].uploaded = "2026-11-20T18:05:03Z".parse().unwrap();
        all[ahead].metadata.as_mut().unwrap().dirty = false;
        let releases = AppReleases::new(all.clone());
        assert_eq!(releases.newest().next().unwrap().name, all[backfilled].name);
        assert_eq!(releases.latest().unwrap().name, all[backfilled].name);
        let last = releases.newest().last().unwrap();
        assert_eq!((last.name, last.mark), (all[ahead].name.clone(), Some(Mark::FromTheFuture)));
        for (place, listed) in releases.newest().enumerate() {
            assert_eq!(releases.newer_than(&listed.name), place, "{}", listed.name);
        }
        // The newest in every other way.
        all[adopted].uploaded = "2026-11-20T20:00:00Z".parse().unwrap();
        all[adopted].adopted = Some(all[0].name.clone());
        all[adopted].metadata.as_mut().unwrap().dirty = false;
        let releases = AppReleases::new(all.clone());
        let newest = releases.newest().next().unwrap();
        assert_eq!((newest.name, newest.mark), (all[adopted].name.clone(), Some(Mark::Adopted)));
        assert_eq!(releases.latest().unwrap().name, all[backfilled].name);
        assert_eq!(releases.latest_but(&BTreeSet::new()).unwrap().name, all[backfilled].name);
        let next = releases.latest_but(&[all[backfilled].name.clone()].into()).unwrap();
        assert!(next.name != all[backfilled].name && !next.dirty && next.mark.is_none(), "{}", next.name);
    }

    #[test]
    fn more_are_added_and_each_is_there_once() {
        let all = awkward();
        let grown = AppReleases::new(all[..3].to_vec()).with(all[2..].to_vec());
        assert_eq!(names(&grown), names(&AppReleases::new(all.clone())));
        assert!(grown.shows_same(&AppReleases::new(all.clone())));
        assert!(!grown.shows_same(&AppReleases::new(all[1..].to_vec())));
        let mut changed = all;
        changed[0].size = 4;
        assert!(!grown.shows_same(&AppReleases::new(changed)));
    }

    #[test]
    fn tips_are_the_newest_of_each_builder() {
        let releases = AppReleases::new(awkward());
        let tips: Vec<String> = releases.tips().map(|(_, name)| format!("{}@{}", name.user(), name.host())).collect();
        assert_eq!(tips, ["dev@build-1", "dev@build-10", "dev.b@build-1", "an@build-1"]);
        let (time, name) = releases.tips().next().unwrap();
        assert_eq!((time, name), (awkward()[5].name.time(), awkward()[5].name.clone()));
    }

    #[test]
    fn words_are_found_whatever_their_case() {
        let releases = AppReleases::new(awkward());
        let found = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            releases.found(&words).count()
        };
        assert_eq!((found(&[]), found(&["FÜR", "Main"]), found(&["build-10"]), found(&["nobody"])), (7, 7, 1, 0));
        assert_eq!((found(&["7E7E7E"]), found(&["19:05:01"])), (1, 1));
    }

    #[test]
    fn a_promoted_release_counts_as_the_commit_as_which_it_landed() {
        let (built, landed) = ("a".repeat(40), "b".repeat(40));
        let mut release = release("dev@build-1", 1, &built, false);
        let plain = AppReleases::new(vec![release.clone()]);
        let promoted = Promoted { landed: landed.parse().unwrap(), change: "web/12".parse().unwrap(), patchset: 3 };
        release.promoted = Some(promoted.clone());
        let releases =
            AppReleases::new(vec![release.clone()]).with(vec![self::release("dev@build-1", 2, &built, false)]);
        let [other, listed] = &releases.newest().collect::<Vec<_>>()[..] else { panic!("two releases") };
        assert_eq!((listed.promoted, listed.commit().as_str()), (Some(&promoted), landed.as_str()));
        assert_eq!((other.promoted, other.commit().as_str()), (None, built.as_str()));
        assert!(!plain.shows_same(&AppReleases::new(vec![release])));
    }
}
