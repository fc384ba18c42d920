//! The comparison: every peer and ours take their turns in every round, so that whatever
//! the machine is up to meanwhile meets all of them.

use std::{
    io::{IsTerminal, Write},
    path::PathBuf,
    process::Command,
    time::Instant,
};

use clap::{Args, ValueEnum};

use crate::{
    backend::Addresses,
    failure::{Context, Failure},
    load::{Measured, Test},
    machine::Machine,
    peer::{Peer, Transport, Tunnel},
    proc::{Memory, machine_processor_time, processor_time},
    process::{self, Cores, Process},
    run::{Measuree, Miscarried, Run, Sample},
};

/// What is compared, and how long.
#[derive(Debug, Clone, Args)]
pub struct CompareArgs {
    /// Programs of ours to measure, with the label they have in results; by default those
    /// beside this program. Several times to compare builds in one run: --ours before=DIR
    /// --ours after=DIR
    #[arg(long = "ours", visible_alias = "binaries", value_name = "[LABEL=]DIR")]
    ours: Vec<String>,
    /// How often everybody has their turn
    #[arg(long, default_value_t = 4)]
    rounds: u32,
    /// How long each test is measured, in milliseconds [default: 1000, quick: 400]
    #[arg(long, value_name = "MS")]
    window: Option<u64>,
    /// How long each test runs before that, in milliseconds [default: 400, quick: 200]
    #[arg(long, value_name = "MS")]
    warm_up: Option<u64>,
    /// Short windows, and two rounds at most: for a first look, not for a decision
    #[arg(long)]
    quick: bool,
    /// Only who has one of these words in their name, such as ws, rathole or direct
    #[arg(long, value_name = "WORD", value_delimiter = ',')]
    only: Vec<String>,
    /// Only these tests
    #[arg(long, value_enum, value_name = "TEST", value_delimiter = ',')]
    tests: Vec<Test>,
    /// Transports of ours
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["ws", "quic"])]
    transports: Vec<Transport>,
    /// Where peers' programs are, besides the PATH and target/peers
    #[arg(long, value_name = "DIR")]
    peers: Vec<PathBuf>,
}

impl CompareArgs {
    fn window(&self) -> u64 {
        self.window.unwrap_or(if self.quick { 400 } else { 1000 })
    }

    fn warm_up(&self) -> u64 {
        self.warm_up.unwrap_or(if self.quick { 200 } else { 400 })
    }

    fn rounds(&self) -> u32 {
        if self.quick {
            self.rounds.min(2)
        } else {
            self.rounds
        }
    }

    fn tests(&self) -> Vec<Test> {
        if self.tests.is_empty() {
            Test::value_variants().to_vec()
        } else {
            self.tests.clone()
        }
    }

    fn is_wanted(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|word| name.contains(word.as_str()))
    }

    /// Who takes part, and which peers nobody has installed.
    fn peers(&self) -> Result<(Vec<Peer>, Vec<String>), Failure> {
        let mut peers = vec![Peer::direct()];
        if self.is_wanted("rathole-tls") {
            peers.push(Peer::rathole(&self.peers)?);
        }
        let (others, lacking) = Peer::others(&self.peers);
        peers.extend(others);
        for (label, folder) in self.ours()? {
            for transport in &self.transports {
                // What nobody asked for need not be there.
                if self.is_wanted(&format!("{label}-{}", transport.name())) {
                    peers.push(Peer::sternline(&label, &folder, *transport)?);
                }
            }
        }
        peers.retain(|peer| self.is_wanted(&peer.name));
        let lacking = lacking.into_iter().filter(|name| self.is_wanted(name));
        Ok((peers, lacking.map(str::to_owned).collect()))
    }

    fn ours(&self) -> Result<Vec<(String, PathBuf)>, Failure> {
        if self.ours.is_empty() {
            let myself = process::myself()?;
            let folder = myself.parent().context("a program without a folder")?;
            return Ok(vec![("sternline".to_owned(), folder.to_owned())]);
        }
        let read = |one: &String| match one.split_once('=') {
            Some((label, folder)) => (label.to_owned(), PathBuf::from(folder)),
            None => ("sternline".to_owned(), PathBuf::from(one)),
        };
        Ok(self.ours.iter().map(read).collect())
    }
}

/// Measures all of them, round by round.
///
/// # Errors
/// The harness itself does not work. A peer that fails is noted, and the others go on.
pub fn measure(args: &CompareArgs) -> Result<Run, Failure> {
    let (peers, lacking) = args.peers()?;
    for name in &lacking {
        eprintln!("skipped: {name} is not on the PATH");
    }
    let mut run = Run {
        machine: Machine::this(),
        command: command_line(),
        rounds: args.rounds(),
        window_ms: args.window(),
        peers: peers
            .iter()
            .map(|peer| Measuree {
                name: peer.name.clone(),
                transport: peer.transport().map(|one| one.name().to_owned()),
            })
            .collect(),
        lacking,
        samples: Vec::new(),
        miscarried: Vec::new(),
    };
    let tests = args.tests();
    let (pinned, free): (Vec<Test>, Vec<Test>) =
        tests.iter().partition(|test| **test == Test::PingPinned);
    for round in 1..=args.rounds() {
        for peer in &peers {
            for (tests, cores) in [(&free, Cores::All), (&pinned, Cores::First)] {
                if tests.is_empty() {
                    continue;
                }
                let mut turn = Turn {
                    args,
                    round,
                    peer,
                    cores,
                    run: &mut run,
                };
                if let Err(failure) = turn.take(tests) {
                    turn.miscarries("start", &failure);
                }
            }
        }
    }
    Ok(run)
}

