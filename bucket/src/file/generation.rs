//! Generations: the modification times of files, in microseconds.

use std::{fs::File, os::fd::OwnedFd};

use jiff::Timestamp;
use rustix::fs::{AtFlags, Timespec, Timestamps, fstat, futimens, statat};

use super::lock::LOCK;
use crate::{Error, Generation, ObjectPath};

/// How far a file's time may be ahead of the clock, in microseconds: a day, for clocks that differ.
const AHEAD: i64 = 24 * 3600 * 1_000_000;

/// The time that a generation was made from.
pub(super) fn time_of(generation: Generation) -> Timestamp {
    Timestamp::from_microsecond(generation.0).unwrap_or_default()
}

/// The generation that a file is.
pub(super) fn generation_of(stat: &rustix::fs::Stat) -> Generation {
    #[allow(clippy::cast_possible_wrap, reason = "nanoseconds are below 10^9")]
    let micros = stat.st_mtime_nsec as i64 / 1000;
    Generation(stat.st_mtime.saturating_mul(1_000_000).saturating_add(micros).max(1))
}

/// Refuses the generation of a file whose time is yet to come, as nobody who writes by this crate makes one: whatever
/// were written over it would have to be later still, and all that is written after that.
pub(super) fn check(root: &OwnedFd, path: &ObjectPath, generation: Generation, clock: Timestamp) -> Result<(), Error> {
    if generation.0 <= clock.as_microsecond().saturating_add(AHEAD) {
        return Ok(());
    }
    // A writer whose clock was ahead gave out such generations, or it is this clock that is behind.
    let given = statat(root, LOCK, AtFlags::SYMLINK_NOFOLLOW).map_or(0, |stat| generation_of(&stat).0);
    if generation.0 <= given {
        return Ok(());
    }
    let time = time_of(generation).strftime("%Y-%m-%d %H:%M:%S UTC");
    let reason = format!(
        "its modification time, {time}, is yet to come, so nothing could be written over it: run `touch {path}` in the \
         bucket's directory"
    );
    Err(Error::Malformed { object: path.to_string(), reason })
}

/// Makes a file that generation.
pub(super) fn set_time(file: &File, generation: Generation) -> Result<(), std::io::Error> {
    let time =
        Timespec { tv_sec: generation.0.div_euclid(1_000_000), tv_nsec: generation.0.rem_euclid(1_000_000) * 1000 };
    futimens(file, &Timestamps { last_access: time, last_modification: time })?;
    if generation_of(&fstat(file)?) != generation {
        return Err(std::io::Error::other("the file system keeps no times of a microsecond, which generations need"));
    }
    Ok(())
}

/// A generation later than now, than the object's last and than any that was given out: it is never used twice,
/// whatever the clock does.
pub(super) fn next_generation(
    lock: &File,
    now: Option<Generation>,
    clock: Timestamp,
) -> Result<Generation, std::io::Error> {
    let clock = clock.as_microsecond();
    // A lock file that was only just made has the time of now.
    let last = generation_of(&fstat(lock)?).0;
    let next = clock.max(last.saturating_add(1)).max(now.map_or(0, |now| now.0.saturating_add(1)));
    set_time(lock, Generation(next)).map_err(|error| {
        if last <= clock.saturating_add(AHEAD) {
            return error;
        }
        std::io::Error::other(format!("{error}; `{LOCK}` is from the future: run `touch {LOCK}` in the bucket"))
    })?;
    // Else a power cut and a clock that went back could give it out again.
    lock.sync_all()?;
    Ok(Generation(next))
}
