//! A relay as a process of its own on loopback, and agents as processes beside it.
//!
//! A `relay.toml` in the folder is the relay's configuration. The data directory may be kept:
//! a fleet that was enrolled once is known again to every relay that is started over it.

use std::{
    fs::{self, File},
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    failure::{Context, Failure},
    process::Cores,
};

/// How long a process may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// Between two looks at whether it is.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A program that ends with whoever started it.
#[derive(Debug)]
pub struct Program(Child);

impl Program {
    /// Starts it; what it prints goes to `log`.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub fn start(path: &Path, arguments: &[&str], log: &Path) -> Result<Self, Failure> {
        let file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .context(log.display())?;
        let errors = file.try_clone().context(log.display())?;
        let mut command = Command::new(path);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("STERNLINE_") {
                command.env_remove(name);
            }
        }
        let child = command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            .spawn()
            .context(format!("cannot start `{}`", path.display()))?;
        Ok(Self(child))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// `kill -9`, and until it is gone.
    ///
    /// # Errors
    ///
    /// It is not ours to kill.
    pub fn kill(&mut self) -> io::Result<()> {
        self.0.kill()?;
        self.0.wait().map(|_| ())
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // One that has ended by itself cannot be killed, and need not be.
        drop(self.kill());
    }
}

/// See the module.
#[derive(Debug)]
pub struct Site {
    relay: Program,
    cores: Cores,
    binaries: PathBuf,
    folder: PathBuf,
    addresses: Vec<SocketAddr>,
    client: reqwest::Client,
    token: String,
}

impl Site {
    /// Starts a relay over `folder`, which is made where it is missing.
    ///
    /// # Errors
    ///
    /// It does not come up.
    pub async fn start(binaries: &Path, folder: &Path) -> Result<Self, Failure> {
        Self::start_on(Cores::All, binaries, folder).await
    }

