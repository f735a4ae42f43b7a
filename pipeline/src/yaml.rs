//! YAML as it is written: texts, lists and maps, each with its place. No text is taken for a number or a truth value: `no` and
//! `0755` are what stands there.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Marker, Parser, ScanError};

use crate::problem::{Place, Problems};

/// Most bytes of a file, the one of the pipelines or one of variants; what is larger is refused.
pub const MAX_SIZE: usize = 256 << 10;
/// How deep lists and maps may lie in each other.
const MAX_DEPTH: usize = 64;
/// Most texts, lists and maps in a file, each alias counted as what it stands for.
const MAX_NODES: usize = 10_000;

/// Something that is written, and where.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) value: Value,
}

/// What is written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// Nothing, as after `stages:`.
    Nothing,
    Text(String),
    List(Vec<Node>),
    /// Each key once, in the order of the file.
    Map(Vec<(Key, Node)>),
}

/// The key of an entry of a map.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Key {
    pub(crate) place: Place,
    pub(crate) name: String,
}

impl Node {
    /// What it is, for a message that wanted something else.
    pub(crate) fn kind(&self) -> &'static str {
        match self.value {
            Value::Nothing => "nothing",
            Value::Text(_) => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }

    /// Itself, and everything in it.
    fn size(&self) -> usize {
        1 + match &self.value {
            Value::Nothing | Value::Text(_) => 0,
            Value::List(items) => items.iter().map(Self::size).sum(),
            Value::Map(entries) => entries.iter().map(|(_, node)| node.size()).sum(),
        }
    }

    /// How deep lists and maps lie in each other here.
    fn depth(&self) -> usize {
        match &self.value {
            Value::Nothing | Value::Text(_) => 0,
            Value::List(items) => 1 + items.iter().map(Self::depth).max().unwrap_or(0),
            Value::Map(entries) => 1 + entries.iter().map(|(_, node)| node.depth()).max().unwrap_or(0),
        }
    }
}

/// What a file says; `None`, with the reason among the problems, if that can't be understood.
pub(crate) fn read(content: &[u8], problems: &mut Problems) -> Option<Node> {
    if content.len() > MAX_SIZE {
        let start = Place { line: 1, column: 1 };
        problems.add(start, format!("the file has {} bytes, and {MAX_SIZE} is the most", content.len()));
        return None;
    }
    let text = match str::from_utf8(content) {
        Ok(text) => text,
        Err(error) => {
            let before = String::from_utf8_lossy(&content[..error.valid_up_to()]);
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
            problems.add(Place { line, column }, "the file is not UTF-8");
            return None;
        }
    };
    let mut reader = Reader::default();
    let read = reader.read(text);
    for Refused { place, text } in reader.twice {
        problems.add(place, text);
    }
    match read {
        Ok(node) => Some(node),
        Err(Refused { place, text }) => {
            problems.add(place, text);
            None
        }
    }
}

/// Why a file isn't read to its end.
struct Refused {
    place: Place,
    text: String,
}

/// Lists and maps that have begun, innermost last.
#[derive(Default)]
struct Reader {
    open: Vec<Open>,
    whole: Option<Node>,
    /// What aliases stand for, by the parser's number.
    anchored: BTreeMap<usize, Node>,
    nodes: usize,
    /// Keys that are given twice, of which the first counts: what else is wrong is said, too.
    twice: Vec<Refused>,
}

struct Open {
    place: Place,
    anchor: usize,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    /// The key is one whose value comes next, and whether that counts.
    Map(Vec<(Key, Node)>, Option<(Key, bool)>),
}

