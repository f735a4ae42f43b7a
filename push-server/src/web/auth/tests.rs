//! Every mode over real sockets: what gets in, and everything that doesn't.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Extension, Router,
    extract::State,
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use bucket::Timestamp;
use fleet::identity::Identity;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket},
    task::JoinSet,
};

use super::{authenticator::local, host::Host, testing::Signer, *};

const AUDIENCE: &str = "/projects/1/global/backendServices/2";
const ME: &str = "dev@build-1";
const PUBLIC: &str = "push.acme.example";
const FORM: &str = "Content-Type: application/x-www-form-urlencoded";

/// A web app that answers with who asks.
struct App {
    address: SocketAddr,
    authenticator: Arc<Authenticator>,
    _tasks: JoinSet<()>,
}

impl App {
    async fn start(settings: AuthSettings) -> Self {
        async fn who(Extension(who): Extension<Identity>) -> String {
            format!("{:?} {}", who.origin, who.name)
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let authenticator = Arc::new(Authenticator::new(settings, address, ME.to_owned()).unwrap());
        let router = Router::new()
            .route("/", get(who).post(who))
            .route("/api/v1/servers", get(who).post(who))
            .route("/healthz", get(async || "ok").post(who))
            .route("/readyz", get(async || "ready"))
            .route("/assets/x", get(async || [(header::CACHE_CONTROL, "immutable")]));
        let service = protect(router, authenticator.clone()).into_make_service_with_connect_info::<SocketAddr>();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, service).await.unwrap() });
        Self { address, authenticator, _tasks: tasks }
    }

    /// The header by which a program shows the token.
    fn bearer(&self) -> String {
        format!("Authorization: Bearer {}", self.authenticator.token().unwrap())
    }

    /// Status, and the whole answer.
    async fn ask(&self, line: &str, headers: &[&str]) -> (u16, String) {
        self.ask_from(Ipv4Addr::LOCALHOST, line, headers).await
    }

    async fn ask_from(&self, from: Ipv4Addr, line: &str, headers: &[&str]) -> (u16, String) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((IpAddr::V4(from), 0).into()).unwrap();
        let mut stream = socket.connect(self.address).await.unwrap();
        let mut request = format!("{line} HTTP/1.1\r\nConnection: close\r\n");
        for header in headers {
            request.extend([header, "\r\n"]);
        }
        stream.write_all(format!("{request}\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.unwrap_or_else(|| panic!("no status in `{answer}`")), answer)
    }

    async fn expect(&self, line: &str, headers: &[&str], expected: u16) {
        let (status, answer) = self.ask(line, headers).await;
        assert_eq!(status, expected, "{line} {headers:?}: {answer}");
    }
}

/// A server of keys, as Google has one, that can be told to fail.
struct KeyServer {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl KeyServer {
    async fn start(status: StatusCode, body: String) -> Self {
        type Shared = (Arc<AtomicUsize>, StatusCode, String);
        async fn keys(State((asked, status, body)): State<Shared>) -> impl IntoResponse {
            asked.fetch_add(1, Ordering::SeqCst);
            (status, [(header::LOCATION, "/elsewhere")], body)
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let router = Router::new().route("/keys", get(keys)).with_state((asked.clone(), status, body.clone()));
        let router = router.route("/elsewhere", get(async || body));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, asked, _tasks: tasks }
    }

