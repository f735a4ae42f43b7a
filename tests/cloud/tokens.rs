//! Where access tokens come from, and what happens when they end: keys, users, the metadata server, in real programs.

use std::{
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};

use bucket::{Bucket, BucketOptions, BucketUrl, Credentials, Metadata, ObjectPath};
use harness::{
    Programs, base64url,
    gcs::{FakeGcs, Fault, Kind, Request},
    metadata::{FakeMetadata, Fault as MetadataFault},
    oauth::FakeOauth,
};
use rustls::SignatureScheme;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::agent::Agent;

const BUCKET: &str = "acme-push";
const SCOPE: &str = "https://www.googleapis.com/auth/devstorage.read_write";
const TOKEN: &str = "instance/service-accounts/default/token";
const EMAIL: &str = "push-agent@acme-prod.iam.gserviceaccount.com";

/// The library asks for another token four minutes before the end of one: here that is two seconds after its beginning.
const SHORT_LIFE: Duration = Duration::from_secs(242);

fn key_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cloud/fixtures/service-account.json")
}

async fn open(gcs: &FakeGcs, credentials: Credentials) -> Bucket {
    let endpoint = Some(gcs.url.parse().expect("a URL"));
    let options = BucketOptions { endpoint, credentials, ..BucketOptions::default() };
    Bucket::open(&BucketUrl::Gcs(BUCKET.to_owned()), &options).await.expect("a bucket")
}

/// Runs a program of ours with nothing but this environment.
async fn run(program: &Path, gcs: &FakeGcs, environment: &[(&str, &str)], arguments: &[&str]) -> Output {
    let home = TempDir::new().expect("a directory");
    let mut command = Command::new(program);
    command.env_clear().env("HOME", home.path()).env("PUSH_GCS_ENDPOINT", &gcs.url).envs(environment.iter().copied());
    command.args(arguments).kill_on_drop(true).output().await.expect("it runs")
}

