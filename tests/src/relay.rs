//! A relay: `sternline-relay serve` on loopback, and the operator's commands against it.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::{Finished, Process, SOON, binary, eventually};

/// How a relay is started.
#[derive(Debug, Default)]
pub struct RelaySetup {
    /// Its data directory, where it is not a temporary one.
    pub data_dir: Option<PathBuf>,
    /// Its configuration file's text.
    pub config: Option<String>,
    /// The CA to trust, where the certificate is not the relay's own.
    pub ca: Option<PathBuf>,
}

/// A relay that runs.
#[derive(Debug)]
pub struct Relay {
    /// The process.
    pub process: Process,
    /// Of the API.
    pub https: SocketAddr,
    /// Of the tunnel, TCP and UDP.
    pub tunnel: SocketAddr,
    /// Of metrics and health.
    pub metrics: SocketAddr,
    folder: TempDir,
    data_dir: PathBuf,
    config: Option<PathBuf>,
    ca: Option<PathBuf>,
}

impl Relay {
    /// Starts one with nothing but a temporary folder, and waits until it answers.
    pub async fn start() -> Self {
        Self::start_with(RelaySetup::default()).await
    }

    /// Starts one, and waits until it answers.
    pub async fn start_with(setup: RelaySetup) -> Self {
        // A second relay in one test finds it installed.
        drop(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider().install_default());
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data_dir = setup.data_dir.unwrap_or_else(|| folder.path().join("data"));
        let config = setup.config.map(|text| {
            let path = folder.path().join("relay.toml");
            fs::write(&path, text).expect("a file in a temporary folder");
            path
        });
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let log = folder.path().join("relay.log");
        let process = serve(&data_dir, config.as_deref(), [any; 3], &log);
        let mut relay = Self {
            process,
            https: any,
            tunnel: any,
            metrics: any,
            folder,
            data_dir,
            config,
            ca: setup.ca,
        };
        relay.answers().await;
        relay
    }

    /// `kill -9`, then the same again on the same ports.
    pub async fn restart(&mut self) {
        self.process.kill().await;
        self.start_again().await;
    }

    /// Starts it again after it has ended.
    pub async fn start_again(&mut self) {
        let addresses = [self.https, self.tunnel, self.metrics];
        let log = self.folder.path().join("relay.log");
        self.process = serve(&self.data_dir, self.config.as_deref(), addresses, &log);
        self.answers().await;
    }

    async fn answers(&mut self) {
        let run = self.data_dir.join("run.json");
        let found = eventually("the relay writes run.json", SOON, async || {
            assert!(
                self.process.is_running(),
                "the relay ended:\n{}",
                self.process.log()
            );
            let run: Value = serde_json::from_slice(&fs::read(&run).ok()?).ok()?;
            (run["pid"] == self.process.pid()).then_some(run)
        })
        .await;
        let address = |key: &str| {
            let text = found[key]
                .as_str()
                .unwrap_or_else(|| panic!("run.json has no {key}"));
            text.parse().expect("an address")
        };
        self.https = address("https_addr");
        self.tunnel = address("tunnel_addr");
        self.metrics = address("metrics_addr");
        eventually("the relay's API answers", SOON, async || {
            self.try_api("relay").await
        })
        .await;
    }

