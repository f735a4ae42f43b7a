//! The real `push` command with application default credentials, which here are the metadata server's.

use std::{path::Path, process::Output};

use bucket::{Bucket, BucketOptions, BucketUrl, ReleaseMetadata, ReleaseName};
use harness::{
    Programs,
    compute::{FakeCompute, Fault, Verb},
    metadata::{FakeMetadata, Fault as MetadataFault},
};
use tempfile::TempDir;
use tokio::process::Command;

const ZONE: &str = "europe-west1-b";
const TOKEN: &str = "instance/service-accounts/default/token";

struct Cloud {
    directory: TempDir,
    compute: FakeCompute,
    metadata: FakeMetadata,
}

impl Cloud {
    /// A project with the instance `web-1`, and a bucket with one release of `web`.
    async fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let url = BucketUrl::File(directory.path().to_owned());
        let bucket = Bucket::open(&url, &BucketOptions::default()).await.expect("a bucket");
        let name = "web/web:dev@build-1:2026-11-20T19:05:02Z:7e0ff6059e653eb75a36efb621d0fd66d1ced433.deb";
        let name: ReleaseName = name.parse().expect("a release name");
        let deb = directory.path().join(".deb");
        std::fs::write(&deb, "deb").expect("a file");
        bucket
            .upload_release(&name, &bucket::SourceFile::read(&deb).unwrap(), &facts(), &|_| ())
            .await
            .expect("a release");
        let compute = FakeCompute::start().await;
        compute.add(ZONE, "web-1");
        Self { directory, compute, metadata: FakeMetadata::start().await }
    }

    async fn push(&self, arguments: &[&str]) -> Output {
        let program = Programs::get().expect("our programs").push();
        Command::new(program)
            .env_clear()
            .env("HOME", self.directory.path())
            .env("PUSH_BUCKET", BucketUrl::File(self.directory.path().to_owned()).to_string())
            .env("PUSH_COMPUTE_ENDPOINT", self.compute.endpoint())
            .env("GCE_METADATA_HOST", self.metadata.host())
            .args(["deploy", "web", "web-1", "--force"])
            .args(arguments)
            .kill_on_drop(true)
            .output()
            .await
            .expect("push runs")
    }

    fn document(&self) -> &Path {
        self.directory.path()
    }
}

/// What is known of a release.
pub(crate) fn facts() -> ReleaseMetadata {
    ReleaseMetadata {
        dirty: false,
        note: "first".to_owned(),
        services: vec!["web.service".to_owned()],
        sha256: [0; 32].into(),
        size: 3,
        package: "web".parse().unwrap(),
        version: "0+1".to_owned(),
        architecture: "all".parse().unwrap(),
        repo: String::new(),
        branch: "main".to_owned(),
        made_by: None,
    }
}

/// What was said, of a push that stands.
fn done(output: &Output) -> String {
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    said
}

#[tokio::test]
async fn a_push_pokes_with_a_token_of_the_metadata_server() {
    let cloud = Cloud::new().await;
    let said = done(&cloud.push(&["--project", "acme-prod"]).await);
    assert!(!said.contains("not poked"), "{said}");
    assert!(
        cloud.compute.attribute(ZONE, "web-1", "pushrev").is_some_and(|value| value.starts_with("web:dev@build-1:"))
    );
    let authorizations = cloud.compute.authorizations();
    assert!(authorizations.iter().all(|it| it.as_deref() == Some("Bearer ya29.fake-1")), "{authorizations:?}");
    let asked = cloud.metadata.seen().requests;
    let token = asked.iter().find(|request| request.path == TOKEN).expect("a token was asked for");
    assert_eq!(token.query["scopes"], "https://www.googleapis.com/auth/compute");
    assert_eq!(token.headers["metadata-flavor"], "Google");
}

#[tokio::test]
async fn a_refused_token_is_renewed_once() {
    let cloud = Cloud::new().await;
    cloud.compute.refuse("Bearer ya29.fake-1");
    let said = done(&cloud.push(&["--project", "acme-prod"]).await);
    assert!(!said.contains("not poked"), "{said}");
    assert_eq!((cloud.metadata.seen().tokens, cloud.compute.writes()), (2, 1));
}

#[tokio::test]
async fn a_failed_poke_is_a_warning_with_the_reason_and_the_push_stands() {
    let cloud = Cloud::new().await;
    cloud.compute.fail_next(Verb::Set, 1, Fault::Status(403, "forbidden", None));
    let said = done(&cloud.push(&["--project", "acme-prod"]).await);
    assert!(said.contains("web-1: warning: not poked") && said.contains("status 403"), "{said}");
    assert!(!said.contains('\u{1b}'), "{said:?}");
    assert!(cloud.document().join("server/web-1.json").exists());
}

#[tokio::test]
async fn without_a_project_or_with_none_nothing_of_google_is_asked() {
    let cloud = Cloud::new().await;
    for arguments in [&[][..], &["--project", "none"]] {
        done(&cloud.push(arguments).await);
    }
    assert_eq!((cloud.compute.authorizations().len(), cloud.metadata.seen().connections), (0, 0));
}

#[tokio::test]
async fn where_no_token_can_be_had_each_server_has_its_warning_after_one_short_wait() {
    let cloud = Cloud::new().await;
    let servers: Vec<String> = (2..=25).map(|number| format!("web-{number}")).collect();
    let mut arguments = vec!["--project", "acme-prod"];
    arguments.extend(servers.iter().map(String::as_str));
    for (fault, most, part) in [
        (MetadataFault::Status(404, None), 1, "no service account for this machine"),
        (MetadataFault::Reset, 3, "could not get an access token"),
        (MetadataFault::NeverAnswers, 1, "no access token after 5 s"),
    ] {
        let before = cloud.metadata.seen().asked(TOKEN);
        cloud.metadata.fail(TOKEN, fault.clone());
        let said = done(&cloud.push(&arguments).await);
        let warnings = said.lines().filter(|line| line.contains("warning: not poked") && line.contains(part));
        assert_eq!(warnings.count(), 25, "{fault:?}: {said}");
        assert!(cloud.metadata.seen().asked(TOKEN) - before <= most, "{fault:?}");
        cloud.metadata.heal();
    }
    assert_eq!(cloud.compute.authorizations().len(), 0);
}
