//! How much of the probe one address may have, and all together.
//!
//! Of IPv6 a customer has a whole network, so a /64 counts as one address here.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use ::probe::protocol::{SOCKETS_MAX, SOCKETS_OF_ADDRESS_MAX};

use crate::limits::{
    PROBE_ADDRESSES_MAX, PROBE_BYTES_BURST, PROBE_BYTES_OF_ADDRESS_BURST,
    PROBE_BYTES_OF_ADDRESS_PER_SECOND, PROBE_BYTES_PER_SECOND, PROBE_REQUESTS_BURST,
    PROBE_REQUESTS_PER_SECOND,
};

/// An address that has been silent for so long, and has no socket, is forgotten: its buckets
/// are full again by then.
const IDLE: Duration = Duration::from_secs(10 * 60);

/// Why somebody is not served. The order is that of how long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limited {
    /// The address has had its share.
    Address,
    /// All together have had theirs.
    All,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Quota(Mutex<Shares>);

#[derive(Debug)]
struct Shares {
    of: BTreeMap<IpAddr, Share>,
    sockets: usize,
    bytes: Bucket,
}

#[derive(Debug)]
struct Share {
    sockets: usize,
    requests: Bucket,
    bytes: Bucket,
    seen_at: Instant,
}

impl Quota {
    pub(super) const fn new(now: Instant) -> Self {
        Self(Mutex::new(Shares {
            of: BTreeMap::new(),
            sockets: 0,
            bytes: Bucket::full(PROBE_BYTES_BURST, PROBE_BYTES_PER_SECOND, now),
        }))
    }

    fn shares(&self) -> MutexGuard<'_, Shares> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one request of an address.
    pub(super) fn request(&self, now: Instant, address: IpAddr) -> Result<(), Limited> {
        let mut shares = self.shares();
        let share = shares.of_address(now, address)?;
        match share.requests.take(1, now) {
            true => Ok(()),
            false => Err(Limited::Address),
        }
    }

    /// Takes a place for a socket, until it is dropped.
    pub(super) fn enter(self: &Arc<Self>, now: Instant, address: IpAddr) -> Result<Place, Limited> {
        let mut shares = self.shares();
        if shares.sockets >= SOCKETS_MAX {
            return Err(Limited::All);
        }
        let share = shares.of_address(now, address)?;
        if share.sockets >= SOCKETS_OF_ADDRESS_MAX {
            return Err(Limited::Address);
        }
        if !share.requests.take(1, now) {
            return Err(Limited::Address);
        }
        share.sockets += 1;
        shares.sockets += 1;
        Ok(Place {
            quota: Arc::clone(self),
            key: key(address),
        })
    }

    /// Sockets that are open.
    pub(super) fn sockets(&self) -> u64 {
        self.shares().sockets as u64
    }
}

impl Shares {
    fn of_address(&mut self, now: Instant, address: IpAddr) -> Result<&mut Share, Limited> {
        let key = key(address);
        if self.of.len() >= PROBE_ADDRESSES_MAX && !self.of.contains_key(&key) {
            let age = |share: &Share| now.saturating_duration_since(share.seen_at);
            self.of
                .retain(|_, share| share.sockets > 0 || age(share) < IDLE);
            if self.of.len() >= PROBE_ADDRESSES_MAX {
                return Err(Limited::All);
            }
        }
        let share = self.of.entry(key).or_insert_with(|| Share {
            sockets: 0,
            requests: Bucket::full(PROBE_REQUESTS_BURST, PROBE_REQUESTS_PER_SECOND, now),
            bytes: Bucket::full(
                PROBE_BYTES_OF_ADDRESS_BURST,
                PROBE_BYTES_OF_ADDRESS_PER_SECOND,
                now,
            ),
            seen_at: now,
        });
        share.seen_at = now;
        Ok(share)
    }
}

/// One socket's place.
#[derive(Debug)]
pub struct Place {
    quota: Arc<Quota>,
    key: IpAddr,
}

