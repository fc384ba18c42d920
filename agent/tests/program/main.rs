//! The program itself, against a relay of the test's own: enrolment, streams, policy,
//! signals, and being killed.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests, too")]
#![expect(
    clippy::disallowed_methods,
    reason = "what the agent connects to listens"
)]

mod node;
mod relay;

use std::{
    fs,
    io::Read as _,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use bytes::Bytes;
use relay::{Relay, Verdict};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::timeout,
};
use tunnel::{OpenRequest, Session, Stream};
use wire::{
    close::{CloseCode, RefusalCode, ResetCode},
    handshake::Credential,
    id::RequestId,
    message::control,
};

/// Far above what anything here takes.
const DEADLINE: Duration = Duration::from_secs(20);

/// An agent's process with a folder of its own; killed when dropped.
struct Agent {
    process: Child,
    folder: TempDir,
}

impl Agent {
    fn start(policy: &str, token: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("policy.toml"), policy).unwrap();
        let process = spawn(folder.path(), Some(token));
        Self { process, folder }
    }

    fn restart(&mut self, token: Option<&str>) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.process = spawn(self.folder.path(), token);
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.file(name)).unwrap_or_default()).unwrap_or_default()
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    async fn exit(&mut self) -> ExitStatus {
        eventually(|| self.process.try_wait().unwrap()).await
    }

    fn log(mut self) -> String {
        self.process.kill().unwrap();
        let mut text = String::new();
        self.process
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        text
    }

    fn status(&self, argument: &str) -> (bool, String) {
        let state = self.file("state");
        let output = program()
            .args(["status", argument, "--state-dir"])
            .arg(state)
            .output()
            .unwrap();
        (
            output.status.success(),
            String::from_utf8(output.stdout).unwrap(),
        )
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sternline-agent"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("STERNLINE_") {
            command.env_remove(name);
        }
    }
    command
}

fn spawn(folder: &Path, token: Option<&str>) -> Child {
    let mut command = program();
    command.args([
        "run",
        "--transport",
        "ws",
        "--docker-socket",
        "/nowhere/docker.sock",
    ]);
    command.arg("--state-dir").arg(folder.join("state"));
    command.arg("--policy").arg(folder.join("policy.toml"));
    if let Some(token) = token {
        command.args(["--token", token]);
    }
    command.stderr(Stdio::piped()).spawn().unwrap()
}

/// Looks every few milliseconds until there is something to see.
async fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
    timeout(DEADLINE, async {
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        loop {
            ticks.tick().await;
            if let Some(found) = look() {
                return found;
            }
        }
    })
    .await
    .expect("nothing happened in time")
}

async fn open(session: &Session, target: &str, first_bytes: &'static [u8]) -> Stream {
    let request = OpenRequest {
        environment: String::new(),
        target: target.parse().unwrap(),
        principal: "token:test".into(),
        request_id: RequestId::from_bytes([5; 16]),
        first_bytes: Bytes::from_static(first_bytes),
    };
    session.open(request).await.unwrap()
}

