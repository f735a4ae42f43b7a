//! Whole files: what they mean with every default filled in, and all that is said against them at once.

use pipeline::{Action, Checked, Known, Leads, read};

const PACKAGES: &[&str] = &["web", "serviceTwo"];
const ALL: Known<'static> = Known {
    project: Some("web"),
    packages: PACKAGES,
    chosen: &[],
    allowed: &Action::ALL,
    require_trial: false,
    leads: &|_| Ok(Leads::Directory),
    refused: &|_| Vec::new(),
};

/// A file with variants of these names, each with an entry point.
fn checked(config: &str, known: &Known, variants: &[&str]) -> Result<Checked, Vec<String>> {
    let names: Vec<String> =
        variants.iter().map(|name| format!("{name}: {{ entrypoint: [run], root: out }}")).collect();
    let file = format!("variants: {{ {} }}", names.join(", "));
    let read = read(config.as_bytes(), known, |_| Ok(file.clone().into_bytes()));
    read.map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

/// The stages of one pipeline `web`.
fn stages(stages: &str) -> String {
    format!("pipelines:\n  web:\n    stages:\n{stages}")
}

#[test]
fn every_short_form_and_older_spelling_means_what_the_table_says() {
    let variants = ["test", "production", "phpunit", "mocha", "unit", "lint"];
    let found = checked(include_str!("files/short.yaml"), &ALL, &variants).unwrap();
    let shown = serde_json::to_string_pretty(&found.pipelines).unwrap() + "\n";
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/files/short.json"), &shown).unwrap();
    }
    assert_eq!(shown, include_str!("files/short.json"));
    assert_eq!(found.pipelines.find("web").map(|pipeline| pipeline.stages.len()), Ok(4));
    let missing = found.pipelines.find("wbe").unwrap_err();
    assert!(missing.contains("there is no pipeline `wbe`; did you mean `web`?"), "{missing}");
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
        ".pipeline/config.yaml:4:30: there is no variant `tset`; did you mean `test`?",
        ".pipeline/config.yaml:5:17: a stage cannot be called `setup`: that one is always there",
        ".pipeline/config.yaml:6:28: unknown key `bulid`; did you mean `build`?; known: `name`, `build`, `run`, `copy`, `publish`, \
         `deploy`, `channel`, `exports`, `variant`, `testDeploy`",
        ".pipeline/config.yaml:6:67: release.toml has no package `wbe`; did you mean `web`?",
        ".pipeline/config.yaml:7:55: `unit` gives no `outptu`; did you mean `output`?; it gives `buildDirectory`, `output`",
        ".pipeline/config.yaml:7:73: `${ .x }` is no value: write `${stage.name}`, `${.name}` or `${stage.name|default}`, without \
         spaces; only what has no dot stays as it is",
        ".pipeline/config.yaml:8:34: `deploy` lacks `server`: on which the release is tried",
        ".pipeline/config.yaml:8:75: `wait` cannot be `soon`: write a duration as in `90s`, `5m` or `1h30m`",
        ".pipeline/config.yaml:9:23: `promote` is not known here: `channel: [{ app: APP, channel: prod }]` moves a channel to the \
         release",
        ".pipeline/config.yaml:9:69: invalid channel name `pr od`: it has the character ` `",
        ".pipeline/config.yaml:10:9: there are two stages `lint`, the first in line 7",
        ".pipeline/config.yaml:11:30: a path cannot be `../x`: it leads out by `..`",
        ".pipeline/config.yaml:11:36: there is no stage `nowhere`",
    ];
    let found = checked(&config, &ALL, &["test", "production"]).unwrap_err();
    let found: Vec<&str> = found.iter().map(String::as_str).collect();
    assert_eq!(found, expected);
}

