//! Which account of this machine a connection comes from, as the kernel knows it.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// The kernel's tables of TCP sockets; one of IPv6 may speak to an address of IPv4.
const TABLES: [&str; 2] = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];

/// A socket that is open at both ends. Of others the table names no account.
const ESTABLISHED: &str = "01";

/// The user id of whoever made the socket `peer` that is connected to `ours`. None when there is no such socket any more.
pub(super) fn account_of(peer: SocketAddr, ours: SocketAddr) -> Option<u32> {
    TABLES.iter().find_map(|table| owner(&fs::read_to_string(table).ok()?, canonical(peer), canonical(ours)))
}

fn owner(table: &str, peer: SocketAddr, ours: SocketAddr) -> Option<u32> {
    table.lines().skip(1).find_map(|line| {
        // Number, both addresses, state, queues, timer, retransmits, user id.
        let fields: Vec<&str> = line.split_whitespace().take(8).collect();
        let &[_, local, remote, ESTABLISHED, _, _, _, account] = fields.as_slice() else { return None };
        (address(local)? == peer && address(remote)? == ours).then(|| account.parse().ok())?
    })
}

/// `0100007F:1F40`: words as the machine keeps them in memory, and a port.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |n: usize| {
        let digits = address.get(8 * n..8 * n + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let address = match address.len() {
        8 => IpAddr::from(Ipv4Addr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let mut bytes = [0; 16];
            bytes.iter_mut().zip(words.as_flattened()).for_each(|(byte, of_word)| *byte = *of_word);
            IpAddr::from(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(canonical(SocketAddr::new(address, port)))
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_connection_is_of_whoever_made_it() {
        let ours = rustix::process::geteuid().as_raw();
        for listen in ["127.0.0.1:0", "[::1]:0"] {
            // A machine may have no IPv6.
            let Ok(listener) = TcpListener::bind(listen) else { continue };
            let address = listener.local_addr().unwrap();
            let stream = TcpStream::connect(address).unwrap();
            let peer = stream.local_addr().unwrap();
            assert_eq!(account_of(peer, address), Some(ours), "{listen}");
            assert_eq!(account_of(SocketAddr::new(peer.ip(), 1), address), None);
            // Whoever has gone is nobody, although the kernel still knows the connection.
            drop(stream);
            assert_eq!(account_of(peer, address), None, "{listen}");
        }
    }

    #[test]
    fn the_table_is_read_as_the_kernel_writes_it() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0\n\
            1: 0100007F:C350 0100007F:1F40 01 00000000:00000000 00:00000000 00000000  1000        0 2 1 0 20 4 30 10 -1\n\
            2: 0100007F:C351 0100007F:1F40 05 00000000:00000000 00:00000000 00000000     0        0 0 1 0 20 4 30 10 -1\n\
            3: 0000000000000000FFFF00000100007F:C352 0000000000000000FFFF00000100007F:1F40 01 0:0 00:0 0 1001 0 3\n\
            4: short\n";
        let ours = "127.0.0.1:8000".parse().unwrap();
        for (port, account) in [(50000, Some(1000)), (50001, None), (50002, Some(1001)), (50003, None)] {
            let peer = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
            assert_eq!(owner(table, peer, ours), account, "{port}");
        }
    }
}