/// A service that sends back what it gets, until its peer finishes.
async fn echo() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = socket.split();
                tokio::io::copy(&mut read, &mut write).await
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn enrols_reports_and_comes_back_as_the_same_agent_after_a_kill() {
    let mut relay = Relay::start().await;
    let mut agent = Agent::start(
        "[targets]\ntcp = ['db.internal:5432']\n",
        &relay.token(7, "berlin"),
    );
    let first = relay.welcomed().await;
    let report = timeout(DEADLINE, first.session.recv_control())
        .await
        .unwrap();
    eventually(|| (agent.json("state/identity.json")["state"] == "enrolled").then_some(())).await;

    agent.restart(None);
    let second = relay.welcomed().await;

    let Credential::Enrol {
        start_counter: 1,
        public_key,
        ..
    } = first.hello.credential
    else {
        panic!("{:?}", first.hello.credential)
    };
    let Credential::Known {
        start_counter: 2,
        agent_id,
    } = second.hello.credential
    else {
        panic!("{:?}", second.hello.credential)
    };
    assert_eq!(agent_id, relay::AGENT);
    assert_eq!(second.proven_by, public_key);
    let Some(control::Message::AgentReport(report)) = report else {
        panic!("{report:?}")
    };
    assert_eq!(report.allowed_targets, ["docker", "tcp:db.internal:5432"]);
    assert!(
        report.sandbox.contains("listen and accept denied (tried)"),
        "{}",
        report.sandbox
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enrolment_whose_welcome_was_lost_is_finished_with_the_same_key() {
    let mut relay = Relay::start().await;
    relay.answer(Verdict::HangUp);
    let token = relay.token(7, "berlin");
    let mut agent = Agent::start("", &token);
    let lost = relay.seen().await;

    agent.restart(Some(&token));

    let Credential::Enrol { public_key, .. } = relay.welcomed().await.hello.credential else {
        panic!("not an enrolment")
    };
    assert!(
        matches!(lost.credential, Credential::Enrol { public_key: key, .. } if key == public_key)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn serves_what_the_policy_allows_and_cuts_what_a_change_forbids() {
    let mut relay = Relay::start().await;
    let port = echo().await;
    let agent = Agent::start(
        &format!("[targets]\ntcp = ['127.0.0.0/8:{port}']\n"),
        &relay.token(7, "berlin"),
    );
    let session = relay.welcomed().await.session;
    let mut stream = open(&session, &format!("tcp:127.0.0.1:{port}"), b"first ").await;
    stream.write_all(b"second").await.unwrap();
    let mut answer = [0; 12];
    timeout(DEADLINE, stream.read_exact(&mut answer))
        .await
        .unwrap()
        .unwrap();

    fs::write(agent.file("policy.toml"), "[targets]\ntcp = []\n").unwrap();
    agent.signal(rustix::process::Signal::HUP);

    assert_eq!(&answer, b"first second");
    let cut = timeout(DEADLINE, stream.read_chunk(1)).await.unwrap();
    assert!(cut.is_err(), "{cut:?}");
    let mut refused = open(&session, &format!("tcp:127.0.0.1:{port}"), b"").await;
    let reset = timeout(DEADLINE, refused.accepted())
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(reset.code, ResetCode::PolicyDenied);
    let audit = eventually(|| {
        let text = fs::read_to_string(agent.file("state/audit.log")).ok()?;
        (text.lines().count() == 3).then_some(text)
    })
    .await;
    assert!(
        audit.contains("token:test") && audit.contains("policy_denied"),
        "{audit}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_close_reaches_the_target_and_a_missing_docker_says_so() {
    let mut relay = Relay::start().await;
    let port = echo().await;
    let _agent = Agent::start(
        &format!("[targets]\ntcp = ['127.0.0.1:{port}']\n"),
        &relay.token(7, "berlin"),
    );
    let session = relay.welcomed().await.session;

    let mut stream = open(&session, &format!("tcp:127.0.0.1:{port}"), b"all of it").await;
    stream.shutdown().await.unwrap();
    let mut all = String::new();
    timeout(DEADLINE, stream.read_to_string(&mut all))
        .await
        .unwrap()
        .unwrap();
    let mut docker = open(&session, "docker", b"").await;
    let reset = timeout(DEADLINE, docker.accepted())
        .await
        .unwrap()
        .unwrap_err();

    assert_eq!(all, "all of it");
    assert_eq!(reset.code, ResetCode::TargetUnreachable);
    assert!(
        reset.reason.contains("/nowhere/docker.sock"),
        "{}",
        reset.reason
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_used_token_ends_the_process_with_the_reason() {
    let relay = Relay::start().await;
    relay.answer(Verdict::Refuse(RefusalCode::TokenUsed));
    let mut agent = Agent::start("", &relay.token(7, "berlin"));

    let exit = agent.exit().await;

    assert_eq!(exit.code(), Some(78));
    assert_eq!(
        agent.json("state/status.json")["last_error"]["code"],
        "token_used"
    );
    assert!(!agent.status("--healthcheck").0);
    assert!(agent.log().contains("a token enrols one agent"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_the_relay_forgot_enrols_again_with_a_new_token_only() {
    let mut relay = Relay::start().await;
    let mut agent = Agent::start("", &relay.token(7, "berlin"));
    let first = relay.welcomed().await;
    eventually(|| (agent.json("state/identity.json")["state"] == "enrolled").then_some(())).await;
    let seed = agent.json("state/identity.json")["seed"].clone();

    relay.answer(Verdict::Refuse(RefusalCode::AgentUnknown));
    agent.restart(Some(&relay.token(7, "berlin")));
    relay.seen().await;
    eventually(|| (agent.json("state/status.json")["state"] == "refused").then_some(())).await;
    assert_eq!(agent.json("state/identity.json")["seed"], seed);
    relay.answer(Verdict::Refuse(RefusalCode::AgentUnknown));
    agent.restart(Some(&relay.token(8, "berlin")));
    relay.seen().await;
    let again = relay.welcomed().await;

    assert!(matches!(again.hello.credential, Credential::Enrol { .. }));
    assert_ne!(again.proven_by, first.proven_by);
}

#[tokio::test(flavor = "multi_thread")]
async fn goes_in_order_on_a_signal_and_comes_back_when_the_relay_goes() {
    let mut relay = Relay::start().await;
    let mut agent = Agent::start("", &relay.token(7, "berlin"));
    let first = relay.welcomed().await.session;
    eventually(|| agent.status("--healthcheck").0.then_some(())).await;

    first.close(CloseCode::Shutdown, "the relay restarts");
    let second = relay.welcomed().await.session;
    let id = second.id().to_string();
    eventually(|| agent.status("--json").1.contains(&id).then_some(())).await;
    agent.signal(rustix::process::Signal::TERM);

    let closed = timeout(DEADLINE, second.closed()).await.unwrap();
    assert_eq!(
        (closed.code, closed.is_by_peer),
        (CloseCode::Shutdown, true)
    );
    assert_eq!(agent.exit().await.code(), Some(0));
    let status: Value = serde_json::from_str(&agent.status("--json").1).unwrap();
    assert_eq!(status["state"], "stopped");
    assert_eq!(status["running"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_is_not_visible_in_the_list_of_processes() {
    let mut relay = Relay::start().await;
    let token = relay.token(7, "berlin");
    let agent = Agent::start("", &token);
    let _session = relay.welcomed().await;

    let process = format!("/proc/{}", agent.process.id());
    let seen = [
        fs::read(format!("{process}/cmdline")),
        fs::read(format!("{process}/environ")),
    ];

    for text in seen {
        assert!(!String::from_utf8_lossy(&text.unwrap()).contains(&token));
    }
    assert_eq!(
        fs::read(format!("{process}/comm")).unwrap(),
        b"sternline-agent\n"
    );
    assert!(!agent.log().contains(&token));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_agent_on_one_state_directory_is_refused() {
    let mut relay = Relay::start().await;
    let agent = Agent::start("", &relay.token(7, "berlin"));
    let _session = relay.welcomed().await;

    let output = spawn(agent.folder.path(), None).wait_with_output().unwrap();

    assert_eq!(output.status.code(), Some(74));
    assert!(String::from_utf8_lossy(&output.stderr).contains("another sternline-agent is running"));
}