fn command_line() -> String {
    let words = std::env::args().skip(1);
    let words: Vec<String> = words.collect();
    format!("sternline-bench {}", words.join(" "))
}

/// Processor seconds at a moment.
struct Spent {
    machine: f64,
    ours: f64,
}

impl Spent {
    fn now(ours: &[u32]) -> Result<Self, Failure> {
        let machine = machine_processor_time().context("/proc/stat cannot be read")?;
        let ours = ours.iter().try_fold(0.0, |sum, pid| {
            let time = processor_time(*pid).context(format_args!("process {pid} has ended"))?;
            Ok::<f64, Failure>(sum + time.as_secs_f64())
        })?;
        Ok(Self {
            machine: machine.as_secs_f64(),
            ours,
        })
    }
}

/// One peer's turn in one round.
struct Turn<'a> {
    args: &'a CompareArgs,
    round: u32,
    peer: &'a Peer,
    cores: Cores,
    run: &'a mut Run,
}

impl Turn<'_> {
    fn take(&mut self, tests: &[Test]) -> Result<(), Failure> {
        let folder = tempfile::tempdir().context("a temporary folder")?;
        let mut command = Command::new(process::myself()?);
        command.arg("backend");
        let log = folder.path().join("backend.log");
        let (backend, addresses) = Process::start_speaking(&mut command, &log, self.cores)?;
        let mut tunnel = self.peer.start(addresses, self.cores)?;
        for test in tests {
            self.announce(*test);
            match self.load(*test, (&backend, addresses), &tunnel) {
                Ok(measured) => {
                    for (metric, value) in measured {
                        self.note(&test.name(), metric, value);
                    }
                }
                Err(failure) => self.miscarries(&test.name(), &failure),
            }
        }
        for (side, processes) in [
            ("server", &mut tunnel.server),
            ("client", &mut tunnel.client),
        ] {
            let mut peak = 0;
            for process in processes {
                process.still_runs()?;
                peak += Memory::of(process.pid()).map_or(0, |memory| memory.peak);
            }
            if peak > 0 && self.cores == Cores::All {
                self.note("memory", format!("{side}_peak_mb"), peak as f64 / 1e6);
            }
        }
        self.announce_end();
        Ok(())
    }

    fn load(
        &self,
        test: Test,
        (backend, addresses): (&Process, Addresses),
        tunnel: &Tunnel,
    ) -> Result<Measured, Failure> {
        let mut command = Command::new(process::myself()?);
        command
            .args(["load", &test.name()])
            .args(["--raw", &tunnel.raw.to_string()])
            .args(["--http", &tunnel.http.to_string()])
            .args(["--control", &addresses.control.to_string()])
            .args(["--window", &self.args.window().to_string()])
            .args(["--warm-up", &self.args.warm_up().to_string()]);
        let mut ours = vec![backend.pid()];
        for (side, processes) in [("server", &tunnel.server), ("client", &tunnel.client)] {
            for process in processes {
                command.arg(format!("--watch={side}={}", process.pid()));
                ours.push(process.pid());
            }
        }
        let before = Spent::now(&ours)?;
        let began = Instant::now();
        let printed = process::output(&mut command, self.cores)?;
        let capacity = began.elapsed().as_secs_f64() * self.run.machine.processors as f64;
        let after = Spent::now(&ours)?;
        let mut measured: Measured = serde_json::from_str(&printed).context("the load's answer")?;
        let load = measured.remove("load_cpu_s").unwrap_or_default();
        let foreign = (after.machine - before.machine) - (after.ours - before.ours) - load;
        // Ticks are coarse: a share can come out a little below nothing.
        measured.insert("foreign_ratio".to_owned(), (foreign / capacity).max(0.0));
        Ok(measured)
    }

    fn note(&mut self, test: &str, metric: String, value: f64) {
        self.run.samples.push(Sample {
            round: self.round,
            peer: self.peer.name.clone(),
            test: test.to_owned(),
            metric,
            value,
        });
    }

    fn miscarries(&mut self, what: &str, failure: &Failure) {
        eprintln!(
            "\r\x1b[Kround {}: {}: {what}: {failure}",
            self.round, self.peer.name
        );
        self.run.miscarried.push(Miscarried {
            round: self.round,
            peer: self.peer.name.clone(),
            what: what.to_owned(),
            why: failure.to_string(),
        });
    }

    fn announce(&self, test: Test) {
        if std::io::stderr().is_terminal() {
            eprint!(
                "\r\x1b[Kround {} of {}: {}: {}",
                self.round,
                self.run.rounds,
                self.peer.name,
                test.name()
            );
            drop(std::io::stderr().flush());
        }
    }

    fn announce_end(&self) {
        if std::io::stderr().is_terminal() {
            eprint!("\r\x1b[K");
        } else if self.cores == Cores::All {
            eprintln!(
                "round {} of {}: {}",
                self.round, self.run.rounds, self.peer.name
            );
        }
    }
}