#[test]
fn values_are_read_where_they_are_sure_to_be_there() {
    let config = |execution: &str, read: &str| {
        let stages = format!(
            "      - {{ name: unit, build: test, run: {{ tail: 1 }}, exports: {{ said: '${{.output}}' }} }}
      - {{ name: lint, build: test, run: {{ arguments: ['{read}'] }} }}
      - {{ name: last, build: test }}
"
        );
        format!("pipelines:\n  web:\n    execution: {execution}\n    stages:\n{stages}")
    };
    let chain = "[[unit, lint, last]]";
    for (execution, read, expected) in [
        (chain, "${unit.output}", None),
        (chain, "${unit.said|none}", None),
        (chain, "${setup.commit} ${HOME} ${.buildDirectory}", None),
        ("[[unit, last], [last, lint]]", "${unit.output}", None),
        (
            "[[unit, last], [lint, last]]",
            "${unit.output}",
            Some("cannot read `unit.output` in `lint`: `lint` does not follow `unit`"),
        ),
        (chain, "${last.output}", Some("`lint` does not follow `last`")),
        (chain, "${unit.result}", Some("`unit` gives no `result`; it gives `buildDirectory`, `output`, `said`")),
        (chain, "${setup.comit}", Some("`setup` gives no `comit`; did you mean `commit`?")),
        (chain, "${units.output}", Some("there is no stage `units`; did you mean `unit`?")),
        (chain, "${.output}", Some("cannot read `.output` in `run` of `lint`: `run` does not come before it")),
        (chain, "${.outptu}", Some("`lint` gives no `outptu`; it gives `buildDirectory`")),
    ] {
        let found = checked(&config(execution, read), &ALL, &["test"]).err().unwrap_or_default();
        let whole = found.join("\n");
        assert_eq!(found.len(), usize::from(expected.is_some()), "{read}: {whole}");
        assert!(expected.is_none_or(|expected| whole.contains(expected)), "{read}: {whole}");
    }
    let twice = stages("      - { name: unit, build: test, run: true, exports: { output: x } }\n");
    let found = checked(&twice, &ALL, &["test"]).unwrap_err();
    assert_eq!(found, [".pipeline/config.yaml:4:58: `output` is given already, by an action of this stage"]);
}

#[test]
fn what_is_not_allowed_untried_or_untested_is_said() {
    let config = |middle: &str| {
        stages(&format!(
            "      - {{ name: candidate, build: test, publish: {{ package: {{ name: web }} }} }}\n{middle}      \
             - {{ name: ship, channel: [{{ app: web }}] }}\n"
        ))
    };
    let untried = "the channel `prod` of `web` is moved to what was tried on no server";
    let warned = |config: &str| {
        let found = checked(config, &ALL, &["test"]).unwrap();
        found.warnings.iter().map(|warning| warning.text.clone()).collect::<Vec<_>>()
    };
    let warnings = warned(&config(""));
    assert!(warnings.len() == 2 && warnings[0].contains("nothing before it runs anything"), "{warnings:?}");
    assert!(warnings[1].starts_with(untried), "{warnings:?}");
    let tried = "      - { name: staging, deploy: { server: stage-1, release: '${candidate.release}' } }\n";
    assert_eq!(warned(&config(tried)).len(), 1);
    let strict = Known { require_trial: true, ..ALL };
    assert!(checked(&config(""), &strict, &["test"]).unwrap_err()[0].contains(untried));
    assert!(checked(&config(tried), &strict, &["test"]).is_ok());
    // What another app, or an earlier release, went through says nothing of this one.
    let other = "      - { name: other, publish: { package: { name: serviceTwo } }, exports: { made: '${.release}', built: '${candidate.release}' } }\n";
    for (release, is_enough) in [
        ("${other.release}", false),
        ("${other.made}", false),
        ("web/web:dev@ci:2026-11-20T19:05:00Z:7e0ff6059e653eb75a36efb621d0fd66d1ced433.deb", false),
        ("${other.built}", true),
        // Which one that is turns out in the run.
        ("web/${setup.note}", true),
    ] {
        let middle =
            format!("{other}      - {{ name: staging, deploy: {{ server: stage-1, release: '{release}' }} }}\n");
        let found = checked(&config(&middle), &strict, &["test"]);
        assert_eq!(found.is_ok(), is_enough, "{release}: {found:?}");
        assert!(is_enough || found.unwrap_err()[0].contains("let a `deploy` of what is published of `web` come first"));
    }
    let unmerged = Known { allowed: &["build", "run", "copy", "publish", "exports"], ..ALL };
    let refused = checked(&config(tried), &unmerged, &["test"]).unwrap_err();
    let expected = "not allowed here: `build`, `run`, `copy`, `publish`, `exports` are";
    assert!(refused.len() == 2 && refused.iter().all(|text| text.ends_with(expected)), "{refused:?}");
    assert!(refused[0].contains("`deploy` in `staging` is not allowed here"), "{refused:?}");
}

