//! The power is cut at every write of the agent and of its bucket: what was not synced is lost, in any subset.
//!
//! A process of its own carries out a story under strace(1), which writes down every call that changes the disk. Each
//! beginning of that is replayed on a disk which forgets what it was not asked to keep ([`disk`]); each file must be there
//! whole, as it was or as it is to be ([`promises`]), and the agent must be able to read it. Then each fsync is left out, by
//! the place in our code where it is called ([`sites`]): each of them must be missed.

mod disk;
mod promises;
mod sites;
mod trace;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
    rc::Rc,
};

use bucket::{Bucket, BucketOptions, BucketUrl, Metadata};

use crate::{
    failpoint::met,
    machine::{
        fake::{Behaviour, release},
        guard::Guard,
    },
    state::{
        paths::Paths,
        quarantine::Quarantine,
        rescue::{Armed, Rescue},
    },
    store::cache::Cache,
    transaction,
};

use self::{
    disk::{Disk, Files},
    promises::Promises,
    sites::What,
    trace::{CALLS, Event, MARKER, Op, parse},
};

use super::harness::{Server, live};

/// Set in the process that carries out the story.
const RECORDED: &str = "PUSH_RECORDED";

/// Where the rescue's units lie.
const UNITS: &str = "etc/systemd";

/// This test, by the name that its program knows it by.
const NAME: &str =
    "tests::power_cuts::a_power_cut_at_any_write_leaves_what_was_or_what_is_to_be_and_each_fsync_is_needed";

/// Says in the record that the program goes on from a write.
fn mark_end(point: &str) {
    let call = point.strip_suffix(".end");
    if call.is_some_and(|call| call.starts_with("persist.") || call.ends_with("bucket.write_status")) {
        mark(point);
    }
}

/// Says in the record where the program is.
fn mark(moment: &str) {
    let _ = std::fs::create_dir(format!("{MARKER}{moment}"));
}

/// The guard of pulld's updates on that server. Any file is as good as a program.
fn guard(root: &Path) -> Guard {
    Guard::below(root, &Paths::new(root).config_file(), |_| Ok(()))
}

/// A server gets a release, one that breaks and is rolled back, another, and another pulld.
async fn story() {
    let server = Server::new().await;
    mark(&format!("root={}", server.root.path().display()));
    let story = async {
        let (web, pulld) = (|minute| release("web", minute), |minute| release("pulld", minute));
        for (release, behaviour) in [
            (web(1), Behaviour::Good),
            (web(2), Behaviour::Crashes),
            (web(3), Behaviour::Good),
            (pulld(1), Behaviour::Good),
            (pulld(2), Behaviour::Good),
        ] {
            server.upload(&release, behaviour).await;
            mark("step");
        }
        for releases in [[web(1), pulld(1)], [web(2), pulld(1)], [web(3), pulld(2)]] {
            server.push(&releases.iter().collect::<Vec<_>>()).await;
            mark("step");
            for _ in 0..2 {
                live(&server).await;
            }
        }
    };
    met(story, mark_end).await;
    let other = "other".parse().unwrap();
    let generation = server.bucket.create(&other, "x".into(), &Metadata::new()).await.unwrap();
    mark("step");
    let copy = "copy".parse().unwrap();
    let about = Metadata::from([("note".to_owned(), "copied".to_owned())]);
    server.bucket.copy(&other, generation, &copy, &about).await.unwrap();
    mark("step");
    server.bucket.delete(&other, generation).await.unwrap();
    mark("step");
    let (guard, rescue) = (guard(server.root.path()), Rescue::new(server.paths().rescue()));
    let guarded = async {
        guard.arm(&rescue, &Armed::default()).unwrap();
        guard.remove(&rescue).unwrap();
        // The next update of pulld finds what is left of this one.
        guard.arm(&rescue, &Armed::default()).unwrap();
    };
    met(guarded, mark_end).await;
    mark("end");
}

/// What a process did that carried out the story, from when its server was there.
struct Record {
    root: PathBuf,
    events: Vec<Event>,
}

