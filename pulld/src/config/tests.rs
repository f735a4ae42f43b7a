//! Files in, settings or a message out.

use std::fs;

use super::*;

fn load_in(root: &Path) -> Result<Loaded> {
    load(&Paths::new(root), None, |_| None, "web-1.example.com")
}

fn put(root: &Path, path: &str, content: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

#[test]
fn a_fresh_machine_has_defaults_and_no_bucket() {
    let root = tempfile::tempdir().unwrap();
    let settings = load_in(root.path()).unwrap().settings;
    assert_eq!(settings.bucket, None);
    assert_eq!(settings.server.as_str(), "web-1");
    assert_eq!(settings.poll, Duration::from_mins(5));
    assert_eq!(settings.jitter, Duration::from_secs(30));
    assert!(settings.allowed_apps.allows("anything"));
    assert!(!settings.prune);
}

#[test]
fn a_directory_is_polled_more_often_than_a_bucket_that_costs() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "etc/pulld/pulld.toml", "bucket = \"gs://main\"");
    assert_eq!(load_in(root.path()).unwrap().settings.poll, Duration::from_mins(5));
    put(root.path(), "etc/pulld/pulld.toml", "bucket = \"file:///srv/push\"");
    let settings = load_in(root.path()).unwrap().settings;
    assert_eq!((settings.poll, settings.jitter), (Duration::from_secs(10), Duration::from_secs(1)));
    put(root.path(), "etc/pulld/pulld.toml", "bucket = \"file:///srv/push\"\npoll = \"1h\"");
    assert_eq!(load_in(root.path()).unwrap().settings.poll, Duration::from_hours(1));
}

#[test]
fn a_drop_in_of_etc_hides_its_namesake_of_run_and_usr() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "etc/pulld/pulld.toml", "bucket = \"gs://main\"\npoll = \"1m\"");
    put(root.path(), "usr/lib/pulld/pulld.d/50-poll.toml", "poll = \"2m\"\nprune = true");
    put(root.path(), "run/pulld/pulld.d/50-poll.toml", "poll = \"3m\"");
    let settings = load_in(root.path()).unwrap().settings;
    assert_eq!((settings.poll, settings.prune), (Duration::from_mins(3), false));
    put(root.path(), "etc/pulld/pulld.d/50-poll.toml", "poll = \"4m\"");
    put(root.path(), "usr/lib/pulld/pulld.d/60-later.toml", "keep_releases = 7");
    let settings = load_in(root.path()).unwrap().settings;
    assert_eq!((settings.poll, settings.keep_releases), (Duration::from_mins(4), 7));
    std::os::unix::fs::symlink("/dev/null", root.path().join("etc/pulld/pulld.d/60-later.toml")).unwrap();
    assert_eq!(load_in(root.path()).unwrap().settings.keep_releases, 3);
}

#[test]
fn what_is_not_used_is_said_aloud() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "etc/pulld/pulld.toml", "pol = \"1m\"");
    put(root.path(), "etc/pulld/pulld.d/extra.conf", "poll = \"1m\"");
    let warnings = load_in(root.path()).unwrap().warnings;
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings.iter().any(|warning| warning.contains("unknown key `pol`") && warning.contains("`poll`")));
    assert!(warnings.iter().any(|warning| warning.contains("extra.conf")));
}

#[test]
fn a_wrong_value_names_file_key_value_and_what_is_expected() {
    for (content, part) in [
        ("poll = 5", "`poll` is `5`, but must be a duration from `1s` to `7d`"),
        ("poll = \"0s\"", "`poll` is `\"0s\"`"),
        (
            "poll = \"10s\"\njitter = \"6s\"",
            "`jitter` is `\"6s\"`, but must be a duration from `0s` to `5s` (half of `poll`)",
        ),
        (
            "gcs_credentials = \"defualt\"",
            "`gcs_credentials` is `\"defualt\"`, but must be `default`, `anonymous`, or the path",
        ),
        ("bucket = \"s3://x\"", "`bucket` is `\"s3://x\"`"),
        ("server = \"a/b\"", "`server` is `\"a/b\"`"),
        ("prune = \"yes\"", "`prune` is `\"yes\"`, but must be true or false"),
        ("keep_releases = 0", "a whole number from 1 to 1000"),
        ("allowed_apps = [\"a[\"]", "`allowed_apps`"),
        ("metadata = \"yes\"", "`metadata` is `\"yes\"`, but must be `auto`, `on` or `off`"),
        ("metadata = true", "`metadata` is `true`"),
        ("allowed_apps = \"web\"", "an array of globs"),
        ("poll = ", "is not valid TOML"),
    ] {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "etc/pulld/pulld.toml", content);
        let error = format!("{:#}", load_in(root.path()).unwrap_err());
        assert!(error.contains(part) && error.contains("pulld.toml"), "{content}: {error}");
    }
}

