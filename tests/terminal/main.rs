//! What the three programs have in common on a terminal and in a script, asked of the real ones over one bucket.

use std::{
    io::pipe,
    path::PathBuf,
    process::{Command, Output, Stdio},
    time::Duration,
};

use bucket::{Bucket, BucketOptions, BucketUrl, ReleaseMetadata, Timestamp};
use harness::Programs;
use serde_json::Value;

/// A bucket in a directory with releases of `web`, and a server's files.
struct World {
    directory: tempfile::TempDir,
    bucket: Bucket,
}

impl World {
    async fn new() -> Self {
        // They may have to be built; ages are counted from afterwards.
        Programs::get().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let bucket = directory.path().join("bucket");
        std::fs::create_dir(&bucket).unwrap();
        let bucket = Bucket::open(&BucketUrl::File(bucket), &BucketOptions::default()).await.unwrap();
        Self { directory, bucket }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Uploads a release of `web` that was built so long ago and is so large.
    async fn release(&self, age: Duration, size: u64) {
        let time = Timestamp::now() - age;
        let name = format!("web/web:dev@build-1:{}:{:040x}.deb", time.strftime("%Y-%m-%dT%H:%M:%SZ"), size);
        let metadata = ReleaseMetadata {
            dirty: false,
            note: "fix the login".to_owned(),
            services: vec!["web.service".to_owned()],
            sha256: [0; 32].into(),
            size,
            package: "web".parse().unwrap(),
            version: "0+1".to_owned(),
            architecture: "all".parse().unwrap(),
            repo: String::new(),
            branch: "main".to_owned(),
            made_by: None,
        };
        let deb = self.path("web.deb");
        std::fs::File::create(&deb).unwrap().set_len(size).unwrap();
        let source = bucket::SourceFile::read(&deb).unwrap();
        let generation = self.bucket.upload_release(&name.parse().unwrap(), &source, &metadata, &|_| ()).await.unwrap();
        // As if it had been uploaded then: the time of a file is its generation, and names its metadata.
        let object = self.path("bucket").join("debs").join(&name);
        let facts = self.path("bucket").join(".push/meta/debs").join(&name);
        let then = time.as_microsecond();
        std::fs::rename(facts.join(generation.to_string()), facts.join(then.to_string())).unwrap();
        let then = std::time::SystemTime::UNIX_EPOCH + Duration::from_micros(then.unsigned_abs());
        std::fs::File::open(object).unwrap().set_modified(then).unwrap();
    }

    /// A program with nothing of the tester's own settings.
    fn program(&self, program: &str, arguments: &[&str]) -> Command {
        let programs = Programs::get().unwrap();
        let mut command = Command::new(match program {
            "release" => programs.release(),
            "push" => programs.push(),
            _ => programs.pulld(),
        });
        for (key, _) in std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("PUSH_")) {
            command.env_remove(key);
        }
        command.env("PUSH_BUCKET", format!("file://{}", self.path("bucket").display()));
        command.env("PULLD_ROOT", self.path("root")).current_dir(self.directory.path()).args(arguments);
        command
    }

    /// Runs a program to its end, however that is.
    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        self.program(program, arguments).stdin(Stdio::null()).output().unwrap()
    }

    /// What a program prints where it succeeds.
    #[track_caller]
    fn prints(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.run(program, arguments);
        assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What a program prints for a script. No object of it may have a key twice.
    #[track_caller]
    fn json(&self, program: &str, arguments: &[&str]) -> Value {
        let printed = String::from_utf8(self.run(program, &[arguments, &["--json"]].concat()).stdout).unwrap();
        let parsed = console::parse_with_unique_keys(&printed);
        parsed.unwrap_or_else(|error| panic!("{program} {arguments:?}: {error}:\n{printed}"))
    }
}

