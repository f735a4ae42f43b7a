//! The whole way of a newcomer: README.md's own commands, word by word, on a fresh workstation and a fresh server.
//!
//! Only the line that installs Rust is replaced, by the toolchain that runs this test; and the address of the repository
//! leads to a copy of these sources.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use harness::{Image, Machine, Output, TempDir, kept_directory};

use crate::readme::{commands, part};

const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Where the README says the service answers, on the server's own loopback.
const PORT: u16 = 8080;

/// Longest time for one command: compiling everything, beside other tests.
const PATIENCE: Duration = Duration::from_mins(40);

/// Disk of the workstation, in bytes, beside what is compiled: a C compiler and two packages.
const DISK: u64 = 3 << 30;

/// What the first line finds. Programs are compiled without optimisation, which would take a quarter of the time of all tests
/// and is not what this is about.
const BEGINNING: &str = "cd /root\nexport CARGO_PROFILE_RELEASE_OPT_LEVEL=0\n";

/// Runs a line in the shell of the one who reads: what it exports and where it goes holds for the next. As politely as
/// possible towards the tests beside it.
const SHELL: &str = r#"
. ~/.way
eval "$1"
status=$?
{ export -p; printf 'cd %q\n' "$PWD"; } > ~/.way
exit $status
"#;

#[test]
fn from_a_clone_to_a_service_that_is_deployed_broken_and_rolled_back() -> Result<()> {
    let directory = TempDir::new()?;
    let readme = fs::read_to_string(Path::new(WORKSPACE).join("README.md"))?;
    let source = directory.path().join("source");
    copy_sources(&source)?;
    let bucket = directory.path().join("bucket");
    fs::create_dir(&bucket)?;

    let server = Machine::options("web-1", &Image::debian()?.with_debian_packages(&["openssh-server", "python3"])?)?;
    let server = server.share(&bucket, "/srv/push").boot()?;
    let workstation = workstation(&readme, &source, &bucket, &server)?;

    let all = [commands(&readme, "## See it\n"), commands(&readme, "## Use it\n")].concat();
    let typed: Vec<&str> = all.into_iter().filter(|line| !matches!(*line, "make demo" | "make test")).collect();
    println!("the way has {} commands", typed.len());
    let stated = part(&readme, "## Use it\n").split_once(" commands from an empty machine").context("a number")?.0;
    let stated: usize = stated.rsplit_once(' ').context("a number")?.1.parse()?;
    assert_eq!(typed.len(), stated, "README says how many commands it takes");

    for line in typed {
        let output = type_in(&workstation, &server, line)?;
        println!("$ {line}\n{}{}", output.stderr, output.stdout);
        judge(line, &output, &server)?;
    }
    Ok(())
}

/// What the reader must see after a line.
fn judge(line: &str, output: &Output, server: &Machine) -> Result<()> {
    let is_broken = line.contains("-m \"new version\"");
    ensure!(output.status == i32::from(is_broken), "{output}");
    let answer = || -> Result<String> { Ok(server.http(PORT, "/")?.body) };
    if line.starts_with("push deploy clock") || line.starts_with("push rollback") {
        // Up at once, except after a rollback, where it is just being started.
        let body = server.wait_until("the clock answers", Duration::from_secs(10), |_| answer().map(Some))?;
        ensure!(body.starts_with("It is "), "the clock says {body:?}");
    }
    if is_broken {
        let said = format!("{}{}", output.stderr, output.stdout);
        for word in ["rolled back automatically", "exit status 1", "SyntaxError"] {
            ensure!(said.contains(word), "the outcome does not say {word:?}: {output}");
        }
    }
    if line.starts_with("push deploy pulld") {
        let pid = server.sh("systemctl show --property=MainPID --value pulld")?;
        assert_eq!(server.sh(&format!("readlink /proc/{pid}/exe"))?, "/usr/bin/pulld", "the new program runs");
        let installed = server.sh("dpkg-query --show --showformat='${db:Status-Abbrev}' pulld")?;
        assert_eq!(installed, "ii ");
    }
    Ok(())
}

