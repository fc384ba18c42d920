//! The Engine itself goes away in the middle of an update, by force, and comes back.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
};

use compose::exchange::{ContainerReport, Phase, ServiceReport, ServiceState, StackReport};

use super::{Product, registry::Registry};

/// An Engine of this test alone, with its containers in a folder that goes with it.
#[derive(Debug)]
struct Dockerd {
    folder: tempfile::TempDir,
    process: Option<Child>,
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        self.end("-TERM");
        // What ran in it when it was killed, where it did not come back to end that.
        let folder = self.folder.path().display().to_string();
        let left = Command::new("pgrep").args(["-f", &folder]).output();
        let left = left.map(|found| String::from_utf8_lossy(&found.stdout).into_owned());
        for id in left.unwrap_or_default().split_whitespace() {
            drop(Command::new("kill").args(["-KILL", id]).status());
        }
        // A mount that is left would keep the folder from going.
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        let mut points: Vec<&str> = points
            .filter(|p| p.starts_with(&format!("{folder}/")))
            .collect();
        points.sort_unstable();
        for point in points.iter().rev() {
            drop(Command::new("umount").args(["-l", point]).status());
        }
    }
}

impl Dockerd {
    /// None, with the test skipped by name, where this user may not run one.
    fn start() -> Option<Self> {
        let root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
        if !root || !PathBuf::from("/usr/sbin/dockerd").exists() {
            let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
            assert!(
                !ci,
                "no Engine can be started (CI=true: nothing may be skipped)"
            );
            println!("skipped: only root may start an Engine, of the package docker.io");
            return None;
        }
        let mut dockerd = Self {
            folder: tempfile::tempdir().unwrap(),
            process: None,
        };
        dockerd.begin();
        Some(dockerd)
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("docker.sock")
    }

    fn begin(&mut self) {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let mut process = Command::new("/usr/sbin/dockerd")
            .args(["--data-root", &path("data"), "--exec-root", &path("exec")])
            .args(["--pidfile", &path("pid"), "--bridge", "none"])
            .args(["--host", &format!("unix://{}", path("docker.sock"))])
            .args(["--iptables=false", "--ip6tables=false"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap());
        let mut said = String::new();
        loop {
            let mut line = String::new();
            assert!(
                log.read_line(&mut line).unwrap() > 0,
                "dockerd has ended: {said}"
            );
            if line.contains("API listen on") {
                break;
            }
            said.push_str(&line);
        }
        thread::spawn(move || log.lines().map_while(Result::ok).for_each(drop));
        self.process = Some(process);
    }

    /// Ends it with a signal, and waits until it has ended.
    fn end(&mut self, signal: &str) {
        if let Some(mut process) = self.process.take() {
            let id = process.id().to_string();
            drop(Command::new("kill").args([signal, &id]).status());
            drop(process.wait());
            // Its containerd ends with it. Where nobody reaps what lost its parent, as in many
            // containers, the next Engine would take that for a containerd that still runs.
            let id = self.folder.path().join("exec/containerd/containerd.pid");
            drop(std::fs::remove_file(id));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_killed_in_an_update_is_waited_for_and_the_update_ends() {
    let Some(mut dockerd) = Dockerd::start() else {
        return;
    };
    let Some(registry) = Registry::start(None) else {
        return;
    };
    let mut product = Product::on(&dockerd.socket(), "as-dockerd", registry);
    product.site.start();
    product.commits().await;
    product.sql("INSERT INTO notes (text) VALUES ('written before')");

    for (round, (moment, signal)) in [(3, "-TERM"), (12, "-KILL"), (24, "-TERM"), (36, "-KILL")]
        .into_iter()
        .enumerate()
    {
        product.set("TAG", if round % 2 == 0 { "2" } else { "1" });
        product.set("DB_CONNECTIONS", &format!("{}", 40 + round));
        let number = product.assign().await.number;
        product.site.progresses(number, moment).await;
        dockerd.end(signal);
        dockerd.begin();
        let report = product.site.settled(number).await;

        let when = format!("{signal} at {moment}");
        assert_eq!(report.phase, Phase::Committed, "{when}: {report:#?}");
        assert_eq!(report.release, Some(format!("r{number}")), "{when}");
        assert_eq!(product.site.ids("app").len(), 2, "{when}");
        assert_eq!(
            product.sql("SELECT text FROM notes"),
            "written before",
            "{when}"
        );
    }
    drop(product);
    drop(dockerd);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_starts_again_has_the_product_up_again_and_untouched() {
    let Some(mut dockerd) = Dockerd::start() else {
        return;
    };
    let Some(registry) = Registry::start(None) else {
        return;
    };
    let mut product = Product::on(&dockerd.socket(), "as-again", registry);
    product.site.start();
    product.commits().await;
    let before = product.ids();

    let mut last_start = newest_start(&product.site.settled(1).await);
    for signal in ["-TERM", "-KILL"] {
        dockerd.end(signal);
        dockerd.begin();

        // What was last seen before is still told while the Engine is away.
        let is_new = |container: &&ContainerReport| {
            container.state == "running" && container.started_ms > Some(last_start)
        };
        let ok = |service: &ServiceReport| service.state == ServiceState::Ok;
        let is_up = |report: &StackReport| {
            let containers = report.services.values().flat_map(|s| &s.containers);
            containers.filter(is_new).count() == 6 && report.services.values().all(ok)
        };
        let report = product.site.follow(is_up).await;
        assert_eq!(product.ids(), before, "{signal}");
        last_start = newest_start(&report);
    }
    let report = product.commits().await;
    assert_eq!(report.operations, 0);
    assert_eq!(product.sql("SELECT version FROM releases"), "1");
    drop(product);
    drop(dockerd);
}

fn newest_start(report: &StackReport) -> u64 {
    let containers = report.services.values().flat_map(|s| &s.containers);
    containers.filter_map(|c| c.started_ms).max().unwrap()
}