#[test]
fn the_documented_default_file_has_every_key_and_the_real_defaults() {
    let documented = include_str!("../../../packaging/pulld/pulld.toml");
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "etc/pulld/pulld.toml", documented);
    let defaults = load_in(root.path()).unwrap();
    assert_eq!(defaults.warnings, Vec::<String>::new());
    assert_eq!(defaults.settings, unconfigured("web-1"));
    let named = |line: &&str| KEYS.iter().any(|key| line.starts_with(&format!("#{key} = ")));
    let keys: Vec<&str> = documented.lines().filter(named).map(|line| &line[1..]).collect();
    assert_eq!(keys.len(), KEYS.len(), "{keys:?}");
    let not_default = ["bucket", "gcs_endpoint"];
    let stated: Vec<&str> = keys.into_iter().filter(|key| !not_default.iter().any(|no| key.starts_with(no))).collect();
    put(root.path(), "etc/pulld/pulld.toml", &stated.join("\n"));
    assert_eq!(load_in(root.path()).unwrap().settings, unconfigured("web-1"));
}

#[test]
fn what_is_printed_has_every_key_and_is_read_back_as_the_same_settings() {
    let root = tempfile::tempdir().unwrap();
    put(
        root.path(),
        "etc/pulld/pulld.toml",
        "bucket = \"file:///srv/a b\"\nserver = \"db-1\"\npoll = \"1m30s\"\njitter = \"500ms\"\nheartbeat = \"2m\"\n\
         health_window = \"0s\"\nrescue_after = \"5s\"\ntransaction_timeout = \"1h\"\nprune = true\nallowed_apps = [\"web-*\", \"a\\\\b\"]\n\
         keep_releases = 7\ngcs_endpoint = \"http://127.0.0.1:1/\"\ngcs_credentials = \"/etc/key.json\"\nmetadata = \"off\"",
    );
    let settings = load_in(root.path()).unwrap().settings;
    let lines = settings.lines();
    for key in KEYS {
        assert!(lines.iter().any(|line| line.starts_with(&format!("{key} = "))), "{key}: {lines:?}");
    }
    put(root.path(), "etc/pulld/pulld.toml", &lines.join("\n"));
    assert_eq!(load_in(root.path()).unwrap().settings, settings);
    // Of a fresh machine too; what is not set is said.
    let fresh = unconfigured("web-1").lines();
    assert!(
        KEYS.iter().all(|key| fresh.iter().any(|line| line.trim_start_matches("# ").starts_with(key))),
        "{fresh:?}"
    );
}

#[test]
fn the_environment_reaches_the_bucket() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "etc/pulld/pulld.toml", "gcs_endpoint = \"http://127.0.0.1:1\"");
    let configured = load_in(root.path()).unwrap().settings.bucket_options;
    assert_eq!(configured.endpoint.unwrap().as_str(), "http://127.0.0.1:1/");
    let environment = |key: &str| (key == "PUSH_GCS_ENDPOINT").then(|| "http://127.0.0.1:2".to_owned());
    let loaded = load(&Paths::new(root.path()), None, environment, "h").unwrap();
    assert_eq!(loaded.settings.bucket_options.endpoint.unwrap().as_str(), "http://127.0.0.1:2/");
}

#[test]
fn a_bucket_directory_that_is_absent_is_noticed_and_may_come_later() {
    let root = tempfile::tempdir().unwrap();
    let bucket = root.path().join("bucket");
    put(root.path(), "etc/pulld/pulld.toml", &format!("bucket = \"file://{}\"", bucket.display()));
    let settings = load_in(root.path()).unwrap().settings;
    let missing = settings.missing().unwrap();
    assert!(missing.contains(&format!("or create it with `mkdir -p {}`", bucket.display())), "{missing}");
    fs::create_dir(&bucket).unwrap();
    assert_eq!(settings.missing(), None);
    assert_eq!(unconfigured("web-1").missing(), None);
}

#[tokio::test]
async fn a_key_file_is_read_by_the_check() {
    let root = tempfile::tempdir().unwrap();
    let key = root.path().join("key.json");
    put(root.path(), "etc/pulld/pulld.toml", &format!("gcs_credentials = \"{}\"", key.display()));
    let check = || load_in(root.path()).unwrap().settings.bucket_options.credentials.check();
    for (content, part) in [
        (None, "could not read key file"),
        (Some("no JSON"), "is not JSON"),
        (Some("{\"type\": \"service_account\"}"), "cannot be used"),
    ] {
        if let Some(content) = content {
            fs::write(&key, content).unwrap();
        }
        let error = check().unwrap_err();
        assert!(error.contains(part) && error.contains("use `default`, `anonymous`, or the path"), "{error}");
    }
    fs::write(&key, include_str!("../../../tests/cloud/fixtures/service-account.json")).unwrap();
    check().unwrap();
}
