//! A relay and an agent with this machine's engine behind it.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::atomic::{AtomicU32, Ordering},
};

use tests::{Agent, AgentSetup, Cable, Engine, Finished, Process, Relay, SOON};

/// The one environment's name.
const NAME: &str = "acme";

/// Everything of Docker is allowed.
const FULL: &str = "[docker]\naccess = \"full\"\n";

/// Everything a test of Docker needs.
pub(crate) struct Site {
    pub engine: Engine,
    pub relay: Relay,
    pub agent: Agent,
    containers: Vec<String>,
}

impl Site {
    /// Starts one over a transport, or skips the test where no engine answers.
    pub(crate) async fn over(transport: &'static str) -> Option<Self> {
        Self::start(transport, FULL).await
    }

    /// Starts one whose agent has this Engine.
    pub(crate) async fn on(engine: Engine) -> Self {
        let relay = Relay::start().await;
        let setup = AgentSetup::with_token(relay.add(NAME).await);
        Self::with(engine, relay, setup.over("auto"), FULL).await
    }

    /// Starts one over a line that the test holds.
    pub(crate) async fn through_cable(transport: &'static str) -> Option<(Self, Cable)> {
        let (engine, relay) = (Engine::find()?, Relay::start().await);
        let cable = Cable::to(&relay).await;
        let setup = AgentSetup::through(&relay.add(NAME).await, &cable);
        let site = Self::with(engine, relay, setup.over(transport), FULL).await;
        Some((site, cable))
    }

    /// Starts one whose agent has this policy.
    pub(crate) async fn under(policy: &str) -> Option<Self> {
        Self::start("auto", policy).await
    }

    async fn start(transport: &'static str, policy: &str) -> Option<Self> {
        let (engine, relay) = (Engine::find()?, Relay::start().await);
        let setup = AgentSetup::with_token(relay.add(NAME).await);
        Some(Self::with(engine, relay, setup.over(transport), policy).await)
    }

    async fn with(engine: Engine, relay: Relay, setup: AgentSetup, policy: &str) -> Self {
        engine.image();
        let setup = setup.with_docker(&engine.socket);
        let agent = Agent::start_with_policy(setup, policy);
        relay.shows(NAME, "online", SOON).await;
        Self {
            engine,
            relay,
            agent,
            containers: Vec::new(),
        }
    }

    /// The image that tests run.
    pub(crate) fn image(&self) -> &'static str {
        self.engine.image()
    }

    /// A container name of its own, removed with the site.
    pub(crate) fn name(&mut self) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("sternline-test-{}-{count}", std::process::id());
        self.containers.push(name.clone());
        name
    }

    /// A container that runs until it is removed, started past the relay.
    pub(crate) fn runs(&mut self, script: &str) -> String {
        let name = self.name();
        let image = self.image();
        self.engine
            .says(&["run", "-d", "--name", &name, image, "sh", "-c", script]);
        name
    }

    /// Runs the Docker CLI through the relay.
    pub(crate) async fn docker(&self, arguments: &[&str]) -> Finished {
        self.relay.docker(NAME, arguments).await
    }

    /// Starts the Docker CLI through the relay.
    pub(crate) fn docker_stays(&self, arguments: &[&str], log: &str) -> Process {
        self.relay.docker_stays(NAME, arguments, log)
    }

    /// Starts the Docker CLI through the relay on a terminal of its own, of 33 lines and 77
    /// columns. No argument may need quotes but the last, which is in single ones.
    pub(crate) fn docker_on_a_terminal(&self, arguments: &[&str], log: &str) -> Process {
        let (relay, data_dir) = (tests::binary("sternline-relay"), self.relay.data_dir());
        let (last, others) = arguments.split_last().expect("a command of docker's");
        let typed = format!(
            "stty rows 33 cols 77; {} docker {NAME} --data-dir {} -- {} '{last}'",
            relay.display(),
            data_dir.display(),
            others.join(" ")
        );
        let script = ["--quiet", "--return", "--command", &typed, "/dev/null"];
        // Part of every Debian.
        Process::start_with(
            Path::new("script"),
            &script,
            &self.scratch(log),
            |command| {
                command.stdin(Stdio::piped());
            },
        )
    }

    /// A path that lives as long as the site.
    pub(crate) fn scratch(&self, name: &str) -> PathBuf {
        self.relay.scratch(name)
    }

    /// What the relay shows of the environment.
    pub(crate) async fn shown(&self) -> serde_json::Value {
        self.relay.environment(NAME).await
    }

    /// Streams open through the agent's session.
    pub(crate) async fn streams_open(&self) -> u64 {
        self.shown().await["session"]["streams_open"]
            .as_u64()
            .unwrap_or(u64::MAX)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let names: Vec<&str> = self.containers.iter().map(String::as_str).collect();
        if !names.is_empty() {
            self.engine.remove(&names);
        }
    }
}
