//! What is seen of real hosts from outside: agents by their status files, and sockets that
//! wait for somebody else to begin.

use std::{
    fs, io,
    path::Path,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use netsim_core::{model::Word, term::Name, trace::Observation};
use serde_json::Value;

use super::{
    at_rest::AtRest,
    ends::{Asking, HalfOpen},
    fabric::Fabric,
    programs::{LOOK, Program, state_dir},
    socket_list::OpenKind,
};

/// How often the sockets of agents' hosts are listed: it starts a thread each time.
const LIST_EVERY: Duration = Duration::from_millis(250);

/// Who wants to hear of every observation, as it is made.
pub type Listener = Box<dyn FnMut(&Observation) + Send>;

/// At whom is looked.
pub(super) struct Who {
    pub(super) agents: Vec<Arc<Program>>,
    pub(super) relays: Vec<Arc<Program>>,
    /// Who asks the relays, if anybody does.
    pub(super) asking: Option<Asking>,
    /// Where is kept what they hold.
    pub(super) at_rest: AtRest,
}

/// Looks at agents until dropped.
#[derive(Debug)]
pub(super) struct Watch {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Begins.
    pub(super) fn start(
        who: Who,
        fabric: Arc<Fabric>,
        listener: Option<Listener>,
    ) -> io::Result<Self> {
        let (stop, stopped) = channel();
        let looking = Looking {
            agents: who.agents.into_iter().map(Watched::new).collect(),
            relays: who.relays,
            asking: who.asking,
            half_open: HalfOpen::default(),
            at_rest: who.at_rest,
            fabric,
            listener,
        };
        let thread = thread::Builder::new()
            .name("watch".to_owned())
            .spawn(move || looking.until(&stopped))?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

struct Looking {
    agents: Vec<Watched>,
    relays: Vec<Arc<Program>>,
    asking: Option<Asking>,
    half_open: HalfOpen,
    at_rest: AtRest,
    fabric: Arc<Fabric>,
    listener: Option<Listener>,
}

impl Looking {
    fn until(mut self, stopped: &Receiver<()>) {
        let mut listed_at = Instant::now();
        while stopped.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
            let mut seen = Vec::new();
            for agent in &mut self.agents {
                agent.look(&mut seen);
            }
            if listed_at.elapsed() >= LIST_EVERY {
                listed_at = Instant::now();
                for agent in &mut self.agents {
                    agent.list(&mut seen);
                }
                self.compare_ends();
                self.look_at_rest();
            }
            for (agent, word, detail) in seen {
                self.tell(agent.host().name.clone(), word, detail);
            }
        }
    }

    fn look_at_rest(&self) {
        let is_calm = self.agents.iter().all(|agent| agent.seen.online.is_some());
        let agents = self.agents.iter().map(|agent| &*agent.program);
        let relays = self.relays.iter().map(|relay| &**relay);
        self.at_rest.look(agents.chain(relays), is_calm);
    }

    fn compare_ends(&mut self) {
        let agents = self.agents.iter();
        let online = agents.map(|agent| (agent.name().clone(), agent.seen.online.is_some()));
        let online = online.collect();
        let known = self.asking.as_ref().and_then(Asking::known);
        let Some(known) = known else {
            return;
        };
        for (agent, word) in self.half_open.compare(&known, &online) {
            self.tell(agent, word, String::new());
        }
    }

    fn tell(&mut self, host: Name, word: Word, detail: String) {
        let observation = Observation {
            at: self.fabric.now(),
            host: Some(host),
            word,
            detail,
        };
        if let Some(listener) = &mut self.listener {
            listener(&observation);
        }
        self.fabric
            .with(move |network, _| network.observe(observation));
    }
}

/// An agent, and what was last seen of it.
struct Watched {
    program: Arc<Program>,
    /// The text of the file, so that it is read into values only when it has changed.
    text: String,
    seen: Seen,
    open: Vec<String>,
}

/// What a status file says that is worth telling.
#[derive(Debug, Clone, PartialEq, Default)]
struct Seen {
    /// Since when, and by which transport.
    online: Option<(String, String)>,
    /// When, and by which code.
    refused: Option<(String, String)>,
    attempt: u64,
}

type Sighted = (Arc<Program>, Word, String);

impl Watched {
    fn new(program: Arc<Program>) -> Self {
        Self {
            program,
            text: String::new(),
            seen: Seen::default(),
            open: Vec::new(),
        }
    }

    fn name(&self) -> &Name {
        &self.program.host().name
    }

    fn look(&mut self, found: &mut Vec<Sighted>) {
        let path = state_dir(self.program.host()).join("status.json");
        // What a dead process has left says nothing about the present.
        let text = if self.program.is_running() {
            fs::read_to_string(path).unwrap_or_default()
        } else {
            String::new()
        };
        if text == self.text {
            return;
        }
        let status: Value = serde_json::from_str(&text).unwrap_or_default();
        let is_its = self
            .program
            .pid()
            .is_some_and(|pid| status["written"]["pid"] == pid);
        let now = if is_its {
            Seen::of(&status)
        } else {
            Seen::default()
        };
        self.text = text;
        for (word, detail) in now.since(&self.seen) {
            found.push((Arc::clone(&self.program), word, detail));
        }
        self.seen = now;
    }

    /// New sockets that listen. Whether one of UDP is for answers to what it asks cannot
    /// be seen from outside: the packets tell (`inbound-flow`).
    fn list(&mut self, found: &mut Vec<Sighted>) {
        let open = self.program.host().open_sockets().unwrap_or_default();
        let open = open.iter().filter(|one| one.kind == OpenKind::Listening);
        let open: Vec<String> = open.map(ToString::to_string).collect();
        for new in open.iter().filter(|new| !self.open.contains(new)) {
            found.push((Arc::clone(&self.program), Word::Listening, new.clone()));
        }
        self.open = open;
    }
}

impl Seen {
    fn of(status: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let is = |state: &str| status["state"] == state;
        let error = &status["last_error"];
        Self {
            online: is("online").then(|| {
                let since = text(&status["connected_since"]);
                (since, text(&status["transport"]))
            }),
            refused: (is("refused") || crate::play::is_refusal(&text(&error["code"])))
                .then(|| (text(&error["at"]), text(&error["code"]))),
            attempt: status["attempt"].as_u64().unwrap_or(0),
        }
    }

    /// What has happened since another look. A session that came after another is a new
    /// one, even where nobody saw the gap.
    fn since(&self, before: &Self) -> Vec<(Word, String)> {
        let mut found = Vec::new();
        if self.online != before.online {
            if before.online.is_some() {
                found.push((Word::Offline, String::new()));
            }
            if self.attempt > before.attempt {
                found.push((Word::Attempt, String::new()));
            }
            if let Some((_, transport)) = &self.online {
                found.push((Word::Online, transport.clone()));
            }
        } else if self.attempt > before.attempt {
            found.push((Word::Attempt, String::new()));
        }
        if let Some((_, code)) = self
            .refused
            .as_ref()
            .filter(|_| self.refused != before.refused)
        {
            found.push((Word::Refused, code.clone()));
        }
        found
    }
}

/// The end of a program's log, for a message about it.
pub(super) fn last_lines(log: &Path, count: usize) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn online(since: &str, transport: &str) -> Seen {
        Seen::of(&json!({
            "state": "online", "connected_since": since, "transport": transport, "attempt": 0,
        }))
    }

    #[test]
    fn a_session_after_a_session_is_an_end_and_a_beginning() {
        let words = online("10:01", "ws").since(&online("10:00", "quic"));

        let wanted = [
            (Word::Offline, String::new()),
            (Word::Online, "ws".to_owned()),
        ];
        assert_eq!(words, wanted);
    }

    #[test]
    fn an_agent_that_is_away_tells_of_its_attempts_and_of_a_refusal() {
        let away = |attempt: u32| Seen::of(&json!({"state": "backing_off", "attempt": attempt}));
        let refused = Seen::of(&json!({
            "state": "refused", "attempt": 2, "last_error": {"code": "revoked"},
        }));

        assert_eq!(away(2).since(&away(1)), [(Word::Attempt, String::new())]);
        assert_eq!(away(2).since(&away(2)), []);
        assert_eq!(
            refused.since(&away(2)),
            [(Word::Refused, "revoked".to_owned())]
        );
    }

    #[test]
    fn an_agent_that_refuses_whom_it_finds_says_so_each_time() {
        let found = |at: &str| {
            Seen::of(&json!({
                "state": "backing_off", "attempt": 1,
                "last_error": {"code": "intercepted", "at": at},
            }))
        };
        let refused = [(Word::Refused, "intercepted".to_owned())];

        assert_eq!(found("10:01").since(&found("10:00")), refused);
        assert_eq!(found("10:00").since(&found("10:00")), []);
    }
}