    fn iap(&self) -> AuthSettings {
        let keys = KeySource::parse(&format!("http://{}/keys", self.address)).unwrap();
        AuthSettings::Iap { audience: AUDIENCE.into(), keys, hosts: vec![Host::parse(PUBLIC).unwrap()] }
    }
}

fn claims(change: impl FnOnce(&mut Value)) -> Value {
    let now = Timestamp::now().as_second();
    let mut claims =
        json!({"iss": jwt::ISSUER, "aud": AUDIENCE, "exp": now + 600, "iat": now, "email": "dev@acme.example"});
    change(&mut claims);
    claims
}

fn assertion(token: &str) -> String {
    format!("X-Goog-IAP-JWT-Assertion: {token}")
}

fn proxy(trusted: &str) -> AuthSettings {
    AuthSettings::Proxy {
        header: HeaderName::from_static("x-forwarded-email"),
        trusted: vec![trusted.parse().unwrap()],
        hosts: vec![Host::parse(PUBLIC).unwrap()],
    }
}

#[tokio::test]
async fn local_is_whoever_is_on_this_machine() {
    let app = App::start(AuthSettings::Local).await;
    let port = app.address.port();
    for host in ["localhost", "127.0.0.1", "[::1]"] {
        let host = format!("Host: {host}:{port}");
        for (headers, origin) in [(vec![&*host, &app.bearer()], "Local"), (vec![&*host], "Visitor")] {
            let (status, answer) = app.ask("GET /", &headers).await;
            assert_eq!(status, 200, "{answer}");
            assert!(answer.ends_with(&format!("{origin} {ME}")), "{answer}");
        }
    }
}

#[tokio::test]
async fn who_has_no_token_can_only_look() {
    let app = App::start(AuthSettings::Local).await;
    let json = "Content-Type: application/json";
    let bearer = app.bearer();
    let (cut, other) = (&bearer[..bearer.len() - 1], "Authorization: Bearer AAAA");
    let basic = bearer.replace("Bearer", "Basic");
    for shown in [None, Some(cut), Some(other), Some(&*basic), Some("Cookie: push-1=AAAA")] {
        let headers: Vec<&str> = ["Host: localhost", json].into_iter().chain(shown).collect();
        app.expect("GET /", &headers, 200).await;
        for line in ["POST /", "POST /api/v1/servers", "DELETE /", "POST /healthz"] {
            app.expect(line, &headers, 401).await;
        }
        // The body needn't be sent for that.
        app.expect("POST /", &[&headers[..], &["Content-Length: 8000000"]].concat(), 401).await;
    }
    app.expect("POST /", &["Host: localhost", json, &bearer], 200).await;
    // The token is no leave to come from another site.
    let site = "Sec-Fetch-Site: cross-site";
    app.expect("POST /", &["Host: localhost", json, &bearer, site], 403).await;
    assert!(!format!("{:?}", app.authenticator).contains(&bearer["Authorization: Bearer ".len()..]));
}

#[tokio::test]
async fn the_address_that_is_printed_gives_a_browser_a_cookie() {
    let app = App::start(AuthSettings::Local).await;
    let token = app.authenticator.token().unwrap();
    let (status, answer) = app.ask(&format!("GET /?token={token}"), &["Host: localhost"]).await;
    assert_eq!(status, 303, "{answer}");
    assert!(answer.contains("location: /\r\n") && answer.contains("referrer-policy: no-referrer\r\n"), "{answer}");
    let cookie = answer.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    let (pair, attributes) = cookie.split_once("; ").unwrap();
    assert_eq!(attributes, "Path=/; HttpOnly; SameSite=Strict");
    assert!(!cookie.contains(token), "whoever sees the cookie doesn't see the token");
    let (name, value) = pair.split_once('=').unwrap();
    let form = |pair: &str| {
        vec![
            "Host: localhost".to_owned(),
            "Sec-Fetch-Site: same-origin".to_owned(),
            FORM.to_owned(),
            format!("Cookie: {pair}"),
        ]
    };
    for (pair, expected) in [
        (pair.to_owned(), 200),
        (format!("a=b; {pair}; c=d"), 200),
        (format!("{name}={token}"), 401),
        (format!("{name}={}", &value[1..]), 401),
        (format!("x{pair}"), 401),
        (format!("push-1={value}"), 401),
    ] {
        let headers = form(&pair);
        app.expect("POST /", &headers.iter().map(String::as_str).collect::<Vec<_>>(), expected).await;
    }
    app.expect("GET /", &["Host: localhost", &format!("Authorization: Bearer {value}")], 200).await;
    app.expect(
        "POST /",
        &["Host: localhost", "Content-Type: application/json", &format!("Authorization: Bearer {value}")],
        401,
    )
    .await;
    // The next start has another token.
    let next = App::start(AuthSettings::Local).await;
    next.expect(&format!("GET /?token={token}"), &["Host: localhost"], 401).await;
    let value = format!("Cookie: push-{}={value}", next.address.port());
    next.expect("POST /", &["Host: localhost", "Sec-Fetch-Site: same-origin", FORM, &value], 401).await;
    app.expect(&format!("GET /?token={token}"), &["Host: evil.example"], 403).await;
}

#[tokio::test]
async fn a_foreign_name_for_this_machine_is_refused() {
    let app = App::start(AuthSettings::Local).await;
    for host in
        ["evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "0.0.0.0", "a b"]
    {
        app.expect("GET /", &[&format!("Host: {host}")], 403).await;
        app.expect("POST /", &[&format!("Host: {host}"), "Sec-Fetch-Site: same-origin", FORM], 403).await;
    }
    app.expect("GET /", &["Host: localhost", "Host: localhost"], 403).await;
    app.expect("GET http://evil.example/", &["Host: localhost"], 403).await;
    assert!((400..500).contains(&app.ask("GET /", &[]).await.0));
}

#[tokio::test]
async fn a_proxy_in_front_of_local_lets_nobody_in() {
    let app = App::start(AuthSettings::Local).await;
    for header in ["X-Forwarded-For: 192.0.2.1", "Forwarded: for=192.0.2.1", "Via: 1.1 p", "X-Real-IP: 192.0.2.1"] {
        app.expect("GET /", &["Host: localhost", header], 403).await;
    }
}

#[tokio::test]
async fn what_another_mode_believes_changes_nothing() {
    let app = App::start(AuthSettings::Local).await;
    let headers = ["Host: localhost", "X-Forwarded-Email: outsider@evil.example", &app.bearer()];
    let (_, answer) = app.ask("GET /", &headers).await;
    assert!(answer.ends_with(&format!("Local {ME}")), "{answer}");
    let app = App::start(proxy("127.0.0.1/32")).await;
    app.expect("GET /", &[&format!("Host: {PUBLIC}"), &assertion("a.b.c")], 401).await;
    app.expect("GET /", &["Host: localhost", "X-Forwarded-Email: dev@acme.example"], 403).await;
}

#[test]
fn local_never_listens_elsewhere() {
    for listen in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1"] {
        assert!(Authenticator::new(AuthSettings::Local, listen.parse().unwrap(), ME.to_owned()).is_err(), "{listen}");
    }
}

#[test]
fn a_peer_that_isnt_loopback_isnt_local() {
    let (host, headers) = (Host::parse("localhost").unwrap(), HeaderMap::new());
    let judge = |peer: &str| local(peer.parse().unwrap(), &host, &headers).is_ok();
    assert!(judge("127.0.0.1:1") && judge("[::1]:1") && judge("[::ffff:127.0.0.1]:1"));
    assert!(!judge("192.0.2.1:1") && !judge("[::ffff:192.0.2.1]:1") && !judge("[fe80::1]:1"));
}

#[tokio::test]
async fn iap_lets_in_whom_google_signed_for() {
    let (signer, other) = (Signer::new("k1"), Signer::new("k1"));
    let server = KeyServer::start(StatusCode::OK, json!({"keys": [signer.jwk()]}).to_string()).await;
    let app = App::start(server.iap()).await;
    let host = format!("Host: {PUBLIC}");
    let good = signer.sign(&claims(|_| ()));
    let (status, answer) = app.ask("GET /", &[&host, &assertion(&good)]).await;
    assert_eq!(status, 200, "{answer}");
    assert!(answer.ends_with("SignedIn dev@acme.example"), "{answer}");
    let now = Timestamp::now().as_second();
    let parts: Vec<&str> = good.split('.').collect();
    let outsider = signer.sign(&claims(|c| c["email"] = json!("outsider@evil.example")));
    let refused = [
        ("another key", other.sign(&claims(|_| ()))),
        ("an unknown key", Signer::new("k2").sign(&claims(|_| ()))),
        ("alg none", signer.sign_with(&json!({"alg": "none", "kid": "k1"}), &claims(|_| ()))),
        ("alg HS256", signer.sign_with(&json!({"alg": "HS256", "kid": "k1"}), &claims(|_| ()))),
        ("no kid", signer.sign_with(&json!({"alg": "ES256"}), &claims(|_| ()))),
        ("another audience", signer.sign(&claims(|c| c["aud"] = json!("/projects/1/apps/x")))),
        ("another issuer", signer.sign(&claims(|c| c["iss"] = json!("https://evil.example")))),
        ("expired", signer.sign(&claims(|c| c["exp"] = json!(now - 60)))),
        ("not yet valid", signer.sign(&claims(|c| c["iat"] = json!(now + 600)))),
        ("no mail address", signer.sign(&claims(|c| c["email"] = Value::Null))),
        ("tampered", format!("{}.{}.{}", parts[0], outsider.split('.').nth(1).unwrap(), parts[2])),
        ("unsigned", format!("{}.{}.", parts[0], parts[1])),
        ("empty", String::new()),
    ];
    for (what, token) in refused {
        let (status, answer) = app.ask("GET /", &[&host, &assertion(&token)]).await;
        assert_eq!(status, 401, "{what}: {answer}");
    }
    app.expect("GET /", &[&host], 401).await;
    app.expect("GET /", &[&host, &assertion(&good), &assertion(&good)], 401).await;
    app.expect("GET /", &[&host, "X-Goog-Authenticated-User-Email: dev@acme.example"], 401).await;
    app.expect("GET /", &["Host: evil.example", &assertion(&good)], 403).await;
    assert_eq!(server.asked.load(Ordering::SeqCst), 1, "unknown keys mustn't make us ask again within a minute");
}

#[tokio::test]
async fn nobody_gets_in_while_the_keys_cant_be_read() {
    let signer = Signer::new("k1");
    let keys = json!({"keys": [signer.jwk()]}).to_string();
    let large = format!("{keys}{}", " ".repeat(300 << 10));
    let broken = [
        (StatusCode::SERVICE_UNAVAILABLE, keys.clone()),
        (StatusCode::FOUND, keys),
        (StatusCode::OK, "<html>".to_owned()),
        (StatusCode::OK, large),
    ];
    for (status, body) in broken {
        let server = KeyServer::start(status, body).await;
        let app = App::start(server.iap()).await;
        let headers = [&*format!("Host: {PUBLIC}"), &*assertion(&signer.sign(&claims(|_| ())))];
        app.expect("GET /", &headers, 503).await;
        app.expect("GET /", &headers, 503).await;
        assert_eq!(server.asked.load(Ordering::SeqCst), 1, "asked again within a minute ({status})");
        app.expect("GET /healthz", &[headers[0]], 200).await;
    }
}

#[tokio::test]
async fn keys_may_be_in_a_file() {
    let signer = Signer::new("k1");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), json!({"keys": [signer.jwk()]}).to_string()).unwrap();
    let keys = KeySource::parse(file.path().to_str().unwrap()).unwrap();
    let hosts = vec![Host::parse(PUBLIC).unwrap()];
    let app = App::start(AuthSettings::Iap { audience: AUDIENCE.into(), keys, hosts }).await;
    app.expect("GET /", &[&format!("Host: {PUBLIC}"), &assertion(&signer.sign(&claims(|_| ())))], 200).await;
}

