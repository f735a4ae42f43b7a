//! What is wrong with a file: all of it is said at once, each mistake once and with its place.

use pipeline::{Known, Leads, read};

use crate::{ALL, checked, stages};

/// The mistakes of a file without its name, in order.
#[track_caller]
fn mistakes(config: &str, known: &Known) -> Vec<String> {
    let found = checked(config, known, &["test"]).expect_err(config);
    found.iter().map(|text| text.replace(".pipeline/config.yaml:", "")).collect()
}

#[test]
fn one_mistake_hides_no_other() {
    let config = "concurrency: many
colour: red
pipelines:
  web:
    execution: [[unit, lint], [lint, candidte], [candidate, late], [candidate, ship], [unit, setup]]
    stages:
      - { name: unit, build: test, run: true, color: red }
      - { name: lint, build: tset, run: { arguments: ['${late.x}'] } }
      - { name: candidate, publish: { package: { name: web } } }
      - { name: ship, channel: [{ app: web }], deploy: false }
      - { name: late, copy: [], exports: { x: '${unit.outptu}', x: y } }
      - { run: { tail: -1, arguments: ['${lint.output}', '${nothing.x}'] } }
      - { name: late, channel: [{ app: wbe }] }
      -
  a b: { variants: ../x, stages: [{ name: '.x', deploy: { server: '${ship.x}', wait: 0s } }] }
";
    let found = mistakes(config, &Known { require_trial: true, ..ALL });
    let expected = [
        "1:14: `concurrency` is a whole number from 1 to 1000, not `many`",
        "2:1: unknown key `colour`; known: `concurrency`, `pipelines`",
        "5:38: `candidte` is none of `stages`; did you mean `candidate`?; there are `unit`, `lint`, `candidate`, `ship`, `late`",
        "5:94: `setup` is always there, and is not named",
        "7:47: unknown key `color`; known: `name`, `build`, `run`, `copy`, `publish`, `deploy`, `channel`, `exports`, `variant`, \
         `testDeploy`",
        "8:30: there is no variant `tset`; did you mean `test`?; there are `test`",
        "8:55: cannot read `late.x` in `lint`: `lint` does not follow `late`",
        "10:33: the channel `prod` of `web` is moved to what was tried on no server: let a `deploy` of what is published of `web` come \
         first",
        "10:56: `deploy`: `false` means nothing: leave it out",
        "11:29: `copy` is empty, which means nothing: leave it out",
        "11:47: `unit` gives no `outptu`; did you mean `output`?; it gives `buildDirectory`, `output`",
        "11:65: the key `x` is given twice, first in line 11",
        "12:9: a stage lacks `name`",
        "12:16: `run` in `` has nothing to run: `build` says of which variant",
        "12:24: `tail` is a whole number from 0 to 10000, not `-1`",
        "12:40: cannot read `lint.output` in ``: `` does not follow `lint`",
        "12:58: there is no stage `nothing`; there are `unit`, `lint`, `candidate`, `ship`, `late`",
        "13:9: there are two stages `late`, the first in line 11",
        "13:33: release.toml has no package `wbe`; did you mean `web`?; there are `web`, `serviceTwo`",
        "14:8: a stage is a name or a map of keys, not nothing",
        "15:3: a pipeline cannot be called `a b`: it has the character ` `, and only letters, digits, `.`, `_` and `-` are allowed",
        "15:20: `variants` cannot be `../x`: it leads out by `..`",
        "15:43: the name of a stage cannot be `.x`: it begins with `.`",
        "15:67: there is no stage `ship`; there are `.x`",
        "15:86: `wait` cannot be nothing",
    ];
    assert_eq!(found, expected);
}

