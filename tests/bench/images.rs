//! Images: publishing a large one and the memory that takes, moving its tag, and a round over many channels of images.

use std::{
    fmt::Write as _,
    fs,
    io::{Read, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use anyhow::{Result, ensure};
use harness::{
    Repo, Target, TempDir,
    registry::{Debian, RegistryOptions, RegistryServer, oci_image},
};
use registry::{
    Client, ClientOptions, Repository, Rule, Tag,
    image::{Built, Image},
};

use crate::measure::{Run, median, run};

/// The layer of the large image, as nothing makes it smaller.
const BYTES: u64 = 2_000_000_000;
const CHANNELS: usize = 100;
const ROUNDS: usize = 5;
const REQUESTS_TARGET: usize = 20;
const SENT_TARGET: u64 = 64 << 10;
const ROUND_TARGET_S: f64 = 2.0;
const MEMORY_TARGET_MB: u64 = 32;

pub(crate) fn bench(release: &Path, push: &Path) -> Result<()> {
    println!("images, Debian's registry on loopback");
    let bench = Bench::new(release, push)?;
    bench.large()?;
    bench.round()?;
    println!(
        "  targets      {MEMORY_TARGET_MB} MB for an upload, {REQUESTS_TARGET} requests and {} KiB for a tag, {ROUND_TARGET_S:.0} s for a round",
        SENT_TARGET >> 10
    );
    Ok(())
}

struct Bench {
    release: PathBuf,
    push: PathBuf,
    directory: TempDir,
    registry: RegistryServer,
    /// What leads to the registry, and counts.
    counted: Counted,
    repo: Repo,
    target: Target,
}

impl Bench {
    fn new(release: &Path, push: &Path) -> Result<Self> {
        let (directory, registry) =
            (TempDir::new()?, RegistryServer::start(Debian::Thirteen, RegistryOptions::default())?);
        let counted = Counted::before(registry.host().parse()?)?;
        let (repo, bucket) = (Repo::new(&directory.path().join("repo"))?, directory.path().join("bucket"));
        fs::create_dir(&bucket)?;
        let target = Target { url: format!("file://{}", bucket.display()), endpoint: None };
        let (release, push) = (release.to_owned(), push.to_owned());
        Ok(Self { release, push, directory, registry, counted, repo, target })
    }

    /// A large image by a pipeline, and then its tag.
    fn large(&self) -> Result<()> {
        let host = self.counted.address;
        let manifest = format!(
            "schema = 1\n[images]\nregistry = \"{host}/acme\"\nrepository = '.*/acme/.*'\n[pipeline]\nproject = \"web\"\n"
        );
        self.repo.write("release.toml", &manifest)?;
        self.repo.write(".gitignore", "/out/\n")?;
        let stages = "      - { name: ship, build: production, publish: { image: { tags: [] } } }\n";
        self.repo.write(".pipeline/config.yaml", &format!("pipelines:\n  web:\n    stages:\n{stages}"))?;
        let build = format!("mkdir out; head -c {BYTES} /dev/urandom > out/large");
        let variant = format!("  production: {{ build: [[sh, -c, '{build}']], root: out, entrypoint: [/large] }}\n");
        self.repo.write(".pipeline/web/variants.yaml", &format!("variants:\n{variant}"))?;
        self.repo.commit("a pipeline")?;
        let mut publish = Command::new(&self.release);
        self.target.apply(&mut publish);
        publish.env("TMPDIR", self.directory.path()).arg("-C").arg(self.repo.directory());
        let published = run(publish.args(["run", "-m", "large"]))?;
        let peak = published.peak >> 20;
        println!(
            "  publishing   {:>7.2} s, {peak} MB for a layer of {} MB{}",
            published.wall.as_secs_f64(),
            BYTES / 1_000_000,
            over(peak > MEMORY_TARGET_MB)
        );

        self.configure(&["web".to_owned()])?;
        let (asked, sent) = (self.registry.requests()?.len(), self.counted.sent());
        let round = self.watch()?;
        let requests = self.registry.requests()?.split_off(asked);
        let (sent, requests) = (self.counted.sent() - sent, requests.len());
        let tagged = self.registry.requests()?.iter().any(|request| request.path.ends_with("/web/manifests/prod"));
        ensure!(tagged, "the tag was not moved");
        println!(
            "  its tag      {:>7.2} s, {requests} requests and {} KiB sent{}",
            round.wall.as_secs_f64(),
            sent >> 10,
            over(requests >= REQUESTS_TARGET || sent >= SENT_TARGET)
        );
        Ok(())
    }

    /// A round over many channels to which nothing has happened.
    fn round(&self) -> Result<()> {
        let apps: Vec<String> = (0..CHANNELS).map(|n| format!("app-{n}")).collect();
        let oci = self.directory.path().join("oci");
        oci_image(&oci, b"small")?;
        let image = Image::read(&Built::Layout(oci))?;
        let head = Command::new("git").arg("-C").arg(self.repo.directory()).args(["rev-parse", "HEAD"]).output()?;
        let commit: Tag = String::from_utf8(head.stdout)?.trim().parse()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(async {
            let client = Client::new(ClientOptions::default()).map_err(anyhow::Error::msg)?;
            for app in &apps {
                let name: Repository = format!("{}/acme/{app}", self.counted.address).parse()?;
                let writable = Rule::permit(Some(&Rule::only(&name)), &name)?;
                let writer = client.writer(&writable);
                for blob in &image.blobs {
                    writer.put_blob(&blob.descriptor, (&blob.origin).into()).await?;
                }
                writer.tag(&commit, image.manifest()).await?;
            }
            anyhow::Ok(())
        })?;
        self.configure(&apps)?;
        let first = self.watch()?.wall.as_secs_f64();
        // That the tags are there is noted once.
        self.watch()?;
        let rounds = (0..ROUNDS).map(|_| Ok(self.watch()?.wall.as_secs_f64())).collect::<Result<Vec<f64>>>()?;
        let took = median(rounds);
        println!(
            "  {CHANNELS} channels {took:>7.2} s for a quiet round, {first:.2} s for one that moves all{}",
            over(took > ROUND_TARGET_S)
        );
        Ok(())
    }

    fn configure(&self, apps: &[String]) -> Result<()> {
        let (repo, host) = (self.repo.directory().display(), self.counted.address);
        let mut rules = String::from("{ Channels: [\n");
        for app in apps {
            writeln!(
                rules,
                "{{ App: \"{app}\", Repo: \"file://{repo}\", Image: \"{host}/acme/{app}\", Tag: \"prod\" }},"
            )?;
        }
        Ok(fs::write(self.directory.path().join("rules"), rules + "] }")?)
    }

    fn watch(&self) -> Result<Run> {
        let mut watch = Command::new(&self.push);
        self.target.apply(&mut watch);
        watch.args(["watch", "--once", "--config"]).arg(self.directory.path().join("rules"));
        run(watch.env("XDG_CACHE_HOME", self.directory.path().join("cache")).env_remove("REGISTRY_AUTH_FILE"))
    }
}

fn over(is_over: bool) -> &'static str {
    if is_over { "  over the target" } else { "" }
}

/// What leads to a registry, and counts the bytes that are sent to it. It ends with this process.
struct Counted {
    address: SocketAddr,
    sent: Arc<AtomicU64>,
}

impl Counted {
    fn before(registry: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (address, sent) = (listener.local_addr()?, Arc::new(AtomicU64::new(0)));
        let counted = sent.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(registry) else { continue };
                let (Ok(from), Ok(to)) = (client.try_clone(), server.try_clone()) else { continue };
                let counted = counted.clone();
                thread::spawn(move || pass(from, to, &counted));
                thread::spawn(move || pass(server, client, &AtomicU64::new(0)));
            }
        });
        Ok(Self { address, sent })
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }
}

/// Passes on what comes until one of both ends.
fn pass(mut from: TcpStream, mut to: TcpStream, counted: &AtomicU64) {
    let mut part = vec![0; 256 << 10];
    while let Ok(length @ 1..) = from.read(&mut part) {
        counted.fetch_add(length as u64, Ordering::SeqCst);
        if to.write_all(&part[..length]).is_err() {
            break;
        }
    }
    // Whoever has gone already needs no end.
    let _ = to.shutdown(Shutdown::Write);
}
