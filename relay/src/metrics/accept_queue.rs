//! Connections that the kernel has taken and the relay has not: from
//! `/proc/self/net/tcp`, which lists listening sockets before all others, so that ten
//! thousand connections cost nothing to look past.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
};

/// The state of a listening socket, in hex as the kernel writes it.
const LISTEN: &str = "0A";

/// How many connections wait at a listening socket. `None`: the kernel does not say.
pub(super) fn waiting(address: SocketAddr) -> Option<u64> {
    let table = match address {
        SocketAddr::V4(_) => "/proc/self/net/tcp",
        SocketAddr::V6(_) => "/proc/self/net/tcp6",
    };
    find(File::open(table).ok()?, &local_address(address))
}

fn find(table: impl Read, local: &str) -> Option<u64> {
    for line in BufReader::new(table).lines().skip(1) {
        let line = line.ok()?;
        let mut fields = line.split_whitespace().skip(1);
        let (at, _remote, state) = (fields.next()?, fields.next()?, fields.next()?);
        if state != LISTEN {
            return None;
        }
        if at == local {
            // Of a listening socket, "received and not read" are connections.
            let (_, waiting) = fields.next()?.split_once(':')?;
            return u64::from_str_radix(waiting, 16).ok();
        }
    }
    None
}

/// An address as the kernel's table has it: words in the host's order, in hex.
fn local_address(address: SocketAddr) -> String {
    let octets = match address {
        SocketAddr::V4(v4) => v4.ip().octets().to_vec(),
        SocketAddr::V6(v6) => v6.ip().octets().to_vec(),
    };
    let words = octets.chunks_exact(4).map(|word| {
        let word = word.try_into().unwrap_or_default();
        format!("{:08X}", u32::from_ne_bytes(word))
    });
    format!("{}:{:04X}", words.collect::<String>(), address.port())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "the kernel's own queue is what is tested"
    )]
    fn connections_wait_until_they_are_accepted() {
        for any in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(any) else {
                continue;
            };
            let address = listener.local_addr().unwrap();
            assert_eq!(waiting(address), Some(0), "{address}");

            let _waits = TcpStream::connect(address).unwrap();
            assert_eq!(waiting(address), Some(1), "{address}");
            let _taken = listener.accept().unwrap();

            assert_eq!(waiting(address), Some(0), "{address}");
        }
    }

    #[test]
    fn nobody_listens_where_nobody_listens() {
        assert_eq!(waiting("127.0.0.1:1".parse().unwrap()), None);
    }
}