#[test]
fn what_a_mistake_hides_is_not_said_to_be_missing() {
    let released = "{ name: one, publish: { package: { name: web } } }";
    for (list, expected) in [
        ("{ name: a, bulid: test, run: true, exports: { x: '${.output} ${.none}' } }", "unknown key `bulid`"),
        ("{ name: a, exports: { x: '${ .y }' } }, { name: b, exports: { z: '${a.x}' } }", "`${ .y }` is no value"),
        ("{ name: a, bulid: test, publish: { image: true } }", "unknown key `bulid`"),
        ("{ name: a, run: false, exports: { x: '${.output}' } }", "`run`: `false` means nothing"),
        ("{ name: a, publish: { package: { name: [] } }, channel: [{ app: web }] }", "is a text, not a list"),
        ("{ name: a, publish: { package: { name: [] } }, deploy: true }", "is a text, not a list"),
        (
            &format!(
                "{released}, {{ name: b, deploy: {{ server: s, wait: soon }} }}, {{ name: c, channel: [{{ app: web }}] }}"
            ),
            "`wait` cannot be `soon`",
        ),
        (
            &format!("{released}, {{ name: b, deplyo: {{ server: s }} }}, {{ name: c, channel: [{{ app: web }}] }}"),
            "unknown key `deplyo`; did you mean `deploy`?",
        ),
        // Of what has nothing to do with it all is said.
        (&format!("{released}, {{ name: b, bulid: test, channel: [{{ app: web }}] }}"), "2"),
    ] {
        let config = format!("pipelines: {{ web: {{ stages: [{list}] }} }}\n");
        let found = mistakes(&config, &Known { require_trial: true, ..ALL });
        match expected.parse::<usize>() {
            Ok(count) => assert_eq!(found.len(), count, "{list}: {found:?}"),
            Err(_) => assert!(found.len() == 1 && found[0].contains(expected), "{list}: {found:?}"),
        }
    }
    // Of variants whose file has a mistake in it the names are known.
    let config =
        "pipelines: { web: { stages: [{ name: a, build: test, run: true }, { name: b, build: tset, run: true }] } }\n";
    let found = read(config.as_bytes(), &ALL, |_| Ok(b"variants: { test: { entrypiont: [x] } }".to_vec())).unwrap_err();
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert!(found.len() == 2 && found[0].contains("there is no variant `tset`"), "{found:?}");
    assert!(found[1].starts_with(".pipeline/web/variants.yaml:1:21: unknown key `entrypiont`"), "{found:?}");
}

#[test]
fn what_means_nothing_is_a_mistake_where_it_stands() {
    for (stage, expected) in [
        ("publish: []", "7:18: `publish` is empty, which means nothing: leave it out"),
        (
            "publish: {}",
            "7:18: `publish` says nothing: `package: { name: APP }` makes a release, `image: true` an image",
        ),
        ("publish:", "7:16: `publish` says nothing: `package: { name: APP }` makes a release, `image: true` an image"),
        ("publish: { files: [] }", "7:27: the list of files is empty, which means nothing: leave it out"),
        (
            "publish: [{ type: files, paths: [] }]",
            "7:41: the list of files is empty, which means nothing: leave it out",
        ),
        ("publish: { image: false }", "7:27: `image`: `false` means nothing: leave it out"),
        ("copy: []", "7:15: `copy` is empty, which means nothing: leave it out"),
        ("channel: []", "7:18: `channel` is empty, which means nothing: leave it out"),
        ("exports: {}", "7:18: `exports` is empty, which means nothing: leave it out"),
        ("run: false", "7:14: `run`: `false` means nothing: leave it out"),
        ("deploy: false", "7:17: `deploy`: `false` means nothing: leave it out"),
        ("testDeploy: []", "7:21: a stage has one trial: give each other one a stage of its own"),
    ] {
        let config = format!(
            "pipelines:\n  web:\n    stages:\n      -\n        name: a\n        build: test\n        {stage}\n"
        );
        assert_eq!(mistakes(&config, &ALL), [expected], "{stage}");
    }
    assert_eq!(mistakes("pipelines: {}\n", &ALL), ["1:12: `pipelines` is empty"]);
    let none = "pipelines: { web: { stages: [] } }\n";
    assert_eq!(mistakes(none, &ALL), ["1:29: `stages` is empty, which means nothing: leave it out"]);
}

#[test]
fn the_stages_that_are_always_there_are_neither_written_nor_named() {
    for name in ["setup", "teardown"] {
        let list = format!("stages: [{name}, {{ name: a, exports: {{ x: y }} }}]");
        let written = mistakes(&format!("pipelines: {{ web: {{ {list} }} }}\n"), &ALL);
        assert!(
            written.iter().any(|text| text.contains(&format!("a stage cannot be called `{name}`: that one is always")))
        );
        let named = format!(
            "pipelines: {{ web: {{ execution: [[a, {name}]], stages: [{{ name: a, exports: {{ x: y }} }}] }} }}\n"
        );
        assert_eq!(mistakes(&named, &ALL), [format!("1:37: `{name}` is always there, and is not named")]);
    }
}