#[tokio::test]
async fn a_proxy_is_believed_for_where_it_connects_from() {
    let app = App::start(proxy("127.0.0.1/32")).await;
    let host = format!("Host: {PUBLIC}");
    let dev = "X-Forwarded-Email: dev@acme.example";
    let (status, answer) = app.ask("GET /", &[&host, dev]).await;
    assert_eq!(status, 200, "{answer}");
    assert!(answer.ends_with("SignedIn dev@acme.example"), "{answer}");
    let (status, answer) = app.ask_from(Ipv4Addr::new(127, 0, 0, 2), "GET /", &[&host, dev]).await;
    assert_eq!(status, 403, "{answer}");
    app.expect("GET /", &[&host], 401).await;
    app.expect("GET /", &[&host, dev, "X-Forwarded-Email: outsider@evil.example"], 401).await;
    app.expect("GET /", &["Host: evil.example", dev], 403).await;
    let long = format!("X-Forwarded-Email: {}", "a".repeat(255));
    for odd in
        ["X-Forwarded-Email:", "X-Forwarded-Email: a b", "X-Forwarded-Email: a,b", "X-Forwarded-Email: <b>", &long]
    {
        app.expect("GET /", &[&host, odd], 401).await;
    }
}

#[tokio::test]
async fn another_site_changes_nothing() {
    let app = App::start(AuthSettings::Local).await;
    let port = app.address.port();
    let (host, ours) = (format!("Host: localhost:{port}"), format!("Origin: http://localhost:{port}"));
    let cases: [(&[&str], u16); 9] = [
        (&["Sec-Fetch-Site: same-origin", FORM], 200),
        (&["Sec-Fetch-Site: cross-site", FORM], 403),
        (&["Sec-Fetch-Site: same-site", &ours, FORM], 403),
        (&["Sec-Fetch-Site: none", FORM], 403),
        (&[&ours, FORM], 200),
        (&["Origin: http://localhost:1", FORM], 403),
        (&[FORM], 403),
        (&["Content-Type: application/json"], 200),
        (&["Sec-Fetch-Site: same-origin", "Content-Type: text/plain"], 415),
    ];
    for (headers, expected) in cases {
        app.expect("POST /", &[&[&*host, &app.bearer()], headers].concat(), expected).await;
    }
    app.expect("GET /", &[&host, "Sec-Fetch-Site: cross-site"], 200).await;
}

