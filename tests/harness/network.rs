//! Between this process and a machine's own network.
//!
//! Every machine has a loopback of its own, so two can serve the same port and nothing on the host is in the way.
//! A socket belongs to the network of the thread that makes it, and stays there wherever it is used: so this process
//! can ask a server in the machine, and relay a port of the host's loopback into it.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd,
    panic::resume_unwind,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The longest that a server in a machine may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Most bytes of an answer that are read.
const LIMIT: u64 = 1 << 20;

/// An answer over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// Runs `work` on a thread of its own that has moved into `network`.
fn inside<T: Send + 'static>(network: &File, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let network = network.try_clone()?;
    let worker = thread::spawn(move || {
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
        work()
    });
    worker.join().unwrap_or_else(|panic| resume_unwind(panic))
}

/// Makes a network with nothing but a loopback that also has the address `$1`, and keeps it until stdin ends.
const ALONE: &str = "ip link set lo up; ip address add \"$1/32\" dev lo; echo ready; read -r _ || :";

/// Runs `work` on a thread of its own, in a network of its own with nothing but a loopback, which has `address` besides its own:
/// for whoever asks it is another machine. What `work` starts is there too, out of reach of this machine's network, which it
/// cannot reach either. The network goes with the last of them.
///
/// # Errors
/// When there can be no such network (root is needed), or `work` fails.
pub fn in_own_network<T: Send + 'static>(
    address: Ipv4Addr,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let mut unshare = Command::new("unshare");
    unshare.args(["--net", "sh", "-euc", ALONE, "network"]).arg(address.to_string());
    let mut keeper = unshare.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("could not run `unshare`")?;
    let mut answer = String::new();
    BufReader::new(keeper.stdout.take().context("a piped stdout is there")?).read_line(&mut answer)?;
    let network = File::open(format!("/proc/{}/ns/net", keeper.id()));
    drop(keeper.stdin.take());
    keeper.wait()?;
    ensure!(answer == "ready\n", "could not set up a network: root is needed, and `ip`");
    inside(&network.context("could not open the network that was set up")?, work)
}

/// Makes a port of the one loopback answer on the other, until dropped.
#[derive(Debug)]
pub(crate) struct Relay {
    listener: TcpListener,
    /// Both ends of every connection so far.
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl Relay {
    /// Makes a port of the host answer in the machine.
    pub(crate) fn inwards(network: &File, port: u16) -> Result<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let listener = inside(network, move || Ok(TcpListener::bind(address)?))
            .with_context(|| format!("could not listen on port {port} in the machine"))?;
        Self::start(listener, move || Ok(TcpStream::connect(address)?), connect_both_ways)
    }

    /// Makes a port of the machine answer on the host, at the port that it returns.
    pub(crate) fn outwards(network: File, port: u16) -> Result<(Self, u16)> {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let listener = TcpListener::bind("127.0.0.1:0").context("could not listen on the host")?;
        let outside = listener.local_addr()?.port();
        let connect = move || inside(&network, move || Ok(TcpStream::connect(address)?));
        let relay = Self::start(listener, connect, connect_both_ways)?;
        Ok((relay, outside))
    }

    /// Accepts connections, makes one for each, and has the two of them carried to each other.
    pub(crate) fn start(
        listener: TcpListener,
        connect: impl Fn() -> Result<TcpStream> + Send + 'static,
        carry: impl Fn(TcpStream, TcpStream) -> io::Result<()> + Send + 'static,
    ) -> Result<Self> {
        let accepting = listener.try_clone()?;
        let streams = Arc::new(Mutex::new(Vec::new()));
        let connected = Arc::clone(&streams);
        thread::spawn(move || {
            while let Ok((stream, _)) = accepting.accept() {
                // Nobody there, or gone by now: the other side sees a connection that ends, as anywhere.
                let Ok(server) = connect() else { continue };
                for stream in [&stream, &server] {
                    connected.lock().expect("nobody panics with it").extend(stream.try_clone());
                }
                drop(carry(stream, server));
            }
        });
        Ok(Self { listener, streams })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // Wakes the thread that accepts: shutdown(2) makes accept(2) fail.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        for stream in self.streams.lock().expect("nobody panics with it").iter() {
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}

fn connect_both_ways(one: TcpStream, other: TcpStream) -> io::Result<()> {
    for (mut from, mut to) in [(one.try_clone()?, other.try_clone()?), (other, one)] {
        thread::spawn(move || {
            drop(io::copy(&mut from, &mut to));
            drop(to.shutdown(Shutdown::Write));
        });
    }
    Ok(())
}

/// Asks an HTTP server on the machine's loopback.
pub(crate) fn get(network: &File, port: u16, path: &str) -> Result<Response> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let asked = format!("http://{address}{path}");
    let mut stream = inside(network, move || Ok(TcpStream::connect_timeout(&address, PATIENCE)?))
        .with_context(|| format!("could not connect to `{asked}`"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(LIMIT).read_to_string(&mut answer).with_context(|| format!("no answer from `{asked}`"))?;
    parse(&answer).with_context(|| format!("`{asked}` doesn't answer in HTTP"))
}

fn parse(answer: &str) -> Result<Response> {
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        bail!("the answer has no empty line: {answer:?}");
    };
    let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok());
    let status = status.with_context(|| format!("the answer has no status: {head:?}"))?;
    Ok(Response { status, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_apart() {
        let response = parse("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nversion 2\n").expect("it is HTTP");
        assert_eq!(response, Response { status: 200, body: "version 2\n".to_owned() });
        for wrong in ["", "HTTP/1.1 200 OK", "hello\r\n\r\n"] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
