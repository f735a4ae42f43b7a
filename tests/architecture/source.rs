//! The source tree as text: which files there are, and of a Rust file what is code, what is a string, what is a test.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::lexer::{blank, is_word, test_items};

/// Directories that hold what was made or fetched.
const NOT_OURS: [&str; 8] = [".git", "target", "dist", "node_modules", "results", "corpus", "artifacts", "coverage"];

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The text of a file, by its path in the repository.
pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("could not read `{path}`: {error}"))
}

/// Whether the repository has a file or a directory of this path.
pub(crate) fn exists(path: &str) -> bool {
    root().join(path).exists()
}

/// All files of the repository below a directory (`""`: all), by their paths in it, in order.
pub(crate) fn files(below: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut directories = vec![PathBuf::from(below)];
    while let Some(directory) = directories.pop() {
        let Ok(entries) = fs::read_dir(root().join(&directory)) else { continue };
        for entry in entries.map(Result::unwrap) {
            let name = entry.file_name().into_string().expect("our names are UTF-8");
            let kind = entry.file_type().unwrap();
            let path = directory.join(&name);
            if kind.is_dir() && !NOT_OURS.contains(&name.as_str()) {
                directories.push(path);
            } else if kind.is_file() {
                found.push(path.to_str().expect("our names are UTF-8").to_owned());
            }
        }
    }
    found.sort();
    found
}

/// All Rust files below a directory.
pub(crate) fn rust_files(below: &str) -> Vec<String> {
    files(below).into_iter().filter(|path| has_extension(path, "rs")).collect()
}

/// The Rust files below a crate's directory of sources, without what is compiled for tests only.
pub(crate) fn shipped(directory: &str) -> Vec<Source> {
    let mut sources: Vec<Source> = rust_files(directory).iter().map(|path| Source::read(path)).collect();
    let tests: Vec<String> = sources.iter().flat_map(Source::test_files).collect();
    sources.retain(|source| !tests.iter().any(|test| source.path.starts_with(test)));
    sources
}

pub(crate) fn has_extension(path: &str, extension: &str) -> bool {
    Path::new(path).extension().is_some_and(|found| found == extension)
}

/// Fails with all that was found, if anything was, and with what to do about it.
#[track_caller]
pub(crate) fn none(found: &[String], remedy: &str) {
    assert!(found.is_empty(), "\n{}\n{remedy}\n", found.join("\n"));
}

/// A Rust file.
pub(crate) struct Source {
    /// Its path in the repository.
    pub(crate) path: String,
    /// Its text, of the same length as the file, with comments, strings and items only for tests blanked.
    pub(crate) code: String,
    /// Its strings outside of tests: where each begins, and what it holds, as written.
    pub(crate) strings: Vec<(usize, String)>,
    /// The modules that it declares only for tests.
    test_modules: Vec<String>,
}

impl Source {
    pub(crate) fn read(path: &str) -> Self {
        Self::parse(path, &read(path))
    }

    pub(crate) fn parse(path: &str, text: &str) -> Self {
        let (mut code, mut strings) = blank(text);
        let mut test_modules = Vec::new();
        for range in test_items(&code) {
            strings.retain(|(at, _)| !range.contains(at));
            let item = &code[range.clone()];
            if let Some((head, _)) = item.split_once(';')
                && let Some((_, name)) = head.rsplit_once("mod ")
                && name.chars().all(is_word)
            {
                test_modules.push(name.to_owned());
            }
            let blanked: String = item.chars().map(|c| if c == '\n' { c } else { ' ' }).collect();
            code.replace_range(range, &blanked);
        }
        Self { path: path.to_owned(), code, strings, test_modules }
    }

    /// How the paths of the modules begin that it declares only for tests.
    fn test_files(&self) -> Vec<String> {
        let own = self.path.trim_end_matches(".rs");
        let folder = ["/mod", "/lib", "/main"].iter().find_map(|name| own.strip_suffix(name)).unwrap_or(own);
        self.test_modules.iter().flat_map(|name| [format!("{folder}/{name}.rs"), format!("{folder}/{name}/")]).collect()
    }

    /// `path:line` of a place in the text.
    pub(crate) fn at(&self, place: usize) -> String {
        format!("{}:{}", self.path, 1 + self.code[..place].matches('\n').count())
    }

    /// Where `word` stands in the code, with nothing that belongs to a name right before or after it.
    pub(crate) fn finds(&self, word: &str) -> Vec<usize> {
        let ends_in_word = word.ends_with(is_word);
        let whole = |at: &usize| {
            let before = self.code[..*at].chars().next_back();
            let after = self.code[at + word.len()..].chars().next();
            !(before.is_some_and(is_word) || ends_in_word && after.is_some_and(is_word))
        };
        self.code.match_indices(word).map(|(at, _)| at).filter(whole).collect()
    }
}
