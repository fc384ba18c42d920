//! A real Prometheus, and its tool: Debian's package `prometheus` has both.

use std::{fs, path::Path, time::Duration};

use serde_json::Value;
use tempfile::TempDir;

use crate::{Finished, Process, SOON, eventually, listening_port, skip};

/// A Prometheus that runs, with a database of its own.
#[derive(Debug)]
pub struct Prometheus {
    _process: Process,
    _folder: TempDir,
    port: u16,
}

/// Whether the package is there; where it is not, the test is skipped by name.
fn is_installed() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let has = |name: &str| std::env::split_paths(&path).any(|folder| folder.join(name).exists());
    let is_there = has("prometheus") && has("promtool");
    if !is_there {
        skip("no prometheus and promtool: install the package `prometheus`");
    }
    is_there
}

/// Runs `promtool`, with a file on its standard input where one is named.
pub async fn promtool(arguments: &[&str], fed: Option<&Path>) -> Option<Finished> {
    if !is_installed() {
        return None;
    }
    let finished = Process::run(Path::new("promtool"), arguments, |command| {
        if let Some(fed) = fed {
            command.stdin(fs::File::open(fed).expect("the test made the file"));
        }
    });
    Some(finished.await)
}

impl Prometheus {
    /// Starts one with this configuration, and waits until it answers.
    pub async fn start(config: &str) -> Option<Self> {
        if !is_installed() {
            return None;
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("prometheus.yml");
        fs::write(&file, config).expect("a file in a temporary folder");
        let (file, data) = (file.display().to_string(), folder.path().join("data"));
        let data = data.display().to_string();
        let arguments = [
            "--config.file",
            &file,
            "--storage.tsdb.path",
            &data,
            "--web.listen-address",
            "127.0.0.1:0",
        ];
        let log = folder.path().join("prometheus.log");
        let process = Process::start(Path::new("prometheus"), &arguments, &log);
        let port = eventually("Prometheus listens", SOON, async || {
            listening_port(process.pid())
        })
        .await;
        let prometheus = Self {
            _process: process,
            _folder: folder,
            port,
        };
        eventually("Prometheus is ready", SOON, async || {
            prometheus.ask("status/buildinfo", &[]).await.ok()
        })
        .await;
        Some(prometheus)
    }

    /// What a query gives: samples with their labels.
    ///
    /// # Errors
    /// Prometheus' own words where it does not take the query.
    pub async fn query(&self, expression: &str) -> Result<Vec<Value>, String> {
        let answer = self.ask("query", &[("query", expression)]).await?;
        let result = &answer["result"];
        let samples = result.as_array().cloned();
        samples.ok_or_else(|| format!("no samples: {result}"))
    }

    /// Waits until a query gives samples.
    pub async fn has(&self, expression: &str, within: Duration) -> Vec<Value> {
        eventually(&format!("samples of {expression}"), within, async || {
            let samples = self.query(expression).await;
            let samples = samples.unwrap_or_else(|error| panic!("{expression}: {error}"));
            (!samples.is_empty()).then_some(samples)
        })
        .await
    }

    /// One request to its API.
    ///
    /// # Errors
    /// What went wrong, in words.
    pub async fn ask(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, String> {
        let url = format!("http://127.0.0.1:{}/api/v1/{path}", self.port);
        let client = reqwest::Client::builder().no_proxy().build();
        let mut url: reqwest::Url = url.parse().expect("a URL");
        url.query_pairs_mut().extend_pairs(query);
        let request = client.expect("a client").get(url);
        let response = request.send().await.map_err(|error| error.to_string())?;
        let bytes = response.bytes().await.map_err(|error| error.to_string())?;
        let mut answer: Value =
            serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        if answer["status"] != "success" {
            return Err(answer["error"].to_string());
        }
        Ok(answer["data"].take())
    }
}
