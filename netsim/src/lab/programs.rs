//! The unmodified release binaries on hosts of the lab: started, watched and ended as an
//! administrator would.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    process::{Child, Command, Output},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{
    host::{Host, spawn_logged},
    sandbox,
    wrong_clock::Answering,
};
use crate::proxy::Setting;

/// Names the folder of the programs.
pub const PROGRAMS_VARIABLE: &str = "STERNLINE_PROGRAMS";

const RELAY: &str = "sternline-relay";
const AGENT: &str = "sternline-agent";

/// A relay has an empty store to make and keys to draw.
const RELAY_PATIENCE: Duration = Duration::from_secs(20);

/// How often somebody looks who cannot be told.
pub(super) const LOOK: Duration = Duration::from_millis(20);

/// Where the release binaries are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs {
    /// The relay's.
    pub relay: PathBuf,
    /// The agent's.
    pub agent: PathBuf,
}

/// There are no release binaries to run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{RELAY}` and `{AGENT}` are in none of {looked:?}: build them with `cargo build --release \
     --workspace`, or name their folder in {PROGRAMS_VARIABLE}"
)]
pub struct NoPrograms {
    looked: Vec<PathBuf>,
}

impl Programs {
    /// Where the variable says, else beside the running program.
    ///
    /// # Errors
    ///
    /// They are not there.
    pub fn find() -> Result<Self, NoPrograms> {
        let named = std::env::var_os(PROGRAMS_VARIABLE).map(PathBuf::from);
        let own = std::env::current_exe().unwrap_or_default();
        // Tests are one folder further down.
        let beside = own.ancestors().skip(1).take(2).map(Path::to_owned);
        let folders: Vec<PathBuf> = match named {
            Some(named) => vec![named],
            None => beside.collect(),
        };
        let found = folders.iter().find_map(|folder| {
            let of = |name: &str| Some(folder.join(name)).filter(|path| path.is_file());
            Some(Self {
                relay: of(RELAY)?,
                agent: of(AGENT)?,
            })
        });
        found.ok_or(NoPrograms { looked: folders })
    }
}

/// A program on a host.
#[derive(Debug)]
pub struct Program {
    host: Arc<Host>,
    program: PathBuf,
    arguments: Vec<OsString>,
    is_without_root: bool,
    has_own_run: bool,
    log: PathBuf,
    child: Mutex<Option<Child>>,
    /// Who tells it the time, where its host's clock is wrong.
    answering: Mutex<Option<Answering>>,
}

impl Program {
    /// A program on a host. It is not started yet.
    pub(super) fn new(host: Arc<Host>, program: PathBuf, arguments: Vec<OsString>) -> Self {
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        Self {
            log: host.folder().join(format!("{name}.log")),
            host,
            program,
            arguments,
            is_without_root: false,
            has_own_run: false,
            child: Mutex::new(None),
            answering: Mutex::new(None),
        }
    }

    /// The same, as a user who is not root, for one that refuses to be.
    #[must_use]
    pub(super) const fn without_root(mut self) -> Self {
        self.is_without_root = true;
        self
    }

    /// The same, with a `/run` of its own: for one that puts its socket there.
    #[must_use]
    pub(super) const fn with_own_run(mut self) -> Self {
        self.has_own_run = true;
        self
    }

    /// What it is told last.
    pub(super) fn last_argument(&self) -> String {
        let last = self.arguments.last().map(|one| one.to_string_lossy());
        last.unwrap_or_default().into_owned()
    }

    /// What it is called.
    pub fn name(&self) -> String {
        let name = self.program.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// A relay on a host, reached under a name, with lines of a configuration file. It is not
    /// started yet.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn relay(
        programs: &Programs,
        host: Arc<Host>,
        (public_name, config): (&str, &str),
    ) -> io::Result<Self> {
        let data = data_dir(&host);
        let file = host.folder().join("relay.toml");
        fs::write(&file, config)?;
        // Both families, where the kernel has both.
        let any = if Path::new("/proc/net/if_inet6").exists() {
            "[::]"
        } else {
            "0.0.0.0"
        };
        let arguments = [
            "serve".into(),
            "--config".into(),
            file.into_os_string(),
            "--data-dir".into(),
            data.into_os_string(),
            "--https".into(),
            format!("{any}:443").into(),
            "--tunnel".into(),
            format!("{any}:8000").into(),
            "--metrics".into(),
            "127.0.0.1:9100".into(),
            "--public-name".into(),
            public_name.into(),
        ];
        let program = programs.relay.clone();
        Ok(Self::new(host, program, arguments.to_vec()))
    }

    /// An agent on a host, with its files written. It is not started yet.
    ///
    /// # Errors
    ///
    /// The files cannot be written.
    pub fn agent(
        programs: &Programs,
        host: Arc<Host>,
        token: &str,
        (setup, proxy): (&AgentSetup, Option<&Setting>),
    ) -> io::Result<Self> {
        let path = |name: &str| host.folder().join(name);
        let socket = docker_socket(&host);
        fs::write(path("token"), token)?;
        fs::write(path("policy.toml"), &setup.policy)?;
        let mut config = format!("docker_socket = {socket:?}\n{}", setup.config);
        if let Some(Setting { url, login }) = proxy {
            config += &format!("proxy = {url:?}\n");
            if let Some(login) = login {
                let file = path("proxy-login");
                fs::write(&file, login)?;
                config += &format!("proxy_login_file = {file:?}\n");
            }
        }
        fs::write(path("agent.toml"), config)?;
        let arguments = [
            "run".into(),
            "--state-dir".into(),
            state_dir(&host).into_os_string(),
            "--config".into(),
            path("agent.toml").into_os_string(),
            "--policy".into(),
            path("policy.toml").into_os_string(),
            "--token-file".into(),
            path("token").into_os_string(),
        ];
        Ok(Self::new(host, programs.agent.clone(), arguments.to_vec()))
    }

    /// The host that it is on.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Where it prints to.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Starts it, unless it runs.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub fn start(&self) -> io::Result<()> {
        let mut child = self.child();
        if !runs(&mut child) {
            let mut command = clean(&self.program);
            command.args(&self.arguments);
            self.host.settle(&mut command)?;
            if self.is_without_root {
                sandbox::leave_root(&mut command);
            }
            if self.has_own_run {
                sandbox::hide_run(&mut command);
            }
            let spawn = |command: &mut Command| spawn_logged(command, &self.log);
            let (started, answering) = match self.host.clock() {
                None => (spawn(&mut command)?, None),
                Some(clock) => {
                    let (started, answering) = clock.start(&mut command, spawn)?;
                    (started, Some(answering))
                }
            };
            *child = Some(started);
            *self
                .answering
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = answering;
        }
        Ok(())
    }

    /// Its process id, in the sandbox.
    pub fn pid(&self) -> Option<u32> {
        self.child().as_ref().map(Child::id)
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        runs(&mut self.child())
    }

    /// `kill -9`, and until it is gone.
    pub fn kill(&self) {
        let mut child = self.child();
        if let Some(mut child) = child.take() {
            // One that has ended by itself is gone as well.
            child.kill().ok();
            child.wait().ok();
        }
    }

    /// Sends it a signal, if it runs.
    pub fn signal(&self, signal: Signal) {
        let mut child = self.child();
        let pid = child.as_ref().map(Child::id).filter(|_| runs(&mut child));
        if let Some(pid) = pid.and_then(|pid| Pid::from_raw(pid.cast_signed())) {
            kill_process(pid, signal).ok();
        }
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What an agent is told, beside its token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentSetup {
    /// Its policy file.
    pub policy: String,
    /// Further lines of its configuration file.
    pub config: String,
}

impl Default for AgentSetup {
    fn default() -> Self {
        Self {
            policy: "[targets]\ndocker = true\n".to_owned(),
            config: String::new(),
        }
    }
}

/// Runs one of the operator's commands on the relay's host, to its end.
///
/// # Errors
///
/// It cannot be started.
pub fn operator(programs: &Programs, relay: &Host, arguments: &[&str]) -> io::Result<Output> {
    let mut command = operator_command(programs, relay, arguments);
    relay.settle(&mut command)?;
    command.output()
}

/// The same, not run yet.
pub(super) fn operator_command(programs: &Programs, relay: &Host, arguments: &[&str]) -> Command {
    let mut command = clean(&programs.relay);
    command
        .args(arguments)
        .arg("--data-dir")
        .arg(data_dir(relay))
        .stdin(std::process::Stdio::null());
    command
}

/// Has an operator on the relay's host listen for whoever wants to reach the Docker Engine
/// of an environment: at a Unix socket, which is there once somebody listens. Ends with its
/// host.
///
/// # Errors
///
/// It cannot be started.
pub fn docker_at(
    programs: &Programs,
    relay: &Host,
    (environment, socket): (&str, &Path),
) -> io::Result<Child> {
    let mut command = clean(&programs.relay);
    command
        .args(["docker", environment, "--listen"])
        .arg(format!("unix://{}", socket.display()))
        .arg("--data-dir")
        .arg(data_dir(relay))
        .stdin(std::process::Stdio::null());
    relay.spawn(
        &mut command,
        &relay.folder().join(format!("vendor-{environment}.log")),
    )
}

/// Adds an environment at the relay, and gives the token of its agent.
///
/// # Errors
///
/// With what the relay said.
pub fn enrolment(programs: &Programs, relay: &Host, environment: &str) -> io::Result<String> {
    let output = operator(programs, relay, &["env", "add", environment, "--json"])?;
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let token = printed["token"].as_str();
    token.map(str::to_owned).ok_or_else(|| {
        let said = String::from_utf8_lossy(&output.stderr);
        io::Error::other(format!("no token for {environment}: {}", said.trim()))
    })
}

/// Waits until a relay answers on its host.
///
/// # Errors
///
/// It has ended, or does not answer; with what it printed.
pub fn relay_answers(programs: &Programs, relay: &Program) -> io::Result<()> {
    let begun = Instant::now();
    let run = data_dir(relay.host()).join("run.json");
    loop {
        let text = fs::read(&run).unwrap_or_default();
        let found: Value = serde_json::from_slice(&text).unwrap_or_default();
        // A file of an earlier run names another process.
        let is_there = relay.pid().is_some_and(|pid| found["pid"] == pid);
        if is_there
            && operator(programs, relay.host(), &["env", "list"])?
                .status
                .success()
        {
            return Ok(());
        }
        if !relay.is_running() || begun.elapsed() > RELAY_PATIENCE {
            let log = fs::read_to_string(relay.log()).unwrap_or_default();
            return Err(io::Error::other(format!(
                "the relay does not answer:\n{log}"
            )));
        }
        std::thread::park_timeout(LOOK);
    }
}

/// The relay's files.
pub fn data_dir(host: &Host) -> PathBuf {
    host.folder().join("relay")
}

/// The agent's files.
pub fn state_dir(host: &Host) -> PathBuf {
    host.folder().join("agent")
}

/// Where the agent looks for a Docker Engine: a path for a model of one to listen on.
pub fn docker_socket(host: &Host) -> PathBuf {
    host.folder().join("docker.sock")
}

fn runs(child: &mut Option<Child>) -> bool {
    let child = child.as_mut();
    child.is_some_and(|child| matches!(child.try_wait(), Ok(None)))
}

/// A command that sees nothing of the caller's own settings.
pub(crate) fn clean(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("STERNLINE_") || text.to_ascii_lowercase().ends_with("_proxy") {
            command.env_remove(&name);
        }
    }
    command.env("NO_COLOR", "1");
    command
}