impl Reader {
    fn read(&mut self, text: &str) -> Result<Node, Refused> {
        let mut documents = 0;
        for event in Parser::new_from_str(text) {
            let (event, span) = event.map_err(|error| unreadable(&error))?;
            let place = place(span.start);
            match event {
                Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
                Event::DocumentStart(_) => {
                    documents += 1;
                    if documents > 1 {
                        return refuse(place, "there is a second document: one file says one thing");
                    }
                }
                Event::Alias(number) => {
                    let Some(node) = self.anchored.get(&number).cloned() else {
                        return refuse(place, "the alias stands for something that it is in");
                    };
                    self.count(place, node.size(), node.depth())?;
                    self.put(Node { place, ..node })?;
                }
                Event::Scalar(_, _, _, Some(_))
                | Event::SequenceStart(_, Some(_))
                | Event::MappingStart(_, Some(_)) => {
                    return refuse(place, "tags as `!!str` have no meaning here: leave it out");
                }
                Event::Scalar(text, style, anchor, None) => {
                    let is_nothing = text.is_empty() && style == saphyr_parser::ScalarStyle::Plain;
                    let value = if is_nothing { Value::Nothing } else { Value::Text(text.into_owned()) };
                    self.count(place, 1, 0)?;
                    self.end(anchor, Node { place, value })?;
                }
                Event::SequenceStart(anchor, None) => self.begin(place, anchor, Content::List(Vec::new()))?,
                Event::MappingStart(anchor, None) => self.begin(place, anchor, Content::Map(Vec::new(), None))?,
                Event::SequenceEnd | Event::MappingEnd => {
                    let Some(Open { place, anchor, content }) = self.open.pop() else { continue };
                    let value = match content {
                        Content::List(items) => Value::List(items),
                        Content::Map(entries, _) => Value::Map(entries),
                    };
                    self.end(anchor, Node { place, value })?;
                }
            }
        }
        Ok(self.whole.take().unwrap_or(Node { place: Place { line: 1, column: 1 }, value: Value::Nothing }))
    }

    fn count(&mut self, place: Place, nodes: usize, depth: usize) -> Result<(), Refused> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES {
            return refuse(
                place,
                format!("there are more than {MAX_NODES} texts, lists and maps, with what aliases stand for"),
            );
        }
        if self.open.len() + depth > MAX_DEPTH {
            return refuse(place, format!("lists and maps lie in each other more than {MAX_DEPTH} deep"));
        }
        Ok(())
    }

    fn begin(&mut self, place: Place, anchor: usize, content: Content) -> Result<(), Refused> {
        self.count(place, 1, 1)?;
        self.open.push(Open { place, anchor, content });
        Ok(())
    }

    fn end(&mut self, anchor: usize, node: Node) -> Result<(), Refused> {
        // 0 is none.
        if anchor != 0 {
            self.anchored.insert(anchor, node.clone());
        }
        self.put(node)
    }

    fn put(&mut self, node: Node) -> Result<(), Refused> {
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.whole = Some(node),
            Some(Content::List(items)) => items.push(node),
            Some(Content::Map(entries, key)) => match key.take() {
                Some((key, true)) => entries.push((key, node)),
                Some((_, false)) => {}
                None => {
                    let found = as_key(node)?;
                    let first = entries.iter().find(|(before, _)| before.name == found.name);
                    if let Some((first, _)) = first {
                        let (name, line) = (console::cut(&found.name, 80), first.place.line);
                        let text = format!("the key `{name}` is given twice, first in line {line}");
                        self.twice.push(Refused { place: found.place, text });
                    }
                    *key = Some((found, first.is_none()));
                }
            },
        }
        Ok(())
    }
}

fn as_key(node: Node) -> Result<Key, Refused> {
    let place = node.place;
    let Value::Text(name) = node.value else { return refuse(place, format!("a key is a text, not {}", node.kind())) };
    Ok(Key { place, name })
}

fn place(marker: Marker) -> Place {
    Place { line: marker.line(), column: marker.col() + 1 }
}

fn unreadable(error: &ScanError) -> Refused {
    Refused { place: place(*error.marker()), text: format!("this is not YAML: {}", console::safe(error.info())) }
}