/// A pipeline with a stage that builds `production` and publishes this, and a file with this of that variant.
fn published(publish: &str, variant: &str) -> Result<Vec<String>, Vec<String>> {
    let config = stages(&format!("      - {{ name: one, build: production, run: true, publish: {publish} }}\n"));
    let file = format!("variants: {{ production: {{ {variant} }} }}");
    let found = read(config.as_bytes(), &ALL, |_| Ok(file.clone().into_bytes()));
    let texts = |problems: Vec<pipeline::Problem>| problems.into_iter().map(|problem| problem.text).collect();
    found.map(|found| texts(found.warnings)).map_err(texts)
}

#[test]
fn an_image_is_made_of_a_variant_or_taken_from_another_builder() {
    const RUN: &str = "entrypoint: [/web]";
    let digest = "0".repeat(64);
    let (root, base) = (format!("{RUN}, root: out"), format!("base: images.example/debian:13@sha256:{digest}"));
    for (publish, variant) in [
        ("{ image: true }", root.as_str()),
        ("{ package: { name: web }, image: { name: '${setup.project}/API' } }", &root),
        ("[{ type: image, tag: '${setup.tag|none}' }, { type: package, name: web }]", &root),
        (
            "{ image: { tags: ['', 'v1', '${setup.tag}'] } }",
            &format!("{root}, {base}, user: '1000:1000', labels: {{ a: b }}"),
        ),
        ("{ image: { from: 'docker-archive:out/image.tar' } }", RUN),
        ("{ image: { from: 'oci:out' } }", RUN),
    ] {
        assert_eq!(published(publish, variant), Ok(Vec::new()), "{publish}");
    }
    let unpinned = published("{ image: true }", &format!("{root}, base: images.example/debian:13")).unwrap();
    assert!(unpinned.len() == 1 && unpinned[0].contains("`images.example/debian:13` has no digest"), "{unpinned:?}");
    for (publish, variant, expected) in [
        ("{ image: true }", RUN, "the variant `production` has no `root`: the directory that the image is made of"),
        (
            "{ image: { from: 'oci:out' } }",
            &root,
            "`oci:out` is taken as it is, and the variant `production` has a `root`: leave one of them out",
        ),
        ("{ image: { name: other } }", &root, "it is neither that of the project, `web`, nor begins with `web-`"),
        ("{ image: { name: website } }", &root, "an image cannot be called `website`: it is neither"),
        ("{ image: { name: 'web-a..b' } }", &root, "an image cannot be called `web-a..b`: each part of its path"),
        ("{ image: { tag: '' } }", &root, "`tag` is empty"),
        ("{ image: { tags: ['a b'] } }", &root, "invalid tag `a b`"),
        ("{ image: { from: 'out/image.tar' } }", RUN, "write `docker-archive:FILE` or `oci:DIRECTORY`"),
        ("{ image: { from: 'oci:../out' } }", RUN, "`from` cannot be `oci:../out`: it leads out by `..`"),
        ("{ image: { base: x } }", &root, "`base` is not known here: the variant that the stage builds says that"),
        (
            "{ image: { nmae: web } }",
            &root,
            "unknown key `nmae`; did you mean `name`?; known: `name`, `tag`, `tags`, `from`",
        ),
        ("[{ type: image }, { type: image }]", &root, "a stage publishes one image"),
        ("[{ type: chart }]", &root, "`type` is `package`, `image` or `files`, not `chart`"),
        ("{ image: { tag: '${.imageTag}' } }", &root, "`publish` does not come before it"),
    ] {
        let found = published(publish, variant).unwrap_err();
        assert!(found.len() == 1 && found[0].contains(expected), "{publish}: {found:?}");
    }
    let runs_nothing = published("{ image: true }", "root: out").unwrap_err();
    assert!(runs_nothing.iter().any(|text| text.starts_with("nobody could run the image")), "{runs_nothing:?}");
    let nothing = checked(&stages("      - { name: one, publish: { image: true } }\n"), &ALL, &[]).unwrap_err();
    assert!(nothing.len() == 1 && nothing[0].contains(":4:40: the image is made of nothing"), "{nothing:?}");
}