impl Record {
    fn make() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let output = directory.path().join("trace");
        let mut strace = Command::new("strace");
        strace.args(["-f", "-y", "-xx", "-s", "1000000", "-e", "signal=none", "-e", &format!("trace={CALLS}"), "-o"]);
        strace.arg(&output).arg(std::env::current_exe().unwrap()).args(["--exact", NAME]).env(RECORDED, "1");
        let ran = strace.output().expect("strace runs: `tests/setup --tests` installs it");
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stdout));
        let events = parse(&std::fs::read_to_string(output).unwrap());
        let moment = |event: &Event, prefix: &str| match &event.op {
            Op::Marker(moment) => moment.strip_prefix(prefix).map(PathBuf::from),
            _ => None,
        };
        let root = events.iter().find_map(|event| moment(event, "root=")).expect("the story began");
        let end = events.iter().position(|event| moment(event, "end").is_some()).expect("the story ended");
        // What must survive, and no more: not what tests write, nor what is lost at every boot, nor when a cached file was
        // used last.
        let (state, units, bucket) = (root.join("var"), root.join(UNITS), root.join("bucket"));
        let is_kept = |event: &Event| match &event.op {
            Op::Marker(_) => true,
            Op::Time(path, _) => path.starts_with(&bucket),
            op => {
                let is_below = [&state, &units, &bucket].into_iter().any(|kept| op.path().starts_with(kept));
                is_below || op.path() == root || Some(op.path()) == units.parent()
            }
        };
        let events = events.into_iter().take(end).filter(is_kept).collect();
        Self { root, events }
    }

    fn disk(&self) -> Disk {
        Disk::new(&self.root, &[&self.bucket(), &self.root.join("etc")])
    }

    fn state(&self) -> PathBuf {
        self.root.join("var/lib/pulld")
    }

    fn bucket(&self) -> PathBuf {
        self.root.join("bucket")
    }

    fn promises(&self) -> Promises {
        Promises::of(&self.events, self.disk(), &[self.state(), self.root.join(UNITS)], &self.bucket())
    }

    /// What each call syncs, if it does.
    fn synced(&self) -> Vec<Option<What>> {
        (0..self.events.len()).map(|at| sites::what(&self.events, at, &self.bucket())).collect()
    }

    /// Cuts the power after each call, without those that sync what is `left_out`; gives what is broken first.
    fn replay(&self, promises: &Promises, left_out: &[bool], mut see: impl FnMut(&Files)) -> Result<usize, String> {
        let mut disk = self.disk();
        let mut count = 0;
        // What comes before the first one that is left out is what was seen without leaving out any.
        let first = left_out.iter().position(|is_left_out| *is_left_out).unwrap_or_default();
        for (at, event) in self.events.iter().enumerate().filter(|(at, _)| !left_out[*at]) {
            disk.apply(&event.op);
            // Data that is not synced is lost or not at each later moment, too, and nothing was promised of it yet.
            if at < first || matches!(event.op, Op::Write(..) | Op::Time(..)) {
                continue;
            }
            for files in disk.cuts() {
                count += 1;
                if let Some(broken) = promises.broken(&files, at + 1) {
                    return Err(format!("after {} calls, the last of them {:?}: {broken}", at + 1, event.op));
                }
                see(&files);
            }
        }
        Ok(count)
    }
}

/// Puts files on a real disk, and lets the agent read them.
async fn is_read(record: &Record, files: &Files) {
    let root = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    std::fs::create_dir(root.path().join("bucket")).unwrap();
    for (path, content) in files {
        let place = root.path().join(path.strip_prefix(&record.root).unwrap());
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        std::fs::write(&place, content.bytes.as_slice()).unwrap();
        let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_micros(content.time.unsigned_abs());
        std::fs::File::open(&place).unwrap().set_modified(time).unwrap();
    }
    let paths = Paths::new(root.path());
    let has = |path: &Path| path.exists();
    let is_open = has(&paths.transaction());
    assert_eq!(transaction::load(&paths.transaction()).is_some(), is_open);
    let is_empty = Quarantine::load(&paths.quarantine()).entries().is_empty();
    assert!(is_empty || has(&paths.quarantine()));
    let cache = Cache::new(paths.cache());
    for entry in std::fs::read_dir(paths.cache()).into_iter().flatten().flatten() {
        let release = bucket::ReleaseName::from_stem(&entry.file_name().to_string_lossy()).unwrap();
        let deb = std::fs::read_dir(entry.path())
            .unwrap()
            .flatten()
            .find(|file| file.path().extension().is_some_and(|of| of == "deb"));
        assert_eq!(cache.find(&release).await.unwrap(), deb.map(|deb| deb.path()), "what is in the cache is whole");
    }
    let bucket = Bucket::open(&BucketUrl::File(root.path().join("bucket")), &BucketOptions::default()).await.unwrap();
    bucket.status(&Server::name()).await.unwrap();
    bucket.server_document(&Server::name()).await.unwrap();
    for minute in 1..=3 {
        let found = bucket.release(&release("web", minute)).await.unwrap();
        assert!(found.is_none_or(|found| found.metadata.is_ok()), "a release has its metadata");
    }
}

