//! Registries beyond this machine: over TLS alone, as far as their authority is trusted.

use std::{
    fs,
    io::Read as _,
    net::{Ipv4Addr, TcpListener},
    process::Command,
    sync::{
        Arc, OnceLock,
        mpsc::{self, Receiver},
    },
    thread,
};

use anyhow::{Result, ensure};
use harness::{
    base64, in_own_network,
    pubsub::FakePubSub,
    registry::{Answer, Asked, Authority, Debian, FakeRegistry, PASSWORD, RegistryServer, USER, fetch},
};
use serde_json::json;

use crate::{
    programs::{STAGES, refusal, release, said, token_server, wanting_tokens},
    publishing::{GREETING, Service, text},
    world::{World, auth_file},
};

/// An address of documentation (RFC 5737): nothing of this machine, as far as a client knows.
pub(crate) const BEYOND: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);

/// One round of `push watch` over the images of a service in this registry, as far as this authority is trusted.
fn watch(service: &Service, host: &str, authority: &str) -> Result<Command> {
    let mut watch = crate::programs::watch(service, &format!("{host}/acme/web"), "")?;
    watch.env("SSL_CERT_FILE", authority);
    Ok(watch)
}

fn run(service: &Service, authority: &str) -> Result<Command> {
    let mut run = service.release(service.repo.directory(), "022", &["run", "-m", "why"])?;
    run.env("SSL_CERT_FILE", authority);
    Ok(run)
}

/// The programs block, and so may the thread that they are started from.
pub(crate) fn apart(work: impl AsyncFnOnce() -> Result<()> + Send + 'static) -> Result<()> {
    fetch()?;
    in_own_network(BEYOND, || tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work()))
}

/// Where somebody listens who never answers, and the first bytes of whoever speaks there.
fn listening(at: Ipv4Addr) -> Result<(String, Receiver<[u8; 6]>)> {
    let listener = TcpListener::bind((at, 0))?;
    let (host, (sent, begun)) = (listener.local_addr()?.to_string(), mpsc::channel());
    thread::spawn(move || {
        for mut connection in listener.incoming().flatten() {
            let mut first = [0; 6];
            if connection.read_exact(&mut first).is_ok() {
                let _ = sent.send(first);
            }
        }
    });
    Ok((host, begun))
}

#[test]
fn a_registry_with_an_authority_of_ones_own_is_written_once_that_is_trusted() -> Result<()> {
    apart(async || {
        let [ours, another] = [Authority::new("Acme")?, Authority::new("Another")?];
        let world = World::of(RegistryServer::over_tls(Debian::Thirteen, BEYOND, &ours)?)?;
        let host = world.registry.host();
        assert!(host.starts_with(&BEYOND.to_string()), "{host}");
        let service = Service::new(&world, &Service::images(&world), STAGES, GREETING)?;
        let [ours, another] = [("ours.pem", ours), ("another.pem", another)].map(|(name, authority)| {
            let file = world.directory.path().join(name);
            fs::write(&file, authority.pem).map(|()| file.display().to_string())
        });
        let (ours, another) = (ours?, another?);
        let web = format!("docker://{}", world.repository("acme/web"));
        let raw = |tag: &str| {
            let image = format!("{web}:{tag}");
            world.tools.skopeo(&["inspect", "--raw", "--tls-verify=false", &image])
        };
        let commit = service.commit()?;
        let untrusted = "signed by an authority that this machine does not trust: add that to the machine's";

        let refused = run(&service, &another)?.output()?;
        let said = text(&refused);
        assert!(
            refused.status.code() == Some(1) && said.contains(untrusted) && said.contains("SSL_CERT_FILE"),
            "{said}"
        );
        assert!(!raw(&commit)?.success(), "nothing is written where nobody knows who it is");
        let published = run(&service, &ours)?.output()?;
        assert!(published.status.success(), "{}", text(&published));
        let image = raw(&commit)?.ok()?;

        let refused = watch(&service, &host, &another)?.output()?;
        let said = text(&refused);
        assert!(refused.status.code() == Some(1) && said.contains(untrusted), "{said}");
        assert!(!raw("prod")?.success());
        let moved = watch(&service, &host, &ours)?.output()?;
        assert!(moved.status.success(), "{}", text(&moved));
        assert_eq!(raw("prod")?.ok()?, image);
        Ok(())
    })
}

