//! The small texts of `release.toml`, each checked against the rule of Debian Policy that it must keep.
//!
//! What passes here can be written into a control file as it is: no value can begin a new field.

use anyhow::{Context, Result, bail};
use bucket::PackageName;
use console::safe;
use debian_control::lossy::Relations;

/// Debian Policy §5.6.13; more lines make the long description.
pub(super) fn description(text: &str) -> Result<()> {
    if text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
        bail!("the text contains control characters");
    }
    if text.lines().next().unwrap_or_default().trim().is_empty() {
        bail!("the first line is empty; describe the package in a few words");
    }
    Ok(())
}

/// Debian Policy §5.6.2.
pub(super) fn maintainer(text: &str) -> Result<()> {
    one_line(text)?;
    let mail = text.strip_suffix('>').and_then(|text| text.split_once(" <"));
    match mail {
        Some((name, mail)) if !name.trim().is_empty() && mail.contains('@') && !mail.contains(['<', '>', ' ']) => {
            Ok(())
        }
        _ => bail!("`{text}` does not have the form `Name <mail@example.org>`"),
    }
}

/// The Debian name of the architecture that this program runs on.
pub(super) fn this_architecture() -> Result<&'static str> {
    Ok(match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "arm" => "armhf",
        "x86" => "i386",
        "riscv64" => "riscv64",
        "powerpc64" => "ppc64el",
        "s390x" => "s390x",
        "loongarch64" => "loong64",
        other => bail!("no Debian name is known for the architecture `{other}` of this machine: set `arch`"),
    })
}

/// Debian Policy §5.6.12: it begins the version; the time and the commit follow.
pub(super) fn version(version: &str) -> Result<()> {
    let upstream = match version.split_once(':') {
        Some((epoch, rest)) if !epoch.is_empty() && epoch.len() <= 4 && epoch.bytes().all(|b| b.is_ascii_digit()) => {
            rest
        }
        Some(_) => bail!("`{}`: the epoch before `:` must be a number of at most 4 digits", safe(version)),
        None => version,
    };
    let good = |c: char| c.is_ascii_alphanumeric() || ".+-~".contains(c);
    if upstream.len() > 80 || !upstream.chars().all(good) || !upstream.starts_with(|c: char| c.is_ascii_digit()) {
        bail!("`{}` must begin with a digit and contain only letters, digits and . + - ~, at most 80", safe(version));
    }
    Ok(())
}

/// A word of lower-case letters, digits, `-` and `/`, as sections and priorities are.
pub(super) fn word(word: &str) -> Result<()> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-/".contains(c);
    if word.is_empty() || word.len() > 60 || !word.chars().all(good) {
        bail!("`{}` must contain only a-z 0-9 - /, at least 1 and at most 60", safe(word));
    }
    Ok(())
}

/// Joins relations into a field's value after checking each (Debian Policy §7.1).
pub(super) fn relation(listed: &[String]) -> Result<String> {
    for relation in listed {
        let shown = safe(relation);
        one_line(relation)?;
        let good = |c: char| c.is_ascii_alphanumeric() || " +-.:~()<>=|,[]!".contains(c);
        let parsed = relation.parse::<Relations>().map_err(|e| anyhow::anyhow!("{e}"));
        let parsed = parsed.with_context(|| format!("`{shown}` is not a valid relation, as in \"nginx (>= 1.18)\""))?;
        if parsed.is_empty() || !relation.chars().all(good) {
            bail!("`{shown}` is not a valid relation, as in \"nginx (>= 1.18)\"");
        }
        for name in parsed.iter().flatten().map(|relation| &relation.name) {
            name.parse::<PackageName>()
                .with_context(|| format!("`{shown}` names the package `{}`, which is invalid", safe(name)))?;
        }
    }
    Ok(listed.iter().map(|relation| relation.trim()).collect::<Vec<_>>().join(", "))
}

/// Adds a relation to a field of `relations`, unless one that makes sure of it names the package already.
pub(crate) fn depend(
    relations: &mut Vec<(&'static str, String)>,
    field: &'static str,
    package: &str,
    relation: String,
) {
    let names = |(_, value): &(&str, String)| {
        value.split([',', '|']).any(|relation| relation.trim().split([' ', ':', '(']).next() == Some(package))
    };
    // Pre-Depends makes sure of all that Depends does.
    if relations.iter().filter(|(other, _)| other.ends_with(field)).any(names) {
        return;
    }
    match relations.iter_mut().find(|(other, _)| *other == field) {
        Some((_, value)) => *value = format!("{value}, {relation}"),
        None => relations.push((field, relation)),
    }
}

fn one_line(text: &str) -> Result<()> {
    if text.chars().any(char::is_control) {
        bail!("`{}` contains a line end or another control character", safe(text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_could_begin_a_field_are_refused() {
        assert!(maintainer("A <a@b>\nEssential: yes").is_err());
        assert!(relation(&["aa\nEssential: yes".to_owned()]).is_err());
        assert!(version("1\nEssential: yes").is_err());
        assert!(word("misc\nEssential: yes").is_err());
        assert!(description("x\rEssential: yes").is_err());
    }

    #[test]
    fn good_values_pass() {
        maintainer("Acme <ops@acme.example>").unwrap();
        for good in ["1", "2:1.0-3", "1.0~rc1+x"] {
            version(good).unwrap();
        }
        assert_eq!(
            relation(&["aa (>= 1)".into(), "bb | cc".into(), "dd:any".into()]).unwrap(),
            "aa (>= 1), bb | cc, dd:any"
        );
    }

    #[test]
    fn bad_relations_are_refused() {
        for bad in ["", "aa (>= )", "aa (1.0)", "AA", "aa;b", "$(reboot)"] {
            assert!(relation(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }
}
