//! An agent: `sternline-agent run` with a state directory and a policy of its own.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde_json::Value;
use tempfile::TempDir;
use wire::token::{EnrolToken, RelayAddress};

use crate::{Cable, Finished, Process, SOON, binary};

/// How an agent is started.
#[derive(Debug, Default)]
pub struct AgentSetup {
    /// The one-time token; none where the state directory holds an identity.
    pub token: Option<String>,
    /// The state directory, where it is not a temporary one.
    pub state_dir: Option<PathBuf>,
    /// `auto` unless told otherwise.
    pub transport: Option<&'static str>,
    /// TCP targets that the policy names.
    pub tcp: Vec<String>,
    /// The engine's socket, which the policy then allows.
    pub docker: Option<PathBuf>,
}

impl AgentSetup {
    /// An agent that enrols with a token and may reach nothing.
    pub fn with_token(token: impl Into<String>) -> Self {
        Self {
            token: Some(token.into()),
            ..Self::default()
        }
    }

    /// The same, reaching its relay through a cable.
    pub fn through(token: &str, cable: &Cable) -> Self {
        let mut token: EnrolToken = token.parse().expect("the relay made it");
        token.addresses = vec![RelayAddress {
            host: "127.0.0.1".into(),
            tunnel_port: cable.tunnel.port(),
            https_port: cable.https.port(),
        }];
        Self::with_token(token.to_text())
    }

    /// With one transport alone.
    #[must_use]
    pub const fn over(mut self, transport: &'static str) -> Self {
        self.transport = Some(transport);
        self
    }

    /// With a TCP target that the policy names.
    #[must_use]
    pub fn allowing(mut self, target: SocketAddr) -> Self {
        self.tcp.push(target.to_string());
        self
    }

    /// With a Docker Engine.
    #[must_use]
    pub fn with_docker(mut self, socket: &Path) -> Self {
        self.docker = Some(socket.to_owned());
        self
    }
}

/// An agent that runs.
#[derive(Debug)]
pub struct Agent {
    /// The process.
    pub process: Process,
    folder: TempDir,
    state_dir: PathBuf,
    transport: &'static str,
    user: Option<u32>,
}

impl Agent {
    /// Starts one.
    pub fn start(setup: AgentSetup) -> Self {
        let tcp: Vec<String> = setup
            .tcp
            .iter()
            .map(|target| format!("{target:?}"))
            .collect();
        let docker = setup.docker.is_some();
        let policy = format!("[targets]\ndocker = {docker}\ntcp = [{}]\n", tcp.join(", "));
        Self::start_with_policy(setup, &policy)
    }

    /// Starts one with a policy in the test's own words.
    pub fn start_with_policy(setup: AgentSetup, policy: &str) -> Self {
        Self::prepare(setup, policy, None)
    }

    /// Starts one as another user, which only root can.
    pub fn start_as(setup: AgentSetup, user: u32) -> Self {
        let policy = format!("[targets]\ndocker = {}\n", setup.docker.is_some());
        Self::prepare(setup, &policy, Some(user))
    }

    fn prepare(setup: AgentSetup, policy: &str, user: Option<u32>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let state_dir = setup
            .state_dir
            .unwrap_or_else(|| folder.path().join("state"));
        write(&folder.path().join("policy.toml"), policy);
        let socket = setup
            .docker
            .unwrap_or_else(|| folder.path().join("no-docker.sock"));
        write(
            &folder.path().join("agent.toml"),
            &format!("docker_socket = {socket:?}\n"),
        );
        if let Some(token) = &setup.token {
            write(&folder.path().join("token"), token);
        }
        if user.is_some() {
            std::os::unix::fs::chown(folder.path(), user, None).expect("root may do it");
        }
        let transport = setup.transport.unwrap_or("auto");
        let process = run(folder.path(), &state_dir, transport, user);
        Self {
            process,
            folder,
            state_dir,
            transport,
            user,
        }
    }

    /// `kill -9`, then the same again, without the token.
    pub async fn restart(&mut self) {
        self.process.kill().await;
        self.restart_ended();
    }

    /// Starts it again after it has ended, without the token.
    pub fn restart_ended(&mut self) {
        // The identity is on disk: whoever starts it again need not keep the token.
        drop(fs::remove_file(self.folder.path().join("token")));
        self.process = run(
            self.folder.path(),
            &self.state_dir,
            self.transport,
            self.user,
        );
    }

    /// Waits until it has a session, and with it an identity that outlives the process.
    pub async fn is_up(&self) {
        self.process.says("session opened", SOON).await;
    }

    /// Writes another policy, which the agent reads by itself.
    pub fn write_policy(&self, policy: &str) {
        write(&self.folder.path().join("policy.toml"), policy);
    }

    /// Its state directory.
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// What `sternline-agent status` prints.
    pub async fn status(&self, arguments: &[&str]) -> Finished {
        let state_dir = self.state_dir.display().to_string();
        let mut all = vec!["status", "--state-dir", &state_dir];
        all.extend_from_slice(arguments);
        Process::run(&binary("sternline-agent"), &all, |_| ()).await
    }

    /// The status file.
    pub fn status_file(&self) -> Value {
        let bytes = fs::read(self.state_dir.join("status.json")).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("a file in a temporary folder");
}

fn run(folder: &Path, state_dir: &Path, transport: &str, user: Option<u32>) -> Process {
    let path = |name: &str| folder.join(name).display().to_string();
    let (config, policy, token) = (path("agent.toml"), path("policy.toml"), path("token"));
    let state_dir = state_dir.display().to_string();
    let mut arguments = vec![
        "run",
        "--state-dir",
        &state_dir,
        "--config",
        &config,
        "--policy",
        &policy,
        "--transport",
        transport,
    ];
    if Path::new(&token).exists() {
        arguments.extend(["--token-file", &token]);
    }
    let mut program = binary("sternline-agent");
    if let Some(user) = user {
        // Another user may not be able to enter the folder of the build.
        let copied = folder.join("sternline-agent");
        fs::copy(&program, &copied).expect("there is room for a copy");
        for name in ["agent.toml", "policy.toml", "token"] {
            if folder.join(name).exists() {
                std::os::unix::fs::chown(folder.join(name), Some(user), None).expect("root may");
            }
        }
        program = copied;
    }
    Process::start_with(&program, &arguments, &folder.join("agent.log"), |command| {
        if let Some(user) = user {
            command.uid(user).gid(user);
        }
    })
}
