//! The watch of the metadata server, as pulld runs it, and the fake it is tested with.

use std::time::Duration;

use harness::metadata::{FakeMetadata, Fault};
use pulld::metadata::{Answer, Client, Timing, watch};
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    task::JoinHandle,
};

const TIMING: Timing = Timing {
    hang: Duration::from_secs(1),
    slack: Duration::from_millis(500),
    least_apart: Duration::from_millis(20),
    first_retry: Duration::from_millis(10),
    longest_retry: Duration::from_millis(50),
    longest_retry_after: Duration::from_millis(50),
};

/// A watch under way, and the pokes it noted.
struct Watch {
    pokes: UnboundedReceiver<()>,
    task: JoinHandle<()>,
}

impl Watch {
    fn of(server: &FakeMetadata, timing: Timing) -> Self {
        let client = Client::new(&server.host(), &timing).expect("the fake's host is a host");
        let (sender, pokes) = unbounded_channel();
        let task = tokio::spawn(async move {
            let ask = |etag| client.ask(etag);
            watch(ask, &timing, || sender.send(()).unwrap_or_default()).await;
        });
        Self { pokes, task }
    }

    async fn poke(&mut self) {
        let poke = tokio::time::timeout(Duration::from_secs(30), self.pokes.recv()).await;
        poke.expect("a poke within 30 s").expect("the watch goes on");
    }

