//! A long way between this machine and a server on it: what goes through arrives later, in both directions.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::network::Relay;

/// A port of this machine that leads to another one, over a long way, until dropped.
#[derive(Debug)]
pub struct Link {
    _relay: Relay,
    port: u16,
}

impl Link {
    /// A way to a port of this machine's loopback on which a byte and its answer take `round_trip`. A connection takes one
    /// round trip more, as TCP's does.
    pub fn to(port: u16, round_trip: Duration) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("could not listen on the host")?;
        let near = listener.local_addr()?.port();
        let connect = move || Ok(TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port)))?);
        let relay = Relay::start(listener, connect, move |near, far| carry(&near, &far, round_trip))?;
        Ok(Self { _relay: relay, port: near })
    }

    /// Where it begins.
    pub fn port(&self) -> u16 {
        self.port
    }
}

fn carry(near: &TcpStream, far: &TcpStream, round_trip: Duration) -> io::Result<()> {
    let opened = Instant::now() + round_trip;
    for (from, to) in [(near, far), (far, near)] {
        // Small pieces aren't held back: the delay is the link's alone.
        to.set_nodelay(true)?;
        let (mut from, mut to) = (from.try_clone()?, to.try_clone()?);
        let (on_its_way, arriving) = mpsc::sync_channel::<(Instant, Vec<u8>)>(1024);
        thread::spawn(move || {
            let mut chunk = vec![0; 64 << 10];
            while let Ok(length @ 1..) = from.read(&mut chunk) {
                let due = (Instant::now() + round_trip / 2).max(opened);
                if on_its_way.send((due, chunk[..length].to_vec())).is_err() {
                    return;
                }
            }
        });
        thread::spawn(move || {
            for (due, bytes) in arriving {
                thread::sleep(due.saturating_duration_since(Instant::now()));
                if to.write_all(&bytes).is_err() {
                    return;
                }
            }
            drop(to.shutdown(Shutdown::Write));
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_through_arrives_whole_and_in_order() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let link = Link::to(server.local_addr().unwrap().port(), Duration::from_millis(20)).unwrap();
        let echo = thread::spawn(move || {
            let (mut stream, _) = server.accept().unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            stream.write_all(&all).unwrap();
        });
        let sent: Vec<u8> = (0..500_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let mut stream = TcpStream::connect(("127.0.0.1", link.port())).unwrap();
        stream.write_all(&sent).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut came = Vec::new();
        stream.read_to_end(&mut came).unwrap();
        echo.join().unwrap();
        assert!(came == sent);
    }
}
