//! Which module of a crate uses which: its arrows.
//!
//! An arrow goes from the module in whose file a path stands to the module where what the path names is written:
//! - `use` and paths in the code count alike, as long as they begin with `crate`, `super`, `self` or a child's name.
//! - A name that a module only passes on (`pub use child::Thing`) is followed to where it is from. So using `parent::Thing`
//!   is an arrow to the child, and passing it on is none, unless the parent's own code uses the thing too.
//! - `mod child;` is no arrow, and neither is anything in tests.

use std::collections::BTreeMap;

use crate::{
    lexer::is_word,
    source::{Source, shipped},
};

/// The modules of a crate, by their paths: `["web", "pages"]`; the crate's own is `[]`.
pub(crate) struct Modules(BTreeMap<Vec<String>, Module>);

struct Module {
    source: Source,
    imports: Vec<Import>,
    paths: Vec<Path>,
}

/// A path of at least two segments, and where in the text it stands.
type Path = (Vec<String>, usize);

/// One name of a `use`.
struct Import {
    /// As what it is known here; `*` for everything.
    name: String,
    path: Path,
    /// Whether others may use it from here.
    is_public: bool,
}

/// From one module to another, and where it is drawn: `path:line`.
pub(crate) type Arrows = BTreeMap<String, BTreeMap<String, String>>;

impl Modules {
    /// The modules below a crate's directory of sources.
    pub(crate) fn read(directory: &str) -> Self {
        Self::new(directory, shipped(directory))
    }

    fn new(directory: &str, sources: Vec<Source>) -> Self {
        let module_of = |source: &Source| -> Vec<String> {
            let path = source.path[directory.len()..].trim_matches('/').trim_end_matches(".rs");
            let mut segments: Vec<String> = path.split('/').map(str::to_owned).collect();
            segments.pop_if(|last| ["lib", "mod"].contains(&last.as_str()));
            segments
        };
        let mut modules: BTreeMap<_, _> = sources.into_iter().map(|source| (module_of(&source), source)).collect();
        // A program's own file is another crate.
        modules.remove(["main".to_owned()].as_slice());
        let read = |source: Source| {
            let (imports, rest) = imports(&source);
            Module { imports, paths: paths(&rest), source }
        };
        Self(modules.into_iter().map(|(module, source)| (module, read(source))).collect())
    }

    /// All arrows, by the names of their ends.
    pub(crate) fn arrows(&self) -> Arrows {
        let mut arrows = Arrows::new();
        for (from, module) in &self.0 {
            for (path, place) in self.used(from, module) {
                let to = self.home(from, &path, 0);
                if to != *from {
                    let ends = arrows.entry(show(from)).or_default();
                    ends.entry(show(&to)).or_insert_with(|| module.source.at(place));
                }
            }
        }
        arrows
    }

    /// Every path that a module uses, and where.
    fn used(&self, here: &[String], module: &Module) -> Vec<Path> {
        let mut used = Vec::new();
        for import in &module.imports {
            let is_passed_on = import.is_public && self.home(here, &import.path.0, 0).starts_with(here);
            if !is_passed_on || module.source.finds(&import.name).len() > 1 {
                used.push(import.path.clone());
            }
        }
        let is_ours =
            |first: &str| ["crate", "super", "self"].contains(&first) || self.0.contains_key(&child(here, first));
        used.extend(module.paths.iter().filter(|(path, _)| is_ours(&path[0])).cloned());
        used
    }

    /// The module where what a path names is written.
    fn home(&self, here: &[String], path: &[String], depth: usize) -> Vec<String> {
        let mut at = here.to_vec();
        for (index, segment) in path.iter().enumerate() {
            match segment.as_str() {
                "crate" => at.clear(),
                "super" => drop(at.pop()),
                "self" => {}
                name if self.0.contains_key(&child(&at, name)) => at.push(name.to_owned()),
                name => {
                    let imports = self.0.get(&at).map(|module| &module.imports);
                    let import = imports.and_then(|imports| imports.iter().find(|import| import.name == name));
                    return match import {
                        Some(import) if depth < 8 && import.path.0 != path[..=index] => {
                            let path = [&import.path.0, &path[index + 1..]].concat();
                            self.home(&at, &path, depth + 1)
                        }
                        // What is imported from another crate, in the first place of a path, is nobody's here.
                        _ if index == 0 => here.to_vec(),
                        _ => at,
                    };
                }
            }
        }
        at
    }
}

