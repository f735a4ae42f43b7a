//! Whole files: what they mean with every default filled in, and all that is said against them at once.

mod mistakes;

use pipeline::{Action, Checked, Known, Leads, Pipelines, read};

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
    let found = checked(include_str!("../files/short.yaml"), &ALL, &variants).unwrap();
    let shown = serde_json::to_string_pretty(&found.pipelines).unwrap() + "\n";
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/files/short.json"), &shown).unwrap();
    }
    assert_eq!(shown, include_str!("../files/short.json"));
    assert_eq!(found.pipelines.find("web").map(|pipeline| pipeline.stages.len()), Ok(4));
    let missing = found.pipelines.find("wbe").unwrap_err();
    assert!(missing.contains("there is no pipeline `wbe`; did you mean `web`?"), "{missing}");
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
        // By what every image is called beside its own tag.
        (", tag: x", ""),
        (", tag: '${setup.pipeline}'", ", tag: '${setup.pipeline}'"),
        (", tag: x, tags: [last]", ", tag: y, tags: [last]"),
        (", tag: last, tags: []", ", tag: y, tags: [last]"),
    ] {
        let found = checked(&config(one, other), &ALL, &[]).unwrap_err();
        assert!(
            found.len() == 1 && found[0].contains("is published already, in line 2: give one of them another"),
            "{found:?}"
        );
        assert!(found[0].starts_with(".pipeline/config.yaml:3:"), "{found:?}");
    }
    for (one, other) in [
        (", name: web-a", ""),
        (", tag: x, tags: []", ""),
        (", tags: ['', x, x]", ", tag: y, tags: ['']"),
        (", tag: '${setup.pipeline}', tags: []", ", tag: '${setup.pipeline}', tags: []"),
    ] {
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
fn the_example_of_the_page_is_right() {
    let page = include_str!("../../../docs/pipelines.md");
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

/// What a stage means that has this, and beside it what that needs.
#[track_caller]
fn meant(action: &str) -> Pipelines {
    let beside = |key: &str, all: &str| if action.starts_with(key) { String::new() } else { format!(", {all}") };
    let others = beside("build", "build: test") + &beside("publish", "publish: { package: { name: web } }");
    let config = format!("pipelines: {{ web: {{ stages: [{{ name: one{others}, {action} }}] }} }}\n");
    checked(&config, &ALL, &["test"]).unwrap_or_else(|mistakes| panic!("{action}: {mistakes:?}")).pipelines
}

/// The cells of the rows of a table of the page, of which the first has this heading.
fn rows(heading: &str) -> Vec<Vec<&'static str>> {
    let page = include_str!("../../../docs/pipelines.md");
    let (_, table) = page.split_once(&format!("\n| {heading} |")).unwrap();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`')).collect()).collect()
}

#[test]
fn what_the_table_of_the_page_says_of_actions_is_so() {
    let mut action = "";
    for row in rows("action") {
        let [name, short, full, gives] = row[..] else { panic!("{row:?}") };
        action = if name.is_empty() { action } else { name };
        // What is to be said has no default.
        let said = full.replace("NAME: VALUE", "made: it").replace("NAME", "test").replace("own stage", "one");
        let said = said.replace("{ source, ", "{ source: a, ").replace("destination: source", "destination: a");
        let said = said
            .replace("{ name, ", "{ name: web, ")
            .replace("{ server, ", "{ server: s, ")
            .replace("{ app, ", "{ app: web, ");
        let (said, _) = said.split_once(": its").unwrap_or((&said, ""));
        let least = match action {
            _ if !short.is_empty() => short.replace("path", "a"),
            "publish" => "{ package: { name: web } }".to_owned(),
            "deploy" => "{ server: s }".to_owned(),
            "channel" => "[{ app: web }]".to_owned(),
            _ => said.to_owned(),
        };
        let (found, expected) = (meant(&format!("{action}: {said}")), meant(&format!("{action}: {least}")));
        assert_eq!(serde_json::to_value(&found).unwrap(), serde_json::to_value(&expected).unwrap(), "{row:?}");
        let of_it = |found: &&Action| {
            found.key() == action && (*short != *"{ image: true }" || matches!(found, Action::Image(_)))
        };
        let found = found.pipelines[0].stages[0].actions.iter().find(of_it).unwrap().gives().join("`, `");
        let gives = gives.split_once("`:").map_or(gives, |(gives, _)| gives);
        assert_eq!(found, gives.replace("those names", "made"), "{row:?}");
    }
}

#[test]
fn what_the_table_of_the_page_says_of_older_spellings_is_so() {
    let mut seen = 0;
    for row in rows("older") {
        let [older, means] = row[..] else { panic!("{row:?}") };
        if older.contains('…') || older.starts_with("blubberfile") || means.contains("that the stage publishes") {
            continue;
        }
        let filled = |text: &str| {
            let text = text.replace("`, and `", ", ").replace(": N ", ": web ").replace("[P]", "[out]");
            text.replace(": P,", ": out,").replace(": X", ": test").replace('`', "")
        };
        let shown = |text: &str| {
            let text = filled(text);
            let config = format!("pipelines: {{ web: {{ stages: [{{ name: one, {text} }}] }} }}\n");
            let built = if text.contains("image") {
                config.replace("{ name: one,", "{ name: one, build: test,")
            } else {
                config
            };
            let found = checked(&built, &ALL, &["test"]);
            serde_json::to_value(found.unwrap_or_else(|mistakes| panic!("{text}: {mistakes:?}")).pipelines).unwrap()
        };
        assert_eq!(shown(older), shown(means), "{row:?}");
        seen += 1;
    }
    assert_eq!(seen, 4);
}
