//! `push serve` as a process, over real sockets.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// The web app over an empty bucket; it ends with this.
struct Serve {
    child: Child,
    address: String,
    token: String,
    /// All it has logged.
    log: Arc<Mutex<String>>,
    _directory: TempDir,
}

impl Serve {
    /// With as many open files as `limit`.
    fn start(limit: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("prlimit");
        command.arg(format!("--nofile={limit}:{limit}")).arg(env!("CARGO_BIN_EXE_push"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--bucket"]);
        command.arg(format!("file://{}", directory.path().display()));
        for variable in ["RUNTIME_DIRECTORY", "JOURNAL_STREAM"] {
            command.env_remove(variable);
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (logged, to) = (BufReader::new(child.stderr.take().unwrap()).lines(), log.clone());
        thread::spawn(move || logged.map_while(Result::ok).for_each(|line| to.lock().unwrap().extend([&line, "\n"])));
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let (address, rest) = line.split_once("http://").unwrap().1.split_once("/?token=").unwrap();
        let token = rest.split_whitespace().next().unwrap();
        Self { child, address: address.to_owned(), token: token.to_owned(), log, _directory: directory }
    }

    fn send(&self, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        stream
    }

    fn get(&self, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address);
        let mut answer = String::new();
        self.send(&request).read_to_string(&mut answer).unwrap_or_else(|error| panic!("{path}: {error}"));
        answer
    }

    /// Waits until it has read its bucket.
    fn ready(&self) {
        let begun = Instant::now();
        loop {
            let answer = self.get("/readyz");
            if answer.starts_with("HTTP/1.1 200 ") {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "{answer}\n{}", self.log.lock().unwrap());
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn more_half_sent_requests_than_open_files_stop_nobody() {
    let serve = Serve::start(200);
    let half = "POST /push HTTP/1.1\r\nHost: localhost\r\nX-Half";
    let held: Vec<TcpStream> = (0..300).map(|_| serve.send(half)).collect();
    assert!(serve.get("/healthz").ends_with("ok\n"));
    // It reads its bucket too.
    serve.ready();
    drop(held);
}

/// What curl prints: the status of the answer, or with `more` something else. It runs as the user `account`.
fn curl(account: u32, arguments: &[&str]) -> String {
    let mut curl = Command::new("curl");
    curl.uid(account)
        .current_dir("/")
        .args(["--silent", "--max-time", "20", "--write-out", "%{http_code}"])
        .args(arguments);
    let output = curl.output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Another account of the machine, one that every Debian has.
const NOBODY: u32 = 65534;

#[test]
fn what_a_browser_shows_another_account_on_another_port_is_worth_nothing_to_it() {
    let serve = Serve::start(1024);
    let ours = rustix::process::geteuid().as_raw();
    let jar = tempfile::NamedTempFile::new().unwrap();
    let jar = jar.path().to_str().unwrap();
    let opened = format!("http://{}/?token={}", serve.address, serve.token);
    assert_eq!(curl(ours, &["--cookie-jar", jar, "--output", "/dev/null", &opened]), "303");

    // Somebody else listens on another port, and has the browser ask for something there.
    let trap = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/", trap.local_addr().unwrap());
    let stolen = thread::spawn(move || {
        let (mut stream, _) = trap.accept().unwrap();
        let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
        let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
        head.into_iter().find(|line| line.starts_with("Cookie: ")).expect("cookies go to every port")
    });
    assert_eq!(curl(ours, &["--cookie", jar, &address]), "200");
    let stolen = stolen.join().unwrap();
    assert!(stolen.contains("push-") && !stolen.contains(&serve.token), "{stolen}");

    let push = format!("http://{}/push", serve.address);
    let post = [
        "--output",
        "/dev/null",
        "--header",
        &stolen,
        "--header",
        "Sec-Fetch-Site: same-origin",
        "--data",
        "kind=deploy",
        &push,
    ];
    assert_eq!(curl(NOBODY, &post), "401", "another account");
    assert_eq!(curl(ours, &post), "400", "its own, with a form that says nothing");
    assert!(!serve.log.lock().unwrap().contains(&serve.token), "the token is in the log");
}

#[test]
fn a_program_shows_the_token() {
    let serve = Serve::start(1024);
    let push = format!("http://{}/api/v1/pushes", serve.address);
    let bearer = format!("Authorization: Bearer {}", serve.token);
    let post = ["--output", "/dev/null", "--json", "{}", &push];
    assert_eq!(curl(NOBODY, &post), "401");
    assert_eq!(curl(NOBODY, &[&post[..], &["--header", &bearer]].concat()), "400");
    let page = curl(NOBODY, &[&format!("http://{}/", serve.address)]);
    assert!(page.contains("Read-only: to push, open the address") && page.ends_with("200"), "{page}");
}
