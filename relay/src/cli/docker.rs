//! `docker`: the local docker command, or any other tool, against an environment.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    process::{ExitCode, ExitStatus},
    sync::Arc,
};

use clap::{ArgGroup, Args};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;
use wire::target::Target;

use super::{
    bridge::Bridge,
    discover::Access,
    failure::{Exit, Failure},
    forward::{self, Listen},
    listen_address::ListenAddress,
    local_listener::LocalListener,
    name::EnvironmentName,
    operator::{Notes, Operator},
    output::{self, BOLD, Format, PLAIN},
};

/// Longest path of a Unix socket: 108 bytes in `sockaddr_un`, one of them the end.
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// What a shell adds to the number of the signal that ended a program.
const SIGNAL_EXIT_BASE: i32 = 128;
/// What in the environment would lead the docker command elsewhere than `DOCKER_HOST`.
const MISLEADING: [&str; 4] = [
    "DOCKER_CONTEXT",
    "DOCKER_TLS",
    "DOCKER_TLS_VERIFY",
    "DOCKER_CERT_PATH",
];

/// What to run against an environment.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("action").args(["listen", "arguments"]).required(true))]
#[command(override_usage = "\
sternline-relay docker [OPTIONS] <ENV> -- <ARGS>...
       sternline-relay docker [OPTIONS] <ENV> --listen <ADDRESS>")]
pub struct DockerArgs {
    /// Name of the environment
    #[arg(value_name = "ENV")]
    environment: EnvironmentName,
    /// Listen here for any tool that takes a DOCKER_HOST, until Ctrl-C: unix:///PATH
    /// or tcp://127.0.0.1:PORT
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<ListenAddress>,
    /// Let other machines reach the TCP address: whoever does is root on the
    /// environment's host
    #[arg(long, requires = "listen", conflicts_with = "arguments")]
    listen_anywhere: bool,
    /// What the local docker command is given
    #[arg(last = true, value_name = "ARGS")]
    arguments: Vec<OsString>,
}

/// Runs the local docker command, or listens until told to stop.
///
/// # Errors
///
/// The relay cannot be reached, the socket not opened, or docker not run.
pub async fn run(args: DockerArgs, access: &Access, format: Format) -> Result<ExitCode, Failure> {
    let Some(address) = args.listen else {
        return run_docker(args.environment, args.arguments, access).await;
    };
    let listen = Listen {
        address,
        anywhere: args.listen_anywhere,
    };
    let bridge = (args.environment, Target::Docker);
    forward::until_stopped(bridge, listen, (access, format), announce).await
}

fn announce(bridge: &Bridge, address: &ListenAddress, format: Format) -> Result<(), Failure> {
    let environment = &bridge.environment;
    if format == Format::Json {
        let line =
            json!({ "docker_host": address.to_string(), "environment": environment.as_str() });
        return output::print(&line.to_string());
    }
    if matches!(address, ListenAddress::Tcp(_)) {
        output::note(&format!(
            "Every user of this machine can use the Docker of {environment} while this runs; \
             a unix:// address is for yours alone."
        ));
    }
    output::note(&format!(
        "The Docker of {BOLD}{environment}{PLAIN} is here until Ctrl-C:"
    ));
    output::print(&format!("export DOCKER_HOST={address}"))
}

async fn run_docker(
    environment: EnvironmentName,
    arguments: Vec<OsString>,
    access: &Access,
) -> Result<ExitCode, Failure> {
    let operator = Operator::connect(access, Notes::Kept).await?;
    // From here on signals are the child's, so that the socket's directory is removed.
    let signals = Signals::new().map_err(|error| {
        Failure::new(Exit::Internal, format!("cannot watch for signals: {error}"))
    })?;
    let dir = private_dir()?;
    let address = ListenAddress::Unix(dir.path().join("docker.sock"));
    let listener = LocalListener::bind(&address).await?;
    let bridge = Bridge {
        operator,
        environment,
        target: Target::Docker,
        notes: Notes::Kept,
    };
    let bridge = Arc::new(bridge);
    let stop = CancellationToken::new();
    let carrier = tokio::spawn(bridge.clone().run(listener, stop.clone()));
    let ended = run_child(OsStr::new("docker"), &address, &arguments, signals).await;
    stop.cancel();
    // A task that panicked has printed it, and docker's own exit code says the rest.
    carrier.await.ok();
    let loss = bridge.operator.last_loss();
    if let Some(bridge) = Arc::into_inner(bridge) {
        bridge.operator.close().await;
    }
    let status = ended?;
    if let Some(cause) = loss.filter(|_| !status.success()) {
        output::note(&format!(
            "note: the session with the relay was lost meanwhile: {cause}"
        ));
    }
    Ok(exit_code(status))
}

/// A directory that only its owner can enter, short enough for a socket's path.
fn private_dir() -> Result<TempDir, Failure> {
    let make = |parent: &std::path::Path| {
        let mode = std::fs::Permissions::from_mode(0o700);
        tempfile::Builder::new()
            .prefix("sternline-")
            .permissions(mode)
            .tempdir_in(parent)
    };
    let parent = std::env::temp_dir();
    // `/sternline-XXXXXX/docker.sock` comes after it.
    let fits = parent.as_os_str().len() + 29 <= SOCKET_PATH_BYTES_MAX;
    let parent = if fits { parent } else { "/tmp".into() };
    make(&parent).map_err(|error| {
        let message = format!("cannot make a directory in {}: {error}", parent.display());
        Failure::new(Exit::CannotListen, message).advise("set TMPDIR to a directory you may write")
    })
}

