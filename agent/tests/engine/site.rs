//! A host with a Docker Engine, and the compose engine as the relay reaches it: HTTP on
//! a stream. Ended like a process that is killed: its future is dropped.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use agent::{
    audit::{self, Audit, Kept},
    policy::Policy,
    policy_file::PolicyInForce,
    stacks::{self, Caller, Runner, Stacks},
    state_dir::StateDir,
};
use bytes::Bytes;
use compose::{
    exchange::{Accepted, Assignment, Desired, Phase, Progress, SecretText, StackReport, Update},
    load::{self, Sources},
    model::Stack,
    plan::Plan,
};
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::task::JoinHandle;
use tunnel::World;

/// Above what anything here takes.
pub(crate) const SOON: Duration = Duration::from_secs(120);
const IMAGE: &str = "sternline-stack-test";

/// See the module.
#[derive(Debug)]
pub(crate) struct Site {
    socket: PathBuf,
    state: tempfile::TempDir,
    policy: Policy,
    /// The project's name, of this test alone.
    pub(crate) project: String,
    audit: Audit,
    /// The customer's record, as it was kept.
    pub(crate) recorded: Kept,
    running: Option<(Stacks, JoinHandle<()>)>,
    number: u64,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.kill();
        self.clean();
    }
}

impl Site {
    /// A host whose Engine answers, with nothing of this project; none, with the test skipped
    /// by name.
    pub(crate) fn new(project: &str) -> Option<Self> {
        Self::under(project, "[docker]\naccess = \"full\"\n")
    }

    /// The same, under a policy.
    pub(crate) fn under(project: &str, policy: &str) -> Option<Self> {
        let socket = Self::socket_there()?;
        let site = Self::at(&socket, project, policy);
        site.image("1");
        Some(site)
    }

    /// The socket of the Engine that answers here; none, with the test skipped by name.
    pub(crate) fn socket_there() -> Option<PathBuf> {
        let host = std::env::var("DOCKER_HOST");
        let host = host.unwrap_or_else(|_| "unix:///var/run/docker.sock".to_owned());
        let socket = PathBuf::from(host.strip_prefix("unix://")?);
        let answers = Command::new("docker").args(["version"]).output();
        if !answers.is_ok_and(|answer| answer.status.success()) {
            let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
            assert!(
                !ci,
                "no Docker Engine answers (CI=true: nothing may be skipped)"
            );
            println!("skipped: no Docker Engine answers");
            return None;
        }
        Some(socket)
    }

    /// A host with the Engine at this socket, with nothing of this project.
    pub(crate) fn at(socket: &Path, project: &str, policy: &str) -> Self {
        let (audit, recorded) = audit::keep(1_000);
        let site = Self {
            audit,
            recorded,
            socket: socket.to_owned(),
            state: tempfile::tempdir().unwrap(),
            policy: Policy::parse(policy).unwrap(),
            project: project.to_owned(),
            running: None,
            number: 0,
        };
        site.clean();
        site
    }

    /// Takes away what the Engine has of the project. Where it does not answer, or somebody is
    /// quicker, what is left is taken away next time.
    pub(crate) fn clean(&self) {
        let label = format!("label=com.docker.compose.project={}", self.project);
        for (list, remove) in [
            (vec!["ps", "-aq"], vec!["rm", "-fv"]),
            (vec!["network", "ls", "-q"], vec!["network", "rm"]),
            (vec!["volume", "ls", "-q"], vec!["volume", "rm", "-f"]),
        ] {
            let list = [list, vec!["--filter", &label]].concat();
            let ids = self.try_docker(&list).unwrap_or_default();
            if !ids.is_empty() {
                let remove = [remove, ids.split_whitespace().collect()].concat();
                drop(self.try_docker(&remove));
            }
        }
    }

    /// What the Docker CLI prints.
    pub(crate) fn docker(&self, arguments: &[&str]) -> String {
        let printed = self.try_docker(arguments);
        printed.unwrap_or_else(|failed| panic!("docker {arguments:?}: {failed}"))
    }

