//! A bucket as the original system laid it out, taken over by the real `release`: on both backends.

use std::{collections::BTreeMap, fs, path::Path, process::Output};

use bucket::{Bucket, BucketOptions, BucketUrl, Credentials, ObjectPath, Release, ReleaseName};
use harness::{Programs, gcs::FakeGcs};
use tempfile::TempDir;
use tokio::process::Command;

/// A bucket of the original system, and what the programs need to reach it.
struct Old {
    directory: TempDir,
    url: BucketUrl,
    options: BucketOptions,
    bucket: Bucket,
    /// The server of a `gs://` bucket.
    _gcs: Option<FakeGcs>,
}

impl Old {
    async fn on_gcs() -> Self {
        let gcs = FakeGcs::start("acme");
        let endpoint = Some(gcs.url.parse().expect("a URL"));
        let options = BucketOptions { endpoint, credentials: Credentials::Anonymous, ..BucketOptions::default() };
        Self::open(BucketUrl::Gcs("acme".to_owned()), options, Some(gcs)).await
    }

    async fn in_a_directory() -> Self {
        let place = tempfile::tempdir().expect("a directory").keep();
        Self::open(BucketUrl::File(place), BucketOptions::default(), None).await
    }

    async fn open(url: BucketUrl, options: BucketOptions, gcs: Option<FakeGcs>) -> Self {
        let bucket = Bucket::open(&url, &options).await.expect("a bucket");
        Self { directory: tempfile::tempdir().expect("a directory"), url, options, bucket, _gcs: gcs }
    }

