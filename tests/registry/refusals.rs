//! A registry that says what is not so, leads elsewhere, or is none.

use anyhow::Result;
use bytes::Bytes;
use harness::{
    TempDir,
    registry::{Answer, Asked, FakeRegistry, PASSWORD, USER},
};
use registry::{BlobSource, Client, ClientOptions, Descriptor, Digest, Error, Logins, Manifest, MediaType, Repository};

use crate::world::{auth_file, tag, writable};

const OCI: &str = "application/vnd.oci.image.manifest.v1+json";

fn client() -> Client {
    Client::new(ClientOptions::default()).expect("a client")
}

fn repository(registry: &FakeRegistry) -> Repository {
    format!("{}/acme/web", registry.host()).parse().expect("a name of an image")
}

fn manifest(content: &[u8]) -> Manifest {
    let config = Descriptor::of(MediaType::CONFIG.parse().expect("a media type"), content);
    Manifest::image(&config, &[], &std::collections::BTreeMap::new()).expect("a manifest")
}

#[tokio::test]
async fn what_has_another_digest_is_not_used() -> Result<()> {
    let (asked_for, given) = (manifest(b"asked for"), manifest(b"given"));
    let body = given.bytes().to_vec();
    let told = asked_for.digest().to_string();
    let registry = FakeRegistry::start(move |asked: &Asked| {
        let answer = Answer::new(200, body.clone()).with("content-type", OCI);
        if asked.path.ends_with("/lie") { answer.with("docker-content-digest", told.clone()) } else { answer }
    });
    let repository = repository(&registry);
    let by_digest = client().by_digest(&repository, asked_for.digest()).await.unwrap_err();
    assert!(matches!(&by_digest, Error::Malformed { .. }), "{by_digest}");
    assert!(by_digest.to_string().contains(&format!("bytes with the digest `{}`", given.digest())), "{by_digest}");
    let by_tag = client().by_tag(&repository, &tag("lie")).await.unwrap_err();
    assert!(matches!(&by_tag, Error::Malformed { .. }), "{by_tag}");
    assert_eq!(client().by_tag(&repository, &tag("truth")).await?, Some(given.clone()));

    let length = given.bytes().len() as u64;
    let blob = Descriptor::new(MediaType::LAYER.parse()?, Digest::of(b"another"), length);
    let wrong = client().small_blob(&repository, &blob).await.unwrap_err();
    assert!(matches!(&wrong, Error::Malformed { .. }), "{wrong}");
    let short = Descriptor { size: length - 1, ..blob };
    let wrong = client().small_blob(&repository, &short).await.unwrap_err();
    assert!(wrong.to_string().contains("its manifest says"), "{wrong}");
    Ok(())
}