    /// What the Docker CLI prints; or what it says where it fails.
    pub(crate) fn try_docker(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new("docker");
        command.env("DOCKER_HOST", format!("unix://{}", self.socket.display()));
        command.env("DOCKER_BUILDKIT", "0");
        let output = command.args(arguments).output();
        let output = output.map_err(|error| error.to_string())?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// An image with a shell and a file `/version` that has `version`.
    pub(crate) fn image(&self, version: &str) -> String {
        let tag = format!("{IMAGE}:{version}");
        let mut look = Command::new("docker");
        let there = look.args(["image", "inspect", &tag]).output().unwrap();
        if there.status.success() {
            return tag;
        }
        let folder = tempfile::tempdir().unwrap();
        let busybox = ["/bin/busybox", "/usr/bin/busybox"]
            .into_iter()
            .find(|p| Path::new(p).exists());
        std::fs::copy(busybox.unwrap(), folder.path().join("busybox")).unwrap();
        std::fs::write(folder.path().join("version"), version).unwrap();
        let dockerfile = "FROM scratch\nCOPY busybox /bin/busybox\n\
            RUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\nCOPY version /version\n";
        std::fs::write(folder.path().join("Dockerfile"), dockerfile).unwrap();
        self.docker(&[
            "build",
            "-q",
            "-t",
            &tag,
            &folder.path().display().to_string(),
        ]);
        tag
    }

    /// Starts the compose engine, with whatever an earlier one has kept.
    pub(crate) fn start(&mut self) {
        let state = StateDir::open(self.state.path()).unwrap();
        let (stacks, runner) = stacks::open(stacks::Parts {
            world: World::real(),
            state,
            docker_socket: self.socket.clone(),
            policy: PolicyInForce::for_ever(self.policy.clone()),
            policy_path: PathBuf::from("/etc/sternline/policy.toml"),
            audit: self.audit.clone(),
        })
        .unwrap();
        self.running = Some((stacks, tokio::spawn(Runner::run(runner))));
    }

    /// Ends it as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        if let Some((_, running)) = self.running.take() {
            running.abort();
        }
    }

    /// Ends it as `kill -9` does, and waits until it has.
    pub(crate) async fn kill_and_wait(&mut self) {
        if let Some((stacks, running)) = self.running.take() {
            running.abort();
            drop(running.await);
            drop(stacks);
        }
    }

    /// A request on a stream of its own.
    pub(crate) async fn request(
        &self,
        method: &str,
        path: &str,
        body: Vec<u8>,
    ) -> Response<Incoming> {
        let (here, there) = tokio::io::duplex(256 * 1024);
        let stacks = self.running.as_ref().unwrap().0.clone();
        tokio::spawn(stacks.serve(there, Caller::default()));
        let io = TokioIo::new(here);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "agent");
        sender
            .send_request(request.body(Full::new(Bytes::from(body))).unwrap())
            .await
            .unwrap()
    }

    /// A document for a document.
    ///
    /// # Errors
    ///
    /// The refusal, as it was printed.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        document: &impl Serialize,
    ) -> Result<T, String> {
        let body = serde_json::to_vec(document).unwrap();
        let response = self.request(method, path, body).await;
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        match status.is_success() {
            true => Ok(serde_json::from_slice(&bytes).unwrap()),
            false => Err(String::from_utf8_lossy(&bytes).into_owned()),
        }
    }

    /// A stack of a Compose file and the files beside it.
    pub(crate) fn load(&self, files: &[(&str, &str)]) -> load::Loaded {
        let files = files.iter().map(|(name, text)| {
            (
                (*name).to_owned(),
                load::File::new(text.replace("IMAGE", IMAGE).into_bytes()),
            )
        });
        let bundle: load::Bundle = files.collect();
        let mut sources = Sources::new(&bundle, "compose.yml");
        sources.name = Some(self.project.clone());
        load::load(&sources).unwrap()
    }

    /// The next assignment of a stack.
    pub(crate) fn next(&mut self, stack: Stack) -> Assignment {
        self.number += 1;
        Assignment {
            number: self.number,
            stack: self.project.clone(),
            author: "ann".to_owned(),
            desired: Desired::Run {
                release: format!("r{}", self.number),
                stack: Box::new(stack),
            },
            secrets: BTreeMap::from([(
                "PASSWORD".to_owned(),
                SecretText("s3cret-value".to_owned()),
            )]),
            registries: BTreeMap::new(),
            pins: BTreeMap::new(),
            deadline_seconds: 60,
            remove_foreign_orphans: false,
            force_recreate: false,
        }
    }

    /// The same with nothing to run.
    pub(crate) fn absent(&mut self, volumes: bool) -> Assignment {
        let mut assignment = self.next(
            self.load(&[("compose.yml", "services: {a: {image: IMAGE:1}}")])
                .stack,
        );
        assignment.desired = Desired::Absent { volumes };
        assignment
    }

    /// Gives the agent an assignment, and the files it lacks.
    pub(crate) async fn assign(
        &self,
        assignment: &Assignment,
        blobs: &BTreeMap<String, Arc<[u8]>>,
    ) {
        let path = format!("/v1/stacks/{}", self.project);
        let accepted: Accepted = self.ask("PUT", &path, assignment).await.unwrap();
        for digest in accepted.missing {
            let bytes = blobs[&digest].to_vec();
            let path = format!("/v1/blobs/{digest}?offset=0&size={}", bytes.len());
            let response = self.request("PUT", &path, bytes).await;
            assert!(response.status().is_success(), "{response:?}");
        }
    }

    /// Deploys a Compose file, and waits until it is settled.
    pub(crate) async fn deploy(&mut self, files: &[(&str, &str)]) -> StackReport {
        let loaded = self.load(files);
        let assignment = self.next(loaded.stack);
        self.assign(&assignment, &loaded.blobs).await;
        self.settled(assignment.number).await
    }

    /// What a Compose file would do now.
    pub(crate) async fn plan(&mut self, files: &[(&str, &str)]) -> Plan {
        let loaded = self.load(files);
        let assignment = self.next(loaded.stack);
        self.ask("POST", "/v1/plan", &assignment).await.unwrap()
    }

    /// The first report of this assignment, or a later one, that is settled.
    pub(crate) async fn settled(&self, number: u64) -> StackReport {
        self.follow(|report| report.assignment >= number && report.phase.is_settled())
            .await
    }

    /// The first report that is as wanted.
    pub(crate) async fn follow(&self, wanted: impl Fn(&StackReport) -> bool) -> StackReport {
        let found = self.listen(wanted, |_| false).await;
        found.expect("only a report ends it")
    }

    /// The first report that is as wanted; none where progress was `enough` before.
    async fn listen(
        &self,
        wanted: impl Fn(&StackReport) -> bool,
        enough: impl Fn(&Progress) -> bool,
    ) -> Option<StackReport> {
        let response = self.request("GET", "/v1/follow", Vec::new()).await;
        let mut body = response.into_body();
        let (mut rest, mut last) = (Vec::new(), None);
        let found = tokio::time::timeout(SOON, async {
            loop {
                let frame = body.frame().await.expect("the stream goes on").unwrap();
                rest.extend_from_slice(&frame.into_data().unwrap());
                while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = rest.drain(..=end).collect();
                    let reports = match serde_json::from_slice(&line).unwrap() {
                        Update::Snapshot { stacks } => stacks,
                        Update::Stack(report) => vec![*report],
                        Update::Progress(progress) if progress.stack != self.project => continue,
                        Update::Progress(progress) if enough(&progress) => return None,
                        _ => continue,
                    };
                    let own = |report: &StackReport| report.stack == self.project;
                    for report in reports.into_iter().filter(own) {
                        if wanted(&report) {
                            return Some(report);
                        }
                        last = Some(report);
                    }
                }
            }
        });
        found.await.unwrap_or_else(|_| panic!("it stays {last:#?}"))
    }

    /// Waits for so many signs of progress; whether it was settled before that.
    pub(crate) async fn progresses(&self, number: u64, signs: u32) -> bool {
        let heard = std::cell::Cell::new(0);
        let over = |report: &StackReport| report.assignment >= number && report.phase.is_settled();
        let settled = self.listen(over, |_| {
            heard.set(heard.get() + 1);
            heard.get() > signs
        });
        settled.await.is_some()
    }

    /// Deploys, and has it committed.
    pub(crate) async fn commits(&mut self, files: &[(&str, &str)]) -> StackReport {
        let report = self.deploy(files).await;
        assert_eq!(report.phase, Phase::Committed, "{report:#?}");
        report
    }

    /// Ids of running containers of a service, by number.
    pub(crate) fn ids(&self, service: &str) -> Vec<String> {
        let project = format!("label=com.docker.compose.project={}", self.project);
        let service = format!("label=com.docker.compose.service={service}");
        let format = "{{.Label \"com.docker.compose.container-number\"}} {{.ID}}";
        let listed = self.docker(&[
            "ps", "--filter", &project, "--filter", &service, "--format", format,
        ]);
        let mut lines: Vec<&str> = listed.lines().collect();
        lines.sort_unstable();
        lines
            .iter()
            .map(|line| line.split(' ').nth(1).unwrap().to_owned())
            .collect()
    }
}

impl Site {
    /// Waits until the agent knows the stack no more.
    pub(crate) async fn gone(&self) {
        let mut body = self
            .request("GET", "/v1/follow", Vec::new())
            .await
            .into_body();
        let mut rest = Vec::new();
        let gone = tokio::time::timeout(SOON, async {
            loop {
                let frame = body.frame().await.expect("the stream goes on").unwrap();
                rest.extend_from_slice(&frame.into_data().unwrap());
                while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = rest.drain(..=end).collect();
                    let is_gone = match serde_json::from_slice(&line).unwrap() {
                        Update::Snapshot { stacks } => {
                            stacks.iter().all(|report| report.stack != self.project)
                        }
                        Update::Gone { stack } => stack == self.project,
                        _ => false,
                    };
                    if is_gone {
                        return;
                    }
                }
            }
        });
        gone.await.expect("the stack goes away");
    }
}

impl Site {
    /// Is this text in any file that the agent keeps?
    pub(crate) fn keeps(&self, text: &str) -> bool {
        let folder = self.state.path().display().to_string();
        let found = Command::new("grep").args(["-rqF", text, &folder]).status();
        found.unwrap().success()
    }
}
