//! Registries beyond this machine: over TLS alone, as far as their authority is trusted.

use std::{
    fs,
    io::Read as _,
    net::{Ipv4Addr, TcpListener},
    process::Command,
    sync::mpsc,
    thread,
};

use anyhow::Result;
use harness::{
    in_own_network,
    registry::{Authority, Debian, RegistryServer, fetch},
};

use crate::{
    programs::STAGES,
    publishing::{GREETING, Service, text},
    world::World,
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
        let listener = TcpListener::bind((BEYOND, 0))?;
        let (host, (sent, begun)) = (listener.local_addr()?.to_string(), mpsc::channel());
        thread::spawn(move || {
            for mut connection in listener.incoming().flatten() {
                let mut first = [0; 6];
                if connection.read_exact(&mut first).is_ok() {
                    let _ = sent.send(first);
                }
            }
        });
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
