//! What healthy means for each kind of unit, and for each kind of check: a good release and a bad one of each, judged in
//! one window.

use std::time::Duration;

use anyhow::{Context, Result};
use bucket::{AppState, ReleaseName};
use harness::{Machine, Scenario};

use crate::app::{App, deploy_together, runs, work};

/// Started by another unit.
const TRIGGERED: &str = "#enable = false\n#start = false\n";

/// Answers on the sockets that systemd hands over.
const ANSWERS: &str = r#"#!/usr/bin/perl
use strict;
use Socket;
open my $server, "+<&=", 3 or die "$!\n";
while (accept my $client, $server) {
    while (<$client>) { last if /^\r?\n$/ }
    syswrite $client, "HTTP/1.0 200 OK\r\n\r\nanswer $ARGV[0]\n";
    close $client;
}
"#;

/// A good version of an app, a bad one, and how the bad one is told.
type Kind<'a> = (&'a str, Vec<(&'a str, String)>, Vec<(&'a str, String)>, &'a str);

fn kinds() -> Vec<Kind<'static>> {
    let install = "[Install]\nWantedBy=multi-user.target\n";
    let starts = |keys: &str, command: &str| format!("[Service]\n{keys}ExecStart={command}\n{install}");
    let oneshot = |command: &str| format!("{TRIGGERED}[Service]\nType=oneshot\nExecStart=/bin/sh -c '{command}'\n");
    let timer = || format!("[Timer]\nOnActiveSec=200ms\nAccuracySec=1ms\n{install}");
    let notify = "Type=notify\nNotifyAccess=all\n";
    vec![
        (
            "simple",
            vec![("simple.service", starts("", "/usr/lib/simple/work 1"))],
            vec![("simple.service", starts("", "/bin/sh -c 'exit 3'"))],
            "`simple.service` failed: exit status 3",
        ),
        (
            "notify",
            vec![(
                "notify.service",
                starts(notify, "/bin/sh -c 'systemd-notify --ready; exec /usr/lib/notify/work 1'"),
            )],
            vec![("notify.service", starts(&format!("{notify}TimeoutStartSec=1s\n"), "/usr/lib/notify/work 2"))],
            "`notify.service` did not start (timeout)",
        ),
        (
            "forking",
            vec![("forking.service", starts("Type=forking\n", "/bin/sh -c '/usr/lib/forking/work 1 &'"))],
            vec![("forking.service", starts("Type=forking\n", "/bin/sh -c 'sleep 1 &'"))],
            "`forking.service` is not running: it exited on its own",
        ),
        (
            "once",
            vec![("once.service", starts("Type=oneshot\n", "/bin/touch /run/once-1"))],
            vec![("once.service", starts("Type=oneshot\n", "/bin/sh -c 'exit 4'"))],
            "`once.service` did not start: exit status 4",
        ),
        (
            "tick",
            vec![("tick.timer", timer()), ("tick.service", oneshot("touch /run/tick-1"))],
            vec![("tick.timer", timer()), ("tick.service", oneshot("exit 5"))],
            "`tick.service` was started and failed: exit status 5",
        ),
        (
            "plug",
            vec![
                ("plug.socket", "[Socket]\nListenStream=127.0.0.1:8301\n[Install]\nWantedBy=sockets.target\n".into()),
                ("plug.service", format!("{TRIGGERED}[Service]\nExecStart=/usr/lib/plug/work 1\n")),
            ],
            vec![
                ("plug.socket", "[Socket]\nListenStream=192.0.2.1:8301\n[Install]\nWantedBy=sockets.target\n".into()),
                ("plug.service", format!("{TRIGGERED}[Service]\nExecStart=/usr/lib/plug/work 2\n")),
            ],
            "`plug.socket` did not start",
        ),
        (
            "watch",
            vec![
                ("watch.path", format!("[Path]\nPathExists=/run/watched\n{install}")),
                ("watch.service", oneshot("mv /run/watched /run/watched-1")),
            ],
            vec![
                ("watch.path", format!("[Path]\nPathExists=/run/watched-1\n{install}")),
                ("watch.service", oneshot("mv /run/watched-1 /run/watched-2; exit 6")),
            ],
            "`watch.service` was started and failed: exit status 6",
        ),
        (
            "still",
            vec![("still.service", "[Service]\nExecStart=/usr/lib/still/work 1\n".into())],
            vec![("still.service", "[Service]\nExecStart=/bin/sh -c 'exit 7'\n".into())],
            "`still.service` failed: exit status 7",
        ),
        (
            "many",
            vec![("many@.service", format!("#instances = [\"a\", \"b\"]\n{}", starts("", "/usr/lib/many/work 1 %i")))],
            vec![(
                "many@.service",
                format!(
                    "#instances = [\"a\", \"b\"]\n{}",
                    starts("", "/bin/sh -c 'test %i = a && exec /usr/lib/many/work 2 %i; exit 8'")
                ),
            )],
            "`many@b.service` failed: exit status 8",
        ),
    ]
}

