//! A server on which ways are cut, and what must hold at their ends.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use bucket::{AppState, ReleaseName};
use harness::{Machine, Scenario};

use crate::says;

/// Where a test says what stands still: see `pulld/src/failpoint/standing.rs`.
const DIRECTORY: &str = "/run/pulld-fail-points";

/// In the environment: a part of the names of the points to cut at, for whoever wants to see again what failed; empty for
/// all of them. Without it a sample is cut at.
const POINTS: &str = "CRASH_POINTS";

/// Where the directory of programs is on the server.
const PROGRAMS: &str = "/srv/programs";

/// Judges at once, pulls only when it is woken, and removes what is not listed.
const CONFIGURATION: &str = "poll = \"1h\"\nhealth_window = \"500ms\"\nrescue_after = \"5s\"\nprune = true\n";

/// Longest time from a death to the end of the way.
const PATIENCE: Duration = Duration::from_mins(2);

/// What a unit's start is called in the journal (systemd's `SD_MESSAGE_UNIT_STARTED`).
const STARTED: &str = "39f53479d3a045ac8e11786248231fbf";

/// What its begin is called there (`SD_MESSAGE_UNIT_STARTING`).
const STARTING: &str = "7d4958e842da4a758f6c1cdc7b36dcc5";

/// What the points have in their names that are to be cut at, if it isn't a sample of them.
pub(crate) fn wanted() -> Option<String> {
    std::env::var(POINTS).ok()
}

/// Lines of a maintainer script that are a fail point, by the rules of those in the agent.
pub(crate) fn script(name: &str, app: &str) -> String {
    format!(
        "d={DIRECTORY}; p='script.{name}({app})'\n\
         if [ -d $d ]; then\n\
           n=$(grep -cxF \"$p\" $d/met || true); echo \"$p\" >> $d/met\n\
           if [ \"$(cat $d/stop 2>/dev/null)\" = \"${{n:-0}} $p\" ]; then\n\
             : > $d/stopped; while [ -e $d/stop ]; do sleep 0.01; done\n\
           fi\n\
         fi\n"
    )
}

/// What dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Death {
    /// The agent; a dpkg run goes on.
    Agent,
    /// The dpkg run with all its scripts; the agent goes on.
    Dpkg,
    /// The agent, the dpkg run with all its scripts, and the rescue.
    AgentAndDpkg,
    /// The machine, which boots again.
    Machine,
}

/// A moment: a fail point, and how often it was met before on the same way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Point {
    name: String,
    earlier: usize,
}

impl Point {
    pub(crate) fn new(name: &str, earlier: usize) -> Self {
        Self { name: name.to_owned(), earlier }
    }

    /// Whether the agent only looks at something there: whoever dies there leaves what was left at the point before.
    fn is_look(&self) -> bool {
        let looks = [
            "packages.packages",
            "packages.arch",
            "packages.avail",
            "packages.changed",
            "packages.lock_holder",
            "packages.foresee",
            "packages.stand_down",
            "services.unit(",
            "services.last_words(",
        ];
        let name = self.name.strip_prefix("meanwhile.").unwrap_or(&self.name);
        let of_bucket = name.starts_with("bucket.") && !name.starts_with("bucket.write_status");
        of_bucket || looks.iter().any(|look| name.starts_with(look))
    }

    /// Whether dpkg or the rescue is under way there.
    fn is_of_dpkg(&self) -> bool {
        let theirs =
            ["runner.", "script.", "rescue.", "systemctl(", "guard.", "packages.execute", "persist.write(result.json)"];
        theirs.iter().any(|prefix| self.name.starts_with(prefix))
    }

    /// Who dies there in turn.
    fn deaths(&self) -> Vec<Death> {
        // Nothing of the machine was changed by then, and the agent doesn't know yet what becomes of it.
        let stands_by = self.name == "runner.stand_by";
        match (self.is_look(), self.is_of_dpkg()) {
            (false, true) if stands_by => vec![Death::Agent, Death::Dpkg, Death::AgentAndDpkg, Death::Machine],
            (true, _) => vec![Death::Agent],
            (false, true) => vec![Death::Agent, Death::AgentAndDpkg, Death::Machine],
            (false, false) => vec![Death::Agent, Death::Machine],
        }
    }
}

/// An app at the end of a way.
#[derive(Debug, Clone)]
pub(crate) struct App {
    name: String,
    listed: ReleaseName,
    installed: ReleaseName,
    state: AppState,
    /// What its service says, and where.
    says: Option<(u16, String)>,
}

impl App {
    /// A release of the test service, which converges.
    pub(crate) fn serving(app: &str, release: &ReleaseName, version: &str, port: u16) -> Self {
        Self { says: Some((port, format!("{app} {version}"))), ..Self::agent(release) }
    }

