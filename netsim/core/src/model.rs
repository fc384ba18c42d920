//! The vocabulary of scenarios: hosts, cables, edges, what happens when, and what is
//! expected. It says what a network is; `check` says whether it makes sense, and the
//! worlds build it.
//!
//! The comments on the fields below are the documentation of the format: `reference`
//! renders them into docs/netsim-scenarios.md.

mod edge;
mod expectation;
mod host;
mod line;
mod preset;
mod reference;
mod timeline;

use std::time::Duration;

use toml::Value;

pub use self::{
    edge::{
        BlackHole, Dependence, DnsRule, DnsTrick, Dpi, Edge, Expired, Firewall, Idle, Nat, Nat64,
        Protocol, Rule, Ruling, Speech, Timeouts, UdpBlock,
    },
    expectation::{Expectation, Operator, Pattern, Word},
    host::{Host, Proxy, ProxyKind, RealProxy, RealResolver, RealVpn, Role, Vpn},
    line::{Bursts, Cable, End, Jitter, Line, Reorder, Shape, Side, TooBig},
    preset::Preset,
    reference::reference,
    timeline::{Deed, Event, TargetKind, Workload},
};
use crate::{
    random::Seed,
    term::{At, Choice, Fields, Mistake, Name, Reader, Record, Term, Text, record, words},
};

words! {
    /// Where a scenario can be run.
    pub enum World as "world" {
        /// Virtual time, simulated hosts.
        "sim" Sim,
        /// Network namespaces of a real kernel, release binaries.
        "lab" Lab,
    }
}

record! {
    /// A network, what happens in it, and what is expected.
    pub struct Scenario {
        /// What it is called; the file has the same name.
        "name" name: At<Name>,
        /// What it models, in a sentence.
        "summary" summary: Text,
        /// Who saw such a network, or which document describes it.
        "observed" observed: Vec<Text>,
        /// Where it can be run.
        "worlds" worlds: Vec<World> = World::ALL.to_vec(),
        /// Why it is run in one of them alone.
        "because" because: Option<Text> = None,
        /// How long a run lasts.
        "duration" duration: At<Choice<Duration>>,
        /// Machines.
        "host" hosts: Vec<Host> = vec![],
        /// Lines between machines and edges.
        "cable" cables: Vec<Cable> = vec![],
        /// What forwards packets: routers, and the boxes on them.
        "edge" edges: Vec<Edge> = vec![],
        /// What ends connections on the way and makes its own.
        "proxy" proxies: Vec<Proxy> = vec![],
        /// Second ways out of a host, with an address of their own.
        "vpn" vpns: Vec<Vpn> = vec![],
        /// What happens when.
        "at" events: Vec<Event> = vec![],
        /// What the vendor does meanwhile.
        "workload" workload: Workload = Workload::blank(),
        /// What must be true of a run.
        "expect" expectations: Vec<At<Expectation>>,
    }
}

impl Scenario {
    /// Reads a scenario. The reader has the mistakes; where there are none, the scenario
    /// may be used.
    pub(crate) fn read(text: &str) -> (Self, Reader<'_>) {
        let (mut reader, table) = Reader::parse(text);
        let known = <Self as Record>::FIELDS;
        let fields = Fields::of(Some(table.get_ref()), 0..0, known, &mut reader);
        let scenario = Self::decode_fields(&fields, &mut reader);
        (scenario, reader)
    }

    /// Writes it so that it reads as the same scenario.
    pub fn to_toml(&self) -> String {
        match self.encode() {
            Some(Value::Table(table)) => table.to_string(),
            Some(_) | None => String::new(),
        }
    }

    /// The concrete scenario of one seed: every range is drawn, every repetition is an
    /// event of its own, and the same seed draws the same.
    #[must_use]
    pub fn drawn(&self, seed: Seed) -> Self {
        let mut scenario = self.clone();
        scenario.events = self.events.iter().flat_map(Event::unrolled).collect();
        scenario.draw("scenario", seed);
        // In order of time; what was written first goes first at the same moment.
        scenario.events.sort_by_key(|event| event.time.get());
        scenario
    }

    /// The host of this name.
    pub fn host(&self, name: &Name) -> Option<&Host> {
        self.hosts.iter().find(|host| *host.name == *name)
    }

    /// The host of which this is the name of one copy, such as `agent-3` of three or more.
    pub fn copy(&self, name: &Name) -> Option<&Host> {
        let is_copy = |host: &&Host| is_copy_name(name.as_str(), &host.name, *host.count);
        self.hosts.iter().find(is_copy)
    }

    /// Whether this is the name of one copy of a cable that leads to copies of a host.
    pub fn is_copy_of_cable(&self, name: &Name) -> bool {
        self.cables.iter().any(|cable| {
            let hosts = cable.ends.iter().filter_map(|end| self.host(&end.node));
            let most = hosts.map(|host| *host.count).max().unwrap_or(1);
            is_copy_name(name.as_str(), &cable.name, most)
        })
    }

    /// The edge of this name.
    pub fn edge(&self, name: &Name) -> Option<&Edge> {
        self.edges.iter().find(|edge| *edge.name == *name)
    }
}

/// Whether a text names one of several copies, as the topology calls them.
fn is_copy_name(text: &str, name: &Name, count: u32) -> bool {
    let number = text.strip_prefix(name.as_str());
    let number = number.and_then(|rest| rest.strip_prefix('-'));
    count > 1
        && number.is_some_and(|number| {
            let is_plain = !number.starts_with('0') || number == "0";
            is_plain && number.parse::<u32>().is_ok_and(|copy| copy < count)
        })
}

/// Reads a scenario and leaves aside whether it makes sense; for tests of the format.
///
/// # Errors
///
/// Every mistake of form.
pub fn parse(text: &str) -> Result<Scenario, Vec<Mistake>> {
    let (scenario, reader) = Scenario::read(text);
    if reader.is_clean() {
        Ok(scenario)
    } else {
        Err(reader.mistakes())
    }
}

#[cfg(test)]
mod tests;
