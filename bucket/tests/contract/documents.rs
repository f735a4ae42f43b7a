//! Server documents: what is taken from them, and that everything else is kept.

use bucket::{Entry, ReleaseName, ServerDocument};
use proptest::prelude::*;

use crate::{good_release, release_name};

fn bad_reasons(document: &str) -> Vec<String> {
    let document = ServerDocument::parse(document.as_bytes()).unwrap();
    document.bad_entries().map(|(value, reason)| format!("{value}: {reason}")).collect()
}

#[test]
fn documents_that_are_none() {
    let deep = "[".repeat(100_000);
    let good = format!(r#"["{}"]"#, good_release());
    for text in [
        "",
        " ",
        "null",
        "{}",
        r#""web""#,
        "7",
        "true",
        "[",
        "[}",
        "]",
        "[,]",
        "[1,]",
        "[1 2]",
        "[] []",
        "[]x",
        "[]\0",
        "\u{feff}[]",
        "['web']",
        "[nul]",
        "// c\n[]",
        &deep,
        &good[1..],
        &good[..good.len() - 1],
        &good.replace('"', ""),
    ] {
        assert!(ServerDocument::parse(text.as_bytes()).is_err(), "{:?} was taken", &text[..text.len().min(50)]);
    }
    assert!(ServerDocument::parse(b"[\"\xff\"]").is_err());
    assert!(ServerDocument::parse(b" [ ] \n").unwrap().entries().is_empty());
}

#[test]
fn an_element_that_is_wrong_leaves_the_others_alone() {
    let good = good_release();
    let other = good.replace("web", "api");
    let newer = good.replace("2026", "2027");
    let text = format!(
        r#"[null, 1, true, {{"a": [1]}}, ["x"], "", "/", "..", "../", "a/b", "-rf", "{good}", "db", "log/", "{newer}", "{other}", "{good}"]"#
    );
    let document = ServerDocument::parse(text.as_bytes()).unwrap();
    let releases: Vec<String> = document.releases().map(ToString::to_string).collect();
    assert_eq!(releases, [good.clone(), other]);
    assert_eq!(document.bad_entries().count(), 13, "{:#?}", bad_reasons(&text));
    assert!(bad_reasons(&text).iter().any(|bad| bad.contains("second release of `web`")));
    let placeholders = document.entries().iter().filter(|entry| matches!(entry, Entry::Placeholder { .. }));
    assert_eq!(placeholders.count(), 2);
    // Written again: everything, in order.
    let before: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    let after: Vec<serde_json::Value> = serde_json::from_slice(&document.to_json()).unwrap();
    assert_eq!(after, before);
}

#[test]
fn an_element_that_names_no_release_is_kept_to_the_letter() {
    // Found by fuzzing: a number with more digits than a float has.
    for element in [
        "223222222522222222222221.5",
        "1e999",
        "-0.0",
        "12345678901234567890123",
        r#"{"z":1,"a":1,"a":2}"#,
        r#"{ "spaced" : [ ] }"#,
        r#""\u0061b/""#,
        r#""db""#,
        r#""\ud800""#,
    ] {
        let document = ServerDocument::parse(format!("[{element}]").as_bytes()).unwrap();
        let written = String::from_utf8(document.to_json().to_vec()).unwrap();
        assert_eq!(written, format!("[\n  {element}\n]\n"));
    }
    let deep = format!("[{}{}]", "[".repeat(10_000), "]".repeat(10_000));
    assert_eq!(ServerDocument::parse(deep.as_bytes()).unwrap().bad_entries().count(), 1);
}

#[test]
fn a_bad_element_is_safe_to_show() {
    let text = format!(r#"["\u001b[2J\u202e", "{}", {{"\u001b": "\n"}}]"#, "x".repeat(100_000));
    for bad in bad_reasons(&text) {
        assert!(bad.chars().all(|c| !c.is_control() && c != '\u{202e}'), "{bad:?}");
        assert!(bad.len() < 5000, "{} bytes", bad.len());
    }
}

#[test]
fn setting_a_release_replaces_the_one_that_counts() {
    let (old, new) = (good_release(), good_release().replace("2026", "2027"));
    let text = format!(r#"["web", "api/", 7, "{old}"]"#);
    let mut document = ServerDocument::parse(text.as_bytes()).unwrap();
    // Not the placeholder before it: then there would be two.
    assert_eq!(document.set(new.parse().unwrap()).unwrap().as_str(), old);
    assert_eq!(document.releases().map(ReleaseName::as_str).collect::<Vec<_>>(), [new.as_str()]);
    let api = new.replace("web", "api");
    assert_eq!(document.set(api.parse().unwrap()), None);
    let values: serde_json::Value = serde_json::from_slice(&document.to_json()).unwrap();
    assert_eq!(values, serde_json::json!(["web", api, 7, new]));
    assert_eq!(document.remove(&"web".parse().unwrap()).unwrap().as_str(), new);
    let values: serde_json::Value = serde_json::from_slice(&document.to_json()).unwrap();
    assert_eq!(values, serde_json::json!([api, 7]), "nor would a channel put it back");
}

proptest! {
    #[test]
    fn any_document_comes_back(
        names in prop::collection::vec(release_name(), 0..8),
        others in prop::collection::vec("[a-z/.\\\\\"\u{0}-\u{1f}]{0,10}", 0..4),
    ) {
        let all: Vec<String> = names.iter().map(ToString::to_string).chain(others).collect();
        let document = ServerDocument::parse(serde_json::to_string(&all).unwrap().as_bytes()).unwrap();
        let again = ServerDocument::parse(&document.to_json()).unwrap();
        prop_assert_eq!(document.releases().collect::<Vec<_>>(), again.releases().collect::<Vec<_>>());
        prop_assert_eq!(document.bad_entries().collect::<Vec<_>>(), again.bad_entries().collect::<Vec<_>>());
        prop_assert_eq!(again.to_json(), document.to_json());
        for name in again.releases() {
            prop_assert_eq!(again.release_of(name.app()), Some(name));
        }
    }

    #[test]
    fn no_bytes_make_a_document_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(document) = ServerDocument::parse(&bytes) {
            let again = ServerDocument::parse(&document.to_json()).unwrap();
            prop_assert_eq!(again.to_json(), document.to_json());
        }
    }
}

#[test]
fn of_a_document_without_end_the_first_4000_elements_are_looked_at() {
    let good = good_release();
    let many = format!("[{}\"{good}\"]", "1,".repeat(500_000));
    let document = ServerDocument::parse(many.as_bytes()).unwrap();
    assert_eq!((document.entries().len(), document.unread()), (4000, 496_001));
    assert_eq!(document.releases().count(), 0, "a release after them isn't looked at");
    assert!(ServerDocument::parse(format!("[{}1", "1,".repeat(5000)).as_bytes()).is_err(), "it must still be JSON");
    let few = ServerDocument::parse(format!("[{}\"{good}\"]", "1,".repeat(3999)).as_bytes()).unwrap();
    assert_eq!((few.releases().count(), few.unread()), (1, 0));
}