    /// Its data directory.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// A path in a folder that lives as long as the relay.
    pub fn scratch(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The CA that vouches for it.
    fn ca(&self) -> PathBuf {
        self.ca
            .clone()
            .unwrap_or_else(|| self.data_dir.join("ca.crt"))
    }

    /// The first admin token.
    pub fn admin_token(&self) -> String {
        let text =
            fs::read_to_string(self.data_dir.join("admin.token")).expect("the relay made it");
        text.trim().to_owned()
    }

    /// Runs one of the operator's commands to its end.
    pub async fn operator(&self, arguments: &[&str]) -> Finished {
        self.operator_with(arguments, |_| ()).await
    }

    /// The same, with the command changed as the test needs it.
    pub async fn operator_with(
        &self,
        arguments: &[&str],
        change: impl FnOnce(&mut Command),
    ) -> Finished {
        let arguments = self.with_data_dir(arguments);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Process::run(&binary("sternline-relay"), &arguments, |command| {
            command.env("TMPDIR", self.folder.path());
            change(command);
        })
        .await
    }

    /// Starts one of the operator's commands that stays; what it prints is in `log`.
    pub fn operator_stays(&self, arguments: &[&str], log: &str) -> Process {
        let arguments = self.with_data_dir(arguments);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let log = self.scratch(log);
        Process::start_with(&binary("sternline-relay"), &arguments, &log, |command| {
            // What a killed command leaves behind goes with the relay's folder.
            command.env("TMPDIR", self.folder.path());
        })
    }

    /// `--data-dir` goes before `--`: what follows that belongs to the docker CLI.
    fn with_data_dir(&self, arguments: &[&str]) -> Vec<String> {
        let split = arguments
            .iter()
            .position(|one| *one == "--")
            .unwrap_or(arguments.len());
        let mut all: Vec<String> = arguments[..split]
            .iter()
            .map(|one| (*one).to_owned())
            .collect();
        all.push("--data-dir".into());
        all.push(self.data_dir.display().to_string());
        all.extend(arguments[split..].iter().map(|one| (*one).to_owned()));
        all
    }

    /// `sternline-relay forward`, and the port it listens on.
    pub async fn forward(&self, environment: &str, target: &str) -> (Process, SocketAddr) {
        let log = format!("forward-{}.log", target.replace([':', '.'], "-"));
        let process = self.operator_stays(
            &["forward", environment, target, "--listen", "127.0.0.1:0"],
            &log,
        );
        let address = eventually("forward prints its address", SOON, async || {
            let printed = process.log();
            let words = printed.split(|c: char| c.is_whitespace() || c == '"' || c == '=');
            words
                .filter_map(|word| {
                    word.trim_matches([',', '.', ';'])
                        .parse::<SocketAddr>()
                        .ok()
                })
                .find(|address| address.port() != 0 && !target.ends_with(&address.to_string()))
        })
        .await;
        (process, address)
    }

    /// Adds an environment, and returns its token.
    pub async fn add(&self, environment: &str) -> String {
        let printed = self
            .operator(&["env", "add", environment, "--json"])
            .await
            .success();
        let printed: Value = serde_json::from_str(&printed).expect("JSON");
        printed["token"].as_str().expect("a token").to_owned()
    }

    /// What the API shows of an environment.
    pub async fn environment(&self, name: &str) -> Value {
        self.try_api(&format!("environments/{name}"))
            .await
            .unwrap_or_default()
    }

    /// Waits until an environment has this status.
    pub async fn shows(&self, name: &str, status: &str, within: Duration) -> Value {
        eventually(&format!("{name} is {status}"), within, async || {
            let environment = self.environment(name).await;
            (environment["status"] == status).then_some(environment)
        })
        .await
    }

    /// Waits until an environment has a session of another epoch than `before`.
    pub async fn shows_another_session(
        &self,
        name: &str,
        before: &Value,
        within: Duration,
    ) -> Value {
        eventually(&format!("{name} comes back"), within, async || {
            let environment = self.environment(name).await;
            let session = &environment["session"];
            (session.is_object() && session["epoch"] != before["session"]["epoch"])
                .then_some(environment)
        })
        .await
    }

    async fn try_api(&self, path: &str) -> Option<Value> {
        let (status, body) = self.request(Method::GET, path, None).await.ok()?;
        (status == 200).then_some(body)
    }

    /// One request to the API as the first admin.
    ///
    /// # Errors
    /// Where nothing answers.
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<(u16, Value), reqwest::Error> {
        self.request_as(&self.admin_token(), method, path, body)
            .await
    }

    /// One request to the API with a token of the test's own.
    ///
    /// # Errors
    /// Where nothing answers.
    pub async fn request_as(
        &self,
        token: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<(u16, Value), reqwest::Error> {
        let url = format!("https://localhost:{}/api/v1/{path}", self.https.port());
        let mut request = self.client().request(method, url).bearer_auth(token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await?;
        let status = response.status().as_u16();
        let bytes = response.bytes().await?;
        Ok((
            status,
            serde_json::from_slice(&bytes).unwrap_or(json!(null)),
        ))
    }

    /// An HTTP client that trusts this relay's own CA and no other.
    pub fn client(&self) -> reqwest::Client {
        let ca = fs::read(self.ca()).expect("a CA");
        let ca = reqwest::Certificate::from_pem(&ca).expect("a certificate");
        reqwest::Client::builder()
            .tls_certs_only([ca])
            .no_proxy()
            .resolve("localhost", self.https)
            .timeout(Duration::from_secs(20))
            .build()
            .expect("a client")
    }

    /// The metrics page.
    pub async fn metrics_text(&self) -> String {
        self.page("metrics").await
    }

    /// A page of the metrics listener.
    pub async fn page(&self, path: &str) -> String {
        let url = format!("http://{}/{path}", self.metrics);
        let response = reqwest::Client::builder()
            .no_proxy()
            .build()
            .expect("a client")
            .get(url)
            .send()
            .await
            .expect("the metrics listener answers");
        response.text().await.expect("text")
    }

    /// The sum of a metric's samples whose labels contain all of `labels`
    /// (such as `result="ok"`).
    pub async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.metrics_text().await;
        text.lines()
            .filter(|line| {
                line.strip_prefix(name)
                    .is_some_and(|rest| rest.starts_with(['{', ' ']))
                    && labels.iter().all(|label| line.contains(label))
            })
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// Runs the Docker CLI through the relay, to its end.
    pub async fn docker(&self, environment: &str, arguments: &[&str]) -> Finished {
        self.operator(&docker_arguments(environment, arguments))
            .await
    }

    /// Runs the Docker CLI through the relay with something on standard input.
    pub async fn docker_fed(&self, environment: &str, arguments: &[&str], fed: &Path) -> Finished {
        let file = fs::File::open(fed).expect("the test made the file");
        self.operator_with(&docker_arguments(environment, arguments), |command| {
            command.stdin(Stdio::from(file));
        })
        .await
    }

    /// Starts the Docker CLI through the relay; what it prints is in `log`.
    pub fn docker_stays(&self, environment: &str, arguments: &[&str], log: &str) -> Process {
        self.operator_stays(&docker_arguments(environment, arguments), log)
    }
}

fn docker_arguments<'a>(environment: &'a str, arguments: &[&'a str]) -> Vec<&'a str> {
    let mut all = vec!["docker", environment, "--"];
    all.extend_from_slice(arguments);
    all
}

fn serve(
    data_dir: &Path,
    config: Option<&Path>,
    addresses: [SocketAddr; 3],
    log: &Path,
) -> Process {
    let [https, tunnel, metrics] = addresses.map(|address| address.to_string());
    let data_dir = data_dir.display().to_string();
    let config = config.map(|path| path.display().to_string());
    let mut arguments = vec![
        "serve",
        "--data-dir",
        &data_dir,
        "--https",
        &https,
        "--tunnel",
        &tunnel,
        "--metrics",
        &metrics,
        "--public-name",
        "localhost",
    ];
    if let Some(config) = &config {
        arguments.extend(["--config", config]);
    }
    Process::start(&binary("sternline-relay"), &arguments, log)
}
