//! A program of ours as a child process: its words in a file, and no way to outlive
//! the test.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, ChildStdin, Command};

use crate::eventually;

/// A program that runs.
#[derive(Debug)]
pub struct Process {
    child: Child,
    pid: u32,
    log: PathBuf,
}

/// A program that has ended.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed for programs.
    pub stdout: String,
    /// What it printed for people.
    pub stderr: String,
}

impl Finished {
    /// What it printed, having succeeded.
    ///
    /// # Panics
    /// Where it failed.
    pub fn success(self) -> String {
        assert!(
            self.status.success(),
            "{}: {}{}",
            self.status,
            self.stdout,
            self.stderr
        );
        self.stdout
    }

    /// What it printed for people, having failed.
    ///
    /// # Panics
    /// Where it succeeded.
    pub fn failure(self) -> String {
        assert!(
            !self.status.success(),
            "succeeded: {}{}",
            self.stdout,
            self.stderr
        );
        self.stderr
    }
}

/// Where cargo puts a binary of the workspace: beside the tests' own folder.
///
/// # Panics
/// Where it has not been built.
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    let folder = test
        .ancestors()
        .nth(2)
        .expect("tests run in target/PROFILE/deps");
    let path = folder.join(name);
    assert!(
        path.is_file(),
        "{} is missing: run `cargo build --release --workspace` (./test does)",
        path.display()
    );
    path
}

/// A command of ours that sees nothing of the caller's own settings.
fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("STERNLINE_") || text.to_ascii_lowercase().ends_with("_proxy") {
            command.env_remove(&name);
        }
    }
    command
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

impl Process {
    /// Starts a program; what it prints is appended to the file `log`.
    pub fn start(program: &Path, arguments: &[&str], log: &Path) -> Self {
        Self::start_with(program, arguments, log, |_| ())
    }

    /// The same, with the command changed as the test needs it.
    pub fn start_with(
        program: &Path,
        arguments: &[&str],
        log: &Path,
        change: impl FnOnce(&mut Command),
    ) -> Self {
        let file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .expect("a log file");
        let errors = file.try_clone().expect("a second handle of the log file");
        let mut command = command(program);
        command.args(arguments).stdout(file).stderr(errors);
        change(&mut command);
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{program:?}: {error}"));
        let pid = child.id().expect("it has just been started");
        Self {
            child,
            pid,
            log: log.to_owned(),
        }
    }

    /// Runs a program to its end.
    ///
    /// # Panics
    /// Where it has not ended within two minutes.
    pub async fn run(
        program: &Path,
        arguments: &[&str],
        change: impl FnOnce(&mut Command),
    ) -> Finished {
        let mut command = command(program);
        command
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        change(&mut command);
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{program:?}: {error}"));
        let output = tokio::time::timeout(Duration::from_secs(120), child.wait_with_output())
            .await
            .unwrap_or_else(|_| panic!("{program:?} {arguments:?} does not end"))
            .expect("a child can be waited for");
        Finished {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Its standard input, where that was made a pipe.
    ///
    /// # Panics
    /// Where it was not, or was taken before.
    pub fn keyboard(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("a pipe")
    }

    /// Its process id.
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// All it has printed.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid.cast_signed()).expect("a process id is not 0");
        kill_process(pid, signal).expect("the process is ours");
    }

    /// `kill -9`, and until it is gone.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("the process is ours");
    }

    /// Waits until it has ended by itself.
    pub async fn ended(&mut self, within: Duration) -> ExitStatus {
        match tokio::time::timeout(within, self.child.wait()).await {
            Ok(status) => status.expect("a child can be waited for"),
            Err(_) => panic!("still running after {within:?}:\n{}", self.log()),
        }
    }

    /// Waits until it has printed `text`.
    pub async fn says(&self, text: &str, within: Duration) {
        eventually(
            &format!("`{text}` in\n{}", self.log.display()),
            within,
            async || self.log().contains(text).then_some(()),
        )
        .await;
    }

    /// The largest working set it ever had.
    pub fn peak_resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("it runs");
        let line = status
            .lines()
            .find(|line| line.starts_with("VmHWM:"))
            .expect("Linux shows it");
        let kibibytes = line
            .split_whitespace()
            .nth(1)
            .expect("a number and its unit");
        kibibytes.parse::<u64>().expect("a number") * 1024
    }
}
