//! A draft as the text of a `release.toml`, with a comment at each thing that a person may want to change.

use std::fmt::Write as _;

use toml::Value;

use super::{Draft, Entry};

/// Where the package of `release` has the schema, by which editors complete and check the file.
const SCHEMA: &str = "file:///usr/share/doc/release-tool/release-toml.schema.json";

/// The text. `maintainer` is whom git knows.
pub(crate) fn render(draft: &Draft, maintainer: Option<&str>) -> String {
    let Draft { name, description, is_compiled, depends, build, .. } = draft;
    let maintainer = quoted(maintainer.unwrap_or("Acme <ops@acme.example>"));
    let mut text = format!(
        "\
#:schema {SCHEMA}
# What this repository releases. `release reference` explains every key, `release check` finds mistakes,
# `release plan` shows what would be in the package, `release -m \"why\"` builds and uploads.
schema = 1

# Where releases are uploaded to; --bucket and PUSH_BUCKET take precedence.
# [bucket]
# url = \"gs://acme-push\"

# Without this it is the name and address that git knows.
# [defaults]
# maintainer = {maintainer}

[package.{name}]
description = {}
",
        quoted(description)
    );
    if *is_compiled {
        text.push_str(
            "# The machine that builds decides the architecture; another one is stated as in arch = \"arm64\".\n",
        );
    } else {
        text.push_str("arch = \"all\"\n");
    }
    match &depends[..] {
        [] => text.push_str("# depends = [\"nginx (>= 1.18)\"]\n"),
        _ => {
            let _ = writeln!(text, "depends = {}", array(depends));
        }
    }
    if build.is_empty() {
        text.push_str("# build = [\"make\"]\n");
    } else {
        let _ = writeln!(text, "# Runs first, in this directory.\nbuild = {}", array(build));
    }
    text.push_str(&contents(draft));
    text.push_str(
        "# A release is healthy when its units are and this succeeds.\n\
         # check = { http = \"http://127.0.0.1:8000/healthz\" }\n",
    );
    text.push_str(&units(draft));
    text
}

fn contents(draft: &Draft) -> String {
    if draft.contents.is_empty() {
        return "# contents = [\n#   { src = \"files/**\", dst = \"/usr/share/app/\" },\n# ]\n".to_owned();
    }
    let mut text = "contents = [\n".to_owned();
    for entry in &draft.contents {
        let line = match entry {
            Entry::Copy { src, dst, exclude, is_program } => {
                let exclude =
                    if exclude.is_empty() { String::new() } else { format!(", exclude = {}", array(exclude)) };
                let mode = if *is_program { ", mode = \"0755\"" } else { "" };
                format!("{{ src = {}, dst = {}{exclude}{mode} }}", quoted(src), quoted(dst))
            }
            Entry::Link { link, to } => format!("{{ link = {}, to = {} }}", quoted(link), quoted(to)),
        };
        let _ = writeln!(text, "  {line},");
    }
    text + "  # Below /etc an administrator's changes are kept.\n  # { src = \"etc/app.conf\", dst = \"/etc/app.conf\" },\n]\n"
}

fn units(draft: &Draft) -> String {
    let name = &draft.name;
    let mut text = String::new();
    for unit in &draft.units {
        let _ = writeln!(text, "\n[[package.{name}.unit]]\nfile = {}", quoted(&unit.path));
        if unit.is_triggered {
            text.push_str("# Another unit starts it.\nenable = false\nstart = false\n");
        }
    }
    if !draft.units.is_empty() {
        return text;
    }
    let exec = draft.exec_start.as_deref().unwrap_or("/usr/bin/app");
    format!(
        "
# A unit that is enabled and started on the first installation, and restarted on every upgrade.
# [[package.{name}.unit]]
# file = \"systemd/{name}.service\"
#
# systemd/{name}.service may be:
#   [Unit]
#   Description={}
#   [Service]
#   ExecStart={exec}
#   [Install]
#   WantedBy=multi-user.target
",
        draft.description
    )
}

fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

fn array<T: AsRef<str>>(words: &[T]) -> String {
    format!("[{}]", words.iter().map(|word| quoted(word.as_ref())).collect::<Vec<_>>().join(", "))
}
