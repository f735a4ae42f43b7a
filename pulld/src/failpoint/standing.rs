//! In the program of scenarios: a test says in files where it stands still, and reads in others where it has been.
//!
//! Nothing of it happens before somebody makes the directory. Who stands still goes on once `stop` is gone, unless it was
//! killed by then: so either of the agent and a dpkg run can be killed in the middle of the other's work.
//!
//! ```text
//! /run/pulld-fail-points/met      every point that was met since, by any process of ours: a line each
//! /run/pulld-fail-points/stop     where to stand still: how often it was met before, a space, and the point
//! /run/pulld-fail-points/stopped  is there once somebody does
//! ```

use std::{
    fs::{self, OpenOptions},
    io::{Result, Write},
    path::Path,
    time::Duration,
};

const DIRECTORY: &str = "/run/pulld-fail-points";

/// The time between two looks at whether to go on.
const INTERVAL: Duration = Duration::from_millis(5);

/// Notes that this process has reached a point, and stands still there if a test asked for it.
pub(super) fn reached(name: &str) {
    if note(name).unwrap_or(false) {
        let _ = fail::cfg_callback(name, stand_still);
    }
    fail::fail_point!(name);
}

fn stand_still() {
    while Path::new(DIRECTORY).join("stop").exists() {
        std::thread::sleep(INTERVAL);
    }
}

/// Notes that a point was met; gives whether to stand still there. `stopped` is written before `met`: whoever finds the point
/// in `met` finds `stopped`, too.
fn note(name: &str) -> Result<bool> {
    let directory = Path::new(DIRECTORY);
    if !directory.is_dir() {
        return Ok(false);
    }
    let path = directory.join("met");
    let before = fs::read_to_string(&path).unwrap_or_default();
    let earlier = before.lines().filter(|line| *line == name).count();
    let stop = fs::read_to_string(directory.join("stop")).unwrap_or_default();
    let stops = stop.trim_end() == format!("{earlier} {name}");
    if stops {
        fs::write(directory.join("stopped"), "")?;
    }
    writeln!(OpenOptions::new().create(true).append(true).open(path)?, "{name}")?;
    Ok(stops)
}