fn child(parent: &[String], name: &str) -> Vec<String> {
    parent.iter().cloned().chain([name.to_owned()]).collect()
}

/// How the crate's own module is shown.
pub(crate) const ROOT: &str = "the crate's root";

fn show(module: &[String]) -> String {
    if module.is_empty() { ROOT.to_owned() } else { module.join("::") }
}

/// The names of all `use`s of a file, and its code without them.
fn imports(source: &Source) -> (Vec<Import>, String) {
    let mut found = Vec::new();
    let mut rest = source.code.clone();
    for start in source.finds("use") {
        let Some(length) = source.code[start..].find(';') else { continue };
        let begin = start + "use".len();
        let before = source.code[..start].trim_end();
        let is_public = before.ends_with("pub")
            || before.rsplit_once("pub(").is_some_and(|(_, inside)| inside.find(')') == Some(inside.len() - 1));
        let mut names = Vec::new();
        tree(&source.code[begin..start + length], begin, &[], &mut names);
        found.extend(names.into_iter().map(|(name, path)| Import { name, path, is_public }));
        rest.replace_range(start..start + length, &" ".repeat(length));
    }
    (found, rest)
}

/// The paths in code.
fn paths(code: &str) -> Vec<Path> {
    let mut found = Vec::new();
    let mut start = 0;
    for (at, character) in code.char_indices().chain([(code.len(), ' ')]) {
        if !is_word(character) && character != ':' {
            let path = &code[start..at];
            if path.contains("::") && !path.starts_with(':') {
                let segments = path.split("::").filter(|segment| !segment.is_empty());
                found.push((segments.map(|segment| segment.trim_matches(':').to_owned()).collect(), start));
            }
            start = at + character.len_utf8();
        }
    }
    found
}

/// The names of one `use`, of which `text` is a part, beginning at `place`.
fn tree(text: &str, place: usize, prefix: &[String], found: &mut Vec<(String, Path)>) {
    let mut depth = 0_u32;
    let mut start = 0;
    for (at, byte) in text.bytes().chain([b',']).enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            b',' if depth == 0 => {
                branch(&text[start..at], place + start, prefix, found);
                start = at + 1;
            }
            _ => {}
        }
    }
}

fn branch(text: &str, place: usize, prefix: &[String], found: &mut Vec<(String, Path)>) {
    let place = place + text.len() - text.trim_start().len();
    let text = text.trim();
    if text.is_empty() {
        return;
    }
    let (plain, group) = match text.find('{') {
        Some(brace) => (&text[..brace], Some(brace + 1)),
        None => (text, None),
    };
    let (plain, alias) = plain.split_once(" as ").unwrap_or((plain, ""));
    let own = plain.split("::").map(str::trim).filter(|segment| !segment.is_empty() && *segment != "*");
    let mut path: Vec<String> = prefix.iter().cloned().chain(own.map(str::to_owned)).collect();
    if let Some(begin) = group {
        return tree(&text[begin..text.len() - 1], place + begin, &path, found);
    }
    if path.last().is_some_and(|last| last == "self") && path.len() > 1 {
        path.pop();
    }
    if let Some(last) = path.last() {
        let name = match (alias.trim(), plain.ends_with('*')) {
            ("", true) => "*".to_owned(),
            ("", false) => last.clone(),
            (alias, _) => alias.to_owned(),
        };
        found.push((name, (path, place)));
    }
}

#[test]
fn arrows_lead_to_where_a_name_is_from() {
    let files = [
        ("lib.rs", "mod a; mod b; pub use a::Thing;"),
        ("a/mod.rs", "pub(crate) mod c; pub(crate) use self::c::Thing; use c::other; fn own() { other() }"),
        ("a/c.rs", "use crate::{b::{self, Two as Three,}, a::own,}; use std::fs::own;"),
        ("b.rs", "use crate::Thing; #[cfg(test)] mod tests { use crate::a::c; } fn f() { super::a::own() }"),
    ];
    let sources = files.map(|(path, text)| Source::parse(&format!("x/src/{path}"), text)).into();
    let arrows = Modules::new("x/src", sources).arrows();
    let ends = |from: &str| arrows.get(from).map(|ends| ends.keys().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(ends(ROOT), None, "passing on is no arrow");
    assert_eq!(ends("a").unwrap(), ["a::c"]);
    assert_eq!(ends("a::c").unwrap(), ["a", "b"]);
    assert_eq!(ends("b").unwrap(), ["a", "a::c"]);
    assert_eq!(arrows["b"]["a::c"], "x/src/b.rs:1");
}