#[test]
fn of_what_others_have_it_is_said_what_to_use_here() {
    let stage = |keys: &str| format!("pipelines: {{ web: {{ stages: [{{ name: a, build: test, {keys} }}] }} }}\n");
    for (config, instead) in [
        (stage("run: { credentials: [x] }"), "`credentials` is not known here: `[pipeline] pass` in release.toml"),
        (stage("credentials: [x]"), "`credentials` is not known here: `[pipeline] pass` in release.toml"),
        (stage("run: { image: x }"), "`image` is not known here: `publish: { image: true }` makes an image"),
        (stage("deploy: { server: s, release: r, image: x }"), "`image` is not known here: `publish: { image: true }`"),
        (
            stage("deploy: { server: s, release: r, chart: { name: x } }"),
            "`chart` is not known here: there are no charts",
        ),
        (stage("chart: x"), "`chart` is not known here: there are no charts"),
        (stage("promote: true"), "`promote` is not known here: `channel: [{ app: APP, channel: prod }]`"),
        (
            stage("notify: { email: a@example.org }"),
            "`notify` is not known here: the exit status, `--json` and `--junit`",
        ),
        (stage("run: true").replace("test", "{ variant: test, imagePullPolicy: x }"), "there are no images to pull"),
        (
            "trigger: x\npipelines: { web: { stages: [{ name: a, exports: { x: y } }] } }\n".to_owned(),
            "calls `release run PIPELINE`",
        ),
        (
            "pipelines: { web: { trigger: x, stages: [{ name: a, exports: { x: y } }] } }\n".to_owned(),
            "calls `release run PIPELINE`",
        ),
        (
            "pipelines: { web: { helmConfig: x, stages: [{ name: a, exports: { x: y } }] } }\n".to_owned(),
            "there are no charts",
        ),
    ] {
        let found = mistakes(&config, &ALL);
        assert!(found.len() == 1 && found[0].contains(instead), "{config}: {found:?}\nexpected: {instead}");
    }
}

#[test]
fn names_have_at_most_64_characters_and_are_words() {
    let config = |name: &str| {
        format!(
            "pipelines: {{ {name}: {{ stages: [{{ name: {name}, build: {name}, exports: {{ {name}: y }} }}], variants: v }} }}\n"
        )
    };
    let right = "x".repeat(64);
    let variants = format!("variants: {{ {right}: {{}} }}");
    assert!(read(config(&right).as_bytes(), &ALL, |_| Ok(variants.clone().into_bytes())).is_ok());
    for (wrong, reason) in
        [("x".repeat(65).as_str(), "it is longer than 64 characters"), ("é", "it has the character `é`")]
    {
        let found = mistakes(&config(wrong), &ALL);
        let said = [
            "a pipeline cannot be called",
            "the name of a stage cannot be",
            "a variant cannot be",
            "a value cannot be called",
        ];
        assert_eq!(found.len(), said.len(), "{found:?}");
        assert!(
            said.iter().all(|said| found.iter().any(|text| text.contains(said) && text.contains(reason))),
            "{found:?}"
        );
    }
}

#[test]
fn paths_are_relative_and_lead_nowhere_else() {
    let variants = "pipelines: { web: { variants: PATH } }\n";
    let directory = "pipelines: { web: { directory: PATH, stages: [{ name: a, exports: { x: y } }] } }\n";
    let copy = |copy: &str| format!("pipelines: {{ web: {{ stages: [{{ name: a, copy: [{copy}] }}] }} }}\n");
    for (what, config) in [
        ("`variants`", variants.to_owned()),
        ("`directory`", directory.to_owned()),
        ("a path", copy("PATH")),
        ("`source`", copy("{ source: PATH }")),
        ("`destination`", copy("{ source: a, destination: PATH }")),
    ] {
        for (path, reason) in [
            ("/etc/passwd", "it begins at the root: write it relative"),
            ("../x", "it leads out by `..`"),
            ("a/../../x", "it leads out by `..`"),
            ("''", "it is empty"),
        ] {
            let found = mistakes(&config.replace("PATH", path), &ALL);
            let shown = path.trim_matches('\'');
            let expected = format!("{what} cannot be `{shown}`: {reason}");
            assert!(found.len() == 1 && found[0].ends_with(&expected), "{found:?}\nexpected: {expected}");
        }
    }
}

#[test]
fn of_very_many_names_some_are_listed() {
    let many: Vec<String> = (0..50).map(|nth| format!("{{ name: s{nth}, exports: {{ x: y }} }}")).collect();
    let config = format!(
        "pipelines: {{ web: {{ stages: [{}, {{ name: a, exports: {{ x: '${{other.x}}' }} }}] }} }}\n",
        many.join(", ")
    );
    let found = mistakes(&config, &ALL);
    assert!(found.len() == 1 && found[0].contains("there is no stage `other`; there are `s0`, `s1`, "), "{found:?}");
    assert!(found[0].ends_with("`s19` and 31 more"), "{found:?}");
}

