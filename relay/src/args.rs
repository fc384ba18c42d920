//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::{cli, version};

/// Sternline's relay: agents dial it, operators reach their environments through it.
#[derive(Debug, Parser)]
#[command(
    name = "sternline-relay",
    version = version::SHORT,
    long_version = version::LONG,
    propagate_version = true
)]
pub struct Arguments {
    /// Options that every command takes.
    #[command(flatten)]
    pub global: cli::Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the relay
    #[command(after_help = SERVE_HELP)]
    Serve(ServeArgs),
    /// The operator's commands: clients of a relay.
    #[command(flatten)]
    Operator(cli::Command),
    /// Print the completions of a shell
    ///
    /// For bash, in ~/.bashrc:
    ///
    ///   source <(sternline-relay completions bash)
    #[command(verbatim_doc_comment)]
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

/// Options of `serve`. All but the first and the last are keys of the configuration.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Configuration in TOML; needs none
    #[arg(long, env = "STERNLINE_RELAY_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where to serve the API, and the tunnel under a path [default: 0.0.0.0:443]
    #[arg(long, value_name = "ADDR")]
    pub https: Option<String>,
    /// Where to serve the tunnel, on TCP and UDP [default: 0.0.0.0:8000]
    #[arg(long, value_name = "ADDR")]
    pub tunnel: Option<String>,
    /// Where to serve metrics and health [default: 127.0.0.1:9100]
    #[arg(long, value_name = "ADDR")]
    pub metrics: Option<String>,
    /// DNS name or address that agents and operators dial [default: the host's name]
    #[arg(long, value_name = "NAME")]
    pub public_name: Option<String>,
    /// Print the configuration in effect and whether it holds, and exit
    #[arg(long)]
    pub check_config: bool,
}

const SERVE_HELP: &str = "\
Starts without any configuration: makes its data directory, keys, certificate and first
admin token where they are missing. Every key of the configuration is also an environment
variable, such as STERNLINE_RELAY_LISTEN_HTTPS; --check-config shows them all.

Signals:
  TERM, INT  stop: take nothing new, let streams finish, then end; twice: end at once
  HUP        look at the certificate files now, and not at the next half minute

Exit codes:
   0  stopped in order: every stream had finished
   3  stopped, and streams that had not finished in time were cut
   1  the relay cannot start or run; the last line says why
  64  the command line or the configuration is wrong; every mistake is told";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn serve_takes_the_options_of_its_help() {
        let line = "sternline-relay serve --config c --data-dir d --https 1 --tunnel 2 \
                    --metrics 3 --public-name n --check-config";

        let arguments = Arguments::try_parse_from(line.split_whitespace()).unwrap();

        assert_eq!(arguments.global.data_dir, Some("d".into()));
        let Command::Serve(serve) = arguments.command else {
            panic!("not serve")
        };
        assert!(serve.check_config);
        assert_eq!(
            (serve.https.as_deref(), serve.tunnel.as_deref()),
            (Some("1"), Some("2"))
        );
    }
}