    fn no_poke(&mut self, when: &str) {
        assert!(self.pokes.try_recv().is_err(), "a poke that nobody asked for: {when}");
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test]
async fn the_creation_a_change_and_the_removal_of_pushrev_each_wake_once() {
    let server = FakeMetadata::start().await;
    let patient = Timing { hang: Duration::from_mins(1), ..TIMING };
    let mut watch = Watch::of(&server, patient);
    // The etag "0" is answered at once; the second request hangs.
    server.until(|seen| seen.hanging == 1).await;
    watch.no_poke("never poked yet");
    for (number, value) in [(3, Some("web:1 a")), (4, Some("web:2 b")), (5, None)] {
        match value {
            Some(value) => server.set("pushrev", value),
            None => server.remove("pushrev"),
        }
        watch.poke().await;
        server.until(|seen| seen.hanging == 1 && seen.requests.len() == number).await;
        watch.no_poke("one per change");
    }
}

#[tokio::test]
async fn other_attributes_migrations_and_time_limits_do_not_wake() {
    let server = FakeMetadata::start().await;
    server.set("pushrev", "web:1 a");
    let mut watch = Watch::of(&server, TIMING);
    watch.poke().await;
    let mut hung = server.until(|seen| seen.hanging == 1).await.requests.len();
    for what in ["another attribute", "live migration", "time limit"] {
        match what {
            "another attribute" => server.set("startup-script", "#!/bin/sh\nexit 0\n"),
            "live migration" => server.live_migrate(),
            _ => {}
        }
        let before = hung;
        hung = server.until(|seen| seen.hanging == 1 && seen.requests.len() > before).await.requests.len();
        watch.no_poke(what);
    }
}

#[tokio::test]
async fn a_request_states_all_that_the_server_wants_to_know() {
    let server = FakeMetadata::start().await;
    let _watch = Watch::of(&server, TIMING);
    let seen = server.until(|seen| seen.requests.len() >= 2).await;
    for (request, etag) in seen.requests.iter().zip([true, false]) {
        assert_eq!(request.path, "instance/attributes/");
        assert_eq!(request.headers["metadata-flavor"], "Google");
        for (key, value) in [("recursive", "true"), ("alt", "json"), ("wait_for_change", "true"), ("timeout_sec", "1")]
        {
            assert_eq!(request.query[key], value, "{key}");
        }
        assert_eq!(request.query["last_etag"] == "0", etag);
    }
    assert_eq!(seen.connections, 1, "the connection is used again");
}

/// Whatever the server does meanwhile: nothing wakes by mistake, and the change is seen when it is well again.
async fn survives(fault: Fault) {
    let server = FakeMetadata::start().await;
    server.set("pushrev", "web:1 a");
    let mut watch = Watch::of(&server, TIMING);
    watch.poke().await;
    server.until(|seen| seen.hanging == 1).await;
    server.fail("", fault.clone());
    // This one's answer was promised before the fault.
    server.set("startup-script", "#!/bin/sh\n");
    let before = server.until(|seen| seen.requests.len() >= 3).await.requests.len();
    server.set("pushrev", "web:2 b");
    let failing = server.until(|seen| seen.requests.len() >= before + 2).await;
    watch.no_poke(&format!("{fault:?}"));
    server.heal();
    watch.poke().await;
    let healed = server.until(|seen| seen.requests.len() > failing.requests.len()).await;
    watch.no_poke(&format!("a second time after {fault:?}"));
    assert!(healed.requests.iter().all(|request| request.path == "instance/attributes/"), "{fault:?}");
}

/// One test per fault, so that a failure names its own.
macro_rules! survives {
    ($($name:ident: $fault:expr;)*) => {$(
        #[tokio::test]
        async fn $name() {
            survives($fault).await;
        }
    )*};
}

survives! {
    survives_404: Fault::Status(404, None);
    survives_403: Fault::Status(403, None);
    survives_429_with_retry_after: Fault::Status(429, Some("1"));
    survives_503: Fault::Status(503, None);
    survives_503_with_a_senseless_retry_after: Fault::Status(503, Some("soon"));
    survives_html_with_status_200: Fault::Html;
    survives_a_missing_flavor: Fault::NoFlavor;
    survives_a_forged_flavor: Fault::ForgedFlavor;
    survives_a_reset_connection: Fault::Reset;
    survives_a_half_open_connection: Fault::NeverAnswers;
    survives_an_answer_slower_than_the_deadline: Fault::Slow(Duration::from_millis(50));
    survives_a_torn_body: Fault::Torn;
    survives_an_endless_body: Fault::Endless;
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = FakeMetadata::start().await;
    elsewhere.set("pushrev", "forged");
    survives(Fault::Redirect(format!("http://{}/computeMetadata/v1/instance/attributes/", elsewhere.host()))).await;
    assert_eq!(elsewhere.seen().connections, 0);
}

#[tokio::test]
async fn a_server_without_etags_or_patience_still_wakes() {
    for fault in [Fault::NoEtag, Fault::DoesntWait] {
        let server = FakeMetadata::start().await;
        server.fail("", fault);
        let mut watch = Watch::of(&server, TIMING);
        server.until(|seen| seen.requests.len() >= 3).await;
        server.set("pushrev", "web:1 a");
        watch.poke().await;
    }
}

#[tokio::test]
async fn what_refuses_connections_is_trouble() {
    let server = FakeMetadata::start().await;
    let client = Client::new(&server.host(), &TIMING).expect("a host");
    drop(server);
    // The listener goes away with its task, which may take a moment.
    loop {
        match client.ask(None).await {
            Answer::Failure { reason, .. } => {
                assert!(reason.contains("error") && !reason.contains("computeMetadata"), "{reason}");
                return;
            }
            _ => tokio::task::yield_now().await,
        }
    }
}

#[tokio::test]
async fn the_fake_is_like_the_real_one() {
    let server = FakeMetadata::start().await;
    server.set("pushrev", "web:1 a");
    server.set("ssh-keys", "dev:ssh-ed25519 AAAA");
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder()
        .tls_certs_only([])
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .expect("a client");
    let get = |path: &str, flavor: bool| {
        let request = http.get(format!("http://{}/computeMetadata/v1/{path}", server.host()));
        if flavor { request.header("Metadata-Flavor", "Google") } else { request }.send()
    };
    for (path, flavor, status, body) in [
        ("instance/attributes/pushrev", true, 200, "web:1 a"),
        ("instance/attributes/", true, 200, "pushrev\nssh-keys\n"),
        (
            "instance/attributes/?recursive=true",
            true,
            200,
            r#"{"pushrev":"web:1 a","ssh-keys":"dev:ssh-ed25519 AAAA"}"#,
        ),
        ("instance/zone", true, 200, "projects/123456789012/zones/europe-west1-b"),
        ("instance/id", true, 200, "4520031799277581759"),
        ("instance/name?alt=json", true, 200, "\"web-1\""),
        ("project/project-id", true, 200, "acme-prod"),
        ("instance/service-accounts/?recursive=true", true, 200, r#"{"default":{"aliases":"#),
        ("instance/service-accounts/default/token", true, 200, r#"{"access_token":"ya29.fake-1","expires_in":3600"#),
        ("instance/attributes", true, 301, "<!DOCTYPE html>"),
        ("instance/attributes/absent", true, 404, "<!DOCTYPE html>"),
        ("instance/attributes/pushrev", false, 403, "<!DOCTYPE html>"),
    ] {
        let response = get(path, flavor).await.expect("an answer");
        assert_eq!(response.status().as_u16(), status, "{path}");
        assert_eq!(response.headers()["metadata-flavor"], "Google", "{path}");
        let text = response.text().await.expect("a body");
        assert!(text.starts_with(body), "{path}: {text}");
    }
    let etag = |path: &'static str| async move {
        get(path, true).await.expect("an answer").headers()["etag"].to_str().expect("ASCII").to_owned()
    };
    let before = etag("instance/attributes/").await;
    assert_eq!(etag("instance/attributes/").await, before);
    server.live_migrate();
    assert_ne!(etag("instance/attributes/").await, before);
}