/// Runs docker on this terminal. It shares our process group, so that Ctrl-C, Ctrl-\
/// and Ctrl-Z reach it from the terminal itself; what is sent to us alone is passed on.
async fn run_child(
    program: &OsStr,
    address: &ListenAddress,
    arguments: &[OsString],
    mut signals: Signals,
) -> Result<ExitStatus, Failure> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("DOCKER_HOST", address.to_string());
    for name in MISLEADING {
        command.env_remove(name);
    }
    let mut child = command.spawn().map_err(|error| not_runnable(&error))?;
    loop {
        let passed_on = tokio::select! {
            ended = child.wait() => {
                return ended.map_err(|error| {
                    Failure::new(Exit::Internal, format!("cannot wait for docker: {error}"))
                });
            }
            signal = signals.next() => signal,
        };
        if let (Some(signal), Some(pid)) = (passed_on, pid_of(&child)) {
            // The child may end at the same moment; waiting for it says so.
            kill_process(pid, signal).ok();
        }
    }
}

fn pid_of(child: &Child) -> Option<Pid> {
    Pid::from_raw(i32::try_from(child.id()?).ok()?)
}

fn not_runnable(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::NotFound => Failure::new(
            Exit::NotRunnable,
            "the docker command is not installed on this machine",
        )
        .advise(
            "install it (Debian: `apt install docker.io`, or docker-cli alone), or use \
                     another tool with `--listen unix:///PATH`",
        ),
        _ => Failure::new(Exit::NotRunnable, format!("cannot run docker: {error}")),
    }
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| SIGNAL_EXIT_BASE + signal))
        .and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}

/// The signals that would end us while docker runs. They are handled, not ignored:
/// a child inherits what is ignored.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    quit: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The next signal to pass on; none for those that the terminal sends to both of
    /// us. Cancel safe.
    async fn next(&mut self) -> Option<Signal> {
        tokio::select! {
            _ = self.interrupt.recv() => None,
            _ = self.quit.recv() => None,
            _ = self.terminate.recv() => Some(Signal::TERM),
            _ = self.hangup.recv() => Some(Signal::HUP),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: DockerArgs,
    }

    fn parse(words: &[&str]) -> Result<DockerArgs, clap::Error> {
        Line::try_parse_from(std::iter::once(&"docker").chain(words)).map(|line| line.args)
    }

    #[test]
    fn what_follows_the_dashes_is_dockers_own() {
        let args = parse(&["berlin", "--", "run", "--rm", "--json", "-it", "x"]).unwrap();

        assert_eq!(args.arguments, ["run", "--rm", "--json", "-it", "x"]);
    }

    #[test]
    fn there_must_be_something_to_do_and_only_one_thing() {
        assert!(parse(&["berlin"]).is_err());
        assert!(parse(&["berlin", "--listen", "unix:///run/x", "--", "ps"]).is_err());
        assert!(parse(&["berlin", "--listen-anywhere", "--", "ps"]).is_err());
        assert!(parse(&["berlin", "--listen", "unix:///run/x"]).is_ok());
    }

    #[test]
    fn the_directory_of_the_socket_is_private() {
        let dir = private_dir().unwrap();

        let mode = std::fs::metadata(dir.path()).unwrap().permissions().mode();

        assert_eq!(mode & 0o777, 0o700);
        assert!(dir.path().join("docker.sock").as_os_str().len() <= SOCKET_PATH_BYTES_MAX);
    }

    /// Signals reach every test of the process: only one may have a child at a time.
    static CHILD: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

    async fn run(program: &str, script: &str) -> Result<ExitStatus, Failure> {
        let _alone = CHILD.lock().await;
        let address = "unix:///run/x".parse().unwrap();
        let arguments = ["-c".into(), script.into()];
        run_child(
            OsStr::new(program),
            &address,
            &arguments,
            Signals::new().unwrap(),
        )
        .await
    }

    #[tokio::test]
    async fn docker_is_told_where_to_go_and_its_exit_code_is_ours() {
        let status = run("sh", r#"test "$DOCKER_HOST" = unix:///run/x && exit 7"#)
            .await
            .unwrap();

        assert_eq!(status.code(), Some(7));
    }

    #[tokio::test]
    async fn a_docker_that_is_not_installed_says_what_to_do() {
        let failure = run("/nowhere/docker", "").await.unwrap_err();

        assert_eq!(failure.exit(), Exit::NotRunnable);
        assert!(failure.to_string().contains("apt install"), "{failure}");
    }

    #[tokio::test]
    async fn a_request_to_end_is_passed_on_to_docker() {
        // The child asks our own process, as a service manager would, and waits.
        let status = run("sh", "kill -TERM $PPID; exec sleep 60").await.unwrap();

        assert_eq!(status.signal(), Some(15));
    }

    #[tokio::test]
    async fn an_interrupt_of_the_terminal_is_left_to_docker() {
        let status = run("sh", "kill -INT $PPID; exit 3").await.unwrap();

        assert_eq!(status.code(), Some(3));
    }

    #[test]
    fn the_exit_code_is_dockers_or_names_the_signal() {
        let cases = [(0, "0"), (7 << 8, "7"), (15, "143")];

        for (raw, want) in cases {
            let code = exit_code(ExitStatus::from_raw(raw));
            assert_eq!(
                format!("{code:?}"),
                format!("{:?}", ExitCode::from(want.parse::<u8>().unwrap()))
            );
        }
    }
}
