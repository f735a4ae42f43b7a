//! Who logs in, where the credential goes, and where it never appears.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt as _,
    process::Command,
    sync::Mutex,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use harness::{
    TempDir, base64,
    registry::{Answer, Asked, Debian, FakeRegistry, PASSWORD, RegistryOptions, RegistryServer, USER},
};
use registry::{Client, ClientOptions, Error, Host, Logins, Repository};

use crate::world::{auth_file, tag, writable};

/// Tells this very test to use a program for the registry of this name, in a process with a `PATH` of its own.
const ASKER: &str = "PUSH_TEST_ASK_A_PROGRAM";

fn client(logins: Logins, realms: &[&str]) -> Client {
    let realms = realms.iter().map(|realm| realm.parse().expect("a host")).collect();
    Client::new(ClientOptions { logins, realms, ..ClientOptions::default() }).expect("a client")
}

fn logins(directory: &TempDir, host: &str, credential: &str) -> Logins {
    Logins { file: Some(auth_file(directory.path(), host, credential)), ..Logins::default() }
}

/// A registry that wants a password.
fn closed(debian: Debian) -> Result<(RegistryServer, Repository)> {
    let registry = RegistryServer::start(debian, RegistryOptions { password: true })?;
    let repository = format!("{}/acme/web", registry.host()).parse()?;
    Ok((registry, repository))
}

#[tokio::test]
async fn a_password_opens_a_registry_and_a_wrong_one_changes_nothing() -> Result<()> {
    for debian in Debian::ALL {
        let (registry, repository) = closed(debian)?;
        let tools = harness::registry::Tools::get()?;
        let directory = TempDir::new()?;
        let oci = directory.path().join("oci");
        let pushed = harness::registry::oci_image(&oci, b"first")?;
        tools.push(&oci, &format!("{repository}:one"))?;

        let right = client(logins(&directory, &registry.host(), &format!("{USER}:{PASSWORD}")), &[]);
        right.ping(repository.host()).await?;
        assert_eq!(right.by_tag(&repository, &tag("one")).await?.as_ref(), Some(&pushed));
        let writable = writable(&repository);
        right.writer(&writable).tag(&tag("two"), &pushed).await?;

        let other = TempDir::new()?;
        let wrong = client(logins(&other, &registry.host(), "deployer:battery-staple"), &[]);
        let refusals = [
            wrong.ping(repository.host()).await.unwrap_err(),
            wrong.by_tag(&repository, &tag("one")).await.unwrap_err(),
            wrong.tags(&repository).await.unwrap_err(),
            wrong.writer(&writable).tag(&tag("three"), &pushed).await.unwrap_err(),
            wrong.writer(&writable).remove_tag(&tag("one"), pushed.digest(), &[]).await.unwrap_err(),
        ];
        for refused in refusals {
            let said = format!("{refused} {refused:?} {wrong:?}");
            assert!(matches!(refused, Error::Forbidden { .. }) && said.contains("UNAUTHORIZED"), "{said}");
            assert!(!said.contains("battery") && !said.contains(&base64(b"deployer:battery-staple")), "{said}");
        }
        let nobody = client(Logins::default(), &[]);
        let refused = nobody.by_tag(&repository, &tag("one")).await.unwrap_err().to_string();
        assert!(refused.contains("there is no credential for `127.0.0.1:"), "{refused}");
        let mut tags = right.tags(&repository).await?;
        tags.sort();
        assert_eq!(tags, [tag("one"), tag("two")]);
        assert!(!registry.log()?.contains("battery"));
    }
    Ok(())
}

