//! Who arrived, for a while: what lets an asker learn whether what it sent has come.
//!
//! Bounded: [`ARRIVALS_MAX`] of an address, and [`LEDGER_ADDRESSES_MAX`] addresses. Beyond that
//! the address that has been silent for longest is forgotten, and whoever comes first after
//! that hears nothing rather than half: what the ledger does not know must never look like
//! what did not arrive.

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    time::Instant,
};

use ::probe::protocol::{ARRIVALS_MAX, Arrival, Door, Stage, WITNESS_FOR};

use crate::limits::LEDGER_ADDRESSES_MAX;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<Pages>);

#[derive(Debug, Default)]
struct Pages {
    accounts: BTreeMap<IpAddr, Account>,
    /// Addresses by their latest arrival.
    order: BTreeMap<u64, IpAddr>,
    counter: u64,
    arrivals: u64,
    /// When an address was forgotten that should not have been.
    forgot_at: Option<Instant>,
}

#[derive(Debug)]
struct Account {
    /// Its key in the order.
    latest: u64,
    arrivals: VecDeque<Entry>,
    opened_at: Instant,
    /// Whether arrivals of it may have been forgotten before it was opened.
    may_lack: bool,
}

#[derive(Debug)]
struct Entry {
    at: Instant,
    from_port: u16,
    door: Door,
    stage: Arc<AtomicU8>,
}

/// How far one arrival has come. Nothing is kept where the probe is not served.
#[derive(Debug, Clone, Default)]
pub struct Footprint(Option<Arc<AtomicU8>>);

impl Footprint {
    /// It has come so far; a stage that it was at before says nothing new.
    pub fn reached(&self, stage: Stage) {
        if let Some(reached) = &self.0 {
            reached.fetch_max(code(stage), Ordering::Relaxed);
        }
    }
}

const STAGES: [Stage; 5] = [
    Stage::Arrived,
    Stage::SentAway,
    Stage::BrokenOff,
    Stage::Secured,
    Stage::Asked,
];

const fn code(stage: Stage) -> u8 {
    match stage {
        Stage::Arrived => 0,
        Stage::SentAway => 1,
        Stage::BrokenOff => 2,
        Stage::Secured => 3,
        Stage::Asked => 4,
    }
}

impl Ledger {
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes an arrival.
    pub(super) fn note(&self, now: Instant, door: Door, from: SocketAddr) -> Footprint {
        let stage = Arc::new(AtomicU8::new(code(Stage::Arrived)));
        let entry = Entry {
            at: now,
            from_port: from.port(),
            door,
            stage: Arc::clone(&stage),
        };
        let mut pages = self.pages();
        pages.forget_old(now);
        pages.note(now, from.ip().to_canonical(), entry);
        Footprint(Some(stage))
    }

    /// What has arrived from an address, the newest last; `None`: some of it may have been
    /// forgotten.
    pub(super) fn of(&self, now: Instant, address: IpAddr) -> Option<Vec<Arrival>> {
        let mut pages = self.pages();
        pages.forget_old(now);
        let age = |at: Instant| now.saturating_duration_since(at);
        let Some(account) = pages.accounts.get(&address.to_canonical()) else {
            let may_lack = pages.forgot_at.is_some_and(|at| age(at) <= WITNESS_FOR);
            return (!may_lack).then(Vec::new);
        };
        if account.may_lack && age(account.opened_at) < WITNESS_FOR {
            return None;
        }
        let young = account
            .arrivals
            .iter()
            .filter(|entry| age(entry.at) <= WITNESS_FOR);
        let arrivals = young.map(|entry| Arrival {
            door: entry.door,
            ago_ms: u64::try_from(age(entry.at).as_millis()).unwrap_or(u64::MAX),
            from_port: entry.from_port,
            stage: STAGES
                .get(usize::from(entry.stage.load(Ordering::Relaxed)))
                .copied()
                .unwrap_or(Stage::Arrived),
        });
        Some(arrivals.collect())
    }

    /// How many arrivals are remembered.
    pub(super) fn len(&self, now: Instant) -> u64 {
        let mut pages = self.pages();
        pages.forget_old(now);
        pages.arrivals
    }
}

impl Pages {
    /// Each address is forgotten once, so that in the mean this costs nothing.
    fn forget_old(&mut self, now: Instant) {
        while let Some((&latest, &address)) = self.order.first_key_value() {
            let is_old = self.accounts.get(&address).is_none_or(|account| {
                account
                    .arrivals
                    .back()
                    .is_none_or(|entry| now.saturating_duration_since(entry.at) > WITNESS_FOR)
            });
            if !is_old {
                return;
            }
            self.forget(latest, address);
        }
    }

    fn forget(&mut self, latest: u64, address: IpAddr) {
        self.order.remove(&latest);
        if let Some(account) = self.accounts.remove(&address) {
            self.arrivals -= account.arrivals.len() as u64;
        }
    }

