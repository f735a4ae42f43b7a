//! Reading maps with known keys: what is unknown is a mistake, with the nearest known key.

use std::time::Duration;

use crate::{
    problem::{Place, Problems, hint},
    template::{Template, check_name},
    yaml::{Key, Node, Value},
};

/// Keys that others have, and what to use here, wherever they are written.
const ELSEWHERE: [(&str, &str); 9] = [
    ("promote", "`channel: [{ app: APP, channel: prod }]` moves a channel to the release"),
    ("image", "`publish: { image: true }` makes an image of the `root` of the variant that the stage builds"),
    ("trigger", "whatever CI there is calls `release run PIPELINE`"),
    ("chart", CHARTS),
    ("helmConfig", CHARTS),
    ("imagePullPolicy", "there are no images to pull"),
    ("credentials", "`[pipeline] pass` in release.toml names the variables that stages may see"),
    ("fetch_options", "a stage has a copy of the whole commit"),
    (
        "notify",
        "the exit status, `--json` and `--junit` tell what became of a run, and whatever CI there is tells people",
    ),
];
const CHARTS: &str =
    "there are no charts: `deploy: { server: NAME }` tries a release on a server, and its `test` is a command";

/// The entries of a map, of which each is taken once.
pub(crate) struct Fields<'a> {
    place: Place,
    entries: Vec<(&'a Key, &'a Node)>,
}

impl<'a> Fields<'a> {
    /// Those of a map; a mistake, and none, of anything else. `what` says of what it is one: "a stage".
    pub(crate) fn of(node: &'a Node, what: &str, problems: &mut Problems) -> Self {
        let entries = match &node.value {
            Value::Map(entries) => entries.iter().map(|(key, node)| (key, node)).collect(),
            Value::Nothing => Vec::new(),
            _ => {
                problems.add(node.place, format!("{what} is a map of keys, not {}", node.kind()));
                Vec::new()
            }
        };
        Self { place: node.place, entries }
    }

    /// Where the map begins.
    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// The value of a key.
    pub(crate) fn take(&mut self, name: &str) -> Option<&'a Node> {
        self.take_key(name).map(|(_, node)| node)
    }

    /// The same, with the key.
    pub(crate) fn take_key(&mut self, name: &str) -> Option<(&'a Key, &'a Node)> {
        let at = self.entries.iter().position(|(key, _)| key.name == name)?;
        Some(self.entries.remove(at))
    }

    /// Reports what was not taken. `known` are all keys, and `elsewhere` says of keys that others have just here what to use
    /// instead, beside [`ELSEWHERE`]. Gives the known keys that those may have been meant for that nobody knows.
    pub(crate) fn end<'k>(
        self,
        known: &[&'k str],
        elsewhere: &[(&str, &str)],
        problems: &mut Problems,
    ) -> Vec<&'k str> {
        let mut meant = Vec::new();
        for (key, _) in self.entries {
            let name = console::cut(&key.name, 80);
            let instead = elsewhere.iter().chain(&ELSEWHERE).find(|(other, _)| *other == key.name);
            let text = if let Some((_, instead)) = instead {
                format!("`{name}` is not known here: {instead}")
            } else {
                let near = console::nearest(&key.name, known);
                meant.extend(known.iter().filter(|known| near == Some(**known)));
                format!("unknown key `{name}`{}; known: {}", hint(&key.name, known), console::quoted(known))
            };
            problems.add(key.place, text);
        }
        meant
    }
}

/// A text.
pub(crate) fn text<'a>(node: &'a Node, what: &str, problems: &mut Problems) -> Option<&'a str> {
    if let Value::Text(text) = &node.value {
        return Some(text);
    }
    problems.add(node.place, format!("{what} is a text, not {}", node.kind()));
    None
}

/// A name of something of the file.
pub(crate) fn name(node: &Node, what: &str, problems: &mut Problems) -> Option<String> {
    let name = text(node, what, problems)?;
    match check_name(name) {
        Ok(()) => Some(name.to_owned()),
        Err(reason) => {
            problems.add(node.place, format!("{what} cannot be `{}`: {reason}", console::cut(name, 80)));
            None
        }
    }
}