#[tokio::test(start_paused = true)]
async fn a_power_cut_at_any_write_leaves_what_was_or_what_is_to_be_and_each_fsync_is_needed() {
    if std::env::var_os(RECORDED).is_some() {
        return story().await;
    }
    let record = Record::make();
    let promises = record.promises();
    // What an agent reads, apart from what others read of the bucket: both together would be each with each.
    let mut states: BTreeSet<Files> = BTreeSet::new();
    let parts = [record.state(), record.bucket()];
    let guard = guard(&record.root);
    let needs: Vec<PathBuf> =
        guard.files().into_iter().chain([Rescue::new(record.state().join("rescue")).program()]).collect();
    let mut armed = 0;
    let cuts = record.replay(&promises, &vec![false; record.events.len()], |files| {
        // Whole: that is what is promised of each of them.
        if files.contains_key(guard.wanted().as_path()) {
            assert!(needs.iter().all(|file| files.contains_key(file.as_path())), "systemd starts what isn't there");
            armed += 1;
        }
        states.extend(parts.iter().map(|part| {
            files
                .iter()
                .filter(|(path, _)| path.starts_with(part))
                .map(|(path, content)| (Rc::clone(path), content.clone()))
                .collect()
        }));
    });
    let cuts = cuts.unwrap_or_else(|broken| panic!("{broken}"));
    assert!(armed > 0);
    for files in &states {
        is_read(&record, files).await;
    }
    println!(
        "{} calls, {} files: {cuts} power cuts leave {} states",
        record.events.len(),
        promises.len(),
        states.len()
    );
    let synced = record.synced();
    for site in &sites::ALL {
        let left_out: Vec<bool> = synced.iter().map(|what| *what == Some(site.what)).collect();
        let times = left_out.iter().filter(|is_left_out| **is_left_out).count();
        let missed = if times == 0 { None } else { record.replay(&promises, &left_out, |_| ()).err() };
        println!(
            "{} `{}`, {times} times; without it: {:.200}",
            site.file,
            site.line,
            missed.as_deref().unwrap_or(site.excuse)
        );
        assert_eq!(
            missed.is_some(),
            site.excuse.is_empty(),
            "what depends on the fsync of {site:?}, called {times} times?"
        );
    }
}

#[test]
fn every_fsync_of_the_source_is_left_out_once() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    let mut directories = vec![root.join("pulld/src"), root.join("bucket/src")];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                // Tests die with their process alone.
                directories.extend(Some(path).filter(|path| !path.ends_with("tests")));
            } else {
                files.push(path.strip_prefix(root).unwrap().display().to_string());
            }
        }
    }
    let named: BTreeSet<&str> = sites::ALL.iter().map(|site| site.file).collect();
    assert!(named.iter().all(|file| files.iter().any(|found| found == file)), "{named:?}");
    for file in &files {
        let source = std::fs::read_to_string(root.join(file)).unwrap();
        let lines = sites::ALL.iter().filter(|site| site.file == file);
        let known = lines.clone().filter(|site| source.matches(site.line).count() == 1).count();
        assert_eq!(
            (known, sites::count(&source)),
            (lines.count(), known),
            "{file} syncs what `sites.rs` does not have"
        );
    }
}