    /// A release of the agent, which converges.
    pub(crate) fn agent(release: &ReleaseName) -> Self {
        Self {
            name: release.app().to_string(),
            listed: release.clone(),
            installed: release.clone(),
            state: AppState::Converged,
            says: None,
        }
    }

    /// What is there after a bad release was rolled back to this one.
    pub(crate) fn in_place_of(&self, bad: &ReleaseName) -> Self {
        Self { listed: bad.clone(), state: AppState::Quarantined, ..self.clone() }
    }
}

/// From one document to the next.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    pub(crate) name: &'static str,
    from: Vec<App>,
    to: Vec<App>,
}

impl Way {
    pub(crate) fn new(name: &'static str, from: &[&App], to: &[&App]) -> Self {
        let owned = |apps: &[&App]| apps.iter().map(|app| (*app).clone()).collect();
        Self { name, from: owned(from), to: owned(to) }
    }

    /// How often each unit is restarted when nothing cuts the way: once for each release that is put there.
    pub(crate) fn most_restarts(&self) -> BTreeMap<String, usize> {
        let restarts = |app: &App| if app.state == AppState::Converged { 1 } else { 2 };
        self.to.iter().map(|app| (app.name.clone(), restarts(app))).collect()
    }
}

/// A server, and the bucket that it pulls from.
#[derive(Debug)]
pub(crate) struct Stage {
    /// Goes first, and is judged then by what is in the bucket.
    server: Machine,
    scenario: Scenario,
}

impl Stage {
    /// A server whose agent, and whatever it starts, is this program.
    pub(crate) fn on(scenario: Scenario, program: &Path) -> Result<Self> {
        let (directory, name) =
            (program.parent().context("it is in a directory")?, program.file_name().context("it has a name")?);
        // After what a boot starts by itself: what starts later is its doing.
        let order = "[Unit]\nAfter=web.service db.service\n";
        let unit =
            format!("{order}[Service]\nExecStart=\nExecStart={PROGRAMS}/{} run\nRestartSec=50ms\n", name.display());
        let options = scenario.server_options("web-1")?.share(directory, PROGRAMS);
        let options = options.file("/etc/systemd/system/pulld.service.d/fail-points.conf", &unit);
        let server = options.file("/etc/pulld/pulld.d/60-quick.toml", CONFIGURATION).boot()?;
        Ok(Self { server, scenario })
    }

    /// A server whose agent can be updated.
    pub(crate) fn updating(scenario: Scenario) -> Result<Self> {
        let options = scenario.server_options("web-1")?;
        let options = options.file("/etc/systemd/system/pulld.service.d/quick.conf", "[Service]\nRestartSec=50ms\n");
        let server = options.file("/etc/pulld/pulld.d/60-quick.toml", CONFIGURATION).boot()?;
        Ok(Self { server, scenario })
    }

    /// Cuts each way at every point that it meets, by every death that makes a difference there, and prints how many.
    pub(crate) fn cut_everywhere(mut self, ways: &[Way], only: &str) -> Result<()> {
        let (mut points, mut deaths) = (0, 0);
        for way in ways {
            let (met, restarts) = self.go(way)?;
            let chosen: Vec<Point> = choose(&met).into_iter().filter(|point| point.name.contains(only)).collect();
            println!(
                "`{}`: it meets {} points, {} of them different; restarts: {restarts:?}",
                way.name,
                met.len(),
                chosen.len()
            );
            let mut missed = BTreeSet::new();
            for point in &chosen {
                println!("{} after {}: {:?}", point.name, point.earlier, point.deaths());
                for death in point.deaths() {
                    deaths += 1;
                    if !self.cut(way, point, death, &restarts)? {
                        missed.insert(point.name.clone());
                    }
                }
            }
            points += chosen.len();
            println!("`{}`: done; not met again: {missed:?}", way.name);
            // A report of what is done right now is dropped when that ends: it may come or not.
            let missed: Vec<_> = missed.iter().filter(|name| !name.starts_with("meanwhile.")).collect();
            ensure!(missed.is_empty(), "`{}` did not meet {missed:?} again", way.name);
        }
        println!("{points} points, {deaths} deaths: after each the server converged");
        Ok(())
    }

