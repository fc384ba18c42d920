//! The relay's name, as this host's own resolver knows it.

use std::{
    io,
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use super::Run;
use crate::observe::{LookUp, NameFault};

/// How long one look-up may take.
const WITHIN: Duration = Duration::from_millis(5_500);

/// How long the question for the network's translation may take.
const NAT64_WITHIN: Duration = Duration::from_millis(800);

/// Addresses that are tried, of each family.
const FAMILY_MAX: usize = 2;

/// Looks a name up; once more where it failed.
pub(super) async fn look_up(run: &Run, host: &str) -> Vec<LookUp> {
    let mut all = Vec::new();
    for _ in 0..2 {
        let start = run.now();
        let resolved = tokio::time::timeout(WITHIN, run.world.resolver.resolve(host)).await;
        let outcome = match resolved {
            Ok(Ok(addresses)) if addresses.is_empty() => Err(NameFault::NoSuchName),
            Ok(Ok(addresses)) => Ok(addresses),
            Ok(Err(error)) => Err(of_io(&error)),
            Err(_) => Err(NameFault::TimedOut),
        };
        let is_done = outcome.is_ok();
        all.push(LookUp {
            start,
            end: run.now(),
            outcome,
        });
        if is_done {
            break;
        }
    }
    all
}

/// The C library tells only in words.
fn of_io(error: &io::Error) -> NameFault {
    let says = error.to_string();
    if says.contains("not known") || says.contains("No address") || says.contains("does not exist")
    {
        NameFault::NoSuchName
    } else if says.contains("Temporary failure") || error.kind() == io::ErrorKind::TimedOut {
        NameFault::TimedOut
    } else {
        NameFault::Failed(super::tcp::bounded(&says))
    }
}

/// Of a look-up, what is tried.
pub(super) fn addresses(look_ups: &[LookUp]) -> Vec<IpAddr> {
    let found = look_ups.iter().find_map(|one| one.outcome.as_ref().ok());
    let (mut v4, mut v6) = (0, 0);
    let mut chosen = Vec::new();
    for address in found.into_iter().flatten() {
        let count = match address {
            IpAddr::V4(_) => &mut v4,
            IpAddr::V6(_) => &mut v6,
        };
        if *count < FAMILY_MAX && !chosen.contains(address) {
            *count += 1;
            chosen.push(*address);
        }
    }
    chosen
}

/// Whether the network translates addresses of IPv4 (RFC 7050): the name that has none of IPv6
/// has one here.
pub(super) async fn is_nat64(run: &Run, addresses: &[IpAddr]) -> bool {
    let well_known = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0).octets();
    let is_translated = |address: &IpAddr| match address {
        IpAddr::V6(v6) => v6.octets()[..12] == well_known[..12],
        IpAddr::V4(_) => false,
    };
    if addresses.iter().any(is_translated) {
        return true;
    }
    if !addresses.iter().any(IpAddr::is_ipv6) || addresses.iter().any(IpAddr::is_ipv4) {
        return false;
    }
    let asking = run.world.resolver.resolve("ipv4only.arpa");
    let answered = tokio::time::timeout(NAT64_WITHIN, asking).await;
    matches!(answered, Ok(Ok(found)) if found.iter().any(IpAddr::is_ipv6))
}
