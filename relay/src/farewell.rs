//! Says goodbye on behalf of a relay that was killed.
//!
//! Over TCP the kernel tells an agent that its relay's process is gone. Over QUIC nobody
//! does, and an idle agent asks only every 15 s. So a relay keeps in a file, for each QUIC
//! connection, what would tell its peer that the connection is gone: the stateless reset
//! of RFC 9000 §10.3, which takes no key of the connection. The next relay over the same
//! data directory sends them before anything else.
//!
//! The file is no part of the store: nothing waits for the disk, a power cut may lose it,
//! and without it agents find out by their heartbeats.

use std::{
    fs::{File, OpenOptions},
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tracing::{debug, info};
use tunnel::quic::Farewell;

use crate::limits::{FAREWELL_PAUSE, FAREWELLS_AT_ONCE, FAREWELLS_MAX};

/// An address as of IPv6 (16), a port (2), and the reset's token (16).
const RECORD_BYTES: usize = 16 + 2 + FAREWELL_BYTES;

const FAREWELL_BYTES: usize = 16;

/// See the module.
#[derive(Debug)]
pub struct Farewells {
    /// `None`: nobody is told.
    file: Option<File>,
    places: Mutex<Places>,
}

/// Which records of the file are free.
#[derive(Debug, Default)]
struct Places {
    free: Vec<u32>,
    end: u32,
}

/// A peer to say goodbye to, until this is dropped.
#[derive(Debug)]
pub struct Place {
    farewells: Arc<Farewells>,
    index: u32,
}

/// A peer of a relay that is gone.
#[derive(Debug, Clone, Copy)]
pub struct Orphan {
    remote: SocketAddr,
    farewell: Farewell,
}

impl Farewells {
    /// Opens the file, makes it (mode 0600) where there is none, and takes out of it
    /// whom a former relay has left alone.
    ///
    /// # Errors
    ///
    /// Where it cannot be made, read or emptied.
    pub fn open(path: &Path) -> io::Result<(Arc<Self>, Vec<Orphan>)> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        let records = file.metadata()?.len() / RECORD_BYTES as u64;
        let mut orphans = Vec::new();
        for index in 0..records.min(FAREWELLS_MAX.into()) {
            let mut record = [0; RECORD_BYTES];
            file.read_exact_at(&mut record, index * RECORD_BYTES as u64)?;
            orphans.extend(read(&record));
        }
        file.set_len(0)?;
        let farewells = Self {
            file: Some(file),
            places: Mutex::default(),
        };
        Ok((Arc::new(farewells), orphans))
    }

    /// Keeps nothing, for a relay without a disk: agents find out by their heartbeats.
    pub fn none() -> Arc<Self> {
        Arc::new(Self {
            file: None,
            places: Mutex::default(),
        })
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what to tell a peer. `None`: there is no file, or it is full, or the disk is.
    pub fn keep(self: &Arc<Self>, remote: SocketAddr, farewell: Farewell) -> Option<Place> {
        self.file.as_ref()?;
        let mut places = self.places();
        let index = match places.free.pop() {
            Some(index) => index,
            None if places.end < FAREWELLS_MAX => {
                places.end += 1;
                places.end - 1
            }
            None => return None,
        };
        drop(places);
        let place = Place {
            farewells: Arc::clone(self),
            index,
        };
        place.write(&record(remote, farewell)).then_some(place)
    }
}

impl Place {
    fn write(&self, record: &[u8; RECORD_BYTES]) -> bool {
        let Some(file) = &self.farewells.file else {
            return false;
        };
        let at = u64::from(self.index) * RECORD_BYTES as u64;
        let written = file.write_all_at(record, at);
        if let Err(error) = &written {
            debug!(%error, "a farewell is not kept");
        }
        written.is_ok()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Where this fails a peer may be told twice, which it does not even notice.
        let _cleared = self.write(&[0; RECORD_BYTES]);
        self.farewells.places().free.push(self.index);
    }
}

/// Tells the peers of a former relay that their connections are gone, from the socket
/// that they know.
pub async fn tell(socket: UdpSocket, orphans: Vec<Orphan>) {
    if orphans.is_empty() {
        return;
    }
    info!(
        agents = orphans.len(),
        "telling agents of a former run that it is gone"
    );
    for some in orphans.chunks(FAREWELLS_AT_ONCE) {
        for orphan in some {
            // One that is lost or cannot be sent costs its agent a heartbeat.
            let _sent = socket.send_to(&orphan.farewell.datagram(), orphan.remote);
        }
        tokio::time::sleep(FAREWELL_PAUSE).await;
    }
}

fn record(remote: SocketAddr, farewell: Farewell) -> [u8; RECORD_BYTES] {
    let address = match remote.ip() {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    let mut record = [0; RECORD_BYTES];
    record[..16].copy_from_slice(&address.octets());
    record[16..18].copy_from_slice(&remote.port().to_be_bytes());
    record[18..].copy_from_slice(farewell.expose());
    record
}

/// `None`: the record is empty.
fn read(record: &[u8; RECORD_BYTES]) -> Option<Orphan> {
    let (address, rest) = record.split_first_chunk::<16>()?;
    let (port, token) = rest.split_first_chunk::<2>()?;
    let port = u16::from_be_bytes(*port);
    let farewell = Farewell::from_bytes(*token.first_chunk::<FAREWELL_BYTES>()?);
    let remote = SocketAddr::new(Ipv6Addr::from(*address).to_canonical(), port);
    (port != 0).then_some(Orphan { remote, farewell })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAREWELL: Farewell = Farewell::from_bytes([7; 16]);

    fn remotes(orphans: &[Orphan]) -> Vec<String> {
        orphans
            .iter()
            .map(|orphan| orphan.remote.to_string())
            .collect()
    }

    #[test]
    fn those_left_alone_are_told_once_and_those_who_went_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("peers");
        let (farewells, none) = Farewells::open(&path).unwrap();
        let gone = farewells.keep("192.0.2.1:1".parse().unwrap(), FAREWELL);
        let _killed = farewells.keep("192.0.2.2:2".parse().unwrap(), FAREWELL);
        let _killed_too = farewells.keep("[2001:db8::3]:3".parse().unwrap(), FAREWELL);
        drop(gone);

        let (_, orphans) = Farewells::open(&path).unwrap();
        let (_, again) = Farewells::open(&path).unwrap();

        assert!(none.is_empty() && again.is_empty());
        assert_eq!(remotes(&orphans), ["192.0.2.2:2", "[2001:db8::3]:3"]);
        assert_eq!(orphans[0].farewell.expose(), FAREWELL.expose());
    }

    #[test]
    fn without_a_file_nobody_is_kept() {
        let kept = Farewells::none().keep("192.0.2.1:1".parse().unwrap(), FAREWELL);

        assert!(kept.is_none());
    }

    #[test]
    fn a_place_is_used_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("peers");
        let (farewells, _) = Farewells::open(&path).unwrap();

        for port in 1..100 {
            drop(farewells.keep(SocketAddr::from(([192, 0, 2, 1], port)), FAREWELL));
        }

        assert_eq!(std::fs::metadata(&path).unwrap().len(), RECORD_BYTES as u64);
    }
}