    /// Goes a way that nothing cuts. Gives the points that it meets, in their order, and how often it restarts units.
    pub(crate) fn go(&mut self, way: &Way) -> Result<(Vec<String>, BTreeMap<String, usize>)> {
        self.begin(way, "never")?;
        let logged: usize = self.server.sh("wc -l </var/log/dpkg.log")?.trim().parse()?;
        let departure = self.depart(way)?;
        self.arrive(&way.to, way.name)?;
        let met = self.server.read(&format!("{DIRECTORY}/met"))?;
        let met: Vec<String> = met.lines().map(str::to_owned).collect();
        let count = |prefix: &str| met.iter().filter(|name| name.starts_with(prefix)).count();
        // What dpkg has in its own log, and nobody stood beside, would be a boundary without a point.
        let runs = self.server.sh(&format!("tail -n +{} /var/log/dpkg.log | grep -c ' startup '", logged + 1))?;
        let begun = count("runner.dpkg(") / 2;
        ensure!(
            begun >= 1 && runs.trim() == begun.to_string(),
            "dpkg was started {runs} times, and {begun} of them met points"
        );
        let restarts = self.starts(way, &departure)?;
        let asked = count("services.restart(") / 2;
        ensure!(asked >= restarts.values().sum(), "units were started {restarts:?}, and {asked} times at points");
        Ok((met, restarts))
    }

    /// Goes a way until a point, where something dies; sees that the way ends well all the same. Gives whether it came to it.
    pub(crate) fn cut(
        &mut self,
        way: &Way,
        point: &Point,
        death: Death,
        restarts: &BTreeMap<String, usize>,
    ) -> Result<bool> {
        let told = format!("`{}`, {death:?} cut at `{}` after {}", way.name, point.name, point.earlier);
        self.begin(way, &format!("{} {}", point.earlier, point.name)).with_context(|| told.clone())?;
        let departure = self.depart(way)?;
        let met = self.wait_for_stop(way).with_context(|| told.clone())?;
        if met {
            match death {
                Death::Agent => self.server.sh(&format!("{KILL_AGENT}; rm {DIRECTORY}/stop"))?,
                Death::Dpkg => self.server.sh(&format!("{KILL_DPKG}; rm {DIRECTORY}/stop"))?,
                Death::AgentAndDpkg => self.server.sh(&format!("{KILL_AGENT}; {KILL_DPKG}; rm {DIRECTORY}/stop"))?,
                Death::Machine => self.server.reboot().map(|()| String::new())?,
            };
        }
        self.arrive(&way.to, &told)?;
        for (app, count) in self.starts(way, &departure)? {
            let needed = restarts.get(&app).copied().unwrap_or_default();
            ensure!(count <= needed + 1, "`{app}` was started {count} times where {needed} are needed: {told}");
        }
        Ok(met)
    }

    /// Makes the server as it is where a way begins, with nothing in the cache, and says where to stand still.
    fn begin(&self, way: &Way, stop: &str) -> Result<()> {
        self.server.sh(&format!("rm -rf {DIRECTORY}"))?;
        self.list(&way.from)?;
        self.arrive(&way.from, &format!("the begin of `{}`", way.name))?;
        let script = format!("rm -rf /var/lib/pulld/cache; mkdir {DIRECTORY}; : > {DIRECTORY}/met");
        self.server.sh(&script)?;
        self.server.write(&format!("{DIRECTORY}/stop"), stop)
    }

    /// Leaves for the end of a way; gives when.
    fn depart(&self, way: &Way) -> Result<Departure> {
        let last = self.server.sh("journalctl --quiet --lines=1 --output=json --output-fields=_BOOT_ID _PID=1")?;
        let (boot, _) = entry(&last)?;
        let since = self.server.sh("date +%s.%6N")?;
        self.list(&way.to)?;
        Ok(Departure { since, boot })
    }

    /// Writes the document and has it pulled.
    fn list(&self, apps: &[App]) -> Result<()> {
        let releases: Vec<ReleaseName> = apps.iter().map(|app| app.listed.clone()).collect();
        self.scenario.list(&releases, &self.server)?;
        // An agent that is just being started pulls by itself.
        self.server.run("/usr/bin/pulld pull --no-wait").map(drop)
    }

    fn wait_for_stop(&self, way: &Way) -> Result<bool> {
        self.server.wait_until("something stands still, or the way is over", PATIENCE, |server| {
            // The report is there before whoever writes it has met the point after that.
            let is_over = self.is_reported(&way.to)? && !self.is_reporting()?;
            if server.run(&format!("test -e {DIRECTORY}/stopped"))?.success() {
                return Ok(Some(true));
            }
            Ok(is_over.then_some(false))
        })
    }

    /// Whether the agent writes its report.
    fn is_reporting(&self) -> Result<bool> {
        let met = self.server.read(&format!("{DIRECTORY}/met"))?;
        let count = |name: &str| met.lines().filter(|line| *line == name).count();
        Ok(count("bucket.write_status.begin") > count("bucket.write_status.end"))
    }

    /// Whether the agent has reported these apps, at the releases and in the states that they are to be in.
    fn is_reported(&self, apps: &[App]) -> Result<bool> {
        let Some(status) = self.scenario.status(&self.server)? else { return Ok(false) };
        let is_as = |app: &App| {
            status.apps.iter().any(|reported| {
                let (desired, installed) = (reported.desired.as_ref(), reported.installed.as_ref());
                (desired, installed, reported.state, reported.activity)
                    == (Some(&app.listed), Some(&app.installed), app.state, None)
            })
        };
        let others = status.apps.iter().filter(|reported| reported.desired.is_some()).count();
        let is_gone = status.apps.iter().all(|reported| reported.app == "pulld" || reported.desired.is_some());
        Ok(apps.iter().all(is_as) && others == apps.len() && is_gone)
    }

