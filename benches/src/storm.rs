//! A fleet comes back to a relay that was killed: how fast, next to how fast handshakes go,
//! and in how many tries.
//!
//! Ten thousand light agents, in as many processes as files allow, against the real relay;
//! and a hundred thousand in a model ([`model`]) that takes the cost of a handshake from the
//! real one. How many handshakes a second are sustainable is measured in the same run: the
//! same agents fill a relay without admission, as fast as they can.

pub mod crew;
pub mod model;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use clap::Args;
use serde::{Deserialize, Serialize};
use tunnel::TransportChoice;

use self::{
    crew::{Report, unix_micros},
    model::{Outcome, Storm},
};
use crate::{
    failure::{Context, Failure},
    fleet::Fleet,
    process::Cores,
    results::Results,
    site::{Site, own_folder},
};

/// Agents of one process: each is an open file, of which a process may have 20,000.
const CREW_MAX: usize = 5_000;

/// Dials under way at a time, of all crews together, where it is measured how fast they go.
const DIALS_AT_A_TIME: usize = 128;

/// Before a relay is killed: within ten seconds agents hear of another window, and after
/// thirty a session counts as one that held.
const CALM: Duration = Duration::from_secs(wire::backoff::STABLE_AFTER.as_secs() + 2);

/// Between two looks at whether the relay listens.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A relay that does not listen by then does not come up.
const LISTENS_WITHIN: Duration = Duration::from_secs(30);

/// Without admission.
const UNLIMITED: &str = "[admission]\nrate = \"off\"\n";

/// With what is on by default.
const BY_DEFAULT: &str = "[admission]\nrate = \"auto\"\n";

/// How a storm is measured.
#[derive(Debug, Args)]
pub struct StormArgs {
    /// Folder of the programs to measure [default: this program's own]
    #[arg(long, value_name = "DIR")]
    binaries: Option<PathBuf>,
    /// Where fleet and relay are kept, so that the next run enrols nobody
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// What to call the build in the table
    #[arg(long, default_value = "now")]
    label: String,
    /// How agents dial: one transport, or as they do by default (auto)
    #[arg(long, value_delimiter = ',', default_value = "ws,auto")]
    transports: Vec<TransportChoice>,
    /// Agents of the real relay
    #[arg(long, default_value_t = 10_000)]
    agents: usize,
    /// Agents of the model
    #[arg(long, default_value_t = 100_000)]
    modelled: u32,
    /// Kills and restarts of each
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Busy threads beside the relay on its processor: where they are as many as agents have
    /// processors, those who come back are not slower than who lets them in
    #[arg(long, default_value_t = 1)]
    neighbours: usize,
    /// Milliseconds between the kill and the restart
    #[arg(long, value_name = "MS", default_value_t = 200)]
    outage: u64,
}

/// One transport; times in seconds from when the relay listens.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Row {
    label: String,
    transport: String,
    agents: usize,
    /// Who wants the relay's processor, too.
    neighbours: usize,
    /// Handshakes in a second of a relay that takes all.
    sustainable: f64,
    rounds: Vec<Round>,
    modelled: Outcome,
    modelled_agents: u32,
}

impl Row {
    /// Another measurement of the same replaces it.
    fn place(&self) -> (&str, &str, usize) {
        (&self.label, &self.transport, self.neighbours)
    }
}

/// One restart.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Round {
    half: f64,
    most: f64,
    all: f64,
    /// Tries of an agent from when the relay listened.
    attempts: f64,
    sent_away: u64,
    /// Handshakes that were begun and led to no session.
    wasted: u64,
    missing: usize,
}

/// Measures, and writes the section `storm`.
///
/// # Errors
///
/// What could not be started or measured.
pub async fn run(arguments: &StormArgs, results: &Results) -> Result<(), Failure> {
    tunnel::install_crypto_provider();
    let binaries = match &arguments.binaries {
        Some(folder) => folder.clone(),
        None => own_folder()?,
    };
    let temporary = tempfile::tempdir().context("a temporary folder")?;
    let folder = arguments
        .folder
        .as_deref()
        .unwrap_or_else(|| temporary.path());
    let mut rows: Vec<Row> = results.rounds("storm").unwrap_or_default();
    for transport in &arguments.transports {
        let row = measure(arguments, (&binaries, &folder.to_owned()), *transport).await?;
        rows.retain(|former| former.place() != row.place());
        rows.push(row);
        results.raw("storm", &rows)?;
        results.section("storm", &table(&rows))?;
    }
    Ok(())
}

