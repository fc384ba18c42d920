//! Hears from the kernel that the host's network has changed: routes, addresses, links.
//!
//! A host with Docker on it has links that come and go with every container, and none of them
//! leads to the relay. So an event is no more than a reason to look: from which address the
//! kernel would now send towards the relay and the rest of the world. Only where that is
//! another one than before, or a link of before has come up again, is it a change.
//!
//! The socket is opened before the sandbox, and hears nothing but the kernel. Where it cannot
//! be had, pauses end by themselves, as late as half a minute.

use std::{collections::BTreeMap, io, net::IpAddr, os::fd::OwnedFd, time::Duration};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, netlink, socket_with};
use tokio::net::UnixDatagram;
use tokio_util::sync::CancellationToken;
use tunnel::{
    World,
    dial::{ANYWHERE, own_address},
};

use crate::nudge::{Nudge, Nudges};

/// Multicast groups, from `linux/rtnetlink.h`: links, and addresses and routes of both
/// families.
const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;

/// Largest message that is read: the kernel's own are one page.
const MESSAGE_BYTES: usize = 16 * 1024;

/// A network comes up in steps: who has looked after the first looks again after the last,
/// when nothing was heard for so long.
const SETTLED: Duration = Duration::from_millis(700);

/// `RTM_NEWLINK` and `RTM_DELLINK`, from `linux/rtnetlink.h`.
const NEW_LINK: u16 = 16;
const GONE_LINK: u16 = 17;

/// `AF_UNSPEC`: of the link itself. One that leaves a bridge is told of with the bridge's.
const ANY_FAMILY: u8 = 0;

/// `nlmsghdr` and `ifinfomsg`, from `linux/netlink.h` and `linux/rtnetlink.h`.
const HEADER_BYTES: usize = 16;
const LINK_BYTES: usize = 16;

/// `IFF_RUNNING` and `IFF_LOOPBACK`, from `linux/if.h`.
const RUNNING: u32 = 0x40;
const LOOPBACK: u32 = 0x8;

/// Opens the kernel's news of its network.
///
/// # Errors
///
/// The system refuses, as within another sandbox.
pub fn open() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // `NETLINK_ROUTE` is 0, which is also the family's default.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    // A number of 0: the kernel gives one.
    bind(&socket, &netlink::SocketAddrNetlink::new(0, GROUPS))?;
    Ok(socket)
}