    /// Waits for the end of a way, and sees that it is as it should be: by the report, by dpkg, and by what runs.
    fn arrive(&self, apps: &[App], told: &str) -> Result<()> {
        let told = || format!("{told}: {:?}", self.scenario.status(&self.server));
        let reported = |_: &Machine| Ok(self.is_reported(apps)?.then_some(()));
        self.server.wait_until("the way is over", PATIENCE, reported).with_context(told)?;
        self.scenario.wait_until_settled(&self.server).with_context(told)?;
        let audit = self.server.sh("dpkg --audit")?;
        ensure!(audit.is_empty(), "dpkg says {audit}: {}", told());
        let links = self.server.sh(ENABLED_AND_GONE)?;
        ensure!(links.is_empty(), "units are enabled whose files are gone, {links}: {}", told());
        for app in apps {
            let installed =
                self.server.sh(&format!("dpkg-query -W -f '${{db:Status-Abbrev}}${{Push-Release}}' {}", app.name))?;
            ensure!(installed == format!("ii {}", app.installed.stem()), "dpkg has {installed}: {}", told());
            let program = self.server.sh(&format!(
                "pid=$(systemctl show -P MainPID {0}); readlink /proc/$pid/exe; tr '\\0' ' ' </proc/$pid/cmdline",
                app.name
            ))?;
            let expected = match &app.says {
                Some((port, text)) => {
                    says(&self.server, *port, text).with_context(told)?;
                    let version = text.rsplit(' ').next().unwrap_or_default();
                    format!("/usr/bin/perl\n/usr/bin/perl /usr/lib/{}/serve {version} ", app.name)
                }
                None => "/usr/bin/pulld\n/usr/bin/pulld run ".to_owned(),
            };
            ensure!(program == expected, "{program} runs: {}", told());
        }
        Ok(())
    }

    /// How often somebody has had the units of a way's apps started since then. What a boot starts by itself it has started
    /// before the agent begins, which is ordered after them.
    fn starts(&self, way: &Way, departure: &Departure) -> Result<BTreeMap<String, usize>> {
        let Departure { since, boot } = departure;
        let lines = self.server.sh(&format!(
            "journalctl --quiet --output=json --output-fields=UNIT,_BOOT_ID --since=@{since} _PID=1 \
             MESSAGE_ID={STARTED} + _PID=1 MESSAGE_ID={STARTING} UNIT=pulld.service"
        ))?;
        let (mut boot, mut is_booting, mut starts) = (boot.clone(), false, BTreeMap::new());
        for line in lines.lines() {
            let (of, unit) = entry(line)?;
            if of != boot {
                (boot, is_booting) = (of, true);
            }
            is_booting &= unit != "pulld.service";
            if !is_booting {
                *starts.entry(unit).or_default() += 1;
            }
        }
        let services = way.to.iter().filter(|app| app.says.is_some()).map(|app| app.name.clone());
        let count = |app: &String| starts.get(&format!("{app}.service")).copied().unwrap_or_default();
        Ok(services.map(|app| (app.clone(), count(&app))).collect())
    }
}

/// When a way began.
#[derive(Debug)]
struct Departure {
    since: String,
    boot: String,
}

/// The boot in which a line of the journal was written, and the unit that it is about.
fn entry(line: &str) -> Result<(String, String)> {
    let entry: serde_json::Value = serde_json::from_str(line)?;
    let field = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    Ok((field("_BOOT_ID"), field("UNIT")))
}

/// Prints the links that enable a unit without a file. A package that is removed and not purged leaves them, and its unit
/// masked (deb-systemd-helper(1)).
const ENABLED_AND_GONE: &str = "cd /etc/systemd/system && find . -xtype l | \
                                while read -r link; do test -e \"${link##*/}\" || echo \"$link\"; done";

const KILL_AGENT: &str = "systemctl kill --kill-whom=main --signal=KILL pulld.service 2>/dev/null";
const KILL_DPKG: &str =
    "for unit in pulld-transaction pulld-rescue; do systemctl kill --signal=KILL $unit.service 2>/dev/null; done";

/// The moments at which a way is cut: each at which something changes, and of looks the first of each.
fn choose(met: &[String]) -> Vec<Point> {
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    let mut points = Vec::new();
    for name in met {
        let earlier = times.entry(name).or_default();
        let point = Point::new(name, *earlier);
        if *earlier == 0 || !point.is_look() {
            points.push(point);
        }
        *earlier += 1;
    }
    points
}
