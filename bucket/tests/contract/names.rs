//! Names, paths and addresses: what is let in, and that what goes out comes back.

use bucket::{AppName, BucketUrl, Commit, ObjectPath, ReleaseName, ReleaseParts, ServerName, SharedNames};
use proptest::prelude::*;

use crate::{COMMIT, good_release, release, release_name};

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
    assert_eq!(ReleaseName::new(&parts("2026-11-20T19:05:02Z")).unwrap().as_str(), good_release());
    assert!(ReleaseName::new(&parts("2026-11-20T19:05:02.5Z")).is_err());
    assert!(ReleaseName::new(&ReleaseParts { user: "a@b".to_owned(), ..parts("2026-11-20T19:05:02Z") }).is_err());
    assert!(ReleaseName::new(&parts("-000001-11-20T19:05:02Z")).is_err());
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
        prop_assert_eq!(ReleaseName::new(&parts).unwrap(), name);
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
}

#[test]
fn equal_names_are_in_memory_once_for_as_long_as_somebody_has_them() {
    let mut shared = SharedNames::default();
    let [mut one, mut other]: [ReleaseName; 2] = [good_release().parse().unwrap(), good_release().parse().unwrap()];
    assert!(!std::ptr::eq(one.as_str(), other.as_str()));
    shared.share(&mut one);
    shared.share(&mut other);
    assert!(std::ptr::eq(one.as_str(), other.as_str()));
    let address = one.as_str().as_ptr();
    drop(one);
    shared.trim();
    let mut third: ReleaseName = good_release().parse().unwrap();
    shared.share(&mut third);
    assert_eq!(third.as_str().as_ptr(), address, "it was kept for the other");
    drop((other, third));
    shared.trim();
    assert_eq!(format!("{shared:?}"), format!("{:?}", SharedNames::default()));
}