#[tokio::test]
async fn a_page_without_tls_isnt_the_page_behind_googles_proxy() {
    let signer = Signer::new("k1");
    let server = KeyServer::start(StatusCode::OK, json!({"keys": [signer.jwk()]}).to_string()).await;
    let app = App::start(server.iap()).await;
    let (host, token) = (format!("Host: {PUBLIC}"), assertion(&signer.sign(&claims(|_| ()))));
    app.expect("POST /", &[&host, &token, FORM, &format!("Origin: https://{PUBLIC}")], 200).await;
    app.expect("POST /", &[&host, &token, FORM, &format!("Origin: http://{PUBLIC}")], 403).await;
}

#[tokio::test]
async fn only_two_routes_are_open_and_only_for_reading() {
    let app = App::start(proxy("192.0.2.1/32")).await;
    app.expect("GET /healthz", &["Host: 10.0.0.1:8000"], 200).await;
    app.expect("GET /readyz", &["Host: 10.0.0.1:8000"], 200).await;
    let closed =
        ["GET /", "GET /assets/x", "GET /nothing", "POST /healthz", "GET /healthz/", "GET //healthz", "GET /%68ealthz"];
    for line in closed {
        app.expect(line, &[&format!("Host: {PUBLIC}")], 403).await;
    }
}

