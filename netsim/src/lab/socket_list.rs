//! Which sockets wait for somebody else to begin, as the kernel lists them.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

/// A socket that anybody may speak to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Open {
    /// How it waits.
    pub kind: OpenKind,
    /// Where.
    pub local: SocketAddr,
}

/// How a socket waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OpenKind {
    /// TCP that listens.
    Listening,
    /// UDP that is connected to nobody: it may be about to send to somebody, and need not
    /// expect anything. Counted apart for that.
    Unconnected,
}

impl fmt::Display for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            OpenKind::Listening => "tcp",
            OpenKind::Unconnected => "udp",
        };
        write!(f, "{kind} {}", self.local)
    }
}

/// States of sockets in the kernel's tables.
const TCP_LISTEN: &str = "0A";
const UDP_UNCONNECTED: &str = "07";

/// The open sockets of the namespace whose tables are in `folder` (`/proc/PID/net`).
///
/// # Errors
///
/// There is no such folder.
pub(super) fn open_sockets(folder: &Path) -> io::Result<Vec<Open>> {
    let tables = [
        ("tcp", OpenKind::Listening),
        ("tcp6", OpenKind::Listening),
        ("udp", OpenKind::Unconnected),
        ("udp6", OpenKind::Unconnected),
    ];
    let mut found = Vec::new();
    for (table, kind) in tables {
        let path = folder.join(table);
        match std::fs::read_to_string(&path) {
            Ok(text) => found.extend(text.lines().skip(1).filter_map(|line| open(kind, line))),
            // A kernel without IPv6 has no such table.
            Err(error) if error.kind() == io::ErrorKind::NotFound && table.ends_with('6') => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn open(kind: OpenKind, line: &str) -> Option<Open> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (local, state) = (fields.get(1)?, fields.get(3)?);
    let waits = match kind {
        OpenKind::Listening => *state == TCP_LISTEN,
        OpenKind::Unconnected => *state == UDP_UNCONNECTED,
    };
    let local = address(local).filter(|_| waits)?;
    Some(Open { kind, local })
}

/// `0100007F:1F90`: words of 32 bits in the host's own order, and a port.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| -> Option<[u8; 4]> {
        let word = u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    let address = if address.len() == 8 {
        IpAddr::V4(Ipv4Addr::from(word(0)?))
    } else {
        let mut bytes = [0; 16];
        for (number, part) in bytes.chunks_mut(4).enumerate() {
            part.copy_from_slice(&word(number * 8)?);
        }
        IpAddr::V6(Ipv6Addr::from(bytes))
    };
    Some(SocketAddr::new(address, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listens_is_found_and_what_is_connected_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let write = |table: &str, lines: &str| {
            std::fs::write(folder.path().join(table), format!("head\n{lines}")).unwrap();
        };
        write(
            "tcp",
            "0: 0100007F:1F90 00000000:0000 0A 0:0\n1: 0100007F:1F91 0100007F:0016 01 0:0\n",
        );
        write("udp", "0: 00000000:0035 00000000:0000 07 0:0\n");
        write(
            "tcp6",
            "0: 00000000000000000000000001000000:01BB 0:0 0A 0:0\n",
        );

        let found = open_sockets(folder.path()).unwrap();

        let found: Vec<String> = found.iter().map(Open::to_string).collect();
        assert_eq!(
            found,
            ["tcp 127.0.0.1:8080", "tcp [::1]:443", "udp 0.0.0.0:53"]
        );
    }
}
