//! How soon requests go through again after the relay was killed and started again.
//!
//! Agents are processes of their own. Each has an exposure, and for each exposure there is
//! somebody who keeps trying: the time from the relay's new start to the first byte that
//! comes back through it. What users wait for is measured, not what agents log.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Args;
use serde::{Deserialize, Serialize};
use tokio::{task::JoinSet, time::Instant};

use crate::{
    echo::{Backend, exchange},
    failure::{Context, Failure},
    proc,
    results::Results,
    site::{Program, Site, free_addresses, own_folder},
    statistics::percentile,
};

/// Between two tries of who waits for an exposure.
const TRY_EVERY: Duration = Duration::from_millis(50);

/// Tries of all exposures together: each is a connection that the relay has to answer.
const TRIES_PER_SECOND_MAX: u32 = 2_000;

/// After this an agent counts as not come back.
const GIVE_UP: Duration = Duration::from_secs(60);

/// How a restart is measured.
#[derive(Debug, Args)]
pub struct ReconnectArgs {
    /// Folder of the programs to measure [default: this program's own]
    #[arg(long, value_name = "DIR")]
    binaries: Option<PathBuf>,
    /// What to call them in the table
    #[arg(long, default_value = "now")]
    label: String,
    /// How agents dial: auto, quic, ws or ws-443
    #[arg(long, value_delimiter = ',', default_value = "auto,ws,quic")]
    transports: Vec<String>,
    /// Agents, each a process
    #[arg(long, value_delimiter = ',', default_value = "1,400")]
    agents: Vec<usize>,
    /// Kills and restarts of each
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds between the kill and the restart
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    outage: u64,
}

/// One number of agents over one transport; times in milliseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Row {
    label: String,
    transport: String,
    agents: usize,
    rounds: Vec<Round>,
}

/// One restart.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Round {
    /// From the relay's start to the first byte, of those that came back.
    through_ms: Vec<u64>,
    missing: usize,
    relay_processor_ms: u64,
}

/// Measures, and writes the section `reconnect`.
///
/// # Errors
/// What could not be started or measured.
pub async fn run(arguments: &ReconnectArgs, results: &Results) -> Result<(), Failure> {
    tunnel::install_crypto_provider();
    let binaries = match &arguments.binaries {
        Some(folder) => folder.clone(),
        None => own_folder()?,
    };
    let mut rows: Vec<Row> = results.rounds("reconnect").unwrap_or_default();
    for transport in &arguments.transports {
        for agents in &arguments.agents {
            let folder = tempfile::tempdir().context("a temporary folder")?;
            let site = Site::start(&binaries, folder.path()).await?;
            let mut scene = Scene::set(site, transport, *agents).await?;
            let mut row = Row {
                label: arguments.label.clone(),
                transport: transport.clone(),
                agents: *agents,
                rounds: Vec::new(),
            };
            for _ in 0..arguments.rounds {
                let round = scene.restart(Duration::from_secs(arguments.outage)).await?;
                eprintln!("{}", line(&row, std::slice::from_ref(&round)).trim_end());
                row.rounds.push(round);
            }
            rows.retain(|former| {
                (&former.label, &former.transport, former.agents)
                    != (&row.label, &row.transport, row.agents)
            });
            rows.push(row);
            results.raw("reconnect", &rows)?;
            results.section("reconnect", &table(&rows))?;
        }
    }
    Ok(())
}

/// A relay, its agents, and the exposures that lead to them.
struct Scene {
    site: Site,
    exposed: Vec<SocketAddr>,
    _agents: Vec<Program>,
    _backend: Backend,
}

impl Scene {
    async fn set(site: Site, transport: &str, agents: usize) -> Result<Self, Failure> {
        let backend = Backend::start().await.context("the backend")?;
        let exposed = free_addresses(agents)?;
        let mut started = Vec::new();
        for (index, listen) in exposed.iter().enumerate() {
            let name = format!("agent-{index:04}");
            let token = site.add(&name).await?;
            started.push(site.agent(&name, transport, Some(&token), backend.address)?);
            site.expose(&name, backend.address, *listen).await?;
        }
        let scene = Self {
            site,
            exposed,
            _agents: started,
            _backend: backend,
        };
        let (_, missing) = scene.all_through(Instant::now()).await?;
        if missing > 0 {
            return Err(Failure::new(format!("{missing} agents do not come up")));
        }
        Ok(scene)
    }

