//! A server on a thread of its own, so that blocking tests and tests with paused time can use it.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    thread::JoinHandle,
};

use tokio::sync::oneshot;

/// A server that runs until this is dropped.
#[derive(Debug)]
pub(crate) struct Background {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    /// Binds a free port of the loopback interface; nothing is answered yet. `serve` gets the listener, and the address.
    ///
    /// # Panics
    /// When no port can be bound.
    pub(crate) fn start<Serve: Future<Output = ()>>(
        serve: impl FnOnce(tokio::net::TcpListener, SocketAddr) -> Serve + Send + 'static,
    ) -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST, serve)
    }

    /// The same, at another address of this machine.
    ///
    /// # Panics
    /// When no port can be bound there.
    pub(crate) fn start_at<Serve: Future<Output = ()>>(
        address: Ipv4Addr,
        serve: impl FnOnce(tokio::net::TcpListener, SocketAddr) -> Serve + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind((address, 0)).expect("a free port");
        listener.set_nonblocking(true).expect("a socket can be made nonblocking");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime can be made");
            // Connections that hang by a fault end with the runtime.
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("the socket is nonblocking");
                tokio::select! {
                    () = serve(listener, address) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, stop: Some(stop), thread: Some(thread) }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
