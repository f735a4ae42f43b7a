//! `push serve` as a process, over real sockets.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use tempfile::TempDir;

/// The web app over an empty bucket; it ends with this.
struct Serve {
    child: Child,
    address: String,
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
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("http://"))).unwrap().unwrap();
        // What it says later must not block it.
        thread::spawn(move || lines.for_each(drop));
        let address = line.split_once("http://").unwrap().1.split('/').next().unwrap().to_owned();
        Self { child, address, _directory: directory }
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
    assert!(serve.get("/readyz").contains("ready"));
    drop(held);
}