    /// The same, with its relay on these processors.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub async fn start_on(cores: Cores, binaries: &Path, folder: &Path) -> Result<Self, Failure> {
        fs::create_dir_all(folder).context(folder.display())?;
        // The addresses are those of the fleet's tokens, so they stay with the folder.
        let kept = folder.join("addresses.json");
        let addresses = match fs::read(&kept) {
            Ok(bytes) => serde_json::from_slice(&bytes).context(kept.display())?,
            Err(_) => free_addresses(3)?,
        };
        let text = serde_json::to_vec(&addresses).context(kept.display())?;
        fs::write(&kept, text).context(kept.display())?;
        let relay = cores.start(|| serve(binaries, folder, &addresses))??;
        let mut site = Self {
            relay,
            cores,
            binaries: binaries.to_owned(),
            folder: folder.to_owned(),
            addresses,
            client: reqwest::Client::new(),
            token: String::new(),
        };
        site.is_ready().await?;
        let ca = fs::read(folder.join("data/ca.crt")).context("the relay's CA")?;
        let ca = reqwest::Certificate::from_pem(&ca).context("the relay's CA")?;
        site.client = reqwest::Client::builder()
            .tls_certs_only([ca])
            .no_proxy()
            .resolve("localhost", site.https())
            .build()
            .context("no HTTP client")?;
        let token = fs::read_to_string(folder.join("data/admin.token"));
        site.token = token.context("the relay's API token")?.trim().to_owned();
        Ok(site)
    }

    /// `kill -9`.
    ///
    /// # Errors
    ///
    /// It cannot be killed.
    pub fn kill(&mut self) -> io::Result<()> {
        self.relay.kill()
    }

    /// Starts it again on the same ports, and does not wait for it.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub fn start_again(&mut self) -> Result<(), Failure> {
        let start = || serve(&self.binaries, &self.folder, &self.addresses);
        self.relay = self.cores.start(start)??;
        Ok(())
    }

    async fn is_ready(&mut self) -> Result<(), Failure> {
        let run = self.folder.join("data/run.json");
        let since = Instant::now();
        loop {
            let told = fs::read(&run)
                .ok()
                .and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
            if told.is_some_and(|told| told["pid"] == self.relay.pid()) {
                return Ok(());
            }
            if !self.relay.is_running() || since.elapsed() > READY_WITHIN {
                return Err(Failure::new(format!(
                    "the relay does not come up: see {}",
                    self.folder.join("relay.log").display()
                )));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Where the tunnel is.
    pub fn tunnel(&self) -> SocketAddr {
        self.addresses[1]
    }

    fn https(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// The relay's process.
    pub fn pid(&self) -> u32 {
        self.relay.pid()
    }

    /// A folder for what belongs to the site.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Adds an environment, and returns its token.
    ///
    /// # Errors
    ///
    /// The relay refuses, or does not answer.
    pub async fn add(&self, name: &str) -> Result<String, Failure> {
        let added = self
            .post("environments", json!({ "name": name, "tags": {} }))
            .await?;
        let token = added["token"].as_str();
        Ok(token.context("the answer has no token")?.to_owned())
    }

    /// Opens a port on the relay that leads to a target at an agent.
    ///
    /// # Errors
    ///
    /// The relay refuses, or does not answer.
    pub async fn expose(
        &self,
        environment: &str,
        target: SocketAddr,
        listen: SocketAddr,
    ) -> Result<(), Failure> {
        let target = format!("tcp:{target}");
        let body = json!({ "environment": environment, "target": target, "listen": listen });
        self.post("exposures", body).await.map(|_| ())
    }

    async fn post(&self, path: &str, body: Value) -> Result<Value, Failure> {
        let url = format!("https://localhost:{}/api/v1/{path}", self.https().port());
        let request = self.client.request(Method::POST, url);
        let request = request.bearer_auth(&self.token).json(&body);
        let response = request.send().await.context(path)?;
        let status = response.status();
        let bytes = response.bytes().await.context(path)?;
        if !status.is_success() {
            let text = String::from_utf8_lossy(&bytes);
            return Err(Failure::new(format!("{path}: {status}: {text}")));
        }
        serde_json::from_slice(&bytes).context(path)
    }

    /// Starts an agent in a folder of its own, that may reach `target` and nothing
    /// else. `token` is for the first time.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub fn agent(
        &self,
        name: &str,
        transport: &str,
        token: Option<&str>,
        target: SocketAddr,
    ) -> Result<Program, Failure> {
        let folder = self.folder.join("agents").join(name);
        fs::create_dir_all(&folder).context(folder.display())?;
        let path = |name: &str| folder.join(name).display().to_string();
        let (config, policy, state) = (path("agent.toml"), path("policy.toml"), path("state"));
        let socket = format!("docker_socket = {:?}\n", path("none.sock"));
        fs::write(&config, socket).context(&config)?;
        let targets = format!("[targets]\ndocker = false\ntcp = [\"{target}\"]\n");
        fs::write(&policy, targets).context(&policy)?;
        let mut arguments = vec![
            "run",
            "--state-dir",
            &state,
            "--config",
            &config,
            "--policy",
            &policy,
            "--transport",
            transport,
        ];
        let file = path("token");
        if let Some(token) = token {
            fs::write(&file, token).context(&file)?;
            arguments.extend(["--token-file", &file]);
        }
        let program = self.binaries.join("sternline-agent");
        Program::start(&program, &arguments, &folder.join("agent.log"))
    }
}

/// The folder that this program is in.
///
/// # Errors
/// It has been moved.
pub fn own_folder() -> Result<PathBuf, Failure> {
    let program = std::env::current_exe().context("this program's own path")?;
    let folder = program.parent().context("a program is in a folder")?;
    Ok(folder.to_owned())
}

fn serve(binaries: &Path, folder: &Path, addresses: &[SocketAddr]) -> Result<Program, Failure> {
    let addresses: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
    let [https, tunnel, metrics] = &addresses[..] else {
        return Err(Failure::new("a relay has three addresses"));
    };
    let data_dir = folder.join("data").display().to_string();
    let config = folder.join("relay.toml");
    let is_configured = config.exists();
    let config = config.display().to_string();
    let mut arguments = vec![
        "serve",
        "--data-dir",
        &data_dir,
        "--https",
        https,
        "--tunnel",
        tunnel,
        "--metrics",
        metrics,
        "--public-name",
        "localhost",
    ];
    if is_configured {
        arguments.extend(["--config", &config]);
    }
    Program::start(
        &binaries.join("sternline-relay"),
        &arguments,
        &folder.join("relay.log"),
    )
}

/// Ports that are free now on TCP and UDP, below those that the kernel gives away by
/// itself: whoever listens there is to come back to the same ones.
///
/// # Errors
/// There are not as many.
pub fn free_addresses(count: usize) -> Result<Vec<SocketAddr>, Failure> {
    // Two runs side by side begin at different places.
    let first = 20_000 + u16::try_from(std::process::id() % 100).unwrap_or(0) * 100;
    let free: Vec<SocketAddr> = (first..32_000)
        .map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
        .filter(|address| TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok())
        .take(count)
        .collect();
    if free.len() < count {
        return Err(Failure::new("too few free ports between 20000 and 32000"));
    }
    Ok(free)
}
