//! What systemd hears of the programs: ready, alive, stopping. A socket of the test's
//! own stands in its place.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tests::{Process, Relay, SOON, binary};
use tokio::net::UnixDatagram;

/// After this systemd would take a program for dead; half of it is the pulse.
const WATCHDOG: Duration = Duration::from_secs(2);

/// What hears.
struct Supervisor {
    socket: UnixDatagram,
    folder: tempfile::TempDir,
}

impl Supervisor {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let socket = UnixDatagram::bind(folder.path().join("notify")).expect("a socket");
        Self { socket, folder }
    }

    fn start(&self, program: &str, arguments: &[&str]) -> Process {
        let log = self.folder.path().join("log");
        Process::start_with(&binary(program), arguments, &log, |command| {
            command
                .env("NOTIFY_SOCKET", self.folder.path().join("notify"))
                .env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
        })
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    async fn next(&self, process: &Process) -> String {
        let mut buffer = [0; 1024];
        let heard = tokio::time::timeout(SOON, self.socket.recv(&mut buffer)).await;
        let Ok(heard) = heard else {
            panic!("nothing more is heard:\n{}", process.log())
        };
        let length = heard.expect("the socket is ours");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    /// Hears on until something begins with `words`.
    async fn hears(&self, process: &Process, words: &str) -> String {
        loop {
            let heard = self.next(process).await;
            if heard.starts_with(words) {
                return heard;
            }
        }
    }

    /// The pulse beats at half the time, give or take a busy machine.
    async fn hears_the_pulse(&self, process: &Process) {
        self.hears(process, "WATCHDOG=1").await;
        self.hears(process, "WATCHDOG=1").await;
        let began = Instant::now();
        self.hears(process, "WATCHDOG=1").await;
        self.hears(process, "WATCHDOG=1").await;

        let two_beats = began.elapsed();
        assert!(
            two_beats > WATCHDOG / 2 && two_beats < WATCHDOG * 2,
            "two beats took {two_beats:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_is_ready_once_it_serves_then_alive_and_then_stopping() {
    let supervisor = Supervisor::new();
    let data_dir = supervisor.path("data");
    let any = "127.0.0.1:0";
    let mut relay = supervisor.start(
        "sternline-relay",
        &[
            "serve",
            "--data-dir",
            &data_dir,
            "--https",
            any,
            "--tunnel",
            any,
            "--metrics",
            any,
            "--public-name",
            "localhost",
        ],
    );

    supervisor.hears(&relay, "READY=1").await;
    let program = binary("sternline-relay");
    let health = ["health", "--data-dir", &data_dir];
    Process::run(&program, &health, |_| ()).await.success();
    supervisor.hears_the_pulse(&relay).await;
    relay.signal(Signal::TERM);
    let stopping = supervisor.hears(&relay, "STOPPING=1").await;

    assert!(stopping.contains("\nEXTEND_TIMEOUT_USEC="), "{stopping}");
    assert!(relay.ended(SOON).await.success());
    let finished = Process::run(&program, &health, |_| ()).await;
    assert!(finished.failure().contains("no relay runs"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_behind_its_sandbox_is_ready_alive_online_and_then_stopping() {
    let relay = Relay::start().await;
    let token = relay.add("acme").await;
    let supervisor = Supervisor::new();
    let (state_dir, file) = (supervisor.path("state"), supervisor.path("token"));
    std::fs::write(&file, token).expect("a file in a temporary folder");
    let mut agent = supervisor.start(
        "sternline-agent",
        &["run", "--state-dir", &state_dir, "--token-file", &file],
    );

    supervisor.hears(&agent, "READY=1").await;
    let online = supervisor.hears(&agent, "STATUS=online").await;
    assert!(
        online.starts_with("STATUS=online as acme over "),
        "{online}"
    );
    supervisor.hears_the_pulse(&agent).await;
    agent.signal(Signal::TERM);
    supervisor.hears(&agent, "STOPPING=1").await;

    assert!(agent.ended(SOON).await.success());
    // The unit's condition names this file.
    assert!(Path::new(&state_dir).join("identity.json").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_without_its_relay_stays_alive_and_says_what_is_wrong() {
    let mut relay = Relay::start().await;
    let token = relay.add("acme").await;
    relay.process.kill().await;
    let supervisor = Supervisor::new();
    let (state_dir, file) = (supervisor.path("state"), supervisor.path("token"));
    std::fs::write(&file, token).expect("a file in a temporary folder");
    let agent = supervisor.start(
        "sternline-agent",
        &["run", "--state-dir", &state_dir, "--token-file", &file],
    );

    supervisor.hears(&agent, "READY=1").await;
    let status = supervisor.hears(&agent, "STATUS=no session: ").await;
    // Between two attempts at the pulse's pace, in an attempt not: that is bounded.
    supervisor.hears(&agent, "WATCHDOG=1").await;
    supervisor.hears(&agent, "WATCHDOG=1").await;

    assert!(status.len() > 30, "{status}");
}
