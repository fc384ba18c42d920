//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::{config::Flag, version};

/// Dials out to the vendor's relay and serves what the policy on this host allows.
/// Never listens on anything.
#[derive(Debug, Parser)]
#[command(
    name = "sternline-agent",
    version = version::SHORT,
    long_version = version::LONG,
    propagate_version = true,
    arg_required_else_help = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Connect to the relay and serve, until SIGTERM.
    #[command(after_help = RUN_HELP)]
    Run(Box<RunArgs>),
    /// Show what the agent on this host is doing.
    #[command(after_help = STATUS_HELP)]
    Status(StatusArgs),
    /// Try every fence that the kernel puts around the agent, in a process of its own.
    #[command(after_help = SANDBOX_HELP)]
    Sandbox(SandboxArgs),
    /// Show what a Compose file would do on this host, operation by operation; do nothing.
    #[command(after_help = PLAN_HELP)]
    Plan(Box<PlanArgs>),
    /// Try the network between this host and the relay, with the agent's own settings.
    ///
    /// Each address of the relay has a report of its own, and one is enough for the agent: the
    /// exit code is that of a degraded network where it comes online by one address, and
    /// something is wrong with another.
    #[command(after_help = probe::cli::EXIT_CODES_HELP)]
    Check(Box<CheckArgs>),
    /// Print the completions of a shell.
    Completions {
        /// Which shell.
        shell: Shell,
    },
    /// Write the man pages into a folder.
    #[command(hide = true)]
    Man {
        /// The folder, made where it is missing.
        folder: PathBuf,
    },
}

const RUN_HELP: &str = "\
The token enrols this host once. Better than --token are --token-file FILE (with a
file that only the agent's user may read) and the variable STERNLINE_TOKEN: a command
line is visible to every user of the host until the program has read it and started
itself again without it, a moment later; and it stays in the shell's history.

Every option but --token and --config is also a key of the configuration file
(docker_socket = \"…\") and a variable (STERNLINE_AGENT_DOCKER_SOCKET). An option wins
over a variable, a variable over the file.

SIGHUP reads the policy file again and tries the relay at once. Exit codes: 0 stopped
in order, 74 the state directory cannot be used, 78 something must be corrected before
another start (configuration, policy, token).";

const STATUS_HELP: &str = "\
With --healthcheck nothing is printed while the agent is online, and the exit code is
0; else one line says why not, and it is 1. For a container:

  HEALTHCHECK CMD [\"sternline-agent\", \"status\", \"--healthcheck\"]";

const SANDBOX_HELP: &str = "\
Puts the same fences around itself as `run` does, attempts what each one denies, and
says which hold and why others do not. Nothing of a running agent is touched. Exit
codes: 0 nothing here can be made to listen, 1 the kernel enforces less.";

/// Options of `sandbox`.
#[derive(Debug, Args)]
pub struct SandboxArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Where things are.
    #[command(flatten)]
    pub places: Places,
}

const PLAN_HELP: &str = "\
The same plan that a deployment by the vendor would carry out, for you to read before it
does, and what the policy on this host says of it. Needs to reach the Docker Engine.
Values of secret variables are not needed. Exit codes: 0 here is the plan, 1 there is
none, 2 the policy refuses it, 64 the command line is wrong.";

/// Options of `plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// Compose files, later ones merged over earlier ones [default: compose.yaml here]
    #[arg(short, long = "file", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The folder that paths in them are relative to [default: that of the first]
    #[arg(long, value_name = "DIR")]
    pub project_directory: Option<PathBuf>,
    /// The stack's name [default: what the files say, or the folder's name]
    #[arg(short, long, value_name = "NAME")]
    pub project_name: Option<String>,
    /// Variables, a file of NAME=VALUE lines [default: .env beside the files]
    #[arg(long = "env-file", value_name = "FILE")]
    pub env_files: Vec<PathBuf>,
    /// A variable
    #[arg(long, value_name = "NAME=VALUE")]
    pub set: Vec<String>,
    /// A variable that is a secret: its value is not needed for a plan
    #[arg(long, value_name = "NAME")]
    pub secret: Vec<String>,
    /// Services of this profile as well
    #[arg(long = "profile", value_name = "PROFILE")]
    pub profiles: Vec<String>,
    /// Show the stack as it was understood, in place of the plan
    #[arg(long)]
    pub rendered: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// The Docker Engine's socket [default: /var/run/docker.sock]
    #[arg(long, value_name = "PATH")]
    pub docker_socket: Option<String>,
    /// The customer's policy [default: /etc/sternline-agent/policy.toml where it exists]
    #[arg(long, value_name = "FILE")]
    pub policy: Option<String>,
    /// Where things are.
    #[command(flatten)]
    pub places: Places,
}

/// Options of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// A file that holds an enrolment token, for a host that has not enrolled yet
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// What matters most, in seconds
    #[arg(long, conflicts_with = "full")]
    pub quick: bool,
    /// Bytes in time, many connections at once and longer silences as well
    #[arg(long)]
    pub full: bool,
    /// Connections that are silent for a while: up to 45 s (quick) or 605 s (full) [default:
    /// off with --quick, full with --full, else quick]
    #[arg(long, value_name = "LADDER")]
    pub idle: Option<probe::cli::IdleLadder>,
    /// How the report is shown.
    #[command(flatten)]
    pub output: probe::cli::Output,
    /// Where things are.
    #[command(flatten)]
    pub places: Places,
}

