//! What was seen of a run: observations, which expectations are about, and packets, by
//! which two runs are compared.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use crate::{
    model::{Pattern, Side, Word},
    packet::{Flags, Packet, Transport},
    term::Name,
    time::Instant,
};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// When.
    pub at: Instant,
    /// At which host's copy; at none where it is of the timeline.
    pub host: Option<Name>,
    /// What.
    pub word: Word,
    /// Its detail: a transport, an event's name.
    pub detail: String,
}

impl Observation {
    /// Whether it is one of those meant.
    pub fn fits(&self, pattern: &Pattern) -> bool {
        pattern.fits(self.word, &self.detail)
    }
}

impl fmt::Display for Observation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.at, self.word)?;
        if !self.detail.is_empty() {
            write!(f, ":{}", self.detail)?;
        }
        match &self.host {
            Some(host) => write!(f, " {host}"),
            None => Ok(()),
        }
    }
}

/// A packet seen on a cable, without what differs from run to run: its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// When it went in.
    pub at: Instant,
    /// On which cable.
    pub cable: Name,
    /// Towards which of its ends.
    pub toward: Side,
    /// From where, with the port.
    pub source: (IpAddr, u16),
    /// To where.
    pub destination: (IpAddr, u16),
    /// What it carries.
    pub kind: &'static str,
    /// Flags of TCP.
    pub flags: Flags,
    /// Its length; unknown in handshakes, whose certificates and keys vary by a byte.
    pub length: Option<usize>,
}

impl Sighting {
    /// What is seen of a packet.
    pub fn of(
        (at, cable, toward): (Instant, &Name, Side),
        packet: &Packet,
        is_handshake: bool,
    ) -> Self {
        let ports = packet
            .flow()
            .map_or((0, 0), |flow| (flow.source.port(), flow.destination.port()));
        let kind = match packet.transport() {
            Transport::Tcp { .. } => "tcp",
            Transport::Udp { .. } => "udp",
            Transport::Echo { .. } => "echo",
            Transport::Error { .. } => "error",
            Transport::Other => "other",
        };
        Self {
            at,
            cable: cable.clone(),
            toward,
            source: (packet.source(), ports.0),
            destination: (packet.destination(), ports.1),
            kind,
            flags: packet.flags(),
            length: (!is_handshake).then(|| packet.len()),
        }
    }
}

impl fmt::Display for Sighting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} {} {} {}:{} > {}:{} {}",
            self.at,
            self.cable,
            self.toward,
            self.kind,
            self.source.0,
            self.source.1,
            self.destination.0,
            self.destination.1,
            self.flags,
        )?;
        match self.length {
            Some(length) => write!(f, " {length}"),
            None => write!(f, " handshake"),
        }
    }
}

/// A run, as it was seen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trace {
    /// In order of time; at one moment, in the order of happening.
    pub observations: Vec<Observation>,
    /// In order of time.
    pub sightings: Vec<Sighting>,
}

impl Trace {
    /// Where two runs of the same scenario and seed begin to differ, as a sentence; none
    /// where they have the same shape.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let packets = first_difference(&self.sightings, &other.sightings);
        let events = first_difference(&self.observations, &other.observations);
        packets
            .map(|(number, ours, theirs)| format!("packet {number}: {ours}, then {theirs}"))
            .or_else(|| {
                events.map(|(number, ours, theirs)| {
                    format!("observation {number}: {ours}, then {theirs}")
                })
            })
    }

    /// How often each word was observed, for reports.
    pub fn tally(&self) -> BTreeMap<Word, usize> {
        let mut tally = BTreeMap::new();
        for observation in &self.observations {
            *tally.entry(observation.word).or_insert(0) += 1;
        }
        tally
    }
}

fn first_difference<T: PartialEq + fmt::Display>(
    ours: &[T],
    theirs: &[T],
) -> Option<(usize, String, String)> {
    let shown = |one: Option<&T>| one.map_or_else(|| "the end".to_owned(), T::to_string);
    let count = ours.len().max(theirs.len());
    let mut numbers = 0..count;
    let number = numbers.find(|number| ours.get(*number) != theirs.get(*number))?;
    Some((number, shown(ours.get(number)), shown(theirs.get(number))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(millis: u64, length: usize, is_handshake: bool) -> Sighting {
        let end = |text: &str| text.parse().expect("an address and a port");
        let payload = vec![0; length];
        let packet = Packet::udp(end("10.1.0.2:4000"), end("203.0.113.10:8000"), &payload);
        let at = Instant::at(std::time::Duration::from_millis(millis));
        Sighting::of(
            (at, &Name::of("uplink"), Side::Outside),
            &packet,
            is_handshake,
        )
    }

    fn trace(sightings: Vec<Sighting>) -> Trace {
        Trace {
            sightings,
            ..Trace::default()
        }
    }

    #[test]
    fn two_runs_of_one_shape_do_not_differ() {
        let first = trace(vec![seen(1, 10, false), seen(2, 20, true)]);
        let second = trace(vec![seen(1, 10, false), seen(2, 21, true)]);

        assert_eq!(
            first.difference(&second),
            None,
            "a handshake's length may vary"
        );
    }

    #[test]
    fn the_first_packet_that_differs_is_named() {
        let first = trace(vec![seen(1, 10, false), seen(2, 20, false)]);
        let later = trace(vec![seen(1, 10, false), seen(3, 20, false)]);
        let shorter = trace(vec![seen(1, 10, false)]);

        let difference = first.difference(&later).expect("the times differ");
        assert!(
            difference.starts_with("packet 1: 0.002000s uplink outside udp"),
            "{difference}"
        );
        let difference = first.difference(&shorter).expect("one is shorter");
        assert!(difference.ends_with("then the end"), "{difference}");
    }
}