#[tokio::test]
async fn a_program_is_asked_without_a_shell_and_what_it_says_is_not_repeated() -> Result<()> {
    if let Some(host) = std::env::var_os(ASKER) {
        return ask(host.to_str().context("a host is text")?).await;
    }
    let (registry, repository) = closed(Debian::Thirteen)?;
    let directory = TempDir::new()?;
    let write = |name: &str, script: &str| -> Result<()> {
        let path = directory.path().join(format!("docker-credential-{name}"));
        fs::write(&path, script)?;
        Ok(fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?)
    };
    write(
        "good",
        &format!(
            "#!/bin/sh\n[ \"$*\" = get ] && read -r host && [ \"$host\" = {} ] || exit 1\n\
             echo '{{\"Username\":\"{USER}\",\"Secret\":\"{PASSWORD}\"}}'\n",
            repository.host()
        ),
    )?;
    let path = |name: &str| directory.path().join(name).display().to_string();
    write(
        "slow",
        &format!(
            "#!/bin/sh\necho asked >> {}\nsleep 2\n\
             echo '{{\"Username\":\"{USER}\",\"Secret\":\"{PASSWORD}\"}}'\n",
            path("asked")
        ),
    )?;
    write("stuck", &format!("#!/bin/sh\nsleep 1000 &\necho $! > {0}.new\nmv {0}.new {0}\nwait\n", path("child")))?;
    write("none", "#!/bin/sh\necho credentials not found in native keychain\nexit 1\n")?;
    write("bad", "#!/bin/sh\necho battery-staple\necho battery-staple >&2\nexit 3\n")?;
    write("odd", "#!/bin/sh\necho battery-staple\n")?;
    let output = Command::new(std::env::current_exe()?)
        .args(["--exact", "credentials::a_program_is_asked_without_a_shell_and_what_it_says_is_not_repeated"])
        .arg("--nocapture")
        .env(ASKER, registry.host())
        .env("PATH", format!("{}:/usr/bin:/bin", directory.path().display()))
        .output()?;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed") && !said.contains("battery"), "{said}");
    assert_eq!(fs::read_to_string(path("asked"))?, "asked\n", "one answer is good for all scopes");
    let child = fs::read_to_string(path("child"))?;
    // A machine that is busy takes a while to end what was killed.
    let begun = Instant::now();
    loop {
        let state = fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
        if state.is_empty() || state.contains(") Z ") {
            return Ok(());
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "what the program started still runs: {state}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Asks each of the programs.
async fn ask(host: &str) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("config.json");
    let named: Host = host.parse()?;
    for (config, expected) in [
        (format!(r#"{{"credHelpers":{{"{host}":"good"}}}}"#), ""),
        (format!(r#"{{"credsStore":"none","credHelpers":{{"https://{host}/v2/":"good"}}}}"#), ""),
        (r#"{"credsStore":"good"}"#.to_owned(), ""),
        (r#"{"credsStore":"none"}"#.to_owned(), "there is no credential"),
        (r#"{"credsStore":"bad"}"#.to_owned(), "`docker-credential-bad` ended with exit status: 3"),
        (r#"{"credsStore":"odd"}"#.to_owned(), "`docker-credential-odd` did not answer with `Username` and `Secret`"),
        (r#"{"credsStore":"gone"}"#.to_owned(), "could not run `docker-credential-gone`"),
        (r#"{"credsStore":"x; touch /tmp/x"}"#.to_owned(), "is no name of a program"),
        (format!(r#"{{"auths":{{"{host}":{{"auth":"!"}}}}}}"#), "not user and password in base64"),
        (
            format!(r#"{{"auths":{{"{host}":{{"identitytoken":"secret-word"}}}}}}"#),
            "an identity token, which is not supported",
        ),
        (r#"{"auths":"secret-word"}"#.to_owned(), "line 1, column"),
    ] {
        fs::write(&file, &config)?;
        let done = client(Logins { file: Some(file.clone()), ..Logins::default() }, &[]).ping(&named).await;
        let said = done.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(said.contains(expected) && said.is_empty() == expected.is_empty(), "{config}: {said}");
        assert!(!said.contains("secret-word") && !said.contains("battery"), "{said}");
    }
    // One that takes longer than a request may has a limit of its own, and is asked once by whoever needs it at the same time.
    fs::write(&file, r#"{"credsStore":"slow"}"#)?;
    let logins = Logins { file: Some(file.clone()), ..Logins::default() };
    let timeout = Duration::from_millis(500);
    let options = ClientOptions { logins: logins.clone(), timeout, ..ClientOptions::default() };
    let hasty = Client::new(options).map_err(anyhow::Error::msg)?;
    let repositories: Vec<Repository> =
        ["web", "api", "db"].iter().map(|path| format!("{host}/acme/{path}").parse()).collect::<Result<_, _>>()?;
    let tags = futures_util::future::join_all(repositories.iter().map(|repository| hasty.tags(repository))).await;
    assert!(tags.iter().all(Result::is_ok), "{tags:?}");
    // Whoever gives up waiting leaves nothing of it.
    fs::write(&file, r#"{"credsStore":"stuck"}"#)?;
    let child = std::env::var("PATH")?.split(':').next().context("a directory")?.to_owned() + "/child";
    let patient = client(logins, &[]);
    tokio::select! {
        done = patient.ping(&named) => panic!("the program does not answer: {done:?}"),
        () = async { while fs::metadata(&child).is_err() { tokio::time::sleep(Duration::from_millis(10)).await } } => {}
    }
    Ok(())
}

#[tokio::test]
async fn a_file_of_credentials_that_was_named_must_be_there() -> Result<()> {
    let (registry, directory) = (RegistryServer::start(Debian::Twelve, RegistryOptions::default())?, TempDir::new()?);
    let host: Host = registry.host().parse()?;
    let home = directory.path().join(".docker/config.json");
    let lookup = |key: &str| match key {
        "HOME" => Some(directory.path().display().to_string()),
        _ => None,
    };
    // Where it usually is it may be absent, and this registry asks nobody.
    client(Logins::from_env(bucket::Credentials::Anonymous, lookup), &[]).ping(&host).await?;
    for named in [home.clone(), directory.path().join("gone.json")] {
        let lookup = |key: &str| (key == "REGISTRY_AUTH_FILE").then(|| named.display().to_string());
        let refused =
            client(Logins::from_env(bucket::Credentials::Anonymous, lookup), &[]).ping(&host).await.unwrap_err();
        let said = refused.to_string();
        assert!(matches!(refused, Error::Forbidden { .. }) && said.contains("unset REGISTRY_AUTH_FILE"), "{said}");
    }
    Ok(())
}

#[tokio::test]
async fn what_a_server_repeats_of_a_credential_is_masked() -> Result<()> {
    let password = "battery-\"staple\"";
    let sent = base64(format!("{USER}:{password}").as_bytes());
    let repeated = [
        serde_json::json!({ "errors": [{ "code": "DENIED", "message": format!("no such password: {password}") }] })
            .to_string(),
        format!("no such password: {password}"),
        format!("{}{password}", "x".repeat(295)),
        format!("denied: {sent}"),
        "denied: the-token".to_owned(),
    ];
    for body in repeated {
        let (once, token) = (body.clone(), r#"{"token":"the-token"}"#);
        let server = FakeRegistry::start(move |_| Answer::new(200, token));
        let realm = format!("http://{}/token", server.host());
        let registry = FakeRegistry::start(move |asked: &Asked| match asked.authorization {
            Some(_) => Answer::new(403, once.clone()),
            None => Answer::new(401, "").with("www-authenticate", format!("Bearer realm=\"{realm}\"")),
        });
        let directory = TempDir::new()?;
        let client = client(logins(&directory, &registry.host(), &format!("{USER}:{password}")), &[&server.host()]);
        let refused = client.tags(&format!("{}/acme/web", registry.host()).parse()?).await.unwrap_err();
        let said = format!("{refused} {refused:?}");
        for secret in ["batt", &sent[..20], "the-token"] {
            assert!(!said.contains(secret), "{said}");
        }
        assert!(said.contains("***"), "{said}");
    }
    Ok(())
}

/// All that anything in this process has logged.
static LOGGED: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Writes it there.
struct Logged;

impl Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOGGED.lock().expect("nobody panics with it").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl log::Log for Logged {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let _ = writeln!(Logged, "{} {}", record.target(), record.args());
    }

    fn flush(&self) {}
}

#[tokio::test]
async fn not_even_the_most_talkative_log_has_a_credential_in_it() -> Result<()> {
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(|| Logged)
        .init();
    // Where there is one already, it leads to the first.
    let _ = log::set_logger(&Logged);
    log::set_max_level(log::LevelFilter::Trace);
    let (registry, repository) = closed(Debian::Thirteen)?;
    let directory = TempDir::new()?;
    let basic = client(logins(&directory, &registry.host(), &format!("{USER}:{PASSWORD}")), &[]);
    basic.ping(repository.host()).await?;
    assert_eq!(basic.tags(&repository).await?, []);

    let server = token_server();
    let tokens = with_tokens(format!("http://{}/token", server.host()));
    let bearer = client(logins(&directory, &tokens.host(), &format!("{USER}:{PASSWORD}")), &[&server.host()]);
    assert_eq!(bearer.tags(&format!("{}/acme/web", tokens.host()).parse()?).await?, [tag("one")]);

    // One that is asked again, and repeats what it was sent.
    let busy = FakeRegistry::start(|asked| match &asked.authorization {
        Some(sent) => Answer::new(503, format!("no: {PASSWORD} {sent}")).with("retry-after", "0"),
        None => Answer::new(401, "").with("www-authenticate", "Basic realm=\"x\""),
    });
    let refused = client(logins(&directory, &busy.host(), &format!("{USER}:{PASSWORD}")), &[]);
    assert!(refused.tags(&format!("{}/acme/web", busy.host()).parse()?).await.is_err());

    let logged = String::from_utf8(LOGGED.lock().expect("nobody panics with it").clone())?;
    assert!(logged.contains("retrying registry request"), "{logged}");
    for secret in [PASSWORD, &base64(format!("{USER}:{PASSWORD}").as_bytes()), "the-token"] {
        assert!(!logged.contains(secret), "{logged}");
    }
    Ok(())
}

/// A registry that takes tokens of this server.
fn with_tokens(realm: String) -> FakeRegistry {
    FakeRegistry::start(move |asked: &Asked| match asked.authorization.as_deref() {
        Some("Bearer the-token") => Answer::new(200, r#"{"name":"acme/web","tags":["one"]}"#),
        Some("Bearer nobody") => Answer::new(403, r#"{"errors":[{"code":"DENIED","message":"no"}]}"#),
        _ => Answer::new(401, r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#)
            .with("www-authenticate", format!("Bearer realm=\"{realm}\",service=\"images\"")),
    })
}

/// A token server that gives a token to who is known.
fn token_server() -> FakeRegistry {
    FakeRegistry::start(|asked| match asked.authorization {
        Some(_) => Answer::new(200, r#"{"token":"the-token","expires_in":300}"#),
        None => Answer::new(200, r#"{"access_token":"nobody"}"#),
    })
}

#[tokio::test]
async fn a_token_server_elsewhere_gets_the_credential_only_if_it_is_named() -> Result<()> {
    let server = token_server();
    let registry = with_tokens(format!("http://{}/token", server.host()));
    let repository: Repository = format!("{}/acme/web", registry.host()).parse()?;
    let directory = TempDir::new()?;
    let logins = || logins(&directory, &registry.host(), &format!("{USER}:{PASSWORD}"));

    let unnamed = client(logins(), &["auth.example"]);
    let refused = unnamed.tags(&repository).await.unwrap_err();
    let said = refused.to_string();
    assert!(matches!(refused, Error::Forbidden { .. }), "{said}");
    let expected = format!("the token server `{}` is another host and got no credential", server.host());
    assert!(said.contains(&expected) && said.contains("add it to `realms`"), "{said}");
    assert_eq!(server.asked()[0].authorization, None);

    let named = client(logins(), &[&server.host()]);
    assert_eq!(named.tags(&repository).await?, [tag("one")]);
    assert_eq!(named.tags(&repository).await?, [tag("one")]);
    let asked = server.asked().split_off(1);
    let basic = format!("Basic {}", base64(format!("{USER}:{PASSWORD}").as_bytes()));
    let once = Asked {
        method: "GET".to_owned(),
        path: "/token?service=images&scope=repository%3Aacme%2Fweb%3Apull".to_owned(),
        authorization: Some(basic.clone()),
        accept: Some("*/*".to_owned()),
    };
    assert_eq!(asked, [once], "a token is kept");
    let seen_by_registry = registry.asked().into_iter().filter_map(|asked| asked.authorization);
    assert!(seen_by_registry.into_iter().all(|authorization| authorization.starts_with("Bearer ")));
    Ok(())
}

#[tokio::test]
async fn a_token_server_that_is_no_such_thing_is_said_and_nothing_of_its_answer() -> Result<()> {
    for (answer, expected) in [
        (
            Answer::new(401, r#"{"errors":[{"code":"UNAUTHORIZED","message":"bad password"}]}"#),
            "UNAUTHORIZED bad password",
        ),
        (Answer::new(200, "<html>Log in</html>"), "its answer has no token in it"),
        (Answer::new(200, r#"{"tokens":"secret-word"}"#), "its answer has no token in it"),
        (Answer::new(302, "").with("location", "https://10.0.0.1/"), "redirected"),
        (Answer::new(200, "x".repeat(1 << 20)), "more than 65536 bytes"),
    ] {
        let server = FakeRegistry::start(move |_| answer.clone());
        let registry = with_tokens(format!("http://{}/token", server.host()));
        let repository: Repository = format!("{}/acme/web", registry.host()).parse()?;
        let said = client(Logins::default(), &[]).tags(&repository).await.unwrap_err().to_string();
        assert!(said.contains("the token server `127.0.0.1` gives no token: ") && said.contains(expected), "{said}");
        assert!(!said.contains("secret-word"), "{said}");
    }
    for (realm, expected) in [
        ("http://auth.example/token", "over `http`, and only TLS is trusted"),
        ("https://10.0.0.1/token", "an address inside of a network"),
        ("https://169.254.169.254/token", "an address inside of a network"),
        ("/token", "names no token server that is an address"),
    ] {
        let registry = with_tokens(realm.to_owned());
        let repository: Repository = format!("{}/acme/web", registry.host()).parse()?;
        let said = client(Logins::default(), &[]).tags(&repository).await.unwrap_err().to_string();
        assert!(said.contains(expected), "{realm}: {said}");
    }
    Ok(())
}
