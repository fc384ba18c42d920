//! The client of every test: cheap, and the same for every peer.
//!
//! One test a process, so that nothing of the one before is left. Bulk is done by one
//! thread with 256 KiB buffers; latency is measured by another that blocks, because a
//! runtime would add its own.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use tokio::task::LocalSet;

use crate::{
    failure::{Context, Failure},
    proc,
};

mod bulk;
mod connect;
mod http;
mod ping;
mod stalled;
mod turns;

/// What is measured.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Test {
    /// One stream of bulk from the backend
    #[value(name = "down-1")]
    #[serde(rename = "down-1")]
    DownOne,
    /// Sixteen streams of bulk from the backend
    #[value(name = "down-16")]
    #[serde(rename = "down-16")]
    DownMany,
    /// One stream of bulk to the backend, counted there
    #[value(name = "up-1")]
    #[serde(rename = "up-1")]
    UpOne,
    /// Sixteen streams of bulk to the backend, counted there
    #[value(name = "up-16")]
    #[serde(rename = "up-16")]
    UpMany,
    /// A new connection and 64 bytes there and back, one after the other
    Connect,
    /// The same, sixteen at a time
    #[value(name = "connect-16")]
    #[serde(rename = "connect-16")]
    ConnectMany,
    /// HTTP requests over 64 connections that are kept
    #[value(name = "http-64")]
    #[serde(rename = "http-64")]
    Http,
    /// 64 bytes there and back on one connection
    Ping,
    /// The same, with everything on the first processor
    PingPinned,
    /// The same, beside a download that takes all it can get
    PingBeside,
    /// Three downloads beside one whose reader has stalled, against three alone
    Stalled,
}

impl Test {
    /// Its name on the command line and in results.
    pub fn name(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }
}

/// What one test measured, by name. Names end in their unit.
pub type Measured = BTreeMap<String, f64>;

/// Where the load goes, and how long it lasts.
#[derive(Debug, Clone, Args)]
pub struct LoadArgs {
    /// What to measure
    pub test: Test,
    /// The tunnel's entrance to the backend's raw port
    #[arg(long, value_name = "ADDRESS")]
    pub raw: SocketAddr,
    /// The tunnel's entrance to the backend's HTTP port
    #[arg(long, value_name = "ADDRESS")]
    pub http: SocketAddr,
    /// The backend's control port itself
    #[arg(long, value_name = "ADDRESS")]
    pub control: SocketAddr,
    /// How long it is measured, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    pub window: u64,
    /// How long it runs before that, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 400)]
    pub warm_up: u64,
    /// Processes of the tunnel whose processor time is counted
    #[arg(long, value_name = "NAME=PID")]
    pub watch: Vec<String>,
}

impl LoadArgs {
    const fn window(&self) -> Duration {
        Duration::from_millis(self.window)
    }

    const fn warm_up(&self) -> Duration {
        Duration::from_millis(self.warm_up)
    }
}

/// Runs one test, and prints what it measured as one line of JSON.
///
/// # Errors
/// A connection failed, or nothing went through.
pub fn run(args: &LoadArgs) -> Result<(), Failure> {
    let mut measured = match args.test {
        Test::DownOne => block_on(bulk::measure(args, bulk::Way::Down, 1)),
        Test::DownMany => block_on(bulk::measure(args, bulk::Way::Down, 16)),
        Test::UpOne => block_on(bulk::measure(args, bulk::Way::Up, 1)),
        Test::UpMany => block_on(bulk::measure(args, bulk::Way::Up, 16)),
        Test::Connect => connect::one_by_one(args),
        Test::ConnectMany => block_on(connect::at_once(args, 16)),
        Test::Http => block_on(http::measure(args, 64)),
        Test::Ping | Test::PingPinned => ping::alone(args),
        Test::PingBeside => ping::beside_a_download(args),
        Test::Stalled => block_on(stalled::measure(args)),
    }?;
    let own = processor_seconds(std::process::id())?;
    measured.insert("load_cpu_s".to_owned(), own);
    println!("{}", serde_json::to_string(&measured).context("JSON")?);
    Ok(())
}

fn block_on<T>(test: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("a runtime")?;
    LocalSet::new().block_on(&runtime, test)
}

fn processor_seconds(pid: u32) -> Result<f64, Failure> {
    let time = proc::processor_time(pid).context(format_args!("process {pid} has ended"))?;
    Ok(time.as_secs_f64())
}

/// Processor time of the tunnel's processes at a moment.
struct Watched(Vec<(String, f64)>);

impl Watched {
    fn now(args: &LoadArgs) -> Result<Self, Failure> {
        let read = |one: &String| {
            let (name, pid) = one.split_once('=').context("--watch takes NAME=PID")?;
            let pid = pid.parse().context("--watch takes NAME=PID")?;
            Ok((name.to_owned(), processor_seconds(pid)?))
        };
        args.watch
            .iter()
            .map(read)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Adds processor seconds per gigabyte (10^9 bytes) since `before`.
    fn add_per_gigabyte(&self, before: &Self, bytes: f64, measured: &mut Measured) {
        for ((name, now), (_, then)) in self.0.iter().zip(&before.0) {
            let seconds = (now - then) / (bytes / 1e9);
            // A side of several processes is named several times.
            *measured.entry(format!("{name}_cpu_s_per_gb")).or_default() += seconds;
        }
    }
}

/// Adds the median and the 99th percentile of latencies in nanoseconds.
fn add_latency(nanoseconds: &mut [u64], measured: &mut Measured) -> Result<(), Failure> {
    for (name, percent) in [("p50_us", 50.0), ("p99_us", 99.0)] {
        let found = crate::statistics::percentile(nanoseconds, percent)
            .context("nothing came back in the whole window")?;
        measured.insert(name.to_owned(), found as f64 / 1e3);
    }
    Ok(())
}
