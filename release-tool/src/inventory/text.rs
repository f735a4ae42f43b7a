//! Packages and their differences for people.

use console::{Cell, Color, Table, count, one_line, safe_lines, size};

use super::{Difference, Inventory, Item, ItemKind, compare::Change, lines::changed_lines};

/// Everything that a package has, a section for each kind of thing. Sections that would be empty are left out.
pub(crate) fn show_inventory(inventory: &Inventory) -> String {
    let mut text = String::new();
    section(&mut text, "fields", inventory.fields.iter().map(|(name, value)| field(name, value)));
    let unit = |(name, action): (&String, &String)| format!("{}  {}", one_line(name), one_line(action));
    section(&mut text, "units", inventory.units.iter().map(unit));
    let script = |(name, script): (&String, &String)| format!("{name}  {}", count(script.lines().count(), "line"));
    section(&mut text, "scripts", inventory.scripts.iter().map(script));
    if !inventory.files.is_empty() {
        text.push_str("files\n");
        text.push_str(&indented(&files(inventory)));
    }
    text
}

/// What differs, a section for each kind of thing; one line if nothing does.
pub(crate) fn show_difference(difference: &Difference) -> String {
    let mut text = String::new();
    section(
        &mut text,
        "fields",
        difference.fields.iter().map(|change| sign(change, &|value| field(&change.name, value))),
    );
    section(
        &mut text,
        "units",
        difference
            .units
            .iter()
            .map(|change| sign(change, &|action| format!("{}  {}", one_line(&change.name), one_line(action)))),
    );
    section(&mut text, "scripts", difference.scripts.iter().map(script));
    section(&mut text, "files", difference.files.iter().map(file));
    if text.is_empty() { "no differences\n".to_owned() } else { text }
}

fn section(text: &mut String, heading: &str, lines: impl Iterator<Item = String>) {
    let lines: String = lines.map(|line| line + "\n").collect();
    if !lines.is_empty() {
        text.push_str(heading);
        text.push('\n');
        text.push_str(&indented(&lines));
    }
}

fn indented(lines: &str) -> String {
    lines.lines().fold(String::new(), |text, line| text + "  " + line + "\n")
}

/// A field, of which further lines stay set off.
fn field(name: &str, value: &str) -> String {
    format!("{}: {}", one_line(name), safe_lines(value).trim_end())
}

fn files(inventory: &Inventory) -> String {
    if !inventory.complete {
        let name = |(path, item): (&String, &Item)| {
            format!("/{}{}\n", one_line(path), if item.conffile { "  conffile" } else { "" })
        };
        return inventory.files.iter().map(name).collect();
    }
    let mut table = Table::new(&["MODE", "OWNER", "SIZE", "PATH"]);
    for (path, item) in &inventory.files {
        let remark = match item.kind {
            ItemKind::Directory => "/".to_owned(),
            ItemKind::Link => format!(" -> {}", item.to.as_deref().unwrap_or_default()),
            ItemKind::File if item.conffile => "  conffile".to_owned(),
            ItemKind::File => String::new(),
            ItemKind::Other => "  special file".to_owned(),
        };
        let outside = if item.outside { "  from outside of the repository" } else { "" };
        table.row([
            Cell::from(item.mode.as_deref().unwrap_or_default()),
            Cell::from(item.owner.as_deref().unwrap_or_default()),
            Cell::from(item.size.map(size).unwrap_or_default()),
            Cell::from(format!("/{path}{remark}{outside}")),
        ]);
    }
    table.show()
}

/// `+`, `-` or both, and what each side says.
fn sign(change: &Change<String>, show: &dyn Fn(&str) -> String) -> String {
    let removed = change.from.as_ref().map(|from| Color::Bad.paint(&format!("-{}", show(from))));
    let added = change.to.as_ref().map(|to| Color::Good.paint(&format!("+{}", show(to))));
    removed.into_iter().chain(added).collect::<Vec<_>>().join("\n")
}

fn script(change: &Change<String>) -> String {
    let name = one_line(&change.name);
    match (&change.from, &change.to) {
        (Some(from), Some(to)) => {
            let lines = changed_lines(from, to);
            lines.iter().fold(format!("~{name}"), |text, line| text + "\n  " + &one_line(line))
        }
        (None, Some(_)) => Color::Good.paint(&format!("+{name}")),
        _ => Color::Bad.paint(&format!("-{name}")),
    }
}

fn file(change: &Change<Item>) -> String {
    let path = one_line(&change.name);
    let with_size = |item: &Item| item.size.map(|bytes| format!("  {}", size(bytes))).unwrap_or_default();
    match (&change.from, &change.to) {
        (Some(from), Some(to)) => {
            let detail = |(what, a, b): (&'static str, String, String)| match what {
                "content" => what.to_owned(),
                _ => format!("{what} {} -> {}", one_line(&a), one_line(&b)),
            };
            let details: Vec<String> = from.differences(to).into_iter().map(detail).collect();
            format!("~/{path}  {}", details.join(", "))
        }
        (None, Some(to)) => Color::Good.paint(&format!("+/{path}{}", with_size(to))),
        (Some(from), None) => Color::Bad.paint(&format!("-/{path}{}", with_size(from))),
        (None, None) => String::new(),
    }
}
