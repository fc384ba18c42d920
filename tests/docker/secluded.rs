//! An Engine that reaches no registry, because it is in a network of nothing, and a registry
//! that only the relay reaches.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
};

use tests::{Engine, skip};

const DOCKERD: &str = "/usr/sbin/dockerd";
const REGISTRY: &str = "/usr/bin/docker-registry";

/// Reads a program's log up to the line that says where it listens, and on after that, for a pipe
/// that nobody reads would stop it.
fn wait_for(process: &mut Child, sign: &str) -> String {
    let mut log = BufReader::new(process.stderr.take().expect("it is piped"));
    let mut said = String::new();
    let found = loop {
        let mut line = String::new();
        let read = log.read_line(&mut line).expect("a log is text");
        assert!(read > 0, "it has ended: {said}");
        if line.contains(sign) {
            break line;
        }
        said.push_str(&line);
    };
    thread::spawn(move || log.lines().map_while(Result::ok).for_each(drop));
    found
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Secluded {
    process: Child,
    folder: tempfile::TempDir,
}

impl Secluded {
    /// One that answers; none, with the test skipped by name, where this user may start none.
    pub(crate) fn start() -> Option<Self> {
        let root = Command::new("id")
            .arg("-u")
            .output()
            .expect("id runs")
            .stdout
            == b"0\n";
        if !root || !Path::new(DOCKERD).exists() {
            skip("only root may start an Engine of its own, of the package docker.io");
            return None;
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| folder.path().join(name).display().to_string();
        let mut process = Command::new("unshare")
            .args(["--net", DOCKERD, "--bridge", "none"])
            .args(["--data-root", &path("data"), "--exec-root", &path("exec")])
            .args([
                "--pidfile",
                &path("pid"),
                "--iptables=false",
                "--ip6tables=false",
            ])
            .args(["--host", &format!("unix://{}", path("docker.sock"))])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("unshare runs");
        wait_for(&mut process, "API listen on");
        Some(Self { process, folder })
    }

    /// It, as tests have one.
    pub(crate) fn engine(&self) -> Engine {
        Engine {
            socket: self.folder.path().join("docker.sock"),
        }
    }
}

impl Drop for Secluded {
    fn drop(&mut self) {
        let engine = self.engine();
        if let Ok(list) = engine.command(&["ps", "-aq"]).output() {
            let list = String::from_utf8_lossy(&list.stdout).into_owned();
            let left: Vec<&str> = list.split_whitespace().collect();
            if !left.is_empty() {
                engine.remove(&left);
            }
        }
        // In order, so that it takes its mounts away.
        let id = self.process.id().to_string();
        drop(Command::new("kill").arg(id).status());
        drop(self.process.wait());
    }
}

/// Debian's `docker-registry` on loopback, with nothing in it.
#[derive(Debug)]
pub(crate) struct Registry {
    process: Child,
    /// `127.0.0.1:PORT`.
    pub(crate) host: String,
    _folder: tempfile::TempDir,
}

impl Registry {
    /// One that answers; none, with the test skipped by name, where it is not installed.
    pub(crate) fn start() -> Option<Self> {
        if !Path::new(REGISTRY).exists() {
            skip("docker-registry is not installed");
            return None;
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let settings = folder.path().join("registry.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: info}}\nhttp: {{addr: \"127.0.0.1:0\", secret: any}}\n\
             storage: {{filesystem: {{rootdirectory: \"{}\"}}}}\n",
            folder.path().join("store").display()
        );
        fs::write(&settings, text).expect("a file in a temporary folder");
        let mut process = Command::new(REGISTRY)
            .arg("serve")
            .arg(&settings)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker-registry runs");
        let line = wait_for(&mut process, "listening on ");
        let address = line.split("listening on ").nth(1).unwrap_or_default();
        let host = address.split('"').next().unwrap_or_default().trim();
        Some(Self {
            process,
            host: host.to_owned(),
            _folder: folder,
        })
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
