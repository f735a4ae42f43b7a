//! Names and documents: what is let in, and that what goes out comes back.

use bucket::{
    AppName, BucketUrl, Commit, Entry, ObjectPath, ReleaseName, ReleaseParts, ServerDocument, ServerName, Timestamp,
};
use proptest::prelude::*;

const COMMIT: &str = "7e0ff6059e653eb75a36efb621d0fd66d1ced433";

fn release(app: &str, who: &str, time: &str, commit: &str) -> String {
    format!("{app}/{app}:{who}:{time}:{commit}.deb")
}

fn good_release() -> String {
    release("web", "dev@build-1", "2026-11-20T19:05:02Z", COMMIT)
}

/// A word that app names, server names, users and hosts may be.
fn word() -> impl Strategy<Value = String> {
    "[A-Za-z0-9][A-Za-z0-9+._~-]{0,20}".prop_filter("no `..`", |word| !word.contains(".."))
}

fn release_name() -> impl Strategy<Value = ReleaseName> {
    let time = -62_000_000_000..253_402_300_800_i64;
    (word(), word(), word(), time, "[0-9a-f]{40}|[0-9a-f]{64}").prop_filter_map(
        "a year of four digits",
        |(app, user, host, second, commit)| {
            let time = Timestamp::from_second(second).ok()?;
            let (app, commit) = (app.parse().ok()?, commit.parse().ok()?);
            ReleaseName::new(ReleaseParts { app, user, host, time, commit }).ok()
        },
    )
}

#[test]
fn words_that_are_names() {
    for word in ["a", "0", "web", "Web-2", "g++", "libfoo2.1", "a_b", "a~rc1", "x.", "a+", "1.2.3"] {
        assert_eq!(word.parse::<AppName>().unwrap().as_str(), word);
        assert_eq!(word.parse::<ServerName>().unwrap().as_str(), word);
    }
}

#[test]
fn words_that_are_no_names() {
    let long = "a".repeat(201);
    for word in [
        "",
        " ",
        ".",
        "..",
        "../x",
        "a..b",
        "-rf",
        "--root=/",
        ".hidden",
        "_a",
        "~root",
        "+x",
        "a/b",
        "/",
        "a/",
        "/a",
        "a\\b",
        "a b",
        "a\tb",
        "a\n",
        "\na",
        "a\0",
        "\0",
        "a%2fb",
        "a%00",
        "a:b",
        "a@b",
        "a;b",
        "a$b",
        "a`b",
        "a'b",
        "a\"b",
        "a*",
        "a?",
        "a|b",
        "a&b",
        "a<b",
        "(a)",
        "a#b",
        "a=b",
        "a,b",
        "[a]",
        "{a}",
        "ünï",
        "wеb",
        "web\u{200b}",
        "web\u{202e}",
        "ｗｅｂ",
        "１",
        "a\u{301}",
        "a\u{7f}",
        "a\u{85}",
        "a\u{1b}[2J",
        &long,
    ] {
        assert!(word.parse::<AppName>().is_err(), "{word:?} was taken as an app name");
        assert!(word.parse::<ServerName>().is_err(), "{word:?} was taken as a server name");
        let json = serde_json::to_string(word).unwrap();
        assert!(serde_json::from_str::<AppName>(&json).is_err(), "{word:?} was read from JSON");
    }
    assert!("a".repeat(AppName::MAX).parse::<AppName>().is_ok());
    assert!("a".repeat(AppName::MAX + 1).parse::<AppName>().is_err());
    assert!("a".repeat(ServerName::MAX).parse::<ServerName>().is_ok());
}

#[test]
fn release_names_that_are_good() {
    for name in [
        good_release(),
        release("g++", "a_b@c-d.lan", "1970-01-01T00:00:00Z", COMMIT),
        release("a", "0@0", "9999-12-30T22:00:00Z", COMMIT),
        release("a", "a@a", "2024-02-29T00:00:00Z", &COMMIT.repeat(2)[..64]),
    ] {
        let parsed: ReleaseName = name.parse().unwrap();
        assert_eq!(parsed.to_string(), name);
        assert_eq!(ReleaseName::from_stem(parsed.stem()).unwrap(), parsed);
    }
}