/// Types a line into the workstation, in place of the reader.
fn type_in(workstation: &Machine, server: &Machine, line: &str) -> Result<Output> {
    let line = if line.contains("rustup") { "export PATH=/opt/rust/bin:$PATH" } else { line };
    let script = format!("exec nice bash -c {} bash {}", harness::quote(SHELL), harness::quote(line));
    let output = workstation.run_with(&script, b"", PATIENCE).with_context(|| server.diagnostics())?;
    if line.starts_with("git clone") {
        // What was compiled the last time is used again, where there is any.
        workstation.sh("ln -s /var/cache/push-target ~/push/target")?;
    }
    Ok(output)
}

/// A fresh Debian that reaches the package registries, and the server by ssh.
fn workstation(readme: &str, source: &Path, bucket: &Path, server: &Machine) -> Result<Machine> {
    let clone = readme.lines().find_map(|line| line.strip_prefix("git clone ")).context("README clones")?;
    let address = clone.split(' ').next().context("`git clone` has an address")?;
    let image = Image::debian()?.with_debian_packages(&["openssh-client"])?;
    let registry = cargo_home()?.join("registry");
    fs::create_dir_all(&registry)?;
    let workstation = Machine::options("desk", &image)?.on_hosts_network()?.disk(DISK);
    let workstation = workstation
        .share(source, "/mnt/push")
        .share(bucket, "/srv/push")
        .share(&sysroot()?, "/opt/rust")
        .share(&registry, "/root/.cargo/registry")
        .share(&kept_directory("way-target")?, "/var/cache/push-target")
        .file(
            "/etc/gitconfig",
            &format!("[url \"file:///mnt/push\"]\n\tinsteadOf = {address}\n[safe]\n\tdirectory = *\n"),
        )
        .file("/root/.way", BEGINNING);
    let ssh =
        format!("Host web-1\nHostName 127.0.0.1\nPort {}\nStrictHostKeyChecking accept-new\n", server.expose(22)?);
    let workstation = workstation.file("/root/.ssh/config", &ssh).boot()?;
    let key = workstation.sh("ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519 && cat ~/.ssh/id_ed25519.pub")?;
    server.write("/root/.ssh/authorized_keys", &format!("{key}\n"))?;
    Ok(workstation)
}

/// A repository of these sources as they are, committed or not.
fn copy_sources(to: &Path) -> Result<()> {
    let script = r#"
mkdir "$1"
git -c safe.directory='*' ls-files -z --cached --others --exclude-standard |
    tar --create --null --ignore-failed-read --files-from=- 2>/dev/null | tar --extract --directory="$1"
cd "$1"
git init --quiet && git add --all && git -c user.name=Tests -c user.email=tests@push.example commit --quiet -m "as it is"
"#;
    let mut copy = Command::new("bash");
    copy.args(["-euc", script, "copy"]).arg(to).current_dir(WORKSPACE);
    harness::run(copy, "copying the sources", b"", Duration::from_mins(2))?.ok().map(drop)
}

/// The toolchain that these tests are built with.
fn sysroot() -> Result<PathBuf> {
    let output = Command::new("rustc").args(["--print", "sysroot"]).current_dir(WORKSPACE).output();
    let output = output.context("could not run `rustc`")?;
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim_end()))
}

/// Where cargo keeps what it downloaded.
fn cargo_home() -> Result<PathBuf> {
    let home = || std::env::home_dir().map(|home| home.join(".cargo"));
    std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home).context("there is a home directory")
}

#[test]
fn the_release_toml_that_readme_shows_is_the_examples_own() -> Result<()> {
    let readme = fs::read_to_string(Path::new(WORKSPACE).join("README.md"))?;
    let example = fs::read_to_string(Path::new(WORKSPACE).join("examples/clock/release.toml"))?;
    assert!(readme.contains(&format!("```toml\n{example}```\n")), "README.md shows something else");
    Ok(())
}