#[tokio::test]
async fn every_answer_has_the_headers_that_keep_browsers_safe() {
    let app = App::start(AuthSettings::Local).await;
    for (line, host) in
        [("GET /", "localhost"), ("GET /", "evil.example"), ("GET /nothing", "localhost"), ("GET /healthz", "a")]
    {
        let (_, answer) = app.ask(line, &[&format!("Host: {host}")]).await;
        for header in [
            "content-security-policy: default-src 'none'; style-src 'self'; script-src 'self';",
            "frame-ancestors 'none'\r\n",
            "x-content-type-options: nosniff\r\n",
            "referrer-policy: no-referrer\r\n",
            "cross-origin-opener-policy: same-origin\r\n",
            "cache-control: no-store\r\n",
        ] {
            assert!(answer.contains(header), "{line} {host}: no `{header}` in {answer}");
        }
        assert!(!answer.contains("access-control"), "{answer}");
    }
    let (_, answer) = app.ask("GET /assets/x", &["Host: localhost"]).await;
    assert!(answer.contains("cache-control: immutable\r\n") && !answer.contains("no-store"), "{answer}");
}

#[tokio::test]
async fn behind_a_proxy_browsers_say_where_a_form_comes_from() {
    let app = App::start(proxy("127.0.0.1/32")).await;
    let (_, answer) = app.ask("GET /", &[&format!("Host: {PUBLIC}")]).await;
    assert!(answer.contains("referrer-policy: same-origin\r\n"), "{answer}");
}

#[tokio::test]
async fn programs_get_problems_and_people_sentences() {
    let app = App::start(proxy("127.0.0.1/32")).await;
    let (_, answer) = app.ask("GET /", &[&format!("Host: {PUBLIC}")]).await;
    assert!(
        answer.contains("content-type: text/plain") && answer.ends_with("the proxy did not identify a user.\n"),
        "{answer}"
    );
    let (status, answer) = app.ask("GET /api/v1/servers", &[&format!("Host: {PUBLIC}")]).await;
    assert_eq!(status, 401);
    assert!(answer.contains("content-type: application/problem+json\r\n"), "{answer}");
    let body: Value = serde_json::from_str(answer.rsplit("\r\n\r\n").next().unwrap()).unwrap();
    assert_eq!((&body["status"], &body["title"]), (&json!(401), &json!("Unauthorized")), "{body}");
}