    /// Uploads a package as `bash/release.sh` did: always version 1.0, built by dpkg-deb, its units in the metadata.
    async fn release(&self, day: u32, content: &str, note: &str) -> (ReleaseName, Vec<u8>) {
        let tree = self.directory.path().join(format!("tree-{day}"));
        let files = [
            ("DEBIAN/control", "Package: web\nVersion: 1.0\nDepends:\nArchitecture: amd64\nMaintainer: dev@example.org\nPriority: optional\nDescription: The web app\n".replace("Depends:\n", "")),
            ("DEBIAN/postinst", "#!/bin/bash\nset -e\nsystemctl daemon-reload\nsystemctl restart web.service\n".to_owned()),
            ("usr/local/bin/web", content.to_owned()),
            ("etc/systemd/system/web.service", "[Service]\nExecStart=/usr/local/bin/web\n".to_owned()),
        ];
        for (path, text) in files {
            let path = tree.join(path);
            fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
            fs::write(&path, text).expect("a file");
        }
        run("chmod", &["0755", tree.join("DEBIAN/postinst").to_str().expect("UTF-8")]).await;
        let deb = self.directory.path().join("web.deb");
        run("dpkg-deb", &["-Zgzip", "--root-owner-group", "--build", path(&tree), path(&deb)]).await;
        let bytes = fs::read(&deb).expect("a package");
        let commit = "560316aa6e053eb75a36efb621d0fd66d1ced433";
        let (userid, datetime) = ("dev@dev.c.acme.internal", format!("2016-03-{day:02}T10:00:00Z"));
        let name: ReleaseName = format!("web/web:{userid}:{datetime}:{commit}.deb").parse().expect("a name");
        let metadata: BTreeMap<String, String> = [
            ("appname", "web"),
            ("userid", userid),
            ("hash", commit),
            ("datetime", &datetime),
            ("dirty", "false"),
            ("note", note),
            ("services", "web.service"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
        self.bucket.create(&object(&name), bytes.clone().into(), &metadata).await.expect("an object");
        (name, bytes)
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        let mut release = Command::new(Programs::get().expect("our programs").release());
        release.env_clear().env("HOME", self.directory.path()).env("PATH", "/usr/bin:/bin");
        release.env("PUSH_BUCKET", self.url.to_string()).env("PUSH_USER", "ops").env("PUSH_HOST", "desk-1");
        release.envs(self.options.endpoint.as_ref().map(|endpoint| ("PUSH_GCS_ENDPOINT", endpoint.to_string())));
        release.env("PUSH_GCS_CREDENTIALS", self.options.credentials.to_string());
        release.args(arguments).current_dir(self.directory.path()).output().await.expect("release runs")
    }

    /// What it printed, when it succeeded.
    async fn printed(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments).await;
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// A release of ours, and its content.
    async fn ours(&self, name: &str) -> (Release, Vec<u8>) {
        let name: ReleaseName = name.trim().parse().expect("a release name");
        let release = self.bucket.release(&name).await.expect("an answer").expect("a release");
        let content = self.bucket.get(&object(&name), 1 << 20).await.expect("an answer").expect("an object").content;
        (release, content.to_vec())
    }
}

fn object(name: &ReleaseName) -> ObjectPath {
    format!("debs/{name}").parse().expect("a path")
}

fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

async fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().await.expect("the program runs");
    assert!(output.status.success(), "{program}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The content of the data member, compressed as it is.
fn data(deb: &[u8]) -> &[u8] {
    let mut at = 8;
    loop {
        let header = str::from_utf8(&deb[at..at + 60]).expect("a header");
        let size: usize = header[48..58].trim().parse().expect("a size");
        if header.starts_with("data.tar") {
            return &deb[at + 60..at + 60 + size];
        }
        at += 60 + size.next_multiple_of(2);
    }
}

async fn a_bucket_is_taken_over(old: Old) {
    let (first, first_deb) = old.release(1, "one", "first").await;
    let (second, _) = old.release(2, "two", "").await;
    let document = format!("[\"{second}\",\"api/\"]");
    let server: ObjectPath = "server/web-1.json".parse().expect("a path");
    old.bucket.create(&server, document.clone().into(), &BTreeMap::new()).await.expect("a document");

    let planned = old.printed(&["adopt", "--app", "web", "--dry-run"]).await;
    assert_eq!(planned, format!("{first}\n{second}\n"));
    let one = old.printed(&["adopt", first.stem()]).await;
    let (release, deb) = old.ours(&one).await;
    assert_eq!(release.adopted.as_ref(), Some(&first));
    assert_eq!((release.name.user(), release.name.host()), ("ops", "desk-1"));
    assert_eq!(release.name.commit(), first.commit());
    let facts = release.metadata.expect("the facts of a release");
    assert_eq!((facts.note.as_str(), facts.dirty, facts.version.as_str()), ("first", false, "1.0"));
    assert_eq!(facts.services, ["web.service"]);
    assert_eq!(data(&deb), data(&first_deb), "the files are the same bytes");
    let file = old.directory.path().join("adopted.deb");
    fs::write(&file, &deb).expect("a file");
    for (field, expected) in [
        ("Push-Release", release.name.stem()),
        ("Push-Units", "web.service=restart"),
        ("Push-Note", "first"),
        ("Version", "1.0"),
    ] {
        assert_eq!(run("dpkg-deb", &["--field", path(&file), field]).await.trim_end(), expected, "{field}");
    }
    old.printed(&["check", path(&file)]).await;

    // The rest, once: who runs it again gets the same names.
    let all = old.printed(&["adopt", "--app", "web"]).await;
    let names: Vec<&str> = all.lines().collect();
    assert_eq!((names.len(), names[0]), (2, one.trim()));
    assert_eq!(old.ours(names[1]).await.0.metadata.expect("facts").note, format!("adopted from {}", second.stem()));
    assert_eq!(old.printed(&["adopt", "--app", "web"]).await, all);
    let newest = old.printed(&["list", "web", "--names", "--limit", "2"]).await;
    assert_eq!(newest.lines().collect::<Vec<_>>(), [names[1], names[0]], "they keep the order of their originals");
    let shown = old.printed(&["show", "web"]).await;
    assert!(shown.contains(&format!("adopted: {second}")) && shown.contains("/usr/local/bin/web"), "{shown}");
    // Nothing of the original was touched.
    let there = old.bucket.get(&server, 1 << 20).await.expect("an answer").expect("a document").content;
    assert_eq!(there, document.as_bytes());
    assert_eq!(old.bucket.original_releases(first.app()).await.expect("an answer").len(), 2);
    let absent = old.run(&["adopt", &one.trim().replace("ops@", "dev@")]).await;
    let said = String::from_utf8_lossy(&absent.stderr).into_owned();
    assert!(absent.status.code() == Some(2) && said.contains("of the original system in the bucket"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_of_the_original_on_gcs_is_taken_over() {
    a_bucket_is_taken_over(Old::on_gcs().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_of_the_original_in_a_directory_is_taken_over() {
    a_bucket_is_taken_over(Old::in_a_directory().await).await;
}
