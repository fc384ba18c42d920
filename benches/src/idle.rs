//! What an idle agent costs: memory and processor time of the relay by the number of its
//! sessions, and the memory of an agent's process.
//!
//! Memory is given as a slope between two sizes of the fleet, so that what a relay needs
//! for itself is not counted. Rows of former runs stay in the table unless they have the
//! same label, so that a change stands beside what it changed.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::Args;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::Instant,
};
use wire::transport::Transport;

use crate::{
    echo::{self, Backend},
    failure::{Context, Failure},
    fleet::Fleet,
    proc::{self, Memory},
    results::Results,
    site::{Site, free_addresses, own_folder},
};

/// Rounds of bulk before what is left of them is looked at.
const LOAD_ROUNDS: usize = 4;

/// Connections of one round, half of them in each direction.
const LOAD_STREAMS: usize = 16;

/// How long a round is.
const LOAD_ROUND: Duration = Duration::from_secs(2);

/// How long after the last round the memory is looked at.
const LOAD_REST: Duration = Duration::from_secs(15);

/// How an idle fleet is measured.
#[derive(Debug, Args)]
pub struct IdleArgs {
    /// Folder of the programs to measure [default: this program's own]
    #[arg(long, value_name = "DIR")]
    binaries: Option<PathBuf>,
    /// What to call them in the table
    #[arg(long, default_value = "now")]
    label: String,
    /// Transports to measure
    #[arg(long, value_delimiter = ',', default_value = "ws,quic")]
    transports: Vec<Transport>,
    /// Sessions between which the slope is taken
    #[arg(long, value_delimiter = ',', default_value = "2000,10000")]
    sessions: Vec<usize>,
    /// Seconds between the last session of a size and the look at the memory: above one
    /// heartbeat
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    settle: u64,
    /// Seconds over which the processor time of heartbeats is taken
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    window: u64,
    /// Where relays and enrolled fleets are kept between runs [default: a temporary folder]
    #[arg(long, value_name = "DIR")]
    sites: Option<PathBuf>,
    /// Measures fleets alone, and no agent's process
    #[arg(long)]
    fleet_only: bool,
    /// Measures an agent's process alone, and no fleet
    #[arg(long)]
    agent_only: bool,
}

/// One row: a build, a transport. Sizes are bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Row {
    label: String,
    transport: String,
    fleet: Option<FleetRow>,
    agent: Option<AgentRow>,
}

/// What a fleet costs its relay.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct FleetRow {
    sessions: Vec<usize>,
    /// Without a session, then for each number of sessions.
    resident: Vec<u64>,
    anonymous: Vec<u64>,
    /// Of the whole machine: both ends' sockets.
    slab: Vec<u64>,
    dial_seconds: f64,
    dial_processor_seconds: f64,
    /// Of the relay, for the largest number of sessions.
    heartbeat_ms_per_agent_minute: f64,
    lost: usize,
}

/// What an agent's process costs, and what a load leaves behind at both ends.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct AgentRow {
    agent: Sizes,
    relay: Sizes,
    agent_loaded: Sizes,
    relay_loaded: Sizes,
    load_mb_per_second: f64,
}

/// One process.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Sizes {
    resident: u64,
    anonymous: u64,
    proportional: u64,
    peak: u64,
}

impl Sizes {
    fn of(pid: u32) -> Result<Self, Failure> {
        let memory = Memory::of(pid).context("a process has ended: its log says why")?;
        Ok(Self {
            resident: memory.resident,
            anonymous: memory.anonymous,
            proportional: memory.proportional,
            peak: memory.peak,
        })
    }
}

/// Measures, and writes the section `idle`.
///
/// # Errors
/// What could not be started or measured.
pub async fn run(arguments: &IdleArgs, results: &Results) -> Result<(), Failure> {
    tunnel::install_crypto_provider();
    let binaries = match &arguments.binaries {
        Some(folder) => folder.clone(),
        None => own_folder()?,
    };
    let scratch = tempfile::tempdir().context("a temporary folder")?;
    let sites = arguments.sites.as_deref().unwrap_or_else(|| scratch.path());
    let mut rows: Vec<Row> = results.rounds("idle").unwrap_or_default();
    for transport in &arguments.transports {
        let name = transport.as_str().to_owned();
        let at = rows
            .iter()
            .position(|row| row.label == arguments.label && row.transport == name);
        let mut row = at.map_or_else(
            || Row {
                label: arguments.label.clone(),
                transport: name.clone(),
                fleet: None,
                agent: None,
            },
            |at| rows.remove(at),
        );
        if !arguments.agent_only {
            row.fleet = Some(measure_fleet(arguments, &binaries, sites, *transport).await?);
        }
        if !arguments.fleet_only {
            row.agent = Some(measure_agent(arguments, &binaries, *transport).await?);
        }
        rows.push(row);
        results.raw("idle", &rows)?;
        results.section("idle", &table(&rows))?;
    }
    eprintln!("{}", table(&rows));
    Ok(())
}