/// A text with values in it.
pub(crate) fn template(node: &Node, what: &str, problems: &mut Problems) -> Option<Template> {
    let text = text(node, what, problems)?;
    Template::parse(text, node.place).map_err(|reason| problems.add(node.place, reason)).ok()
}

/// The items of a list.
pub(crate) fn list<'a>(node: &'a Node, what: &str, problems: &mut Problems) -> &'a [Node] {
    if let Value::List(items) = &node.value {
        return items;
    }
    problems.add(node.place, format!("{what} is a list, not {}", node.kind()));
    &[]
}

/// The items of a list that has some, as there is nothing that none of them would mean.
pub(crate) fn some<'a>(node: &'a Node, what: &str, problems: &mut Problems) -> &'a [Node] {
    let items = list(node, what, problems);
    if matches!(&node.value, Value::List(items) if items.is_empty()) {
        problems.add(node.place, format!("{what} is empty, which means nothing: leave it out"));
    }
    items
}

/// A command: its arguments, of which there is at least one.
pub(crate) fn command(node: &Node, what: &str, problems: &mut Problems) -> Vec<Template> {
    if let Value::Text(line) = &node.value {
        let line = console::cut(line, 60);
        problems.add(
            node.place,
            format!(
                "{what} is a list of arguments, never a line for a shell: write `[sh, -c, '…']` if `{line}` needs one"
            ),
        );
        return Vec::new();
    }
    let arguments = list(node, what, problems);
    if arguments.is_empty() && matches!(node.value, Value::List(_)) {
        problems.add(node.place, format!("{what} is empty: it has at least the program"));
    }
    arguments.iter().filter_map(|argument| template(argument, "an argument", problems)).collect()
}

/// A duration as `10m`.
pub(crate) fn duration(node: &Node, what: &str, problems: &mut Problems) -> Option<Duration> {
    let text = text(node, what, problems)?;
    match console::duration::parse(text) {
        Ok(duration) if !duration.is_zero() => Some(duration),
        Ok(_) => {
            problems.add(node.place, format!("{what} cannot be nothing"));
            None
        }
        Err(error) => {
            problems.add(node.place, format!("{what} cannot be `{}`: {error}", console::cut(text, 40)));
            None
        }
    }
}

/// A whole number of at most so much.
pub(crate) fn number(node: &Node, what: &str, (least, most): (u32, u32), problems: &mut Problems) -> Option<u32> {
    let text = text(node, what, problems)?;
    let number = text.parse().ok().filter(|number| (least..=most).contains(number));
    if number.is_none() {
        let text = console::cut(text, 40);
        problems.add(node.place, format!("{what} is a whole number from {least} to {most}, not `{text}`"));
    }
    number
}

/// `true` or `false`.
pub(crate) fn truth(node: &Node, what: &str, problems: &mut Problems) -> Option<bool> {
    match text(node, what, problems)? {
        "true" => Some(true),
        "false" => Some(false),
        other => {
            problems.add(node.place, format!("{what} is `true` or `false`, not `{}`", console::cut(other, 40)));
            None
        }
    }
}

/// `true`, as `false` would mean nothing.
pub(crate) fn wanted(node: &Node, what: &str, problems: &mut Problems) -> bool {
    match truth(node, what, problems) {
        Some(true) => true,
        Some(false) => {
            problems.add(node.place, format!("{what}: `false` means nothing: leave it out"));
            false
        }
        None => false,
    }
}

/// A path below something: relative, and never out of it.
pub(crate) fn path(node: &Node, what: &str, problems: &mut Problems) -> Option<String> {
    let text = text(node, what, problems)?;
    match leads_out(text) {
        Some(reason) => {
            problems.add(node.place, format!("{what} cannot be `{}`: {reason}", console::cut(text, 80)));
            None
        }
        None => Some(text.to_owned()),
    }
}

/// Why a path isn't one below something, as the end of a sentence; `None` of one that is.
pub(crate) fn leads_out(path: &str) -> Option<&'static str> {
    if path.is_empty() {
        Some("it is empty")
    } else if path.starts_with('/') {
        Some("it begins at the root: write it relative")
    } else if path.split('/').any(|part| part == "..") {
        Some("it leads out by `..`")
    } else if path.chars().any(char::is_control) {
        Some("it has a control character")
    } else {
        None
    }
}