async fn push(gcs: &FakeGcs, environment: &[(&str, &str)], arguments: &[&str]) -> Output {
    let url = format!("gs://{BUCKET}");
    let environment = [&[("PUSH_BUCKET", url.as_str())], environment].concat();
    run(&Programs::get().expect("our programs").push(), gcs, &environment, arguments).await
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The tokens that requests bear, as headers.
fn bearers(requests: &[Request]) -> Vec<&str> {
    let authorizations = requests.iter().filter_map(|request| request.authorization.as_deref());
    authorizations.filter(|authorization| authorization.starts_with("Bearer ")).collect()
}

/// What a self-signed token claims, after its signature was checked against the fixture's other half.
fn claims(authorization: &str) -> Value {
    let token = authorization.strip_prefix("Bearer ").expect("a bearer token");
    let (signed, signature) = token.rsplit_once('.').expect("a token in three parts");
    let (header, claims) = signed.split_once('.').expect("a token in three parts");
    let header: Value = serde_json::from_slice(&base64url(header).expect("base64url")).expect("a header in JSON");
    assert_eq!(header, serde_json::json!({ "alg": "RS256", "typ": "JWT", "kid": "fixture-1" }));
    let public_key = include_bytes!("fixtures/service-account.pub.der");
    let provider = rustls::crypto::ring::default_provider();
    let known = provider.signature_verification_algorithms.mapping;
    let (_, rs256) = known.iter().find(|(scheme, _)| *scheme == SignatureScheme::RSA_PKCS1_SHA256).expect("RS256");
    let verified = rs256[0].verify_signature(public_key, signed.as_bytes(), &base64url(signature).expect("base64url"));
    assert!(verified.is_ok(), "the signature isn't the key's: {token}");
    serde_json::from_slice(&base64url(claims).expect("base64url")).expect("claims in JSON")
}

fn check_service_account(requests: &[Request]) {
    let bearers = bearers(requests);
    assert_eq!(bearers.len(), requests.len(), "every request bears a token: {requests:#?}");
    let claims = claims(bearers[0]);
    let now = jiff::Timestamp::now().as_second();
    let time = |key: &str| claims[key].as_i64().expect("a time");
    assert_eq!((claims["iss"].as_str(), claims["scope"].as_str()), (Some(EMAIL), Some(SCOPE)), "{claims}");
    assert!(time("iat") <= now && now < time("exp") && time("exp") - time("iat") <= 3700, "{claims}");
}

#[tokio::test]
async fn a_service_accounts_key_file_signs_what_opens_the_bucket() {
    let gcs = FakeGcs::start(BUCKET);
    let bucket = open(&gcs, Credentials::ServiceAccountFile(key_file())).await;
    assert!(bucket.list("server/", None, 10).await.expect("a page").items.is_empty());
    let path: ObjectPath = "server/web-1.json".parse().expect("a path");
    bucket.create(&path, "[]".into(), &Metadata::new()).await.expect("a document");
    assert!(bucket.get(&path, 100).await.expect("a document").is_some());
    check_service_account(&gcs.requests());
}

#[tokio::test]
async fn application_default_credentials_may_be_a_service_accounts_key() {
    let gcs = FakeGcs::start(BUCKET);
    let key = key_file();
    let key = key.to_str().expect("a path in UTF-8");
    for variable in ["GOOGLE_APPLICATION_CREDENTIALS", "PUSH_GCS_CREDENTIALS"] {
        let output = push(&gcs, &[(variable, key)], &["list"]).await;
        assert!(output.status.success(), "{}", said(&output));
    }
    check_service_account(&gcs.requests());
}

#[tokio::test]
async fn application_default_credentials_may_be_a_users_and_are_renewed_once_on_401() {
    let (gcs, oauth) = (FakeGcs::start(BUCKET), FakeOauth::start(Duration::from_hours(1)).await);
    let scratch = TempDir::new().expect("a directory");
    let file = scratch.path().join("adc.json");
    std::fs::write(&file, oauth.authorized_user().to_string()).expect("a file");
    let environment = [("GOOGLE_APPLICATION_CREDENTIALS", file.to_str().expect("a path in UTF-8"))];
    gcs.require_token("user-2");
    let output = push(&gcs, &environment, &["list"]).await;
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(bearers(&gcs.requests()), ["Bearer user-1", "Bearer user-2"]);
    for asked in oauth.asked() {
        assert_eq!((asked["grant_type"].as_str(), asked["refresh_token"].as_str()), ("refresh_token", "1//refresh"));
    }
}

#[tokio::test]
async fn anonymous_is_without_any_token() {
    let gcs = FakeGcs::start(BUCKET);
    let bucket = open(&gcs, Credentials::Anonymous).await;
    bucket.list("server/", None, 10).await.expect("a page");
    bucket.get(&"server/web-1.json".parse().expect("a path"), 100).await.expect("an answer");
    assert!(gcs.requests().iter().all(|request| request.authorization.is_none()), "{:#?}", gcs.requests());
}

#[tokio::test]
async fn a_fresh_token_is_there_before_the_old_one_expires() {
    let (gcs, metadata) = (FakeGcs::start(BUCKET), FakeMetadata::start().await);
    metadata.token_lifetime(SHORT_LIFE);
    gcs.put(BUCKET, "server/web-1.json", "[]");
    let root = TempDir::new().expect("a directory");
    let settings = format!("poll = \"1s\"\nmetadata = \"off\"\ngcs_endpoint = \"{}\"", gcs.url);
    let begun = std::time::Instant::now();
    let url = BucketUrl::Gcs(BUCKET.to_owned());
    let _agent = Agent::start(&root, &url, &settings, &[("GCE_METADATA_HOST", metadata.host())]);
    gcs.until(|requests| bearers(requests).last() == Some(&"Bearer ya29.fake-2")).await;
    assert!(begun.elapsed() < SHORT_LIFE, "the first token may have expired by now: this shows nothing");
    let requests = gcs.requests();
    assert_eq!(bearers(&requests).len(), requests.len());
    assert_eq!(bearers(&requests)[0], "Bearer ya29.fake-1");
    assert!(requests.iter().all(|request| request.status != 401), "{requests:#?}");
}

#[tokio::test]
async fn a_token_that_expires_in_mid_download_is_renewed_and_the_download_goes_on() {
    let (gcs, metadata) = (FakeGcs::start(BUCKET), FakeMetadata::start().await);
    let content: Vec<u8> = (0..1_u32 << 18).flat_map(u32::to_le_bytes).collect();
    gcs.put(BUCKET, "debs/web/x", content.clone());
    gcs.fail_next(Kind::Get, "debs/", 1, Fault::Cut(300_000));
    gcs.fail_next(Kind::Get, "debs/", 1, Fault::Status(401, None));
    let scratch = TempDir::new().expect("a directory");
    let file = scratch.path().join("x");
    let (client, url, host) = (env!("CARGO_BIN_EXE_conformance-client"), format!("gs://{BUCKET}"), metadata.host());
    let environment = [("GCE_METADATA_HOST", host.as_str())];
    let arguments = [&url, "copy", "debs/web/x", "debs/web/y", file.to_str().expect("a path in UTF-8")];
    let output = run(client.as_ref(), &gcs, &environment, &arguments).await;
    assert!(output.status.success(), "{}", said(&output));
    assert!(std::fs::read(&file).expect("a file") == content);
    let requests = gcs.requests();
    let reads: Vec<&Request> = requests.iter().filter(|request| request.kind == Kind::Get).collect();
    let [first, refused, resumed] = reads[..] else { panic!("{reads:#?}") };
    assert_eq!((first.status, refused.status, resumed.status), (200, 401, 206));
    assert_eq!(first.authorization, refused.authorization);
    assert_eq!(resumed.authorization.as_deref(), Some("Bearer ya29.fake-2"));
    assert!(refused.range.is_some() && refused.range == resumed.range, "{reads:#?}");
    assert_eq!(refused.query["generation"], resumed.query["generation"]);
}

#[tokio::test]
async fn an_agent_whose_machine_had_no_service_account_gets_well_when_it_has() {
    let (gcs, metadata) = (FakeGcs::start(BUCKET), FakeMetadata::start().await);
    gcs.put(BUCKET, "server/web-1.json", "[]");
    let root = TempDir::new().expect("a directory");
    let settings = format!("poll = \"1s\"\nmetadata = \"off\"\ngcs_endpoint = \"{}\"", gcs.url);
    let url = BucketUrl::Gcs(BUCKET.to_owned());
    metadata.fail(TOKEN, MetadataFault::Status(404, None));
    let mut agent = Agent::start(&root, &url, &settings, &[("GCE_METADATA_HOST", metadata.host())]);
    agent.until("has no service account").await;
    assert_eq!(gcs.requests().len(), 0, "without a token nothing is asked");
    metadata.heal();
    agent.until("read server document").await;
}

#[tokio::test]
async fn without_certificates_it_is_said_what_to_install() {
    let (gcs, metadata) = (FakeGcs::start(BUCKET), FakeMetadata::start().await);
    let host = metadata.host();
    let nothing = [("SSL_CERT_FILE", "/nonexistent"), ("SSL_CERT_DIR", "/nonexistent")];
    for credentials in [("PUSH_GCS_CREDENTIALS", "anonymous"), ("GCE_METADATA_HOST", host.as_str())] {
        let output = push(&gcs, &[&nothing[..], &[credentials]].concat(), &["list"]).await;
        let said = said(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("install the package `ca-certificates`") && !said.contains("panicked"), "{said}");
    }
}