#[test]
fn all_mistakes_are_said_at_once_each_with_its_place() {
    let config = stages(
        "      - { name: unit, build: tset, run: true }
      - { name: setup, build: test }
      - { name: candidate, bulid: production, publish: { package: { name: wbe } } }
      - { name: lint, build: test, run: { arguments: ['${unit.outptu}', '${ .x }'] } }
      - { name: staging, deploy: { release: '${candidate.release}', wait: soon } }
      - { name: ship, promote: true, channel: [{ app: web, channel: pr od }] }
      - { name: lint }
      - { name: late, copy: [../x, { source: a, from: nowhere }] }
",
    );
    let expected = [
        ".pipeline/config.yaml:4:30: there is no variant `tset`; did you mean `test`?; there are `production`, `test`",
        ".pipeline/config.yaml:5:17: a stage cannot be called `setup`: that one is always there",
        ".pipeline/config.yaml:6:28: unknown key `bulid`; did you mean `build`?; known: `name`, `build`, `run`, `copy`, `publish`, \
         `deploy`, `channel`, `exports`, `variant`, `testDeploy`",
        ".pipeline/config.yaml:6:67: release.toml has no package `wbe`; did you mean `web`?; there are `web`, `serviceTwo`",
        ".pipeline/config.yaml:7:55: `unit` gives no `outptu`; did you mean `output`?; it gives `buildDirectory`, `output`",
        ".pipeline/config.yaml:7:73: `${ .x }` is no value: write `${stage.name}`, `${.name}` or `${stage.name|default}`, without \
         spaces; only what has no dot stays as it is",
        ".pipeline/config.yaml:8:34: `deploy` lacks `server`: on which the release is tried",
        ".pipeline/config.yaml:8:75: `wait` cannot be `soon`: write a duration as in `90s`, `5m` or `1h30m`",
        ".pipeline/config.yaml:9:23: `promote` is not known here: `channel: [{ app: APP, channel: prod }]` moves a channel to the \
         release",
        ".pipeline/config.yaml:9:69: invalid channel name `pr od`: it has the character ` `",
        ".pipeline/config.yaml:10:9: there are two stages `lint`, the first in line 7",
        ".pipeline/config.yaml:10:9: there is no variant `lint`; there are `production`, `test`",
        ".pipeline/config.yaml:11:30: a path cannot be `../x`: it leads out by `..`",
        ".pipeline/config.yaml:11:36: there is no stage `nowhere`; there are `unit`, `setup`, `candidate`, `lint`, `staging`, `ship`, `late`",
    ];
    let found = checked(&config, &ALL, &["test", "production"]).unwrap_err();
    let found: Vec<&str> = found.iter().map(String::as_str).collect();
    assert_eq!(found, expected);
}

#[test]
fn variants_that_cannot_be_read_are_said_with_their_file() {
    let config = stages("      - { name: unit, build: test, run: true }\n");
    let said = |file: Result<&str, &str>| {
        let read = read(config.as_bytes(), &ALL, |path| {
            assert_eq!(path, ".pipeline/web/variants.yaml");
            file.map(|file| file.as_bytes().to_vec()).map_err(str::to_owned)
        });
        read.unwrap_err().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let missing = said(Err("is missing"));
    let expected = ".pipeline/config.yaml:2:3: `.pipeline/web/variants.yaml`, which says how the variants of `web` are built, is missing";
    assert_eq!(missing, expected);
    let broken = said(Ok("variants: [a"));
    assert!(broken.starts_with(".pipeline/web/variants.yaml:2:1:") && broken.contains("this is not YAML"), "{broken}");
    let without = said(Ok("variants: { test: {} }"));
    assert_eq!(without, ".pipeline/config.yaml:4:41: the variant `test` has no `entrypoint` to run");
}

#[test]
fn directories_are_there_and_no_path_leads_out() {
    let leads = |path: &str| match path {
        "src/web" | "src/web/report.xml" => Ok(Leads::Directory),
        "out" | "src/web/out/*" | "src/web/out" => Ok(Leads::Out),
        "odd" => Err("cannot be looked at".to_owned()),
        _ => Ok(Leads::Elsewhere),
    };
    let known = Known { leads: &leads, ..ALL };
    let config = |directory: &str, copy: &str| {
        format!(
            "pipelines:\n  web:\n    directory: {directory}\n    stages:\n      - {{ name: unit, copy: [{copy}] }}\n"
        )
    };
    let said = |directory: &str, copy: &str| checked(&config(directory, copy), &known, &[]).err().unwrap_or_default();
    assert_eq!(said("src/web", "report.xml"), [] as [&str; 0]);
    assert_eq!(said(".", "made"), [] as [&str; 0]);
    let of = |reason: &str| [format!(".pipeline/config.yaml:2:3: the directory {reason}")];
    assert_eq!(said("none", "made"), of("`none` of the pipeline `web` is no directory of the repository"));
    assert_eq!(said("out", "made"), of("`out` of the pipeline `web` is a link that leads out of the repository"));
    assert_eq!(said("odd", "made"), of("`odd` of the pipeline `web` cannot be looked at"));
    for (copy, reason) in [
        ("'out/*'", "`source` cannot be `out/*`: it is a link that leads out of the repository"),
        (
            "{ source: made, destination: out }",
            "`destination` cannot be `out`: it is a link that leads out of the repository",
        ),
    ] {
        assert_eq!(said("src/web", copy), [format!(".pipeline/config.yaml:5:30: {reason}")]);
    }
}
