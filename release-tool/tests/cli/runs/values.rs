//! What stages give to each other, and what they see of whoever started the run.

use std::fs;

use crate::runs::{objects, project, ran, results, stages, why};

#[test]
fn a_value_arrives_as_one_argument_whatever_is_in_it() {
    let config = stages(
        r"      - { name: first, build: say, run: { tail: 3 }, exports: { said: '${.output}', empty: '' } }
      - { name: second, build: count, run: { arguments: ['${first.said}', '${first.empty|none}', '${HOME}', 'at ${setup.project}/${setup.pipeline}/${setup.stage}'], env: { SEEN: '${first.said}' } } }
",
    );
    let variants = r#"variants:
  say: { entrypoint: [printf, 'left out\na ''b'' "c"\n$(touch ran) `x`\n;d &&\n'] }
  count: { entrypoint: [sh, -c, 'printf "%s: <%s>\n" "$#" "$@"; printf "seen <%s>\n" "$SEEN"', sh] }
"#;
    let project = project("[pipeline]\nproject = \"acme\"\n", &config, variants);
    let (found, said) = ran(&project, &[], 0);
    assert_eq!(found["project"], "acme");
    let given = "a 'b' \"c\"\nsecond | $(touch ran) `x`\nsecond | ;d &&";
    for expected in [
        format!("second | 4: <{given}>\nsecond | none: <${{HOME}}>\nsecond | at acme/web/second: <>\n"),
        format!("second | seen <{given}>\n"),
    ] {
        assert!(said.contains(&expected), "{said}\nexpected: {expected}");
    }
}

#[test]
fn what_is_known_of_a_run_and_where_a_stage_builds_can_be_read() {
    let config = stages(
        "      - { name: made, build: make }
      - { name: seen, build: see, run: { arguments: ['${made.buildDirectory}', '${.buildDirectory}', '${setup.project} ${setup.branch} ${setup.tag}', \
         '${setup.remote}', '${setup.note}', '${setup.timestamp}', '${setup.commit}', '<${setup.change}>'] } }
",
    )
    .replace("stages:", "directory: etc\n    stages:");
    let variants = "variants:
  make: { build: [[sh, -c, 'echo made > made']] }
  see: { entrypoint: [sh, -c, 'cat \"$1/made\"; test \"$2\" = \"$PWD\" && echo here; shift 2; printf \"= %s\\n\" \"$@\"', sh] }
";
    let project = project("", &config, variants);
    // What the project is called without a word of it in release.toml, and of whoever may fetch there nothing is shown.
    project.git(&["remote", "add", "origin", "https://dev:s3cret@git.example/acme/shop.git"]);
    project.git(&["tag", "v1"]);
    let (found, said) = ran(&project, &["-m", "a note"], 0);
    assert_eq!(found["project"], "shop");
    let lines: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("seen | ")).collect();
    let shown: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("= ")).collect();
    let [project_branch_tag, remote, note, timestamp, commit, change] = shown[..] else { panic!("{said}") };
    assert!(lines.contains(&"made") && lines.contains(&"here"), "{said}");
    assert_eq!((project_branch_tag, remote, note), ("shop main v1", "https://git.example/acme/shop.git", "a note"));
    assert_eq!((commit, change), (found["commit"].as_str().unwrap(), "<>"));
    // As in 20261126T233000Z, and when the run began.
    let began: String = found["began"].as_str().unwrap().chars().filter(char::is_ascii_alphanumeric).collect();
    assert!(
        timestamp.len() == 16 && timestamp[..15] == began[..15] && timestamp.ends_with('Z'),
        "{timestamp} of {found}"
    );
    assert!(!said.contains("s3cret"), "{said}");
}

#[test]
fn what_is_said_becomes_a_value_in_utf8_and_of_what_is_too_long_the_end() {
    let config = stages(
        "      - { name: bytes, build: bytes, run: { tail: 1 }, exports: { x: '${.output}' } }
      - { name: long, build: long, run: { tail: 1 } }
      - { name: cut, build: cut, run: { tail: 1 } }
      - { name: seen, build: seen, run: { arguments: ['${bytes.x}', '${long.output}'] } }
",
    );
    let variants = r#"variants:
  bytes: { entrypoint: [printf, 'a\377b\n'] }
  long: { entrypoint: [sh, -c, 'printf begin; head -c 100000 /dev/zero | tr "\0" x; echo end'] }
  cut: { entrypoint: [sh, -c, 'i=0; while [ $i -lt 4000 ]; do printf "ééééééééé"; i=$((i + 1)); done; echo'] }
  seen: { entrypoint: [sh, -c, 'echo "$1"; printf "%s" "$2" | wc -c; printf "%s" "$2" | tail -c 3', sh] }
"#;
    let project = project("", &config, variants);
    let (_, said) = ran(&project, &[], 0);
    for expected in [
        "bytes | what it says is not UTF-8: in `output`, other bytes are replaced",
        "long | only the last 64 KiB of what it says are kept as `output`",
        "cut | only the last 64 KiB of what it says are kept as `output`",
        "seen | a\u{fffd}b\n",
        "seen | 65535\n",
        "seen | end\n",
    ] {
        assert!(said.contains(expected), "{}\nexpected: {expected}", said.replace("xx", ""));
    }
    // Cut in the middle of a character it is UTF-8 all the same.
    assert!(!said.contains("cut | what it says is not UTF-8"), "{}", said.replace("éé", ""));
}