/// The columns `names` of a printed table, a row each.
fn columns(table: &str, names: &[&str]) -> Vec<Vec<String>> {
    let (headings, rows) = table.split_once('\n').unwrap();
    let width = |heading: &str| headings.find(heading).unwrap_or_else(|| panic!("no {heading} in:\n{table}"));
    let cell = |row: &str, name: &str| row[width(name)..].split("  ").next().unwrap().trim().to_owned();
    rows.lines().map(|row| names.iter().map(|name| cell(row, name)).collect()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_as_old_and_as_large_in_every_program() {
    let world = World::new().await;
    let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
    for (age, size) in
        [(minutes(30), 999), (minutes(80), 1000), (minutes(19 * 60 + 40), 1_300_000), (minutes(2 * 1440), 23_456_789)]
    {
        world.release(age, size).await;
    }
    let [release, push] = ["release", "push"].map(|program| {
        let table = world.prints(program, &["list", "web"]);
        columns(&table, &["AGE", "SIZE"])
            .into_iter()
            .map(|row| (row[0].trim_end_matches(" ago").to_owned(), row[1].clone()))
            .collect::<Vec<_>>()
    });
    assert_eq!(release, push);
    let expected = [("30 min", "999 B"), ("80 min", "1.0 kB"), ("20 h", "1.3 MB"), ("2 d", "23 MB")];
    assert_eq!(release, expected.map(|(age, size)| (age.to_owned(), size.to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_went_away_is_no_error_of_any_program() {
    let world = World::new().await;
    world.release(Duration::from_mins(5), 10).await;
    world.write("skiapush.conf", "{ Servers: { 'web-1': { AppNames: ['web'] } } }");
    world.write("root/etc/pulld/pulld.toml", "server = \"web-1\"\n");
    let table: [(&str, &[&str]); 14] = [
        ("release", &["list"]),
        ("release", &["list", "web"]),
        ("release", &["list", "web", "--json"]),
        ("release", &["completions", "bash"]),
        ("release", &["--help"]),
        ("push", &["list"]),
        ("push", &["list", "web"]),
        ("push", &["status", "--json"]),
        ("push", &["check-config", "skiapush.conf"]),
        ("push", &["completions", "zsh"]),
        ("push", &["--help"]),
        ("pulld", &["check-config"]),
        ("pulld", &["completions", "fish"]),
        ("pulld", &["--help"]),
    ];
    for (program, arguments) in table {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let output = world.program(program, arguments).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {}: {said}", output.status);
        assert!(!said.contains("error") && !said.contains("panicked"), "{program} {arguments:?}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_agree_on_who_somebody_is() {
    let world = World::new().await;
    world.release(Duration::from_mins(5), 10).await;
    world.write(
        "release.toml",
        "schema = 1\n[package.tool]\ndescription = \"Tool\"\nmaintainer = \"A <a@acme.example>\"\n",
    );
    for git in ["init -q", "add release.toml", "-c user.name=Dev -c user.email=dev@acme.example commit -q -m work"] {
        let status = Command::new("git").args(git.split(' ')).current_dir(world.path("")).status().unwrap();
        assert!(status.success(), "git {git}");
    }
    let nobody = |program: &str, arguments: &[&str]| {
        let mut command = world.program(program, arguments);
        let output = command.env_remove("USER").env_remove("LOGNAME").env_remove("SUDO_USER").output().unwrap();
        assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
    };
    nobody("release", &["-m", "why"]);
    nobody("push", &["deploy", "web", "web-1", "-m", "why", "--force"]);
    let built = world.json("release", &["list", "tool"]);
    let built = format!("{}@{}", built[0]["user"].as_str().unwrap(), built[0]["host"].as_str().unwrap());
    let history = world.json("push", &["history", "web-1"]).to_string();
    assert!(history.contains(&format!("\"{built}\"")), "{built} is not in {history}");
    assert!(!built.starts_with("unknown"), "{built}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_json_of_any_program_has_a_key_twice() {
    let world = World::new().await;
    world.release(Duration::from_mins(5), 10).await;
    world.write("skiapush.conf", "{ Servers: { 'web-1': { AppName: ['web'] } } }");
    world.prints("push", &["deploy", "web", "web-1", "-m", "why", "--force"]);
    world.write("root/etc/pulld/pulld.toml", &format!("bucket = \"file://{}\"\n", world.path("bucket").display()));
    let report = r#"{"server": "web-1", "machine": "m", "written": "2026-11-20T19:05:02Z", "state": "failed", "summary": "",
        "agent": {"version": "1", "started": "2026-11-20T19:05:02Z", "poll_seconds": 300, "heartbeat_seconds": 900},
        "document": {"generation": 1, "error": null, "bad_entries": [{"entry": "x", "reason": "r"}]}, "apps": []}"#;
    world.write("root/run/pulld/status.json", report);
    assert_eq!(world.json("release", &["list"]), serde_json::json!(["web"]));
    assert_eq!(world.json("release", &["list", "web"])[0]["size"], 10);
    assert_eq!(world.json("push", &["list"])["apps"][0], "web");
    assert_eq!(world.json("push", &["list", "web"])["releases"][0]["size"], 10);
    assert_eq!(world.json("push", &["status"])["servers"][0]["server"], "web-1");
    assert_eq!(world.json("push", &["status", "web-1"])["server"], "web-1");
    assert!(world.json("push", &["history", "web-1"]).is_object());
    assert!(world.json("push", &["deploy", "web", "web-1", "-m", "why", "--dry-run"]).is_object());
    assert_eq!(world.json("push", &["check-config", "skiapush.conf"])["problems"][0]["line"], 1);
    assert_eq!(world.json("pulld", &["status"])["server"], "web-1");
    assert!(world.json("pulld", &["plan"]).is_object());
}

#[tokio::test(flavor = "multi_thread")]
async fn check_config_says_what_an_agent_would_stumble_over() {
    let world = World::new().await;
    let check = |content: String| {
        world.write("root/etc/pulld/pulld.toml", &format!("server = \"web-1\"\n{content}\n"));
        let output = world.program("pulld", &["check-config"]).output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.code(), out.into_owned(), err.into_owned())
    };
    let kinds = "`default`, `anonymous`, or the path of a service account's key file";
    let missing = world.path("no-key.json").display().to_string();
    for (credentials, reason) in [("defualt", "but must be"), (&missing, "could not read key file")] {
        let (status, _, err) = check(format!("gcs_credentials = \"{credentials}\""));
        assert_eq!(status, Some(1), "{err}");
        assert!(err.contains(reason) && err.contains(credentials) && err.contains(kinds), "{err}");
    }
    // It may be mounted later, as in an image that is being built.
    let directory = world.path("not-mounted").display().to_string();
    let (status, out, err) = check(format!("bucket = \"file://{directory}\""));
    assert_eq!(status, Some(0), "{err}");
    assert!(err.contains("warning: the agent cannot pull yet, because the directory of the bucket"), "{err}");
    assert!(err.contains(&format!("mkdir -p {directory}")), "{err}");
    assert!(out.contains("heartbeat = \"15m\"\n") && out.contains("gcs_credentials = \"default\"\n"), "{out}");
    let (status, _, err) = check(format!("bucket = \"file://{}\"", world.path("bucket").display()));
    assert!(status == Some(0) && !err.contains("warning"), "{err}");
}
