//! Both ends of every agent's session in the lab: what a relay's page of metrics says of
//! each environment, beside what the agent's status file says.
//!
//! Looked at a few times a second, so that a session which one end alone knows of is seen
//! with the time that it lasts.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use netsim_core::{model::Word, term::Name};

use super::programs::{METRICS_PORT, Program};

/// How long a relay on the same machine may take to answer: one that is suspended does not.
const PATIENCE: Duration = Duration::from_millis(500);

/// The most that is read of a page: 64 KiB an environment are more than it has.
const PAGE_BYTES_MAX: u64 = 16 << 20;

/// The series that tells whether an environment has a session. Environments of the lab are
/// called as the agents' hosts.
const UP: &str = "sternline_environment_up{environment=\"";

/// See the module.
#[derive(Debug)]
pub(super) struct Ends {
    relays: Vec<Arc<Program>>,
    /// Whom each relay was last seen to have a session with.
    seen: Vec<BTreeSet<String>>,
    half_open: BTreeSet<Name>,
}

impl Ends {
    pub(super) fn new(relays: Vec<Arc<Program>>) -> Self {
        Self {
            seen: vec![BTreeSet::new(); relays.len()],
            relays,
            half_open: BTreeSet::new(),
        }
    }

    /// Asks every relay, and tells what has changed. `online` are the agents, and whether
    /// each has a session.
    pub(super) fn compare(&mut self, online: &BTreeMap<Name, bool>) -> Vec<(Name, Word)> {
        for (relay, seen) in self.relays.iter().zip(&mut self.seen) {
            if !relay.is_running() {
                seen.clear();
            } else if let Ok(page) = page(relay) {
                // One that does not answer is where it was.
                *seen = up(&page);
            }
        }
        let mut changed = Vec::new();
        for (agent, is_online) in online {
            let is_known = self.seen.iter().any(|seen| seen.contains(agent.as_str()));
            let differs = is_known != *is_online;
            if differs && self.half_open.insert(agent.clone()) {
                changed.push((agent.clone(), Word::HalfOpen));
            } else if !differs && self.half_open.remove(agent) {
                changed.push((agent.clone(), Word::Closed));
            }
        }
        changed
    }
}

/// A relay's page of environments.
fn page(relay: &Program) -> io::Result<String> {
    let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), METRICS_PORT);
    let namespace = relay.host().namespace();
    let mut stream = namespace.within(|| TcpStream::connect_timeout(&address, PATIENCE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(
        b"GET /metrics/environments HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    )?;
    let mut text = String::new();
    stream.take(PAGE_BYTES_MAX).read_to_string(&mut text)?;
    if text.starts_with("HTTP/1.1 200 ") {
        Ok(text)
    } else {
        Err(io::Error::other("the relay shows no environments"))
    }
}

/// Environments that have a session, by their names.
fn up(page: &str) -> BTreeSet<String> {
    let lines = page.lines().filter_map(|line| line.strip_prefix(UP));
    let up = lines.filter(|line| line.ends_with(" 1"));
    up.filter_map(|line| Some(line.split_once('"')?.0.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_the_agent_alone_has_is_half_open_until_neither_has_it() {
        let mut ends = Ends::new(Vec::new());
        let agent = Name::of("agent");
        let online = |is: bool| BTreeMap::from([(agent.clone(), is)]);

        assert_eq!(ends.compare(&online(false)), []);
        assert_eq!(
            ends.compare(&online(true)),
            [(agent.clone(), Word::HalfOpen)]
        );
        assert_eq!(ends.compare(&online(true)), []);
        assert_eq!(
            ends.compare(&online(false)),
            [(agent.clone(), Word::Closed)]
        );
    }

    #[test]
    fn a_page_tells_who_has_a_session() {
        let page = "# TYPE sternline_environment_up gauge\n\
                    sternline_environment_up{environment=\"agent-0\",environment_id=\"a\"} 1\n\
                    sternline_environment_up{environment=\"agent-1\",environment_id=\"b\"} 0\n";

        assert_eq!(up(page), BTreeSet::from(["agent-0".to_owned()]));
    }
}