async fn measure_fleet(
    arguments: &IdleArgs,
    binaries: &Path,
    sites: &Path,
    transport: Transport,
) -> Result<FleetRow, Failure> {
    let most = *arguments
        .sessions
        .iter()
        .max()
        .context("no number of sessions")?;
    let folder = sites.join(transport.as_str());
    let site = Arc::new(Site::start(binaries, &folder).await?);
    let mut fleet = Fleet::at(&site, tunnel::TransportChoice::Only(transport))?;
    eprintln!("{transport}: enrolling {most} agents, those known from before left out");
    fleet.enrol(&site, most).await?;
    drop(site);
    // A fresh process: enrolment is not what is measured.
    let site = Arc::new(Site::start(binaries, &folder).await?);
    let mut row = FleetRow {
        sessions: arguments.sessions.clone(),
        resident: Vec::new(),
        anonymous: Vec::new(),
        slab: Vec::new(),
        dial_seconds: 0.0,
        dial_processor_seconds: 0.0,
        heartbeat_ms_per_agent_minute: 0.0,
        lost: 0,
    };
    let settle = Duration::from_secs(arguments.settle);
    tokio::time::sleep(settle.min(Duration::from_secs(5))).await;
    row.look(site.pid())?;
    for count in &arguments.sessions {
        let (since, before) = (Instant::now(), processor_time(site.pid())?);
        fleet.dial(*count).await?;
        row.dial_seconds += since.elapsed().as_secs_f64();
        row.dial_processor_seconds += (processor_time(site.pid())? - before).as_secs_f64();
        tokio::time::sleep(settle).await;
        row.look(site.pid())?;
        eprintln!(
            "{transport}: {count} sessions, {} bytes resident",
            row.resident.last().unwrap_or(&0)
        );
    }
    let (since, before) = (Instant::now(), processor_time(site.pid())?);
    tokio::time::sleep(Duration::from_secs(arguments.window)).await;
    let spent = processor_time(site.pid())? - before;
    let agent_minutes = most as f64 * since.elapsed().as_secs_f64() / 60.0;
    row.heartbeat_ms_per_agent_minute = spent.as_secs_f64() * 1e3 / agent_minutes;
    row.lost = fleet.lost();
    Ok(row)
}

fn processor_time(pid: u32) -> Result<Duration, Failure> {
    proc::processor_time(pid).context("the relay has ended: its log says why")
}

impl FleetRow {
    fn look(&mut self, pid: u32) -> Result<(), Failure> {
        let memory = Sizes::of(pid)?;
        self.resident.push(memory.resident);
        self.anonymous.push(memory.anonymous);
        self.slab.push(proc::slab().unwrap_or_default());
        Ok(())
    }

    /// Bytes a session, between the smallest number of sessions and the largest.
    fn slope(&self, sizes: &[u64]) -> Option<f64> {
        let (first, last) = (sizes.get(1)?, sizes.last()?);
        let sessions = self.sessions.last()? - self.sessions.first()?;
        (sessions > 0).then(|| (*last as f64 - *first as f64) / sessions as f64)
    }
}

async fn measure_agent(
    arguments: &IdleArgs,
    binaries: &Path,
    transport: Transport,
) -> Result<AgentRow, Failure> {
    let folder = tempfile::tempdir().context("a temporary folder")?;
    let site = Site::start(binaries, folder.path()).await?;
    let backend = Backend::start().await.context("the backend")?;
    let token = site.add("one").await?;
    let agent = site.agent("one", transport.as_str(), Some(&token), backend.address)?;
    let exposed = free_addresses(1)?[0];
    site.expose("one", backend.address, exposed).await?;
    is_through(exposed).await?;
    eprintln!("{transport}: an agent's process, idle");
    tokio::time::sleep(Duration::from_secs(arguments.settle)).await;
    let (idle_agent, idle_relay) = (Sizes::of(agent.pid())?, Sizes::of(site.pid())?);
    eprintln!("{transport}: the same after {LOAD_ROUNDS} rounds of bulk");
    let mut bytes = 0;
    for _ in 0..LOAD_ROUNDS {
        bytes += load(exposed).await?;
    }
    tokio::time::sleep(LOAD_REST).await;
    let seconds = LOAD_ROUND.as_secs_f64() * LOAD_ROUNDS as f64;
    Ok(AgentRow {
        agent: idle_agent,
        relay: idle_relay,
        agent_loaded: Sizes::of(agent.pid())?,
        relay_loaded: Sizes::of(site.pid())?,
        load_mb_per_second: bytes as f64 / seconds / 1e6,
    })
}

