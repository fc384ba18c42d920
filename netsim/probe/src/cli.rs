//! The command line: results on standard output, everything else on standard error, colour only
//! on a terminal.

mod settle;
mod show;
mod verifying;

use std::{net::IpAddr, path::PathBuf, process::ExitCode, sync::Arc};

use clap::{Args, Subcommand, ValueEnum};

use crate::{
    judge::judge,
    measure::{self, Plan, Progress},
    verdict::Report,
};

pub use settle::{Misuse, rungs};

/// As in sysexits.h: the command line is wrong.
pub const EXIT_USAGE: u8 = 64;
/// A file cannot be read.
const EXIT_NO_INPUT: u8 = 66;
/// Something of this program failed.
const EXIT_SOFTWARE: u8 = 70;
/// A result cannot be written.
const EXIT_OUTPUT: u8 = 74;

/// What the probe's exit codes say; for the help of whoever has the command.
pub const EXIT_CODES_HELP: &str = "\
Runs as an ordinary user, needs no token, uploads nothing. Exit codes:
    0  open: everything works
   10  degraded: something works, something does not or has a caveat
   20  blocked: nothing works
   30  cannot tell
   64  the command line is wrong
   66  a file cannot be read
   74  a result cannot be written";

const VERIFY_HELP: &str = "\
The file, as a change of the firewall's regression test:

  [[allow]]
  name = \"relay\"            # for people
  host = \"relay.example\"
  port = 443
  protocol = \"tcp\"          # or udp; tcp where it is left out
  via = \"direct\"            # or proxy; direct where it is left out

  [[deny]]
  host = \"9.9.9.9\"
  port = 53
  protocol = \"udp\"

Exit codes: 0 all rules hold, 20 one does not, 30 cannot tell, 64 the command line or the file
is wrong.";

const DIFF_HELP: &str = "\
Exit codes: 0 nothing works worse than before, 10 something better and something worse,
20 something worse.";

/// Options of the probe.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct ProbeArguments {
    /// Something else than a run.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// A run.
    #[command(flatten)]
    pub run: RunArguments,
}

/// Something else than a run.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Test a list of rules: what must be open is open, what must be closed is closed
    #[command(after_help = VERIFY_HELP)]
    Verify(VerifyArguments),
    /// Compare two reports in JSON: before a change of the network, and after it
    #[command(after_help = DIFF_HELP)]
    Diff {
        /// The earlier one
        #[arg(value_name = "BEFORE.json")]
        before: PathBuf,
        /// The later one
        #[arg(value_name = "AFTER.json")]
        after: PathBuf,
    },
    /// Print the rules that a relay needs, without trying anything
    Rules(RulesArguments),
}

/// Who is asked, and how.
#[derive(Debug, Clone, Args)]
pub struct RunArguments {
    /// The relay: a name or an address, with `:PORT` where its HTTPS has another port
    #[arg(value_name = "HOST", required_unless_present = "token")]
    pub host: Option<String>,
    /// The relay's identity key, ed25519:…; without it an impostor cannot be excluded
    #[arg(long, value_name = "KEY")]
    pub pin: Option<String>,
    /// An enrolment token: gives addresses and key, and the report is left at the relay; better
    /// in the variable, for a command line is visible to every user of the host
    #[arg(
        long,
        value_name = "TOKEN",
        env = "STERNLINE_TOKEN",
        hide_env_values = true
    )]
    pub token: Option<String>,
    /// What matters most, in seconds
    #[arg(long, conflicts_with = "full")]
    pub quick: bool,
    /// Bytes in time and many connections at once as well
    #[arg(long)]
    pub full: bool,
    /// The proxy, http://, https:// or socks5://[USER:PASSWORD@]HOST:PORT [default: HTTPS_PROXY
    /// or ALL_PROXY, less NO_PROXY]
    #[arg(long, value_name = "URL", conflicts_with = "no_proxy")]
    pub proxy: Option<String>,
    /// No proxy, whatever the environment says
    #[arg(long)]
    pub no_proxy: bool,
    /// CAs in PEM that vouch beside the system's: for a proxy, a registry, and for whoever ends
    /// TLS on the way, as an agent lets them that has the file as its interception_ca
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Connections that are silent for a while: up to 45 s (quick) or 605 s (full) [default:
    /// off with --quick, full with --full, else quick]
    #[arg(long, value_name = "LADDER")]
    pub idle: Option<IdleLadder>,
    /// Silences in place of those, as in 2s,4s,8s
    #[arg(long, value_name = "LIST", hide = true)]
    pub idle_rungs: Option<String>,
    /// An address of the relay, in place of looking its name up; may be given again
    #[arg(long, value_name = "IP", alias = "connect")]
    pub address: Vec<IpAddr>,
    /// Port of HTTPS [default: 443]
    #[arg(long, value_name = "PORT")]
    pub https_port: Option<u16>,
    /// Port of WebSocket and QUIC [default: 8000]
    #[arg(long, value_name = "PORT")]
    pub tunnel_port: Option<u16>,
    /// A registry that images come from, HOST or HOST:PORT
    #[arg(long, value_name = "HOST")]
    pub registry: Option<String>,
    /// How it is shown.
    #[command(flatten)]
    pub output: Output,
}

