//! Relay and agent between the two hosts: an agent with one transport, and a port on the relay's
//! host that leads to the service.

use std::{fs, io, sync::Arc, time::Duration};

use serde_json::Value;

use super::{AGENT, ENTRANCE, FarError, SERVICE_PORT, failed};
use crate::lab::{
    Lab,
    programs::{self, AgentSetup, Program},
};

/// How long an agent may take until it is online.
const ONLINE_WITHIN: Duration = Duration::from_secs(20);

/// How often somebody looks whether it is.
const LOOK: Duration = Duration::from_millis(50);

/// See the module. The agent ends when dropped.
#[derive(Debug)]
pub(super) struct Session {
    agent: Program,
}

impl Session {
    /// Enrols and starts an agent on its host, waits until it is online, and exposes the service.
    pub(super) fn start(lab: &Lab, transport: &str) -> Result<Self, FarError> {
        let (Some(programs), Some(relay), Some(host)) =
            (lab.programs(), lab.relays().first(), lab.host(AGENT.0))
        else {
            let nobody = io::Error::other("there is no relay, or no host for an agent");
            return Err(failed("the lab")(nobody));
        };
        let service = format!("127.0.0.1:{SERVICE_PORT}");
        let setup = AgentSetup {
            policy: format!("[targets]\ndocker = false\ntcp = [\"{service}\"]\n"),
            config: format!("transport = \"{transport}\"\n"),
        };
        let agent = programs::enrolment(programs, relay.host(), AGENT.0)
            .and_then(|token| Program::agent(programs, Arc::clone(host), &token, (&setup, None)))
            .map_err(failed("an agent cannot be enrolled"))?;
        agent
            .start()
            .map_err(failed("the agent cannot be started"))?;
        let session = Self { agent };
        session
            .comes_online(lab)
            .map_err(failed("the agent does not come online"))?;
        let target = format!("tcp:{service}");
        let words = ["expose", AGENT.0, &target, "--listen", ENTRANCE];
        let exposed = programs::operator(programs, relay.host(), &words)
            .map_err(failed("the service cannot be exposed"))?;
        if !exposed.status.success() {
            let said = String::from_utf8_lossy(&exposed.stderr).trim().to_owned();
            return Err(failed("the service cannot be exposed")(io::Error::other(
                said,
            )));
        }
        Ok(session)
    }

    /// The transport that it has now; none while it has no connection.
    pub(super) fn transport(&self) -> String {
        let status = self.status();
        let transport = status["transport"].as_str();
        transport
            .filter(|_| status["state"] == "online")
            .unwrap_or("none")
            .to_owned()
    }

    fn comes_online(&self, lab: &Lab) -> io::Result<()> {
        let end = lab.now() + ONLINE_WITHIN;
        while self.status()["state"] != "online" {
            if lab.now() >= end || !self.agent.is_running() {
                let said = fs::read_to_string(self.agent.log()).unwrap_or_default();
                return Err(io::Error::other(format!("it says\n{said}")));
            }
            lab.wait_until(lab.now() + LOOK);
        }
        Ok(())
    }

    /// As the agent writes it down.
    fn status(&self) -> Value {
        let file = programs::state_dir(self.agent.host()).join("status.json");
        // Before the first one is written, there is nothing to be read.
        let text = fs::read(file).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }
}