#[test]
fn a_registry_beyond_this_machine_is_never_asked_in_the_clear() -> Result<()> {
    apart(async || {
        let (host, begun) = listening(BEYOND)?;
        // What is there otherwise is of no interest here.
        let world = World::new(Debian::Thirteen)?;
        let images = format!("registry = \"{host}/acme\"\nrepository = '.*/acme/.*'");
        let service = Service::new(&world, &images, STAGES, GREETING)?;
        let authority = world.directory.path().join("ours.pem");
        fs::write(&authority, Authority::new("Acme")?.pem)?;
        let authority = authority.display().to_string();
        let announced = format!("{host}/acme/web:one");
        let mut announce = service.release(service.repo.directory(), "022", &["announce", &announced])?;
        announce.env("SSL_CERT_FILE", &authority);
        for mut command in [run(&service, &authority)?, watch(&service, &host, &authority)?, announce] {
            let output = command.output()?;
            assert_eq!(output.status.code(), Some(1), "{}", text(&output));
            // A handshake of TLS (22, 3.x), whose first message is the client's (1).
            let mut seen = 0;
            while let Ok(first) = begun.try_recv() {
                assert!(matches!(first, [22, 3, _, _, _, 1]), "{first:?}");
                seen += 1;
            }
            assert!(seen > 0, "{}", text(&output));
        }
        Ok(())
    })
}

#[test]
fn a_token_server_beyond_this_machine_has_the_credential_if_it_is_named_and_over_tls_alone() -> Result<()> {
    apart(async || {
        let (world, ours, pubsub) = (World::new(Debian::Thirteen)?, Authority::new("Acme")?, FakePubSub::start());
        let authority = world.directory.path().join("ours.pem");
        fs::write(&authority, &ours.pem)?;
        let authority = authority.display().to_string();
        let tokens = FakeRegistry::over_tls(BEYOND, &ours, token_server)?;
        let (plain, in_the_clear) = listening(BEYOND)?;
        let basic = format!("Basic {}", base64(format!("{USER}:{PASSWORD}").as_bytes()));
        for (scheme, server, is_named, expected) in [
            ("http", &plain, true, "over `http`, and only TLS is trusted"),
            ("http", &plain, false, "over `http`, and only TLS is trusted"),
            ("https", &tokens.host(), false, "is another host and got no credential"),
            ("https", &tokens.host(), true, ""),
        ] {
            let registry = FakeRegistry::over_tls(BEYOND, &ours, wanting_tokens(format!("{scheme}://{server}/token")))?;
            let host = registry.host();
            let realms = if is_named { format!("realms = [\"{server}\"]") } else { String::new() };
            let images = format!("registry = \"{host}/acme\"\nrepository = '.*/acme/.*'\n{realms}");
            let service = Service::new(&world, &images, STAGES, GREETING)?;
            let login = auth_file(world.directory.path(), &host, &format!("{USER}:{PASSWORD}"));
            let announce = release(&service, &pubsub, &["announce", &format!("{host}/acme/web:one")])?;
            let mut watch = watch(&service, &host, &authority)?;
            if is_named {
                watch.args(["--realm", server]);
            }
            // That registry lets nobody write.
            for (mut command, may_succeed) in [(run(&service, &authority)?, false), (announce, true), (watch, true)] {
                let before = tokens.asked().len();
                let output = command.env("REGISTRY_AUTH_FILE", &login).env("SSL_CERT_FILE", &authority).output()?;
                let said = said(&output);
                assert_eq!(output.status.success(), expected.is_empty() && may_succeed, "{scheme} {is_named}: {said}");
                assert!(said.contains(expected) && !said.contains(PASSWORD) && !said.contains("the-token"), "{said}");
                let sent = tokens.asked().split_off(before);
                assert_eq!(sent.is_empty(), scheme == "http", "{said}");
                let credential = is_named.then_some(&basic);
                assert!(sent.iter().all(|asked| asked.authorization.as_ref() == credential), "{sent:?}");
            }
            assert!(registry.asked().iter().all(|asked| asked.authorization.as_ref() != Some(&basic)));
            assert!(!service.bucket.join("images").exists(), "{scheme} {is_named}");
            // The next one is another repository at the same place.
            fs::remove_dir_all(service.repo.directory())?;
            fs::remove_dir_all(world.directory.path().join("cache"))?;
        }
        assert!(in_the_clear.try_recv().is_err(), "nobody was asked in the clear");
        assert_eq!(pubsub.published().len(), 1);
        Ok(())
    })
}

