//! Both ends of every agent's session in the lab: what a relay says of its environments,
//! beside what the agents' status files say.
//!
//! A relay is asked once a second, by an operator's command on its host, so that a session
//! which one end alone knows of is seen with the time that it lasts. A session that has lost
//! its connection and waits for another is in nobody's use: the relay says so.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read},
    process::{Child, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use netsim_core::{model::Word, term::Name};
use serde_json::Value;

use super::programs::{Program, Programs, operator_command};

/// How often a relay is asked: it costs a process each time.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Asks relays until dropped.
#[derive(Debug)]
pub(super) struct Asking {
    shared: Arc<Shared>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Whom relays have a connected session with; none where no relay has been asked.
    known: Mutex<Option<BTreeSet<String>>>,
    /// A command that is under way, if any; a relay that is suspended does not answer it.
    command: Mutex<(bool, Option<Child>)>,
}

impl Asking {
    /// Begins.
    pub(super) fn start(programs: Programs, relays: Vec<Arc<Program>>) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let (stop, stopped) = channel::<()>();
        let asking = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("ends".to_owned())
            .spawn(move || {
                while stopped.recv_timeout(ASK_EVERY) == Err(RecvTimeoutError::Timeout) {
                    asking.ask_all(&programs, &relays);
                }
            })?;
        Ok(Self {
            shared,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Whom relays have a connected session with, as they said last.
    pub(super) fn known(&self) -> Option<BTreeSet<String>> {
        locked(&self.shared.known).clone()
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        drop(self.stop.take());
        let mut command = locked(&self.shared.command);
        command.0 = true;
        if let Some(child) = &mut command.1 {
            // One that has ended by itself is not there to be killed.
            child.kill().ok();
        }
        drop(command);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

impl Shared {
    fn ask_all(&self, programs: &Programs, relays: &[Arc<Program>]) {
        let mut known = BTreeSet::new();
        for relay in relays.iter().filter(|relay| relay.is_running()) {
            match self.ask(programs, relay) {
                Ok(text) => known.extend(connected(&text)),
                // Who does not answer has said nothing new.
                Err(_) => return,
            }
        }
        *locked(&self.known) = Some(known);
    }

    /// What a relay says of its environments, as JSON.
    fn ask(&self, programs: &Programs, relay: &Program) -> io::Result<String> {
        let mut command = operator_command(programs, relay.host(), &["env", "list", "--json"]);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        relay.host().settle(&mut command)?;
        let mut stdout = {
            let mut under_way = locked(&self.command);
            if under_way.0 {
                return Err(io::Error::other("nobody asks any more"));
            }
            let mut child = command.spawn()?;
            let stdout = child.stdout.take();
            under_way.1 = Some(child);
            stdout.ok_or_else(|| io::Error::other("a command without an output"))?
        };
        let mut text = String::new();
        let read = stdout.read_to_string(&mut text);
        let child = locked(&self.command).1.take();
        let ended = child.map(|mut child| child.wait()).transpose()?;
        read?;
        if ended.is_some_and(|status| status.success()) {
            Ok(text)
        } else {
            Err(io::Error::other("the relay did not answer"))
        }
    }
}

fn locked<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Environments with a connected session, by their names: those of their agents' hosts.
fn connected(text: &str) -> Vec<String> {
    let said: Value = serde_json::from_str(text).unwrap_or_default();
    let all = said["environments"].as_array();
    let connected = all.into_iter().flatten();
    connected
        .filter(|one| one["status"] == "online")
        .filter_map(|one| one["name"].as_str().map(str::to_owned))
        .collect()
}

/// Agents whose session one end alone knows of.
#[derive(Debug, Default)]
pub(super) struct HalfOpen(BTreeSet<Name>);

impl HalfOpen {
    /// What has changed, now that relays have sessions with `known`, and agents have one or
    /// not.
    pub(super) fn compare(
        &mut self,
        known: &BTreeSet<String>,
        online: &BTreeMap<Name, bool>,
    ) -> Vec<(Name, Word)> {
        let mut changed = Vec::new();
        for (agent, is_online) in online {
            let differs = known.contains(agent.as_str()) != *is_online;
            if differs && self.0.insert(agent.clone()) {
                changed.push((agent.clone(), Word::HalfOpen));
            } else if !differs && self.0.remove(agent) {
                changed.push((agent.clone(), Word::Closed));
            }
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_one_end_alone_has_is_half_open_until_both_say_the_same() {
        let mut half_open = HalfOpen::default();
        let agent = Name::of("agent");
        let mut after = |known: &[&str], is_online: bool| {
            let known = known.iter().map(|name| (*name).to_owned()).collect();
            half_open.compare(&known, &BTreeMap::from([(agent.clone(), is_online)]))
        };

        assert_eq!(after(&[], false), []);
        assert_eq!(after(&[], true), [(agent.clone(), Word::HalfOpen)]);
        assert_eq!(after(&[], true), []);
        assert_eq!(after(&["agent"], true), [(agent.clone(), Word::Closed)]);
        assert_eq!(after(&["agent"], false), [(agent.clone(), Word::HalfOpen)]);
    }

    #[test]
    fn a_session_that_waits_for_a_connection_is_nobodys() {
        let said = r#"{"environments": [
            {"name": "agent-0", "status": "online"},
            {"name": "agent-1", "status": "reconnecting"},
            {"name": "agent-2", "status": "offline"}
        ]}"#;

        assert_eq!(connected(said), ["agent-0"]);
        assert!(connected("no JSON").is_empty());
    }
}