/// How a report is shown.
#[derive(Debug, Clone, Default, Args)]
pub struct Output {
    /// Print JSON
    #[arg(long, conflicts_with = "junit")]
    pub json: bool,
    /// Print JUnit XML
    #[arg(long)]
    pub junit: bool,
    /// Write an HTML page to attach to a ticket
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// Without this network's addresses and its proxies' names, each in its place by a number
    #[arg(long)]
    pub redact: bool,
}

/// How long connections are left silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum IdleLadder {
    /// Not at all.
    Off,
    /// 20 and 45 s.
    Quick,
    /// Up to 605 s.
    Full,
}

/// Options of `verify`.
#[derive(Debug, Args)]
pub struct VerifyArguments {
    /// The rules
    #[arg(value_name = "RULES.toml")]
    pub rules: PathBuf,
    /// A sample of the Internet must be closed, and no agent on this host may listen
    #[arg(long)]
    pub strict: bool,
    /// The proxy for rules with via = "proxy" [default: HTTPS_PROXY or ALL_PROXY]
    #[arg(long, value_name = "URL")]
    pub proxy: Option<String>,
    /// CAs in PEM that vouch, beside the system's, for an https:// proxy
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Options of `rules`.
#[derive(Debug, Args)]
pub struct RulesArguments {
    /// The relay: a name or an address
    #[arg(value_name = "HOST")]
    pub host: String,
    /// In one language [default: all]
    #[arg(long = "for", value_name = "LANGUAGE")]
    pub language: Option<Language>,
    /// Port of HTTPS [default: 443]
    #[arg(long, value_name = "PORT")]
    pub https_port: Option<u16>,
    /// Port of WebSocket and QUIC [default: 8000]
    #[arg(long, value_name = "PORT")]
    pub tunnel_port: Option<u16>,
    /// An address of the relay, in place of looking its name up; may be given again
    #[arg(long, value_name = "IP")]
    pub address: Vec<IpAddr>,
}

/// A language of rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Language {
    /// nftables.
    Nft,
    /// A security group of AWS, as JSON.
    Aws,
    /// A paragraph for a ticket.
    Ticket,
}

/// Does what was asked.
pub fn run(arguments: &ProbeArguments) -> ExitCode {
    match &arguments.command {
        None => probe(&arguments.run),
        Some(Command::Diff { before, after }) => show::diff(before, after),
        Some(Command::Rules(asked)) => show::rules(asked),
        Some(Command::Verify(asked)) => verifying::run(asked),
    }
}

fn probe(arguments: &RunArguments) -> ExitCode {
    match settle::plan(arguments, &std::env::vars_os().collect::<Vec<_>>()) {
        Ok(plan) => of_plans(&[plan], &arguments.output, arguments.token.as_deref()),
        Err(error) => {
            anstream::eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// Runs plans, one after the other, and shows what came of all: the addresses of one relay, of
/// which an agent needs one. With a token, each report is left at the relay.
pub fn of_plans(plans: &[Plan], output: &Output, token: Option<&str>) -> ExitCode {
    let mut reports = Vec::new();
    for plan in plans {
        let progress = show::progress(&plan.target);
        match measured(plan, &progress, token) {
            Ok(report) => reports.push(report),
            Err(error) => {
                anstream::eprintln!("error: this program cannot start: {error}");
                return ExitCode::from(EXIT_SOFTWARE);
            }
        }
    }
    show::reports(reports, output)
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
}

fn measured(plan: &Plan, progress: &Progress, token: Option<&str>) -> std::io::Result<Report> {
    let runtime = runtime()?;
    let report = runtime.block_on(async {
        let seen = Box::pin(measure::run(plan, progress)).await;
        let report = judge(seen);
        if let Some(token) = token {
            progress("leaving the report at the relay");
            match Box::pin(measure::leave(plan, &report, token)).await {
                Ok(()) => anstream::eprintln!("The report was left at the relay."),
                Err(error) => anstream::eprintln!("The report was not left at the relay: {error}"),
            }
        }
        report
    });
    // A look-up that still waits for a resolver is not waited for.
    runtime.shutdown_background();
    Ok(report)
}

/// The exit code of what only had to be written.
pub fn written(done: std::io::Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => show::unwritten(&error.to_string()),
    }
}

/// Nobody is told.
pub fn silent() -> Progress {
    Arc::new(|_: &str| {})
}