fn refuse<T>(place: Place, text: impl Into<String>) -> Result<T, Refused> {
    Err(Refused { place, text: text.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Node, String> {
        read_bytes(text.as_bytes())
    }

    fn read_bytes(content: &[u8]) -> Result<Node, String> {
        let mut problems = Problems::of("f");
        let read = read(content, &mut problems);
        let found: Vec<String> = problems.into_found().iter().map(ToString::to_string).collect();
        assert!(read.is_some() || !found.is_empty(), "what can't be read is said");
        read.filter(|_| found.is_empty()).ok_or_else(|| found.join("\n"))
    }

    fn shown(node: &Node) -> String {
        match &node.value {
            Value::Nothing => "-".to_owned(),
            Value::Text(text) => format!("{text:?}"),
            Value::List(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(" ")),
            Value::Map(entries) => {
                let entry = |(key, node): &(Key, Node)| format!("{}={}", key.name, shown(node));
                format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(" "))
            }
        }
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        for (text, expected) in [
            ("a: no\nb: 0755\nc: 'null'\nd: ~\ne: 1e3", r#"{a="no" b="0755" c="null" d="~" e="1e3"}"#),
            ("a:\nb: ''", r#"{a=- b=""}"#),
            ("- x\n- [y, {z: w}]", r#"["x" ["y" {z="w"}]]"#),
            ("a: &x [1]\nb: *x", r#"{a=["1"] b=["1"]}"#),
            ("a: |\n  two\n  lines\n", r#"{a="two\nlines\n"}"#),
            ("", "-"),
        ] {
            assert_eq!(read_text(text).map(|node| shown(&node)).as_deref(), Ok(expected), "{text}");
        }
        let Value::Map(entries) = read_text("ä: x\n  \nb: y").unwrap().value else { panic!() };
        assert_eq!(
            (entries[1].0.place, entries[1].1.place),
            (Place { line: 3, column: 1 }, Place { line: 3, column: 4 })
        );
    }

    #[test]
    fn what_cannot_be_understood_is_refused_with_its_place() {
        let bomb: String = (1..30).fold("x0: &x0 [a, a]\n".to_owned(), |text, n| {
            format!("{text}x{n}: &x{n} [*x{before}, *x{before}]\n", before = n - 1)
        });
        let (deep, long) = ("[".repeat(20_000), "- a\n".repeat(10_001));
        let nested = format!("{}{}", "[".repeat(65), "]".repeat(65));
        for (text, expected) in [
            ("a: 1\nb: 2\na: 3", "f:3:1: the key `a` is given twice, first in line 1"),
            (
                "a: 1\nb: { a: [], a: {} }\na: [1",
                "f:2:13: the key `a` is given twice, first in line 2\nf:3:1: the key `a` is given",
            ),
            ("a: 1\n---\nb: 2", "f:2:1: there is a second document: one file says one thing"),
            ("a: !!str 1", "f:1:"),
            ("[x]: 1", "f:1:1: a key is a text, not a list"),
            ("a: [1", "this is not YAML"),
            ("a: *b", "this is not YAML"),
            ("&a [*a]", "f:1:5: the alias stands for something that it is in"),
            (&bomb, "more than 10000 texts, lists and maps"),
            (&deep, "recursion limit exceeded"),
            (&nested, "more than 64 deep"),
            (&long, "more than 10000"),
        ] {
            let refused = read_text(text).unwrap_err();
            assert!(refused.contains(expected), "{refused} of {text:.40}");
        }
        assert!(read_bytes(b"a: 1\n\xc3\xa4b\xff: 2").unwrap_err().contains("f:2:3: the file is not UTF-8"));
        assert!(read_bytes(&vec![b' '; MAX_SIZE + 1]).unwrap_err().contains("262145 bytes"));
        assert!(read_text(&format!("{}{}", "[".repeat(64), "]".repeat(64))).is_ok());
    }
}