/// Waits until a byte comes back from behind an exposure.
async fn is_through(exposed: SocketAddr) -> Result<(), Failure> {
    let since = Instant::now();
    loop {
        if echo::exchange(exposed).await {
            return Ok(());
        }
        if since.elapsed() > Duration::from_secs(30) {
            return Err(Failure::new("the agent does not come up: see its log"));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// One round of bulk in both directions; the bytes that came back.
async fn load(exposed: SocketAddr) -> Result<u64, Failure> {
    let mut streams = JoinSet::new();
    for _ in 0..LOAD_STREAMS {
        streams.spawn(async move {
            let stream = TcpStream::connect(exposed).await?;
            let (mut read, mut write) = stream.into_split();
            let sending = tokio::spawn(async move {
                let block = vec![7; 64 * 1024];
                while write.write_all(&block).await.is_ok() {}
            });
            let mut block = vec![0; 64 * 1024];
            let (since, mut bytes) = (Instant::now(), 0);
            while since.elapsed() < LOAD_ROUND {
                bytes += read.read(&mut block).await? as u64;
            }
            sending.abort();
            std::io::Result::Ok(bytes)
        });
    }
    let mut bytes = 0;
    while let Some(done) = streams.join_next().await {
        bytes += done.context("a stream")?.context("a stream under load")?;
    }
    Ok(bytes)
}

fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "## Idle agents\n\n\
         `sternline-bench idle`. Memory of the relay's process by the number of idle agents \
         with heartbeats, as a slope between the sizes; sessions are real ones through \
         `tunnel::dial`, all from one other process. Slabs are the kernel's for both ends.\n\n\
         | build | transport | relay RSS idle, MB | at sizes, MB | **KiB per agent** | of it \
         anonymous | kernel slab, both ends, KiB | handshake, relay CPU ms | heartbeats, relay \
         CPU ms per agent-minute | sessions lost |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        if let Some(fleet) = &row.fleet {
            text.push_str(&fleet_line(row, fleet));
        }
    }
    text.push_str(
        "\nOne agent's process and its relay: idle, and 15 s after 4 rounds of bulk over 16 \
         streams that return every byte (MB; agent / relay).\n\n\
         | build | transport | **agent RSS** | of it anonymous | agent PSS | after bulk RSS: \
         agent / relay | peak: agent / relay | bulk MB/s there and back |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        if let Some(agent) = &row.agent {
            text.push_str(&agent_line(row, agent));
        }
    }
    text
}

fn fleet_line(row: &Row, fleet: &FleetRow) -> String {
    let kibibytes = |sizes: &[u64]| {
        let slope = fleet.slope(sizes);
        slope.map_or_else(|| "–".into(), |slope| format!("{:.1}", slope / 1024.0))
    };
    let sizes: Vec<String> = fleet
        .sessions
        .iter()
        .zip(fleet.resident.iter().skip(1))
        .map(|(sessions, bytes)| format!("{sessions}: {:.1}", megabytes(*bytes)))
        .collect();
    let most = fleet.sessions.iter().max().copied().unwrap_or(1);
    format!(
        "| {} | {} | {:.1} | {} | **{}** | {} | {} | {:.2} | {:.3} | {} |\n",
        row.label,
        row.transport,
        megabytes(fleet.resident.first().copied().unwrap_or_default()),
        sizes.join("; "),
        kibibytes(&fleet.resident),
        kibibytes(&fleet.anonymous),
        kibibytes(&fleet.slab),
        fleet.dial_processor_seconds * 1e3 / most as f64,
        fleet.heartbeat_ms_per_agent_minute,
        fleet.lost,
    )
}

fn agent_line(row: &Row, agent: &AgentRow) -> String {
    format!(
        "| {} | {} | **{:.1}** | {:.1} | {:.1} | {:.1} / {:.1} | {:.1} / {:.1} | {:.0} |\n",
        row.label,
        row.transport,
        megabytes(agent.agent.resident),
        megabytes(agent.agent.anonymous),
        megabytes(agent.agent.proportional),
        megabytes(agent.agent_loaded.resident),
        megabytes(agent.relay_loaded.resident),
        megabytes(agent.agent_loaded.peak),
        megabytes(agent.relay_loaded.peak),
        agent.load_mb_per_second,
    )
}

/// Millions of bytes.
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_relay_needs_for_itself_is_not_in_the_slope() {
        let fleet = FleetRow {
            sessions: vec![2_000, 10_000],
            resident: vec![20_000_000, 40_000_000, 120_000_000],
            anonymous: Vec::new(),
            slab: Vec::new(),
            dial_seconds: 0.0,
            dial_processor_seconds: 0.0,
            heartbeat_ms_per_agent_minute: 0.0,
            lost: 0,
        };

        assert_eq!(fleet.slope(&fleet.resident), Some(10_000.0));
        assert_eq!(fleet.slope(&fleet.anonymous), None);
    }
}