#[test]
fn a_registry_beyond_this_machine_leads_nobody_inside() -> Result<()> {
    apart(async || {
        let (world, ours, pubsub) = (World::new(Debian::Thirteen)?, Authority::new("Acme")?, FakePubSub::start());
        let authority = world.directory.path().join("ours.pem");
        fs::write(&authority, &ours.pem)?;
        let authority = authority.display().to_string();
        let (inner, asked_inside) = listening(Ipv4Addr::LOCALHOST)?;
        for to in [
            format!("http://{inner}/x"),
            format!("https://{inner}/x"),
            format!("https://localhost:{}/x", inner.rsplit(':').next().unwrap_or_default()),
            "https://10.0.0.1/x".to_owned(),
            "https://169.254.169.254/latest".to_owned(),
        ] {
            let commit = Arc::<OnceLock<String>>::default();
            let (tags, led) = (commit.clone(), to.clone());
            let registry = FakeRegistry::over_tls(BEYOND, &ours, move |asked: &Asked| match &asked.authorization {
                None => refusal(401, "UNAUTHORIZED").with("www-authenticate", "Basic realm=\"x\""),
                Some(_) if asked.path.contains("/tags/") => {
                    Answer::new(200, json!({ "tags": [tags.get()] }).to_string())
                }
                Some(_) => Answer::new(307, "").with("location", led.clone()),
            })?;
            let host = registry.host();
            let images = format!("registry = \"{host}/acme\"\nrepository = '.*/acme/.*'");
            let service = Service::new(&world, &images, STAGES, GREETING)?;
            ensure!(commit.set(service.commit()?).is_ok(), "it is said once");
            let login = auth_file(world.directory.path(), &host, &format!("{USER}:{PASSWORD}"));
            let announce = release(&service, &pubsub, &["announce", &format!("{host}/acme/web:one")])?;
            for mut command in [run(&service, &authority)?, announce, watch(&service, &host, &authority)?] {
                let output = command.env("REGISTRY_AUTH_FILE", &login).env("SSL_CERT_FILE", &authority).output()?;
                let said = said(&output);
                assert_eq!(output.status.code(), Some(1), "{to}: {said}");
                assert!(said.contains("an address inside of a network: it is not followed there"), "{to}: {said}");
                assert!(!said.contains(PASSWORD), "{said}");
            }
            let is_read = |asked: &Asked| ["GET", "HEAD"].contains(&&*asked.method);
            assert!(registry.asked().iter().all(is_read), "{to}: {:?}", registry.asked());
            for record in ["images", "channels"] {
                assert!(!service.bucket.join(record).exists(), "{to}: {record}");
            }
            fs::remove_dir_all(service.repo.directory())?;
            fs::remove_dir_all(world.directory.path().join("cache"))?;
        }
        assert!(asked_inside.try_recv().is_err(), "nobody was asked inside");
        assert_eq!(pubsub.published(), Vec::<String>::new());
        Ok(())
    })
}