#[test]
fn a_stage_sees_nothing_of_who_started_the_run() {
    let config = stages("      - { name: look, build: look, run: true }\n");
    let variants =
        "variants: { look: { env: { OWN: x }, entrypoint: [sh, -c, 'env | sort; cat; ls -A \"$HOME\"'] } }\n";
    let rest = "[pipeline]\npass = [\"CARGO_HOME\", \"UNSET\"]\n";
    let project = project(rest, &config, variants);
    let mut command = crate::runs::run(&project, &["--json"]);
    let secret = "s3cret-of-the-caller";
    for name in ["GITHUB_TOKEN", "GOOGLE_APPLICATION_CREDENTIALS", "PUSH_METRICS_TOKEN", "SSH_AUTH_SOCK", "HTTP_PROXY"]
    {
        command.env(name, secret);
    }
    command.env("CARGO_HOME", "/cargo").env("HOME", "/root/home-of-the-caller").env("LANG", "de_DE");
    let output = crate::outcome::Run::assert(&mut command).success().get_output().clone();
    let said = crate::runs::said(&output);
    let shown: Vec<&str> =
        said.lines().filter_map(|line| line.strip_prefix("look | ")).filter(|line| line.contains('=')).collect();
    let names: Vec<&str> = shown.iter().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    let expected = [
        "CARGO_HOME",
        "CI",
        "HOME",
        "LANG",
        "OWN",
        "PATH",
        "PUSH_COMMIT",
        "PUSH_PIPELINE",
        "PUSH_STAGE",
        "PWD",
        "SOURCE_DATE_EPOCH",
    ];
    // A shell sets some by itself.
    let own = ["OLDPWD", "SHLVL", "_"];
    let seen: Vec<&str> = names.into_iter().filter(|name| !own.contains(name)).collect();
    assert_eq!(seen, expected, "{said}");
    for line in ["CI=true", "LANG=C.UTF-8", "PUSH_PIPELINE=web", "PUSH_STAGE=look", "CARGO_HOME=/cargo"] {
        assert!(shown.contains(&line), "{line}: {said}");
    }
    assert!(!said.contains(secret) && !said.contains("home-of-the-caller"), "{said}");
    let found: serde_json::Value = serde_json::from_str(&crate::project::stdout(&output)).unwrap();
    let logs = project.path("dist/runs").join(found["run"].as_str().unwrap()).join("web");
    let logged: Vec<String> =
        fs::read_dir(logs).unwrap().map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap()).collect();
    assert!(logged.len() == 1 && logged[0].contains("PUSH_STAGE=look"), "{logged:?}");
    assert!(!logged[0].contains(secret) && !found.to_string().contains(secret), "{logged:?}");
    for path in objects(&project, "runs/") {
        let record = fs::read_to_string(project.beside("bucket").join(&path)).unwrap();
        assert!(!record.contains(secret), "{path}: {record}");
    }
    assert_eq!(objects(&project, "runs/").len(), 1);
}

#[test]
fn files_go_from_stage_to_stage_and_into_the_bucket_and_never_come_from_elsewhere() {
    let config = stages(
        "      - { name: unit, build: unit, copy: [{ source: 'out/*.xml', archive: true }, { source: .hidden, archive: true }] }
      - { name: pack, copy: [{ source: out, from: unit, destination: got }, { source: got/a.xml, destination: b.xml, archive: true }] }
      - { name: steal, build: steal, copy: [{ source: passwd, archive: true }] }
",
    );
    let variants = "variants:
  unit: { build: [[mkdir, out], [sh, -c, 'echo A > out/a.xml; echo T > out/t.txt; echo H > .hidden']] }
  steal: { build: [[ln, -s, /etc/passwd, passwd]] }
";
    let project = project("", &config, variants);
    let (found, _) = ran(&project, &[], 1);
    assert_eq!(results(&found), ["unit passed", "pack passed", "steal failed"]);
    assert_eq!(why(&found, "steal"), "`passwd` is a link that leads out of the stage's copy");
    let run = found["run"].as_str().unwrap();
    let at = format!("artifacts/project/{run}/web");
    let expected = [format!("{at}/pack/b.xml"), format!("{at}/unit/%2Ehidden"), format!("{at}/unit/out/a.xml")];
    assert_eq!(objects(&project, "artifacts/"), expected);
    assert_eq!(fs::read_to_string(project.beside("bucket").join(&expected[0])).unwrap(), "A\n");
    let kept: Vec<&str> = found["pipelines"][0]["artifacts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|kept| kept["path"].as_str().unwrap())
        .collect();
    assert_eq!(kept, ["out/a.xml", ".hidden", "b.xml"]);
}
