//! The real command against a bucket in a directory.

mod channels;
mod deploys;
mod holds;
mod kills;
mod printing;
mod pushes;
mod removals;
mod retirements;
mod rollouts;
mod simulate;

use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

use bucket::{Bucket, BucketOptions, BucketUrl, ReleaseMetadata, ReleaseName};
use serde_json::{Value, json};

struct Fixture {
    directory: tempfile::TempDir,
    bucket: Bucket,
}

impl Fixture {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = BucketUrl::File(directory.path().to_owned());
        let bucket = Bucket::open(&url, &BucketOptions::default()).await.unwrap();
        Self { directory, bucket }
    }

    async fn release(&self, app: &str, minute: u8, dirty: bool) -> ReleaseName {
        let name = release(app, minute);
        let metadata = ReleaseMetadata {
            dirty,
            note: format!("note\u{1b}[2J {minute}"),
            services: vec![format!("{app}.service")],
            sha256: [0; 32].into(),
            size: 3,
            package: app.parse().unwrap(),
            version: format!("0+{minute}"),
            architecture: "all".parse().unwrap(),
            repo: String::new(),
            branch: "main".to_owned(),
            made_by: None,
        };
        let deb = self.directory.path().join(".deb");
        std::fs::write(&deb, "deb").unwrap();
        self.bucket.upload_release(&name, &bucket::SourceFile::read(&deb).unwrap(), &metadata, &|_| ()).await.unwrap();
        std::fs::remove_file(deb).unwrap();
        name
    }

    fn path(&self, object: &str) -> std::path::PathBuf {
        self.directory.path().join(object)
    }

    fn push(&self, arguments: &str) -> Output {
        self.push_with(arguments, "")
    }

    /// With that on its stdin.
    fn push_with(&self, arguments: &str, input: &str) -> Output {
        let url = BucketUrl::File(self.directory.path().to_owned());
        let mut command = Command::new(env!("CARGO_BIN_EXE_push"));
        command.env("PUSH_BUCKET", url.to_string()).env("PUSH_USER", "dev").args(arguments.split_whitespace());
        let mut push = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // It need not read it.
        let _ = push.stdin.take().unwrap().write_all(input.as_bytes());
        push.wait_with_output().unwrap()
    }

    /// A server whose agent has just reported, of a machine that was only set up.
    fn report(&self, server: &str) {
        let now = bucket::Timestamp::now();
        let report = json!({
            "server": server, "machine": "m", "written": now, "state": "converged", "summary": "no server document",
            "agent": { "version": "1", "started": now, "poll_seconds": 300, "heartbeat_seconds": 900 },
            "document": { "generation": null, "error": null }, "apps": [],
        });
        std::fs::create_dir_all(self.path("status")).unwrap();
        std::fs::write(self.path(&format!("status/{server}.json")), report.to_string()).unwrap();
    }

    fn document(&self, server: &str) -> Value {
        serde_json::from_slice(&std::fs::read(self.path(&format!("server/{server}.json"))).unwrap()).unwrap()
    }
}

fn release(app: &str, minute: u8) -> ReleaseName {
    format!("{app}/{app}:dev@build-1:2026-11-20T19:{minute:02}:02Z:{minute:040x}.deb").parse().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn ok(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(output));
    text(output)
}

fn failed(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", text(output));
    text(output)
}