impl Place {
    /// Takes so many bytes, if the address and all together have them left.
    pub(super) fn take_bytes(&self, bytes: u64, now: Instant) -> bool {
        let mut shares = self.quota.shares();
        let has_its = shares
            .of
            .get_mut(&self.key)
            .is_some_and(|share| share.bytes.take(bytes, now));
        has_its && shares.bytes.take(bytes, now)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut shares = self.quota.shares();
        shares.sockets -= 1;
        if let Some(share) = shares.of.get_mut(&self.key) {
            share.sockets -= 1;
        }
    }
}

fn key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() >> 64 << 64;
            Ipv6Addr::from_bits(network).into()
        }
        address => address,
    }
}

/// Fills by its rate up to its burst.
#[derive(Debug)]
struct Bucket {
    left: u64,
    burst: u64,
    per_second: u64,
    at: Instant,
}

impl Bucket {
    const fn full(burst: u64, per_second: u64, now: Instant) -> Self {
        Self {
            left: burst,
            burst,
            per_second,
            at: now,
        }
    }

    /// Takes so many, or none.
    fn take(&mut self, wanted: u64, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.at).as_millis();
        let elapsed = u64::try_from(elapsed).unwrap_or(u64::MAX);
        let grown = elapsed.saturating_mul(self.per_second) / 1_000;
        if grown > 0 {
            self.left = self.left.saturating_add(grown).min(self.burst);
            self.at = now;
        }
        match self.left.checked_sub(wanted) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "moments are arguments here, and one must come from somewhere"
)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_its_burst_of_requests_and_then_its_rate() {
        let start = Instant::now();
        let quota = Quota::new(start);
        let asker = address("192.0.2.1");
        let ask = |now| quota.request(now, asker);

        for _ in 0..PROBE_REQUESTS_BURST {
            assert_eq!(ask(start), Ok(()));
        }

        assert_eq!(ask(start), Err(Limited::Address));
        assert_eq!(quota.request(start, address("192.0.2.2")), Ok(()));
        let later = start + Duration::from_secs(1);
        for _ in 0..PROBE_REQUESTS_PER_SECOND {
            assert_eq!(ask(later), Ok(()));
        }
        assert_eq!(ask(later), Err(Limited::Address));
    }

    #[test]
    fn an_address_has_so_many_sockets_at_once_and_a_network_of_version_6_is_one() {
        let start = Instant::now();
        let quota = Arc::new(Quota::new(start));
        let mut places: Vec<_> = (0..SOCKETS_OF_ADDRESS_MAX)
            .map(|i| {
                let one = address(&format!("2001:db8::{:x}", i + 1));
                quota.enter(start, one).unwrap()
            })
            .collect();

        let more = quota.enter(start, address("2001:db8::ffff:1"));
        assert_eq!(more.err(), Some(Limited::Address));
        let other = quota.enter(start, address("2001:db8:0:1::1"));
        assert!(other.is_ok(), "another network is another address");
        places.pop();
        assert!(quota.enter(start, address("2001:db8::ffff:1")).is_ok());
    }

    #[test]
    fn all_sockets_together_have_a_bound_and_bytes_come_back_with_time() {
        let start = Instant::now();
        let quota = Arc::new(Quota::new(start));
        let places: Vec<_> = (0..SOCKETS_MAX)
            .map(|i| {
                let address = IpAddr::from([10, 0, (i / 256) as u8, (i % 256) as u8]);
                quota.enter(start, address).unwrap()
            })
            .collect();
        let stranger = address("192.0.2.1");

        assert_eq!(quota.enter(start, stranger).err(), Some(Limited::All));
        assert_eq!(quota.sockets(), SOCKETS_MAX as u64);

        assert!(places[0].take_bytes(PROBE_BYTES_OF_ADDRESS_BURST, start));
        assert!(!places[0].take_bytes(1, start));
        assert!(places[0].take_bytes(1, start + Duration::from_secs(1)));
        drop(places);
        assert!(quota.enter(start, stranger).is_ok());
    }
}