async fn measure(
    arguments: &StormArgs,
    (binaries, folder): (&PathBuf, &PathBuf),
    transport: TransportChoice,
) -> Result<Row, Failure> {
    fs::create_dir_all(folder).context(folder.display())?;
    configure(folder, UNLIMITED)?;
    // A vendor's relay does not share its processors with the agents of its customers.
    let site = Arc::new(Site::start_on(Cores::First, binaries, folder).await?);
    let mut fleet = Fleet::at(&site, transport)?;
    fleet.enrol(&site, arguments.agents).await?;
    drop(fleet);
    let mut site = Arc::into_inner(site).context("somebody enrols still")?;
    let mut crews = Crews::start(folder, arguments.agents, transport)?;
    let _neighbours = Neighbours::on(Cores::First, arguments.neighbours)?;
    let began = unix_micros();
    let filled = crews.tell(&format!("fill {}", DIALS_AT_A_TIME / crews.0.len()))?;
    let sustainable = sustainable(began, &filled).context("too few agents to measure")?;
    eprintln!("{transport}: {sustainable:.0} handshakes a second");
    crews.tell("watch")?;
    configure(folder, BY_DEFAULT)?;
    let mut row = Row {
        label: arguments.label.clone(),
        transport: transport.to_string(),
        agents: arguments.agents,
        neighbours: arguments.neighbours,
        sustainable,
        rounds: Vec::new(),
        modelled: model::run(Storm {
            agents: arguments.modelled,
            per_second: sustainable,
            processors: 1,
            outage: Duration::from_millis(arguments.outage),
            has_window: true,
            seed: 1,
        }),
        modelled_agents: arguments.modelled,
    };
    // The first return teaches the relay what a handshake costs, and agents their window.
    for round in 0..=arguments.rounds {
        tokio::time::sleep(CALM).await;
        let measured = restart(arguments, &mut site, &mut crews).await?;
        eprintln!("{transport}: {measured:?}");
        if round > 0 {
            row.rounds.push(measured);
        }
    }
    Ok(row)
}

async fn restart(
    arguments: &StormArgs,
    site: &mut Site,
    crews: &mut Crews,
) -> Result<Round, Failure> {
    site.kill().context("the relay cannot be killed")?;
    tokio::time::sleep(Duration::from_millis(arguments.outage)).await;
    site.start_again()?;
    let listens = listens_at(site.tunnel()).await?;
    let reports = crews.tell("report")?;
    let mut back: Vec<f64> = Vec::new();
    let (mut tried, mut sent_away, mut missing) = (0_usize, 0, 0);
    for report in &reports {
        let since = |at: &u64| at.saturating_sub(listens) as f64 / 1e6;
        back.extend(report.back.iter().map(since));
        tried += report.tried.iter().filter(|at| **at >= listens).count();
        sent_away += report.sent_away;
        if let Some(failure) = &report.failure {
            eprintln!("one of {} that led nowhere: {failure}", report.failed);
        }
        missing += report.missing;
    }
    back.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let index = (share * arguments.agents as f64) as usize;
        let last = back.len().saturating_sub(1);
        back.get(index.min(last)).copied().unwrap_or(f64::INFINITY)
    };
    Ok(Round {
        half: at(0.5),
        most: at(0.9),
        all: at(1.0),
        attempts: tried as f64 / arguments.agents as f64,
        sent_away,
        wasted: reports.iter().map(|report| report.failed).sum(),
        missing,
    })
}

/// Handshakes in a second, from the middle of a filling: its beginning and its end are slower.
fn sustainable(began: u64, filled: &[Report]) -> Option<f64> {
    let mut done: Vec<u64> = filled
        .iter()
        .flat_map(|report| report.back.clone())
        .collect();
    done.sort_unstable();
    let (first, last) = (done.len() / 10, done.len() * 9 / 10);
    let (from, to) = (*done.get(first)?, *done.get(last)?);
    let seconds = to.checked_sub(from.max(began))? as f64 / 1e6;
    (seconds > 0.0).then(|| (last - first) as f64 / seconds)
}

