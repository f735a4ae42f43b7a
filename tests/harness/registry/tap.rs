//! Another address of a registry, where all that is sent can be seen, and held back.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    process::{Command, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::server::RegistryServer;
use crate::network::Relay;

/// The longest until something is sent that is waited for.
const PATIENCE: Duration = Duration::from_mins(1);

/// A way to a registry.
#[derive(Debug)]
pub struct Tap {
    /// Where it begins, as references have it.
    pub host: String,
    seen: Arc<Seen>,
    held: mpsc::Receiver<()>,
    _relay: Relay,
}

/// What goes along it.
#[derive(Debug, Default)]
struct Seen {
    sent: Mutex<Vec<u8>>,
    /// A request with this text gets there no more, and neither does what comes after it.
    holds: Mutex<Option<String>>,
}

impl Tap {
    /// Begins a way on a port of its own.
    ///
    /// # Errors
    /// When there is no port.
    pub fn to(registry: &RegistryServer) -> Result<Self> {
        let (listener, seen) = (TcpListener::bind("127.0.0.1:0")?, Arc::<Seen>::default());
        let (host, registry, (held, told)) = (listener.local_addr()?.to_string(), registry.host(), mpsc::channel());
        let of_all = seen.clone();
        let carry = move |near: TcpStream, far: TcpStream| {
            let (mut back_from, mut back_to) = (far.try_clone()?, near.try_clone()?);
            thread::spawn(move || {
                let _ = std::io::copy(&mut back_from, &mut back_to);
                let _ = back_to.shutdown(Shutdown::Both);
            });
            let (seen, held) = (of_all.clone(), held.clone());
            thread::spawn(move || seen.carry(near, far, &held));
            Ok(())
        };
        let relay = Relay::start(listener, move || Ok(TcpStream::connect(&registry)?), carry)?;
        Ok(Self { host, seen, held: told, _relay: relay })
    }

    /// All that was sent so far, as far as it is text.
    ///
    /// # Panics
    /// When whoever carries it has.
    #[must_use]
    pub fn sent(&self) -> String {
        String::from_utf8_lossy(&self.seen.sent.lock().expect("nobody panics with it")).into_owned()
    }

    /// Runs a command that is killed as it sends this text, which does not get there.
    ///
    /// # Errors
    /// When it can't be run, or never sends that.
    ///
    /// # Panics
    /// When whoever carries what is sent has.
    pub fn killed_as_it_sends(&self, text: &str, mut command: Command) -> Result<()> {
        let hold = |text: Option<&str>| {
            *self.seen.holds.lock().expect("nobody panics with it") = text.map(str::to_owned);
        };
        hold(Some(text));
        let mut process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        self.held.recv_timeout(PATIENCE).with_context(|| format!("it never sent `{text}`"))?;
        process.kill()?;
        process.wait()?;
        hold(None);
        Ok(())
    }
}

impl Seen {
    fn carry(&self, mut near: TcpStream, mut far: TcpStream, held: &mpsc::Sender<()>) {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length @ 1..) = near.read(&mut buffer) {
            let part = &buffer[..length];
            self.sent.lock().expect("nobody panics with it").extend_from_slice(part);
            let holds = self.holds.lock().expect("nobody panics with it").clone();
            if holds.is_some_and(|text| String::from_utf8_lossy(part).contains(&text)) {
                let _ = held.send(());
                // Until whoever asks has gone.
                while matches!(near.read(&mut buffer), Ok(1..)) {}
                break;
            }
            if far.write_all(part).is_err() {
                break;
            }
        }
        let _ = far.shutdown(Shutdown::Both);
    }
}