fn released(app: &App<'_>, units: &[(&str, String)]) -> Result<ReleaseName> {
    app.release("", &units.iter().map(|(file, content)| (*file, content.as_str())).collect::<Vec<_>>())
}

/// What runs of the good versions.
fn good_ones_run(server: &Machine) -> Result<()> {
    for (unit, app, arguments) in [
        ("simple.service", "simple", "1"),
        ("notify.service", "notify", "1"),
        ("forking.service", "forking", "1"),
        ("still.service", "still", "1"),
        ("many@a.service", "many", "1 a"),
        ("many@b.service", "many", "1 b"),
    ] {
        assert_eq!(runs(server, unit)?, work(app, arguments), "{unit}");
    }
    let states = server.sh("systemctl is-active once.service tick.timer plug.socket watch.path | xargs; ls /run/once-1 /run/tick-1 | xargs")?;
    assert_eq!(states, "inactive active active active\n/run/once-1 /run/tick-1");
    Ok(())
}

#[test]
fn each_kind_of_unit_is_judged_by_what_it_is_for() -> Result<()> {
    let scenario = Scenario::new()?;
    let server = scenario.server("web-1")?;
    let mut releases = Vec::new();
    for (name, good, bad, reason) in kinds() {
        let app = App::new(&scenario, name)?;
        releases.push((released(&app, &good)?, released(&app, &bad)?, reason));
    }

    let good: Vec<_> = releases.iter().map(|(good, ..)| good.clone()).collect();
    deploy_together(&scenario, &server, &good)?;
    for release in &good {
        scenario.wait_until_converged(&server, release)?;
    }
    good_ones_run(&server)?;
    assert_eq!(server.sh("systemctl is-enabled still.service")?, "static", "and that is no drift");

    server.sh("rm /run/once-1 /run/tick-1 && touch /run/watched")?;
    server.wait_until("the path has started its service", Duration::from_secs(10), |server| {
        Ok(server.run("test -e /run/watched-1")?.success().then_some(()))
    })?;
    let bad: Vec<_> = releases.iter().map(|(_, bad, _)| bad.clone()).collect();
    deploy_together(&scenario, &server, &bad)?;
    for (good, bad, reason) in &releases {
        let app = scenario.wait_for_app(&server, bad, AppState::Quarantined)?;
        assert_eq!(app.installed.as_ref(), Some(good));
        assert!(app.reason.as_ref().is_some_and(|told| told.contains(reason)), "{reason}: {app:?}");
    }
    good_ones_run(&server)
}

#[test]
fn the_next_connection_to_a_socket_starts_the_new_program() -> Result<()> {
    let scenario = Scenario::new()?;
    let server = scenario.server("web-1")?;
    let socket = |port: u16, keys: &str| {
        format!("[Socket]\nListenStream=127.0.0.1:{port}\n{keys}[Install]\nWantedBy=sockets.target\n")
    };
    // One whose service only the socket starts, one whose service runs from the start, and one with a service for each
    // connection.
    let answer = App::with_program(&scenario, "answer", ANSWERS)?;
    let both = App::with_program(&scenario, "both", ANSWERS)?;
    let each = App::new(&scenario, "each")?;
    let mut versions = Vec::new();
    for version in ["1", "2"] {
        let service = |app: &str, keys: &str| format!("{keys}[Service]\nExecStart=/usr/lib/{app}/work {version}\n");
        let connection = "StandardInput=socket\nStandardOutput=journal\n";
        versions.push([
            answer.release(
                "",
                &[("answer.socket", &socket(8300, "")), ("answer.service", &service("answer", TRIGGERED))],
            )?,
            both.release("", &[("both.service", &service("both", "")), ("both.socket", &socket(8301, ""))])?,
            each.release(
                "",
                &[
                    ("each.socket", &socket(8302, "Accept=yes\n")),
                    ("each@.service", &format!("{}{connection}", service("each", ""))),
                ],
            )?,
        ]);
    }
    let connect = |client: &str, expected: &[&str]| -> Result<()> {
        server.sh(&format!(
            "systemd-run --quiet --unit={client} bash -c 'exec 3<>/dev/tcp/127.0.0.1/8302; exec sleep infinity'"
        ))?;
        let connections = "for process in /proc/[0-9]*; do tr '\\0' ' ' <$process/cmdline; echo; done 2>/dev/null \
                           | sed -n 's#^/usr/bin/perl /usr/lib/each/work ##p' | sort | xargs";
        server.wait_until("each connection has its program", Duration::from_secs(10), |server| {
            Ok((server.sh(connections)? == expected.join(" ")).then_some(()))
        })
    };
    for (at, expected) in [(0, vec!["1"]), (1, vec!["1", "2"])] {
        let releases: &[ReleaseName] = &versions[at];
        let version = expected[at];
        deploy_together(&scenario, &server, releases)?;
        for release in releases {
            scenario.wait_until_converged(&server, release)?;
        }
        for (app, port) in [("answer", 8300), ("both", 8301)] {
            assert_eq!(server.http(port, "/")?.body, format!("answer {version}\n"), "{app}");
            assert_eq!(runs(&server, &format!("{app}.service"))?, work(app, version));
        }
        // A connection that was there goes on with the program that it has.
        connect(&format!("client-{version}"), &expected)?;
    }
    Ok(())
}