#[test]
fn two_images_of_one_name_and_tag_are_a_mistake() {
    let config = |one: &str, other: &str| {
        let stage =
            |name: &str, image: &str| format!("{{ name: {name}, publish: {{ image: {{ from: 'oci:out'{image} }} }} }}");
        format!("pipelines:\n  a: {{ stages: [{}] }}\n  b: {{ stages: [{}] }}\n", stage("x", one), stage("x", other))
    };
    for (one, other) in [
        ("", ""),
        (", name: web", ""),
        (", name: 'WEB/a'", ", name: '${setup.project}-a'"),
        (", tag: x", ", tag: '${setup.stage}'"),
    ] {
        let found = checked(&config(one, other), &ALL, &[]).unwrap_err();
        assert!(
            found.len() == 1 && found[0].contains("is published already, in line 2: give one of them another"),
            "{found:?}"
        );
        assert!(found[0].starts_with(".pipeline/config.yaml:3:"), "{found:?}");
    }
    for (one, other) in
        [(", name: web-a", ""), (", tag: x", ""), (", tag: '${setup.pipeline}'", ", tag: '${setup.pipeline}'")]
    {
        assert!(checked(&config(one, other), &ALL, &[]).is_ok(), "{one} {other}");
    }
}

#[test]
fn what_is_allowed_is_asked_of_the_pipelines_that_are_to_run() {
    let config = "pipelines:\n  web:\n    stages:\n      - { name: unit, exports: { x: y } }\n  api:\n    variants: web/variants.yaml\n    \
                  stages:\n      - { name: candidate, publish: { package: { name: serviceTwo } } }\n      - { name: ship, channel: [{ app: serviceTwo }] }\n";
    let (web, api) = (["web".to_owned()], ["api".to_owned()]);
    let few = |chosen| Known { chosen, allowed: &["exports"], ..ALL };
    assert!(checked(config, &few(&web), &[]).is_ok());
    for chosen in [&[][..], &api] {
        let refused = checked(config, &few(chosen), &[]).unwrap_err();
        assert!(refused.len() == 2 && refused[1].contains("`channel` in `ship` is not allowed here"), "{refused:?}");
    }
    // What is wrong with it whatever runs is said all the same.
    let broken = config.replace("[{ app: serviceTwo }]", "[{ app: serviceThree }]");
    let refused = checked(&broken, &few(&web), &[]).unwrap_err();
    assert!(refused.iter().all(|text| text.contains("serviceThree`")), "{refused:?}");
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
fn the_example_of_the_page_is_right() {
    let page = include_str!("../../docs/pipelines.md");
    let (_, page) = page.split_once("\n## The file\n").unwrap();
    let block = |nth: usize| page.split("```yaml\n").nth(nth).unwrap().split("```").next().unwrap();
    let found = read(block(1).as_bytes(), &ALL, |_| Ok(block(2).as_bytes().to_vec())).unwrap();
    let web = found.pipelines.find("web").unwrap();
    let names: Vec<&str> = web.stages.iter().map(|stage| stage.name.as_str()).collect();
    assert_eq!(names, ["unit", "lint", "candidate", "staging", "ship"]);
    assert_eq!(web.order.after(2).iter().map(|stage| names[*stage]).collect::<Vec<_>>(), ["unit", "lint"]);
    assert_eq!(found.variants["web"]["test"].build, [["make", "deps"].as_slice(), ["make"].as_slice()]);
    assert_eq!(found.warnings, []);
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