#[test]
fn release_names_that_are_bad() {
    let good = good_release();
    let time = "2026-11-20T19:05:02Z";
    let mut bad = vec![
        String::new(),
        good.replace(".deb", ""),
        good.replace(".deb", ".DEB"),
        good.replace(".deb", ".deb.deb"),
        format!("{good}\n"),
        format!(" {good}"),
        format!("debs/{good}"),
        format!("/{good}"),
        format!("./{good}"),
        format!("../{good}"),
        format!("{good}/"),
        format!("{good}\0"),
        good.replace('/', "%2f"),
        good.replace('/', "//"),
        good.replace('/', "\\"),
        good.replace("web/web", "web/api"),
        good.replace("web/web", "-web/-web"),
        good.replace("web/web", "../.."),
        good.replace("web/web", "web/WEB"),
        good.replace("web/web", "wеb/wеb"),
        good.replace(':', "："),
        good.replace('@', ":"),
        good.replace("dev@", "@"),
        good.replace("@build-1", "@"),
        good.replace("@build-1", "@build-1@build-2"),
        good.replace("dev", "-dev"),
        good.replace("dev", "a b"),
        good.replace("dev", "a\nb"),
        good.replace("build-1", "ws..1"),
        good.replace("7e0ff", "7E0FF"),
        good.replace("7e0ff", "7g0ff"),
        good.replace("7e0ff", "7e0f"),
        good.replace("7e0ff", "7e0fff"),
        good.replace(COMMIT, ""),
        good.replace(time, ""),
        good.replace("web", &"w".repeat(101)),
        good.replace("dev", &"a".repeat(200)),
    ];
    for wrong in [
        "2026-11-20T19:05:60Z",
        "2026-12-31T23:59:60Z",
        "2026-11-20T24:00:00Z",
        "2026-11-20T19:60:00Z",
        "2026-13-20T19:05:02Z",
        "2026-00-20T19:05:02Z",
        "2026-02-29T19:05:02Z",
        "2026-11-31T19:05:02Z",
        "2026-11-20 19:05:02Z",
        "2026-11-20t19:05:02z",
        "2026-11-20T19:05:02",
        "2026-11-20T19:05:02.5Z",
        "2026-11-20T19:05:02+00:00",
        "2026-11-20T19:05:2Z",
        "26-11-20T19:05:02Z",
        "+002026-11-20T19:05:02Z",
        "-026-11-20T19:05:02Z",
        "2026-11-20T19-05-02Z",
        "２026-11-20T19:05:02Z",
        "1795200000",
    ] {
        bad.push(good.replace(time, wrong));
    }
    for name in bad {
        assert!(name.parse::<ReleaseName>().is_err(), "{name:?} was taken");
    }
}

#[test]
fn a_release_name_is_made_of_whole_seconds_only() {
    let parts = |time: &str| ReleaseParts {
        app: "web".parse().unwrap(),
        user: "dev".to_owned(),
        host: "build-1".to_owned(),
        time: time.parse().unwrap(),
        commit: COMMIT.parse().unwrap(),
    };
    assert_eq!(ReleaseName::new(parts("2026-11-20T19:05:02Z")).unwrap().as_str(), good_release());
    assert!(ReleaseName::new(parts("2026-11-20T19:05:02.5Z")).is_err());
    assert!(ReleaseName::new(ReleaseParts { user: "a@b".to_owned(), ..parts("2026-11-20T19:05:02Z") }).is_err());
    assert!(ReleaseName::new(parts("-000001-11-20T19:05:02Z")).is_err());
}

#[test]
fn a_message_about_a_bad_name_is_safe_to_show() {
    for name in ["a\u{1b}[2Jb", "a\u{202e}b", "a\nb", &"\u{7}".repeat(10_000)] {
        let message = name.parse::<ServerName>().unwrap_err().to_string();
        assert!(message.chars().all(|c| !c.is_control() && c != '\u{202e}'), "{message:?}");
        assert!(message.len() < 4000, "{} bytes", message.len());
    }
}

#[test]
fn object_paths_stay_below_their_bucket() {
    for path in ["a", "server/web-1.json", "debs/a/b/c", "a b", "ü", "a/%2e%2e/b", "-x", "a?b#c"] {
        assert_eq!(path.parse::<ObjectPath>().unwrap().as_str(), path);
    }
    let long_segment = "a".repeat(ObjectPath::MAX_SEGMENT + 1);
    let long = "a/".repeat(600) + "a";
    for path in [
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "../a",
        "a/..",
        "a/../b",
        "a/./b",
        ".push/lock",
        "a/.b",
        "a\\b",
        "a\0b",
        "a\nb",
        "a\u{7f}b",
        "a\u{85}b",
        &long_segment,
        &long,
    ] {
        assert!(path.parse::<ObjectPath>().is_err(), "{path:?} was taken");
    }
}