    fn note(&mut self, now: Instant, address: IpAddr, entry: Entry) {
        self.counter += 1;
        let latest = self.counter;
        let may_lack = self
            .forgot_at
            .is_some_and(|at| now.saturating_duration_since(at) <= WITNESS_FOR);
        let account = self.accounts.entry(address).or_insert_with(|| Account {
            latest,
            arrivals: VecDeque::new(),
            opened_at: now,
            may_lack,
        });
        self.order.remove(&account.latest);
        account.latest = latest;
        account.arrivals.push_back(entry);
        self.arrivals += 1;
        if account.arrivals.len() > ARRIVALS_MAX {
            account.arrivals.pop_front();
            self.arrivals -= 1;
        }
        self.order.insert(latest, address);
        if self.accounts.len() > LEDGER_ADDRESSES_MAX
            && let Some((&latest, &address)) = self.order.first_key_value()
        {
            self.forget(latest, address);
            self.forgot_at = Some(now);
        }
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "moments are arguments here, and one must come from somewhere"
)]
mod tests {
    use std::{net::Ipv4Addr, time::Duration};

    use super::*;

    const TICK: Duration = Duration::from_millis(1);

    fn from(address: u32, port: u16) -> SocketAddr {
        SocketAddr::new(Ipv4Addr::from_bits(address).into(), port)
    }

    #[test]
    fn an_asker_hears_of_its_own_address_alone_and_how_far_each_came() {
        let (ledger, start) = (Ledger::default(), Instant::now());
        ledger
            .note(start, Door::Https, from(1, 10))
            .reached(Stage::Asked);
        ledger.note(start + TICK, Door::TunnelTcp, from(2, 20));
        let broken = ledger.note(start + 2 * TICK, Door::TunnelUdp, from(1, 30));
        broken.reached(Stage::BrokenOff);
        broken.reached(Stage::Arrived);

        let heard = ledger.of(start + 3 * TICK, from(1, 0).ip()).unwrap();

        let seen: Vec<_> = heard
            .iter()
            .map(|one| (one.door, one.from_port, one.stage, one.ago_ms))
            .collect();
        let expected = [
            (Door::Https, 10, Stage::Asked, 3),
            (Door::TunnelUdp, 30, Stage::BrokenOff, 1),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn an_arrival_is_forgotten_in_time_and_so_is_its_room() {
        let (ledger, start) = (Ledger::default(), Instant::now());
        ledger.note(start, Door::Https, from(1, 10));
        let later = start + WITNESS_FOR + TICK;
        ledger.note(later, Door::Https, from(2, 20));

        assert_eq!(ledger.of(later, from(1, 0).ip()), Some(Vec::new()));
        assert_eq!(ledger.len(later), 1);
        assert_eq!(ledger.len(later + WITNESS_FOR + TICK), 0);
    }

    #[test]
    fn one_address_keeps_its_newest_arrivals_and_no_more() {
        let (ledger, start) = (Ledger::default(), Instant::now());
        for port in 0..1_000 {
            ledger.note(start, Door::Https, from(1, port));
        }

        let heard = ledger.of(start, from(1, 0).ip()).unwrap();

        assert_eq!(heard.len(), ARRIVALS_MAX);
        assert_eq!(heard.last().unwrap().from_port, 999);
        assert_eq!(ledger.len(start), ARRIVALS_MAX as u64);
    }

    #[test]
    fn who_may_have_been_forgotten_hears_nothing_rather_than_half() {
        let (ledger, start) = (Ledger::default(), Instant::now());
        ledger.note(start, Door::Https, from(0, 1));
        for address in 1..=u32::try_from(LEDGER_ADDRESSES_MAX).unwrap() {
            ledger.note(start + TICK, Door::Https, from(address, 1));
        }
        let crowded = start + 2 * TICK;
        ledger.note(crowded, Door::TunnelTcp, from(0, 2));

        let last = from(u32::try_from(LEDGER_ADDRESSES_MAX).unwrap(), 0);
        assert_eq!(
            ledger.of(crowded, from(0, 0).ip()),
            None,
            "it lacks its first"
        );
        assert!(ledger.of(crowded, last.ip()).is_some(), "it lacks nothing");
        assert!(ledger.len(crowded) <= LEDGER_ADDRESSES_MAX as u64);

        let calm = crowded + WITNESS_FOR + TICK;
        ledger.note(calm, Door::TunnelTcp, from(0, 3));
        let again = calm + WITNESS_FOR + TICK;
        ledger.note(again, Door::TunnelTcp, from(0, 4));
        assert_eq!(
            ledger.of(again, from(0, 0).ip()).map(|heard| heard.len()),
            Some(1)
        );
    }

    #[test]
    fn an_address_of_version_4_is_the_same_by_a_socket_of_version_6() {
        let (ledger, start) = (Ledger::default(), Instant::now());
        let mapped: SocketAddr = "[::ffff:192.0.2.1]:7".parse().unwrap();
        ledger.note(start, Door::Https, mapped);

        let heard = ledger.of(start, "192.0.2.1".parse().unwrap());

        assert_eq!(heard.map(|heard| heard.len()), Some(1));
    }
}
