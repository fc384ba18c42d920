//! Sternline: relay and agent as they are shipped, two exposed ports. The agent's policy
//! names the backend, and everything else is left at its default, retention for
//! resumption and the sandbox included.

use std::{fs, net::SocketAddr, path::Path, process::Command, time::Duration};

use clap::ValueEnum;
use serde_json::Value;

use super::{READY_WITHIN, Site, Tunnel, free_addresses};
use crate::{
    failure::{Context, Failure},
    process::{self, Cores, Process},
    wait,
};

/// How an agent reaches its relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Transport {
    /// WebSocket over TLS
    Ws,
    /// QUIC
    Quic,
}

impl Transport {
    /// As `sternline-agent run --transport` takes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ws => "ws",
            Self::Quic => "quic",
        }
    }
}

const ENVIRONMENT: &str = "bench";

/// Between two questions to the relay about the agent.
const ASK_AGAIN: Duration = Duration::from_millis(100);

pub(super) fn start(
    binaries: &Path,
    transport: Transport,
    site: &Site<'_>,
) -> Result<Tunnel, Failure> {
    let operator = Operator {
        program: &binaries.join("sternline-relay"),
        data_dir: &site.folder.join("relay"),
    };
    let mut relay = serve(&operator, site)?;
    wait::until("the relay writes run.json", READY_WITHIN, || {
        if relay.still_runs().is_err() {
            return Some(());
        }
        let run = fs::read(operator.data_dir.join("run.json")).ok()?;
        let run: Value = serde_json::from_slice(&run).ok()?;
        (run["pid"] == relay.pid()).then_some(())
    })?;
    relay.still_runs()?;
    let added = operator.run(&["env", "add", ENVIRONMENT])?;
    let token = added["token"]
        .as_str()
        .context("`env add` printed no token")?;
    let mut agent = run_agent(binaries, transport, token, site)?;
    wait::until("the agent is online", READY_WITHIN, || {
        if agent.still_runs().is_err() {
            return Some(());
        }
        let shown = operator.run(&["env", "show", ENVIRONMENT]).ok()?;
        if shown["status"] == "online" {
            return Some(());
        }
        wait::pause(ASK_AGAIN);
        None
    })
    .map_err(|late| Failure::new(format!("{late}\n{}", agent.log())))?;
    agent.still_runs()?;
    let [raw, http] = free_addresses()?;
    operator.expose(site.backend.raw, raw)?;
    operator.expose(site.backend.http, http)?;
    Ok(Tunnel::new([raw, http], vec![relay], vec![agent]))
}

fn serve(operator: &Operator<'_>, site: &Site<'_>) -> Result<Process, Failure> {
    let mut command = Command::new(operator.program);
    command.args(["serve", "--public-name", "localhost", "--data-dir"]);
    command.arg(operator.data_dir);
    for listener in ["--https", "--tunnel", "--metrics"] {
        command.args([listener, "127.0.0.1:0"]);
    }
    Process::start(&mut command, &site.folder.join("relay.log"), site.cores)
}

fn run_agent(
    binaries: &Path,
    transport: Transport,
    token: &str,
    site: &Site<'_>,
) -> Result<Process, Failure> {
    let write = |name: &str, text: String| {
        let path = site.folder.join(name);
        fs::write(&path, text).context(path.display())?;
        Ok::<_, Failure>(path)
    };
    let token = write("token", token.to_owned())?;
    let policy = format!(
        "[targets]\ndocker = false\ntcp = [\"{}\", \"{}\"]\n",
        site.backend.raw, site.backend.http
    );
    let policy = write("policy.toml", policy)?;
    let socket = site.folder.join("no-docker.sock");
    let config = write("agent.toml", format!("docker_socket = {socket:?}\n"))?;
    let mut command = Command::new(binaries.join("sternline-agent"));
    command
        .args(["run", "--transport", transport.name(), "--config"])
        .arg(config)
        .arg("--state-dir")
        .arg(site.folder.join("agent"))
        .arg("--policy")
        .arg(policy)
        .arg("--token-file")
        .arg(token);
    Process::start(&mut command, &site.folder.join("agent.log"), site.cores)
}

/// The operator's commands on the relay's host.
struct Operator<'a> {
    program: &'a Path,
    data_dir: &'a Path,
}

impl Operator<'_> {
    fn run(&self, arguments: &[&str]) -> Result<Value, Failure> {
        let mut command = Command::new(self.program);
        command
            .args(arguments)
            .args(["--json", "--data-dir"])
            .arg(self.data_dir);
        let printed = process::output(&mut command, Cores::All)?;
        serde_json::from_str(&printed).context(format_args!("{arguments:?} printed {printed:?}"))
    }

    /// A port of the relay's host that leads to `exit`.
    fn expose(&self, exit: SocketAddr, entrance: SocketAddr) -> Result<(), Failure> {
        let (target, listen) = (format!("tcp:{exit}"), entrance.to_string());
        self.run(&["expose", ENVIRONMENT, &target, "--listen", &listen])
            .map(drop)
    }
}