#[test]
fn bucket_urls() {
    for url in ["gs://acme-push", "gs://a.b_c", "file:///srv/push", "file:///", "file:///a%20b"] {
        assert_eq!(url.parse::<BucketUrl>().unwrap().to_string(), url);
    }
    assert_eq!("gs://acme/".parse::<BucketUrl>().unwrap().to_string(), "gs://acme");
    for url in [
        "",
        "acme",
        "/srv/push",
        "gs://",
        "gs://ab",
        "gs://Acme",
        "gs://a/b",
        "gs://...",
        "gs://-ab",
        "gs://ab-",
        "s3://acme",
        "gs://a b",
        "file://srv/push",
        "file:relative",
        "file:///a?b",
        "file:///a#b",
        "http://acme",
        "GS://acme",
    ] {
        assert!(url.parse::<BucketUrl>().is_err(), "{url:?} was taken");
    }
}

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
    let placeholders = document.entries().iter().filter(|entry| matches!(entry, Entry::Placeholder(_)));
    assert_eq!(placeholders.count(), 2);
    // Written again: everything but the placeholders, in order.
    let before: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    let after: Vec<serde_json::Value> = serde_json::from_slice(&document.to_json()).unwrap();
    let kept: Vec<_> = before.into_iter().filter(|value| *value != "db" && *value != "log/").collect();
    assert_eq!(after, kept);
}

#[test]
fn an_element_that_is_wrong_is_kept_to_the_letter() {
    // Found by fuzzing: a number with more digits than a float has.
    for element in [
        "223222222522222222222221.5",
        "1e999",
        "-0.0",
        "12345678901234567890123",
        r#"{"z":1,"a":1,"a":2}"#,
        r#"{ "spaced" : [ ] }"#,
        r#""\u0061b/""#,
        r#""\ud800""#,
    ] {
        let document = ServerDocument::parse(format!("[{element}]").as_bytes()).unwrap();
        let written = String::from_utf8(document.to_json().to_vec()).unwrap();
        let expected = if element == r#""\u0061b/""# { "[]\n".to_owned() } else { format!("[\n  {element}\n]\n") };
        assert_eq!(written, expected);
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
    assert_eq!(values, serde_json::json!([api, 7, new]));
}

proptest! {
    #[test]
    fn any_release_name_comes_back(name in release_name()) {
        let text = name.to_string();
        prop_assert_eq!(&text.parse::<ReleaseName>().unwrap(), &name);
        prop_assert_eq!(&ReleaseName::from_stem(name.stem()).unwrap(), &name);
        let json = serde_json::to_string(&name).unwrap();
        prop_assert_eq!(&serde_json::from_str::<ReleaseName>(&json).unwrap(), &name);
        let path = format!("debs/{name}");
        prop_assert!(path.parse::<ObjectPath>().is_ok(), "a release that no path can be made of: {}", path);
        let parts = ReleaseParts {
            app: name.app().clone(),
            user: name.user().to_owned(),
            host: name.host().to_owned(),
            time: name.time(),
            commit: name.commit().clone(),
        };
        prop_assert_eq!(ReleaseName::new(parts).unwrap(), name);
    }

    #[test]
    fn a_release_name_with_one_character_changed_is_another_or_none(
        name in release_name(),
        at in any::<prop::sample::Index>(),
        other in any::<char>(),
    ) {
        let mut text: Vec<char> = name.as_str().chars().collect();
        let at = at.index(text.len());
        text[at] = other;
        let text: String = text.into_iter().collect();
        if let Ok(parsed) = text.parse::<ReleaseName>() {
            prop_assert_eq!(parsed.as_str(), text);
            prop_assert!(parsed.as_str().is_ascii());
        }
    }

    #[test]
    fn no_text_makes_a_parser_panic_or_change_it(text in any::<String>()) {
        if let Ok(name) = text.parse::<AppName>() { prop_assert_eq!(name.as_str(), &text); }
        if let Ok(name) = text.parse::<ServerName>() { prop_assert_eq!(name.as_str(), &text); }
        if let Ok(name) = text.parse::<ReleaseName>() { prop_assert_eq!(name.as_str(), &text); }
        if let Ok(path) = text.parse::<ObjectPath>() { prop_assert_eq!(path.as_str(), &text); }
        if let Ok(commit) = text.parse::<Commit>() { prop_assert_eq!(commit.as_str(), &text); }
    }

    #[test]
    fn the_longest_names_fit_their_paths(length in 1..=ServerName::MAX) {
        let name: ServerName = "s".repeat(length).parse().unwrap();
        for path in [format!("server/{name}.json"), format!("status/{name}.json"), format!("history/{name}/x.json")] {
            prop_assert!(path.parse::<ObjectPath>().is_ok());
        }
    }

    #[test]
    fn newer_releases_of_an_app_sort_last(names in prop::collection::vec(release_name(), 2)) {
        let [a, b] = [&names[0], &names[1]];
        prop_assert_eq!(a.cmp(b), (a.app(), a.time(), a.as_str()).cmp(&(b.app(), b.time(), b.as_str())));
    }

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
