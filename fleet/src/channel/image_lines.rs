//! The lines of a configuration that name an image with a tag, as what deploys it reads them, and the same lines with another
//! tag. All else of the file stays byte for byte: it is somebody's own writing.

use std::fmt;

use registry::{Repository, Tag};

/// What a line has before the name of an image, behind spaces and the dashes of a list.
const KEY: &str = "image:";

/// The end of a tag that somebody put there to try something.
const DIRTY: &str = "-dirty";

/// A text with another tag on the lines of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retagged {
    /// All of it; `None` if nothing in it changes.
    pub text: Option<String>,
    /// The lines that name the image and were left alone, from 1, with why.
    pub kept: Vec<(usize, Kept)>,
}

/// Why a line that names the image was left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Its tag ends in `-dirty`: somebody tries something there.
    Dirty,
    /// It has a digest, which is more than a tag could say.
    Digest,
}

/// As the rest of a sentence about the line.
impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dirty => "has a tag that ends in `-dirty`",
            Self::Digest => "has a digest",
        })
    }
}

/// Puts `tag` on each line `image: NAME:TAG` of that image. Indentation, quotes, comments and ends of lines stay.
pub fn retagged(text: &str, name: &Repository, tag: &Tag) -> Retagged {
    let name = name.to_string();
    let (mut changed, mut kept) = (String::with_capacity(text.len()), Vec::new());
    for (at, line) in text.split_inclusive('\n').enumerate() {
        match tag_of(line, &name) {
            Some(Ok(there)) if there.ends_with(DIRTY) => kept.push((at + 1, Kept::Dirty)),
            Some(Ok(there)) => {
                // It is a part of this line.
                let begin = there.as_ptr().addr() - line.as_ptr().addr();
                changed.push_str(&line[..begin]);
                changed.push_str(tag.as_str());
                changed.push_str(&line[begin + there.len()..]);
                continue;
            }
            Some(Err(digest)) => kept.push((at + 1, digest)),
            None => {}
        }
        changed.push_str(line);
    }
    Retagged { text: (changed != text).then_some(changed), kept }
}

/// The tag that a line gives an image, if it is about that: or that it has a digest.
fn tag_of<'a>(line: &'a str, name: &str) -> Option<Result<&'a str, Kept>> {
    let key = line.trim_start_matches([' ', '\t', '-']);
    let value = key.strip_prefix(KEY)?;
    let reference = value.trim_start_matches([' ', '\t']);
    // YAML needs a space there: without it this is one word.
    if reference.len() == value.len() {
        return None;
    }
    let quote = reference.chars().next().filter(|first| ['"', '\''].contains(first));
    let reference = reference.strip_prefix(['"', '\'']).unwrap_or(reference);
    let rest = reference.strip_prefix(name)?;
    let end = rest.find(|c: char| c.is_whitespace() || ['"', '\''].contains(&c)).unwrap_or(rest.len());
    let (of_it, after) = rest.split_at(end);
    let after = match quote {
        Some(quote) => after.strip_prefix(quote)?,
        None => after,
    };
    let is_over = after.trim().is_empty() || (after.starts_with([' ', '\t']) && after.trim_start().starts_with('#'));
    if !is_over {
        return None;
    }
    if of_it.contains('@') {
        return of_it.starts_with([':', '@']).then_some(Err(Kept::Digest));
    }
    let tag = of_it.strip_prefix(':')?;
    tag.parse::<Tag>().ok().map(|_| Ok(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "7e0ff6059e653eb75a36efb621d0fd66d1ced433";

    fn change(text: &str) -> Retagged {
        retagged(text, &"images.example/acme/web".parse().unwrap(), &COMMIT.parse().unwrap())
    }

    #[test]
    fn only_the_tag_of_that_image_changes() {
        for (line, after) in [
            ("image: images.example/acme/web:old", "image: images.example/acme/web:NEW"),
            (
                "  - image: \"images.example/acme/web:old\" # the web",
                "  - image: \"images.example/acme/web:NEW\" # the web",
            ),
            ("\timage:   'images.example/acme/web:1.2'\r", "\timage:   'images.example/acme/web:NEW'\r"),
            ("- - image: images.example/acme/web:old\t", "- - image: images.example/acme/web:NEW\t"),
        ] {
            let text = format!("a: 1\n{line}\nb: 2");
            let expected = format!("a: 1\n{}\nb: 2", after.replace("NEW", COMMIT));
            assert_eq!(change(&text), Retagged { text: Some(expected.clone()), kept: Vec::new() }, "{line}");
            assert_eq!(change(&expected).text, None, "{line}");
        }
    }

    #[test]
    fn what_is_about_something_else_stays() {
        for line in [
            "image: images.example/acme/web",
            "image: images.example/acme/web2:old",
            "image: images.example/acme/web/x:old",
            "image: other.example/acme/web:old",
            "image:images.example/acme/web:old",
            "# image: images.example/acme/web:old",
            "myimage: images.example/acme/web:old",
            "image: images.example/acme/web:old more",
            "image: \"images.example/acme/web:old'",
            "image: images.example/acme/web:o$d",
            "image: {name: images.example/acme/web:old}",
            "- run: echo image: images.example/acme/web:old",
        ] {
            assert_eq!(change(line), Retagged { text: None, kept: Vec::new() }, "{line}");
        }
    }

    #[test]
    fn lines_that_are_left_alone_are_named() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let text = format!(
            "image: images.example/acme/web:mine-dirty\nimage: images.example/acme/web@{digest}\n\
             image: images.example/acme/web:v1@{digest} # pinned\nimage: images.example/acme/web:v1\n"
        );
        let Retagged { text, kept } = change(&text);
        assert_eq!(kept, [(1, Kept::Dirty), (2, Kept::Digest), (3, Kept::Digest)]);
        let lines: Vec<String> = text.unwrap().lines().map(str::to_owned).collect();
        assert!(lines[3].ends_with(COMMIT) && lines[0].ends_with("-dirty") && lines[2].ends_with("# pinned"));
    }
}