/// Answers every request with the status line that it is given, as soon as it has waited for so many seconds.
const SERVES: &str = r#"#!/usr/bin/perl
use strict;
use IO::Socket::INET;
my ($port, $wait, $status) = @ARGV;
if ($port eq "limits") {
    print scalar `systemctl show --property=MemoryMax --property=TasksMax $wait | sort | xargs`;
    exit 1;
}
select(undef, undef, undef, $wait);
my $server = IO::Socket::INET->new(LocalAddr => "127.0.0.1:$port", Listen => 16, ReuseAddr => 1) or die "$!\n";
while (my $client = $server->accept) {
    while (<$client>) { last if /^\r?\n$/ }
    print $client "HTTP/1.0 $status\r\nLocation: http://127.0.0.1:8401/\r\n\r\nsaid by $port\n";
    close $client;
}
"#;

#[test]
fn each_kind_of_check_decides_whether_a_release_stays() -> Result<()> {
    let scenario = Scenario::new()?;
    let server = scenario.server("web-1")?;
    let pace = "interval = \"200ms\", attempts = 3";
    let http = |port: u16| format!("http = \"http://127.0.0.1:{port}/healthz\", {pace}");
    let cases = [
        ("good", "8401 0 '200 OK'", http(8401), None),
        (
            "late",
            "8402 4 '204 No Content'",
            "http = \"http://localhost:8402/\", interval = \"200ms\", attempts = 100".into(),
            None,
        ),
        ("failing", "8403 0 '503 Unavailable'", http(8403), Some("its status is 503: said by 8403")),
        ("moved", "8404 0 '302 Found'", http(8404), Some("its status is 302, and redirects are not followed")),
        ("open", "8405 0 '500 x'", format!("tcp = \"127.0.0.1:8405\", {pace}"), None),
        ("closed", "8406 0 '200 OK'", format!("tcp = \"127.0.0.1:8499\", {pace}"), Some("nothing listens there")),
        (
            "loud",
            "8407 0 '200 OK'",
            "command = [\"/usr/bin/yes\", \"loud\"], timeout = \"2s\", attempts = 1".to_owned(),
            Some("`/usr/bin/yes loud` failed: it did not end within 2s; output: "),
        ),
        // Of the service that it runs in: a machine without the kernel's controllers would not show it otherwise.
        (
            "limited",
            "8409 0 '200 OK'",
            "command = [\"/usr/lib/limited/work\", \"limits\", \"pulld-check-limited.service\"], attempts = 1"
                .to_owned(),
            Some("MemoryMax=536870912 TasksMax=256"),
        ),
        ("passing", "8408 0 '200 OK'", "command = [\"/bin/true\"]".to_owned(), None),
    ];
    let mut releases = Vec::new();
    for (name, arguments, check, _) in &cases {
        let app = App::with_program(&scenario, name, SERVES)?;
        let service =
            format!("[Service]\nExecStart=/usr/lib/{name}/work {arguments}\n[Install]\nWantedBy=multi-user.target\n");
        releases.push(app.release(&format!("check = {{ {check} }}"), &[(&format!("{name}.service"), &service)])?);
    }
    // Kibibytes in use below /run, which is memory, all the while.
    server.sh("systemd-run --quiet --unit=used sh -c 'while sleep 0.1; do df --output=used /run | tail -1; done >/var/tmp/used'")?;
    deploy_together(&scenario, &server, &releases)?;
    for (release, (_, _, _, reason)) in releases.iter().zip(&cases) {
        let Some(reason) = reason else {
            scenario.wait_until_converged(&server, release)?;
            continue;
        };
        let app = scenario.wait_for_app(&server, release, AppState::Quarantined)?;
        assert_eq!(app.installed, None);
        assert!(app.reason.as_ref().is_some_and(|told| told.contains(reason)), "{reason}: {app:?}");
        assert!(app.reason.as_ref().is_some_and(|told| told.len() < 2000), "{app:?}");
    }
    let used = server.sh("systemctl stop used; sort -n /var/tmp/used | sed -n '1p;$p'")?;
    let used: Vec<u64> = used.lines().map(|line| line.trim().parse().context("a number")).collect::<Result<_>>()?;
    assert!(used[1] - used[0] < 16 << 10, "what the check printed filled /run: {used:?} KiB");
    Ok(())
}