    async fn restart(&mut self, outage: Duration) -> Result<Round, Failure> {
        // Sessions that have just begun are not what an outage finds.
        tokio::time::sleep(Duration::from_secs(3)).await;
        self.site.kill().context("the relay cannot be killed")?;
        tokio::time::sleep(outage).await;
        let since = Instant::now();
        self.site.start_again()?;
        let (through_ms, missing) = self.all_through(since).await?;
        let spent = proc::processor_time(self.site.pid()).unwrap_or_default();
        Ok(Round {
            through_ms,
            missing,
            relay_processor_ms: u64::try_from(spent.as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// Milliseconds until each exposure was through, and how many never were.
    async fn all_through(&self, since: Instant) -> Result<(Vec<u64>, usize), Failure> {
        let every = try_every(self.exposed.len());
        let mut waiting = JoinSet::new();
        for (index, exposed) in self.exposed.iter().copied().enumerate() {
            // Not all in the same instant.
            let offset = every * u32::try_from(index % 50).unwrap_or(0) / 50;
            waiting.spawn(async move {
                tokio::time::sleep(offset).await;
                while since.elapsed() < GIVE_UP {
                    if exchange(exposed).await {
                        return Some(since.elapsed());
                    }
                    tokio::time::sleep(every).await;
                }
                None
            });
        }
        let (mut through, mut missing) = (Vec::new(), 0);
        while let Some(waited) = waiting.join_next().await {
            match waited.context("a try")? {
                Some(time) => through.push(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
                None => missing += 1,
            }
        }
        through.sort_unstable();
        Ok((through, missing))
    }
}

/// How often each of so many exposures is tried: all together at most
/// [`TRIES_PER_SECOND_MAX`] times a second.
fn try_every(exposures: usize) -> Duration {
    let exposures = u32::try_from(exposures).unwrap_or(u32::MAX);
    TRY_EVERY.max(Duration::from_secs(1) / TRIES_PER_SECOND_MAX * exposures)
}

fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "## Relay killed, and started again after 5 s\n\n\
         `sternline-bench reconnect`. Seconds from the relay's new start until a first byte \
         comes back through each agent's exposure; agents are processes of their own, and \
         each exposure is tried every 50 ms, with 400 agents every 200 ms, since the tries \
         take processor time from those that they wait for. All rounds together; the range \
         is that of the rounds' last agents.\n\n\
         | build | transport | agents | rounds | first | p50 | p99 | **last** (range) | missing \
         | relay CPU s per round |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        text.push_str(&line(row, &row.rounds));
    }
    text
}

fn line(row: &Row, rounds: &[Round]) -> String {
    let seconds =
        |ms: Option<u64>| ms.map_or_else(|| "–".into(), |ms| format!("{:.2}", ms as f64 / 1e3));
    let mut all: Vec<u64> = rounds
        .iter()
        .flat_map(|round| round.through_ms.iter().copied())
        .collect();
    let (p50, p99) = (percentile(&mut all, 50.0), percentile(&mut all, 99.0));
    let last = |round: &Round| round.through_ms.last().copied();
    let (least, most) = (
        rounds.iter().filter_map(last).min(),
        rounds.iter().filter_map(last).max(),
    );
    let spent: u64 = rounds.iter().map(|round| round.relay_processor_ms).sum();
    let missing: usize = rounds.iter().map(|round| round.missing).sum();
    format!(
        "| {} | {} | {} | {} | {} | {} | {} | **{}** ({}–{}) | {missing} | {:.2} |\n",
        row.label,
        row.transport,
        row.agents,
        rounds.len(),
        seconds(all.first().copied()),
        seconds(p50),
        seconds(p99),
        seconds(most),
        seconds(least),
        seconds(most),
        spent as f64 / 1e3 / rounds.len().max(1) as f64,
    )
}
