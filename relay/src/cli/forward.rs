//! `forward`: a port on the operator's machine that leads to a target, and what every
//! command does that listens until it is stopped.

use std::{io, process::ExitCode, sync::Arc};

use clap::Args;
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use wire::target::Target;

use super::{
    bridge::Bridge,
    client::Client,
    discover::Access,
    env,
    failure::{Exit, Failure},
    listen_address::ListenAddress,
    local_listener::LocalListener,
    name::EnvironmentName,
    operator::{Notes, Operator},
    output::{self, BOLD, Format, PLAIN, YELLOW},
};

/// A port on this machine that leads to a target.
#[derive(Debug, Args)]
pub struct ForwardArgs {
    /// Name of the environment
    #[arg(value_name = "ENV")]
    environment: EnvironmentName,
    /// What the port leads to, as the agent's host sees it: tcp:HOST:PORT
    target: Target,
    /// Where to listen on this machine: 127.0.0.1:PORT (0 takes a free port) or unix:///PATH
    #[arg(long, value_name = "ADDRESS")]
    listen: ListenAddress,
    /// Let other machines reach the address
    #[arg(long)]
    listen_anywhere: bool,
}

/// Where a command listens on the operator's machine.
#[derive(Debug)]
pub struct Listen {
    /// The address.
    pub address: ListenAddress,
    /// Whether other machines may reach it.
    pub anywhere: bool,
}

/// Listens and carries connections until told to stop.
///
/// # Errors
///
/// The relay cannot be reached, or the address not listened at.
pub async fn run(args: ForwardArgs, access: &Access, format: Format) -> Result<ExitCode, Failure> {
    if args.target == Target::Docker {
        let message = "`docker` is not forwarded to a port of its own";
        return Err(Failure::new(Exit::Usage, message).advise(format!(
            "use `sternline-relay docker {} --listen {}`",
            args.environment, args.listen
        )));
    }
    if args.target == Target::Stacks {
        let message = "`stacks` is not forwarded: it is reached through the relay alone";
        return Err(Failure::new(Exit::Usage, message).advise("use `sternline-relay stack`"));
    }
    let listen = Listen {
        address: args.listen,
        anywhere: args.listen_anywhere,
    };
    let bridge = (args.environment, args.target);
    until_stopped(bridge, listen, (access, format), announce).await
}

fn announce(bridge: &Bridge, address: &ListenAddress, format: Format) -> Result<(), Failure> {
    let (environment, target) = (&bridge.environment, &bridge.target);
    let shown = match address {
        ListenAddress::Tcp(address) => address.to_string(),
        ListenAddress::Unix(_) => address.to_string(),
    };
    match format {
        Format::Json => output::print(
            &json!({
                "listen": shown,
                "environment": environment.as_str(),
                "target": target.to_string(),
            })
            .to_string(),
        ),
        Format::Text => output::print(&format!(
            "{BOLD}{shown}{PLAIN} leads to {target} at {environment}, until Ctrl-C"
        )),
    }
}

/// Listens at `listen` and carries its connections to a target of an environment
/// until a signal or the relay says stop. `announce` prints where it listens.
///
/// # Errors
///
/// The address is refused, the environment unknown, the relay out of reach.
pub async fn until_stopped(
    (environment, target): (EnvironmentName, Target),
    listen: Listen,
    (access, format): (&Access, Format),
    announce: impl FnOnce(&Bridge, &ListenAddress, Format) -> Result<(), Failure>,
) -> Result<ExitCode, Failure> {
    if listen.address.is_reachable_from_outside() && !listen.anywhere {
        let message = format!("other machines could reach {}", listen.address);
        return Err(Failure::new(Exit::Usage, message)
            .advise("use 127.0.0.1, or say that it is meant with --listen-anywhere"));
    }
    let found = env::find(&Client::new(access)?, &environment).await?;
    if found.status != "online" {
        output::note(&format!(
            "{YELLOW}warning:{PLAIN} the environment `{environment}` is not online ({}); \
             connections fail until it is",
            found.status.replace('_', " ")
        ));
    }
    let operator = Operator::connect(access, Notes::Shown).await?;
    // Before the socket's file is there, so that no signal leaves it behind.
    let mut signals = StopSignals::new().map_err(|error| {
        Failure::new(Exit::Internal, format!("cannot watch for signals: {error}"))
    })?;
    let listener = LocalListener::bind(&listen.address).await?;
    let bridge = Arc::new(Bridge {
        operator,
        environment,
        target,
        notes: Notes::Shown,
    });
    announce(&bridge, listener.address(), format)?;
    let stop = CancellationToken::new();
    let carrier = tokio::spawn(bridge.clone().run(listener, stop.clone()));
    let ended = tokio::select! {
        () = signals.next() => Ok(ExitCode::SUCCESS),
        failure = bridge.operator.refused() => Err(failure),
    };
    stop.cancel();
    // A task that panicked has printed it, and there is nothing left to end.
    carrier.await.ok();
    if let Some(bridge) = Arc::into_inner(bridge) {
        bridge.operator.close().await;
    }
    ended
}

/// Ctrl-C, a polite request to end, and the end of the terminal.
struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl StopSignals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Resolves at the first of them. Cancel safe.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}
