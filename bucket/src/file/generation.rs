//! Generations: the modification times of files, in microseconds.

use std::{
    fs::File,
    time::{SystemTime, UNIX_EPOCH},
};

use jiff::Timestamp;
use rustix::fs::{Timespec, Timestamps, fstat, futimens};

use crate::Generation;

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
pub(super) fn next_generation(lock: &File, now: Option<Generation>) -> Result<Generation, std::io::Error> {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    let clock = i64::try_from(clock).unwrap_or(i64::MAX);
    // A lock file that was only just made has the time of now.
    let last = generation_of(&fstat(lock)?).0;
    let next = clock.max(last + 1).max(now.map_or(0, |now| now.0 + 1));
    set_time(lock, Generation(next))?;
    // Else a power cut and a clock that went back could give it out again.
    lock.sync_all()?;
    Ok(Generation(next))
}