/// Options of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The enrolment token itself; --token-file is better, see below
    #[arg(long, value_name = "TOKEN", conflicts_with = "token_file")]
    pub token: Option<String>,
    /// A file that holds the enrolment token
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// The customer's policy [default: /etc/sternline-agent/policy.toml where it exists]
    #[arg(long, value_name = "FILE")]
    pub policy: Option<String>,
    /// How to reach the relay: auto, quic, ws or ws-443 [default: auto]
    #[arg(long, value_name = "TRANSPORT")]
    pub transport: Option<String>,
    /// The proxy to reach the relay through, http://, https:// or socks5://HOST:PORT, or
    /// none [default: HTTPS_PROXY or ALL_PROXY, less NO_PROXY]
    #[arg(long, value_name = "URL")]
    pub proxy: Option<String>,
    /// A file that holds USER:PASSWORD for the proxy
    #[arg(long, value_name = "FILE")]
    pub proxy_login_file: Option<String>,
    /// CAs in PEM that vouch, beside the system's, for an https:// proxy
    #[arg(long, value_name = "FILE")]
    pub ca: Option<String>,
    /// The CA in PEM of whoever may intercept TLS on the way [default: nobody may]
    #[arg(long, value_name = "FILE")]
    pub interception_ca: Option<String>,
    /// The Docker Engine's socket [default: /var/run/docker.sock]
    #[arg(long, value_name = "PATH")]
    pub docker_socket: Option<String>,
    /// Run with what the kernel can enforce (best-effort), or only with all (required)
    #[arg(long, value_name = "DEMAND")]
    pub sandbox: Option<String>,
    /// Log lines as text or json [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// error, warn, info, debug or trace, or target=level,… [default: info]
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// Where things are.
    #[command(flatten)]
    pub places: Places,
}

/// Options of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Print JSON
    #[arg(long, conflicts_with = "healthcheck")]
    pub json: bool,
    /// Print nothing and exit with 0 if the agent is online, else say why not and exit with 1
    #[arg(long)]
    pub healthcheck: bool,
    /// Where things are.
    #[command(flatten)]
    pub places: Places,
}

/// Where things are; for every command.
#[derive(Debug, Args)]
pub struct Places {
    /// Identity, status and audit log [default: /var/lib/sternline-agent]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<String>,
    /// The configuration [default: /etc/sternline-agent/config.toml where it exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl RunArgs {
    /// The options that are keys of the configuration.
    pub fn flags(&self) -> Vec<Flag> {
        let token_file = self
            .token_file
            .as_ref()
            .map(|path| path.to_string_lossy().into_owned());
        let given = [
            ("policy", &self.policy),
            ("transport", &self.transport),
            ("proxy", &self.proxy),
            ("proxy_login_file", &self.proxy_login_file),
            ("ca", &self.ca),
            ("interception_ca", &self.interception_ca),
            ("docker_socket", &self.docker_socket),
            ("sandbox", &self.sandbox),
            ("log_format", &self.log_format),
            ("log_level", &self.log_level),
            ("token_file", &token_file),
        ];
        let given = given
            .into_iter()
            .filter_map(|(name, text)| Some((name, text.clone()?)));
        given.chain(self.places.flags()).collect()
    }
}

impl PlanArgs {
    /// The options that are keys of the configuration.
    pub fn flags(&self) -> Vec<Flag> {
        let given = [
            ("docker_socket", &self.docker_socket),
            ("policy", &self.policy),
        ];
        let given = given
            .into_iter()
            .filter_map(|(name, text)| Some((name, text.clone()?)));
        given.chain(self.places.flags()).collect()
    }
}

impl Places {
    /// The options that are keys of the configuration.
    pub fn flags(&self) -> Vec<Flag> {
        self.state_dir
            .iter()
            .map(|text| ("state_dir", text.clone()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_option_reaches_the_configuration() {
        let cli = Cli::try_parse_from([
            "sternline-agent",
            "run",
            "--policy",
            "/p",
            "--transport",
            "ws",
            "--proxy",
            "socks5://proxy",
            "--proxy-login-file",
            "/l",
            "--ca",
            "/c",
            "--interception-ca",
            "/i",
            "--docker-socket",
            "/d",
            "--sandbox",
            "required",
            "--log-format",
            "json",
            "--log-level",
            "debug",
            "--token-file",
            "/t",
            "--state-dir",
            "/s",
        ]);
        let Command::Run(run) = cli.unwrap().command else {
            unreachable!()
        };

        let settings = crate::config::load(None, &run.flags(), &[]).unwrap();

        assert_eq!(settings.state_dir, PathBuf::from("/s"));
        assert_eq!(settings.token_file, Some("/t".into()));
        assert_eq!(settings.docker_socket, PathBuf::from("/d"));
        assert_eq!(settings.ca, Some("/c".into()));
        assert_eq!(settings.interception_ca, Some("/i".into()));
        assert_eq!(run.flags().len(), 12);
    }

    #[test]
    fn a_token_and_a_token_file_at_once_are_refused() {
        let both = [
            "sternline-agent",
            "run",
            "--token",
            "x",
            "--token-file",
            "/t",
        ];

        assert!(Cli::try_parse_from(both).is_err());
    }
}