#[tokio::test]
async fn a_login_portal_says_nothing_about_what_there_is() -> Result<()> {
    for status in [200, 404] {
        let registry = FakeRegistry::start(move |_| {
            Answer::new(status, "<!DOCTYPE html><title>Log in</title>").with("content-type", "text/html")
        });
        let (client, repository) = (client(), repository(&registry));
        let blob = Descriptor::of(MediaType::LAYER.parse()?, b"x");
        let writable = writable(&repository);
        let errors = [
            client.by_tag(&repository, &tag("one")).await.unwrap_err(),
            client.digest(&repository, &tag("one")).await.unwrap_err(),
            client.tags(&repository).await.unwrap_err(),
            client.ping(repository.host()).await.unwrap_err(),
            client.writer(&writable).put_blob(&blob, BlobSource::Bytes(&Bytes::from_static(b"x"))).await.unwrap_err(),
            client.writer(&writable).tag(&tag("one"), &manifest(b"x")).await.unwrap_err(),
            client.writer(&writable).remove_tag(&tag("one"), manifest(b"x").digest(), &[]).await.unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(error, Error::Unavailable { .. }), "{error}");
            assert!(error.to_string().contains("a web page came instead of an answer of a registry"), "{error}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_redirect_is_followed_without_the_credential_and_never_inside() -> Result<()> {
    let content = b"some layer";
    let storage = FakeRegistry::start(move |_| Answer::new(200, content));
    let elsewhere = format!("http://{}/signed?secret-word", storage.host());
    let registry =
        FakeRegistry::start(move |asked: &Asked| match (&asked.authorization, asked.path.split('/').nth(3)) {
            (_, Some("circle")) => Answer::new(307, "").with("location", asked.path.clone()),
            (None, _) => Answer::new(401, "").with("www-authenticate", "Basic realm=\"x\""),
            (_, Some("storage")) => Answer::new(307, "").with("location", elsewhere.clone()),
            (_, Some("private")) => Answer::new(307, "").with("location", "https://10.0.0.1/signed?secret-word"),
            (_, Some("metadata")) => Answer::new(307, "").with("location", "http://169.254.169.254/latest"),
            _ => Answer::new(307, "").with("location", "http://storage.example/signed?secret-word"),
        });
    let directory = TempDir::new()?;
    let file = auth_file(directory.path(), &registry.host(), &format!("{USER}:{PASSWORD}"));
    let logins = Logins { file: Some(file), ..Logins::default() };
    let client = Client::new(ClientOptions { logins, ..ClientOptions::default() }).map_err(anyhow::Error::msg)?;
    let blob = Descriptor::of(MediaType::LAYER.parse()?, content);
    let read = async |path: &str| {
        let repository = format!("{}/acme/{path}", registry.host()).parse().expect("a name of an image");
        client.small_blob(&repository, &blob).await
    };
    assert_eq!(read("storage").await?, content[..]);
    let repository = format!("{}/acme/storage", registry.host()).parse()?;
    assert_eq!(client.blob_size(&repository, &blob.digest).await?, Some(blob.size));
    let asked = storage.asked().into_iter().map(|asked| (asked.method, asked.authorization)).collect::<Vec<_>>();
    assert_eq!(asked, [("GET".to_owned(), None), ("HEAD".to_owned(), None)]);
    for (path, expected) in [
        ("private", "leads to `10.0.0.1`, an address inside of a network"),
        ("metadata", "leads to `169.254.169.254`, an address inside of a network"),
        ("plain", "leads to `storage.example` over `http`, and only TLS is trusted"),
        ("circle", "more than 5 times"),
    ] {
        let error = read(path).await.unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains("secret-word"), "{path}: {error}");
    }
    Ok(())
}

#[tokio::test]
async fn a_list_of_tags_is_read_to_its_end_and_not_elsewhere() -> Result<()> {
    let registry = FakeRegistry::start(|asked| {
        let next =
            |to: &str| Answer::new(200, r#"{"tags":["one","../x"]}"#).with("link", format!("<{to}>; rel=\"next\""));
        match (asked.path.split('/').nth(3), asked.path.split_once("last=")) {
            (Some("web"), None) => next("/v2/acme/web/tags/list?last=one"),
            (Some("web"), Some(_)) => Answer::new(200, r#"{"tags":["two"]}"#),
            (Some("escaped"), None) => next("/v2/acme/escaped/tags/list?last=a%2Bb%26n=c&n=1000"),
            (Some("escaped"), Some((_, last))) => {
                Answer::new(200, format!(r#"{{"tags":["was-{}"]}}"#, last.replace(['%', '&', '='], "_")))
            }
            (Some("two-pages"), Some((_, "one"))) => next("/v2/acme/two-pages/tags/list?last=two"),
            (Some("two-pages"), _) => next("/v2/acme/two-pages/tags/list?last=one"),
            (Some("endless"), last) => {
                let page: usize = last.map_or(0, |(_, last)| last.parse().expect("a number"));
                let tags: Vec<String> = (0..40_000).map(|tag| format!("\"{page}-{tag}\"")).collect();
                let more = format!("</v2/acme/endless/tags/list?last={}>; rel=\"next\"", page + 1);
                Answer::new(200, format!("{{\"tags\":[{}]}}", tags.join(","))).with("link", more)
            }
            (Some("elsewhere"), _) => next("https://tags.example/v2/acme/elsewhere/tags/list"),
            (Some("other"), _) => next("/v2/acme/web/tags/list"),
            _ => next(&asked.path),
        }
    });
    let list = async |path: &str| {
        client().tags(&format!("{}/acme/{path}", registry.host()).parse().expect("a name of an image")).await
    };
    assert_eq!(list("web").await?, [tag("one"), tag("two")]);
    assert_eq!(list("escaped").await?, [tag("one"), tag("was-a_2Bb_26n_c_n_1000")]);
    for (path, expected) in [
        ("elsewhere", "leads to another host"),
        ("other", "continues its list with another one"),
        ("circle", "does not come to an end"),
        ("two-pages", "does not come to an end"),
        ("endless", "it has more than 100000 tags"),
    ] {
        let before = registry.asked().len();
        let error = list(path).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{path}: {error}");
        let asked = registry.asked().len() - before;
        assert!(asked <= 3, "{path}: {asked} pages were read");
    }
    Ok(())
}

#[tokio::test]
async fn an_upload_goes_nowhere_else() -> Result<()> {
    let registry = FakeRegistry::start(|asked| match asked.method.as_str() {
        "HEAD" => Answer::new(404, ""),
        _ => Answer::new(202, "").with("location", "https://uploads.example/v2/acme/web/blobs/uploads/1"),
    });
    let repository = repository(&registry);
    let writable = writable(&repository);
    let bytes = Bytes::from_static(b"some layer");
    let blob = Descriptor::of(MediaType::LAYER.parse()?, &bytes);
    let error = client().writer(&writable).put_blob(&blob, BlobSource::Bytes(&bytes)).await.unwrap_err();
    assert!(error.to_string().contains("leads to another host"), "{error}");
    assert_eq!(registry.asked().len(), 2);
    Ok(())
}

#[tokio::test]
async fn a_redirect_is_followed_without_the_token() -> Result<()> {
    let content = b"some layer";
    let storage = FakeRegistry::start(move |_| Answer::new(200, content));
    let tokens = FakeRegistry::start(|_| Answer::new(200, r#"{"token":"the-token"}"#));
    let (to, realm) = (format!("http://{}/signed", storage.host()), format!("http://{}/token", tokens.host()));
    let registry = FakeRegistry::start(move |asked: &Asked| match asked.authorization.as_deref() {
        Some("Bearer the-token") => Answer::new(307, "").with("location", to.clone()),
        _ => Answer::new(401, "").with("www-authenticate", format!("Bearer realm=\"{realm}\"")),
    });
    let blob = Descriptor::of(MediaType::LAYER.parse()?, content);
    assert_eq!(client().small_blob(&repository(&registry), &blob).await?, content[..]);
    assert_eq!(storage.asked().into_iter().map(|asked| asked.authorization).collect::<Vec<_>>(), [None]);
    Ok(())
}

#[tokio::test]
async fn a_write_is_led_nowhere() -> Result<()> {
    let elsewhere = FakeRegistry::start(|_| Answer::new(201, ""));
    let to = format!("http://{}/v2/acme/web", elsewhere.host());
    let standing = manifest(b"standing");
    let body = standing.bytes().to_vec();
    let registry = FakeRegistry::start(move |asked: &Asked| match (&asked.authorization, asked.method.as_str()) {
        (None, _) => Answer::new(401, "").with("www-authenticate", "Basic realm=\"x\""),
        (_, "HEAD") => Answer::new(404, ""),
        (_, "GET") => Answer::new(200, body.clone()).with("content-type", OCI),
        _ => Answer::new(307, "").with("location", to.clone()),
    });
    let directory = TempDir::new()?;
    let file = auth_file(directory.path(), &registry.host(), &format!("{USER}:{PASSWORD}"));
    let logins = Logins { file: Some(file), ..Logins::default() };
    let client = Client::new(ClientOptions { logins, ..ClientOptions::default() }).map_err(anyhow::Error::msg)?;
    let writable = writable(&repository(&registry));
    let (writer, bytes) = (client.writer(&writable), Bytes::from_static(b"some layer"));
    let blob = Descriptor::of(MediaType::LAYER.parse()?, &bytes);
    for refused in [
        writer.put_blob(&blob, BlobSource::Bytes(&bytes)).await,
        writer.put(&standing).await,
        writer.tag(&tag("one"), &standing).await,
        writer.remove_tag(&tag("one"), standing.digest(), &[]).await,
    ] {
        let refused = refused.unwrap_err();
        let said = format!("{refused} {refused:?}");
        assert!(
            matches!(refused, Error::Unavailable { .. }) && said.contains("redirected by something in between"),
            "{said}"
        );
        assert!(!said.contains(PASSWORD), "{said}");
    }
    let written = registry.asked().into_iter().filter(|asked| asked.authorization.is_some());
    let written: Vec<_> =
        written.map(|asked| asked.method).filter(|method| !["HEAD", "GET"].contains(&&**method)).collect();
    assert_eq!(written, ["POST", "PUT", "PUT", "DELETE"]);
    assert_eq!(elsewhere.asked(), []);
    Ok(())
}

#[tokio::test]
async fn a_registry_that_is_busy_is_asked_again() -> Result<()> {
    let count = std::sync::atomic::AtomicU32::new(0);
    let given = manifest(b"given");
    let body = given.bytes().to_vec();
    let registry = FakeRegistry::start(move |_| match count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
        0 => Answer::new(503, "").with("retry-after", "0"),
        1 => Answer::new(429, ""),
        _ => Answer::new(200, body.clone()).with("content-type", OCI),
    });
    assert_eq!(client().by_tag(&repository(&registry), &tag("one")).await?, Some(given));
    Ok(())
}

/// A registry that gives a blob in drips, for as long as somebody reads.
fn dripping(size: u64) -> Result<std::net::SocketAddr> {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for mut connection in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let _ = connection.read(&mut [0; 4096]);
                let _ = write!(connection, "HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n");
                while connection.write_all(b"x").is_ok() {
                    std::thread::sleep(std::time::Duration::from_millis(100));
                }
            });
        }
    });
    Ok(address)
}

#[tokio::test]
async fn a_blob_that_drips_is_given_up() -> Result<()> {
    let size = 1 << 20;
    let repository: Repository = format!("{}/acme/web", dripping(size)?).parse()?;
    let timeout = std::time::Duration::from_secs(1);
    let client = Client::new(ClientOptions { timeout, ..ClientOptions::default() }).map_err(anyhow::Error::msg)?;
    let begun = std::time::Instant::now();
    let mut blob = client.blob(&repository, &Descriptor::new(MediaType::LAYER.parse()?, Digest::of(b""), size)).await?;
    let given_up = loop {
        match blob.chunk().await {
            Ok(chunk) => anyhow::ensure!(chunk.is_some(), "it came to an end"),
            Err(error) => break error.to_string(),
        }
    };
    assert!(given_up.contains("it comes too slowly") && begun.elapsed().as_secs() < 20, "{given_up}");
    Ok(())
}

#[tokio::test]
async fn who_never_answers_is_said_to_be_silent() -> Result<()> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let repository: Repository = format!("{}/acme/web", listener.local_addr()?).parse()?;
    let timeout = std::time::Duration::from_millis(200);
    let client = Client::new(ClientOptions { timeout, ..ClientOptions::default() }).map_err(anyhow::Error::msg)?;
    let silent = client.tags(&repository).await.unwrap_err();
    assert!(matches!(&silent, Error::Silent { .. }), "{silent:?}");
    Ok(())
}