/// Nudges whenever the way to the relay has changed, until the token is cancelled.
pub async fn watch(socket: OwnedFd, world: World, nudges: Nudges, stop: CancellationToken) {
    // Read by `recv`, which is the same for datagrams of every family.
    let socket = match UnixDatagram::from_std(socket.into()) {
        Ok(socket) => socket,
        Err(error) => return tracing::warn!(%error, "changes of the network are not heard of"),
    };
    let mut ways = Ways::default();
    ways.look(&world, nudges.towards());
    let mut again = None;
    loop {
        let settled = async {
            match again {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let has_news = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            read = read(&socket, &mut ways.links) => match read {
                Ok(has_risen) => Some(has_risen),
                Err(error) => {
                    tracing::warn!(%error, "changes of the network are no longer heard of");
                    return;
                }
            },
            () = settled => None,
        };
        let has_risen = has_news.unwrap_or(false);
        again = has_news.map(|_| tokio::time::Instant::now() + SETTLED);
        if ways.look(&world, nudges.towards()) || has_risen {
            tracing::debug!("the network has changed");
            nudges.call(Nudge::Network);
        }
    }
}

/// Reads what has come. True: a link that was down has come up.
///
/// Cancel safe: what was not read stays in the socket.
async fn read(socket: &UnixDatagram, links: &mut Links) -> io::Result<bool> {
    let mut bytes = [0; MESSAGE_BYTES];
    loop {
        return match socket.recv(&mut bytes).await {
            Ok(length) => Ok(links.hear(&bytes[..length])),
            // More has happened than there was room for: so something has.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
    }
}

/// From where the kernel sends, by destination.
#[derive(Debug, Default)]
struct Ways {
    seen: BTreeMap<IpAddr, Option<IpAddr>>,
    links: Links,
}

impl Ways {
    /// Looks, without sending anything. True: it is another way than before.
    fn look(&mut self, world: &World, relay: Option<IpAddr>) -> bool {
        let mut is_another = false;
        // A relay of before is looked at no more.
        self.seen
            .retain(|to, _| ANYWHERE.contains(to) || Some(*to) == relay);
        for to in ANYWHERE.into_iter().chain(relay) {
            let from = own_address(world, to);
            let before = self.seen.insert(to, from);
            // To be without a way is nothing to try at once for.
            is_another |= before.is_some_and(|before| before != from) && from.is_some();
        }
        is_another
    }
}

/// Which links have been seen, and whether they carry anything.
#[derive(Debug, Default)]
struct Links(BTreeMap<u32, bool>);

impl Links {
    /// Reads messages of the kernel. True: a link that was down has come up. What is
    /// malformed is passed over: the look at the ways does not depend on it.
    fn hear(&mut self, mut bytes: &[u8]) -> bool {
        let mut has_risen = false;
        while let Some((kind, body, rest)) = message(bytes) {
            match (kind, link(body)) {
                (NEW_LINK, Some((index, flags))) if flags & LOOPBACK == 0 => {
                    let is_running = flags & RUNNING != 0;
                    let before = self.0.insert(index, is_running);
                    has_risen |= is_running && before == Some(false);
                }
                // Every container has had one, and no number is used again.
                (GONE_LINK, Some((index, _))) if body[0] == ANY_FAMILY => {
                    self.0.remove(&index);
                }
                _ => {}
            }
            bytes = rest;
        }
        has_risen
    }
}

/// The first of some messages: its kind, its content, and what follows it.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let body = bytes.get(HEADER_BYTES..length)?;
    // Messages begin at multiples of four.
    let rest = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, body, rest))
}

/// Index and flags of a link.
fn link(body: &[u8]) -> Option<(u32, u32)> {
    let body = body.get(..LINK_BYTES)?;
    let index = u32::from_ne_bytes(body[4..8].try_into().ok()?);
    let flags = u32::from_ne_bytes(body[8..12].try_into().ok()?);
    Some((index, flags))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn new_link(index: u32, flags: u32) -> Vec<u8> {
        about_link(NEW_LINK, index, flags)
    }

    fn about_link(kind: u16, index: u32, flags: u32) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_BYTES + LINK_BYTES];
        bytes[..4].copy_from_slice(&32_u32.to_ne_bytes());
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[20..24].copy_from_slice(&index.to_ne_bytes());
        bytes[24..28].copy_from_slice(&flags.to_ne_bytes());
        bytes
    }

    #[test]
    fn a_link_that_comes_up_again_is_news_and_one_that_was_never_there_is_not() {
        let mut links = Links::default();

        assert!(!links.hear(&new_link(2, RUNNING)), "a container's");
        assert!(!links.hear(&new_link(2, 0)));
        let both = [new_link(7, RUNNING), new_link(2, RUNNING)].concat();
        assert!(links.hear(&both));
        assert!(!links.hear(&new_link(2, RUNNING)));
    }

    #[test]
    fn links_that_are_gone_take_no_room() {
        let mut links = Links::default();

        for index in 2..1_000 {
            links.hear(&new_link(index, RUNNING));
            links.hear(&about_link(GONE_LINK, index, 0));
        }

        assert!(links.0.is_empty());
    }

    proptest! {
        #[test]
        fn bytes_of_any_kind_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            Links::default().hear(&bytes);
        }
    }

    /// The machine's own kernel: the socket can be had, and a way is seen once.
    #[test]
    fn the_kernel_tells_its_news_to_everybody() {
        let opened = open();

        assert!(opened.is_ok(), "{opened:?}");
    }
}