/// Waits until somebody listens on the port; gives when, without being counted as a guest.
async fn listens_at(address: SocketAddr) -> Result<u64, Failure> {
    let port = format!(":{:04X}", address.port());
    let since = tokio::time::Instant::now();
    while since.elapsed() < LISTENS_WITHIN {
        let sockets = fs::read_to_string("/proc/net/tcp").context("/proc/net/tcp")?;
        // The kernel lists listening sockets first.
        let is_it = |line: &str| {
            let mut fields = line.split_whitespace().skip(1);
            let local = fields.next().unwrap_or_default();
            local.ends_with(&port) && fields.nth(1) == Some("0A")
        };
        if sockets.lines().any(is_it) {
            return Ok(unix_micros());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Err(Failure::new("the relay does not listen: see its log"))
}

fn configure(folder: &std::path::Path, text: &str) -> Result<(), Failure> {
    let file = folder.join("relay.toml");
    fs::write(&file, text).context(file.display())
}

/// Processes with agents.
struct Crews(Vec<Crew>);

struct Crew {
    process: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Crews {
    fn start(
        folder: &std::path::Path,
        agents: usize,
        transport: TransportChoice,
    ) -> Result<Self, Failure> {
        let program = std::env::current_exe().context("this program's own path")?;
        let mut crews = Vec::new();
        for from in (0..agents).step_by(CREW_MAX) {
            let mut command = Command::new(&program);
            command
                .arg("storm-crew")
                .arg("--folder")
                .arg(folder)
                .args(["--from", &from.to_string()])
                .args(["--count", &CREW_MAX.min(agents - from).to_string()])
                .args(["--transport", &transport.to_string()])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped());
            let mut process = Cores::Rest
                .start(|| command.spawn())?
                .context("a crew cannot be started")?;
            let to = process.stdin.take().context("no standard input")?;
            let from = process.stdout.take().context("no standard output")?;
            crews.push(Crew {
                process,
                to,
                from: BufReader::new(from),
            });
        }
        Ok(Self(crews))
    }

    /// Tells all of them at once, and waits for all answers.
    fn tell(&mut self, line: &str) -> Result<Vec<Report>, Failure> {
        for crew in &mut self.0 {
            writeln!(crew.to, "{line}").context("a crew has ended")?;
            crew.to.flush().context("a crew has ended")?;
        }
        let mut reports = Vec::new();
        for crew in &mut self.0 {
            let mut answer = String::new();
            crew.from.read_line(&mut answer).context("a crew")?;
            reports.push(serde_json::from_str(&answer).context("a crew has ended")?);
        }
        Ok(reports)
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        // One that has ended by itself cannot be killed, and need not be.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Threads that want a processor all the time, until this is dropped.
struct Neighbours(Arc<AtomicBool>);

impl Neighbours {
    fn on(cores: Cores, threads: usize) -> Result<Self, Failure> {
        let stop = Arc::new(AtomicBool::new(false));
        for _ in 0..threads {
            let stop = stop.clone();
            let spin = move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            };
            cores.start(|| std::thread::spawn(spin))?;
        }
        Ok(Self(stop))
    }
}

impl Drop for Neighbours {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "## Relay killed, and everybody comes back\n\n\
         `sternline-bench storm`. Seconds from when the relay listens again until half, nine \
         tenths and all of the agents have a session. The floor is agents over sustainable \
         handshakes a second, which the same agents measured in the same run against a relay \
         without admission. The relay shares one processor with as many busy threads as the \
         column `beside` says, and the agents have the others: a dialler's handshake costs as \
         much as a relay's, and by QUIC more. Tries are those of an agent from \
         when the relay listened; wasted are those that cost a handshake and led to no \
         session. `auto` is what agents do: QUIC first, and WebSocket where it leads nowhere. \
         Agents of the model are the same backoff and admission over that rate.\n\n\
         | build | transport | agents | beside | handshakes/s | floor | half | 90 % | **all** | \
         **ratio** | tries | sent away | wasted | missing |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let floor = row.agents as f64 / row.sustainable;
        for round in &row.rounds {
            text.push_str(&format!(
                "| {} | {} | {} | {} | {:.0} | {floor:.2} | {:.2} | {:.2} | **{:.2}** | **{:.2}** | \
                 {:.2} | {} | {} | {} |\n",
                row.label,
                row.transport,
                row.agents,
                row.neighbours,
                row.sustainable,
                round.half,
                round.most,
                round.all,
                round.all / floor,
                round.attempts,
                round.sent_away,
                round.wasted,
                round.missing,
            ));
        }
        let modelled = &row.modelled;
        text.push_str(&format!(
            "| {} | model of {} | {} | | {:.0} | {:.2} | {:.2} | {:.2} | **{:.2}** | **{:.2}** | \
             {:.2} | | {} | {} |\n",
            row.label,
            row.transport,
            row.modelled_agents,
            row.sustainable,
            modelled.floor,
            modelled.half,
            modelled.most,
            modelled.all,
            modelled.all / modelled.floor,
            modelled.attempts,
            modelled.wasted,
            modelled.missing,
        ));
    }
    text
}
