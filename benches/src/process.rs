//! Programs that are measured, as child processes that end with the harness.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::de::DeserializeOwned;

use crate::failure::{Context, Failure};

/// Where a process may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cores {
    /// Wherever the machine likes.
    All,
    /// On the first processor alone, so that latency is the work on the path, without
    /// the time that an idle processor takes to wake up.
    First,
    /// On all the others; on the first where there is none.
    Rest,
}

impl Cores {
    /// Calls `start` on these processors: what it starts inherits them, and so finds out by
    /// itself how many there are.
    ///
    /// # Errors
    ///
    /// The system does not let this thread move.
    pub fn start<T>(self, start: impl FnOnce() -> T) -> Result<T, Failure> {
        if self == Self::All {
            return Ok(start());
        }
        let before = sched_getaffinity(None).context("processors")?;
        let mut these = CpuSet::new();
        if self == Self::Rest && before.count() > 1 {
            these = before;
            these.unset(0);
        } else {
            these.set(0);
        }
        sched_setaffinity(None, &these).context("moving to other processors")?;
        let started = start();
        sched_setaffinity(None, &before).context("processors")?;
        Ok(started)
    }
}

/// A program that runs; killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
    /// A child that reads it ends with us, however we end.
    _stdin: Option<ChildStdin>,
}

impl Process {
    /// Starts a command; what it prints is appended to the file `log`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(command: &mut Command, log: &Path, cores: Cores) -> Result<Self, Failure> {
        let file = File::options().create(true).append(true).open(log);
        let file = file.context(log.display())?;
        let errors = file.try_clone().context(log.display())?;
        command.stdin(Stdio::null()).stdout(file).stderr(errors);
        let child = spawn(command, cores)?;
        Ok(Self {
            child,
            name: name(command),
            log: log.to_owned(),
            _stdin: None,
        })
    }

    /// Starts a command whose first line on standard output is JSON, and reads it.
    ///
    /// # Errors
    /// It cannot be started, or says something else.
    pub fn start_speaking<T: DeserializeOwned>(
        command: &mut Command,
        log: &Path,
        cores: Cores,
    ) -> Result<(Self, T), Failure> {
        let errors = File::options().create(true).append(true).open(log);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors.context(log.display())?);
        let mut child = spawn(command, cores)?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("a child without its output")?;
        let process = Self {
            child,
            name: name(command),
            log: log.to_owned(),
            _stdin: stdin,
        };
        let mut line = String::new();
        BufReader::new(stdout)
            .read_line(&mut line)
            .context(&process.name)?;
        let said = serde_json::from_str(&line).context(format_args!(
            "{} said {line:?}\n{}",
            process.name,
            process.log()
        ))?;
        Ok((process, said))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The end of what it has printed, for a failure's words.
    pub fn log(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }

    /// Says why a program that should run has ended.
    ///
    /// # Errors
    /// It has ended.
    pub fn still_runs(&mut self) -> Result<(), Failure> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(Failure::new(format!(
                "{} has ended ({status}):\n{}",
                self.name,
                self.log()
            ))),
            Err(error) => Err(error).context(&self.name),
        }
    }

    /// `kill -9`, and until it is gone.
    pub fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a command to its end, and returns what it printed.
///
/// # Errors
/// It cannot be started, or fails.
pub fn output(command: &mut Command, cores: Cores) -> Result<String, Failure> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let name = name(command);
    let output = spawn(command, cores)?.wait_with_output().context(&name)?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(printed);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(format!(
        "{name} failed ({}): {}{}",
        output.status,
        printed,
        errors.trim_end()
    )))
}

/// A program by its name on the PATH.
pub fn on_path(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

/// This program itself, which is its own load and its own backend.
///
/// # Errors
/// The system does not say where it is.
pub fn myself() -> Result<PathBuf, Failure> {
    std::env::current_exe().context("the path of this program")
}

fn spawn(command: &mut Command, cores: Cores) -> Result<Child, Failure> {
    for (variable, _) in std::env::vars_os() {
        let text = variable.to_string_lossy();
        if text.starts_with("STERNLINE_") || text.to_ascii_lowercase().ends_with("_proxy") {
            command.env_remove(&variable);
        }
    }
    let name = name(command);
    cores.start(|| command.spawn())?.context(name)
}

fn name(command: &Command) -> String {
    Path::new(command.get_program())
        .file_name()
        .map(OsStr::to_string_lossy)
        .unwrap_or_default()
        .into_owned()
}
