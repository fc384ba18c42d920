//! `sternline-agent check`: what the network between this host and the relay lets through, tried
//! with the agent's own settings. A process of its own; it changes nothing, and a running agent
//! does not notice.

use std::{env, ffi::OsString, process::ExitCode, sync::Arc};

use probe::{
    cli,
    measure::{Depth, Plan},
    observe::Target,
};
use thiserror::Error;
use tunnel::tls;
use wire::{key::PublicKey, token::RelayAddress};

use crate::{
    cli::CheckArgs,
    config::Settings,
    dialling::{Dialling, DiallingError},
    identity::{self, IdentityError},
    token::{TOKEN_VARIABLE, TokenError, TokenSources},
};

/// As in sysexits.h: something must be corrected first.
const EXIT_CONFIG: u8 = 78;

/// Why nothing was tried.
#[derive(Debug, Error)]
enum CheckError {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Dialling(#[from] DiallingError),
    #[error(
        "this host has not enrolled, so no relay is known here: give --token-file FILE, or use \
         `sternline-probe HOST`"
    )]
    NoRelay,
}

/// Runs the command.
pub fn run(settings: &Settings, asked: &CheckArgs) -> ExitCode {
    let environment: Vec<(OsString, OsString)> = env::vars_os().collect();
    match plan(settings, asked, &environment) {
        Ok(plan) => cli::of_plan(&plan, &asked.output, None),
        Err(error) => {
            anstream::eprintln!("sternline-agent: {error}");
            ExitCode::from(EXIT_CONFIG)
        }
    }
}

fn plan(
    settings: &Settings,
    asked: &CheckArgs,
    environment: &[(OsString, OsString)],
) -> Result<Plan, CheckError> {
    let (address, pin) = relay(settings, asked)?;
    let dialling = Dialling::of(settings, environment)?;
    let mut roots = tls::system_roots();
    // A CA that may intercept vouches for what the report shows of an interceptor.
    let own = dialling.roots.roots.iter();
    let interceptors = dialling.interceptors.iter().flat_map(|roots| &roots.roots);
    roots.extend(own.chain(interceptors).cloned());
    let depth = match (asked.quick, asked.full) {
        (true, _) => Depth::Quick,
        (_, true) => Depth::Full,
        _ => Depth::Usual,
    };
    Ok(Plan {
        target: Target {
            host: address.host,
            https_port: address.https_port,
            tunnel_port: address.tunnel_port,
            pin: Some(pin.to_string()),
        },
        pin: Some(pin),
        addresses: None,
        proxy: dialling.proxy,
        roots: Arc::new(roots),
        depth,
        rungs: cli::rungs(asked.idle, depth),
        registry: None,
    })
}

/// The relay that this host has enrolled at, or that a token names: its first address.
fn relay(settings: &Settings, asked: &CheckArgs) -> Result<(RelayAddress, PublicKey), CheckError> {
    let known = match &asked.token_file {
        None => identity::peek(&settings.state_dir)?,
        Some(_) => None,
    };
    let (addresses, pin) = match known {
        Some(identity) => (identity.addresses, identity.relay_identity),
        None => {
            let sources = TokenSources {
                argument: None,
                file_argument: asked.token_file.clone(),
                variable: env::var_os(TOKEN_VARIABLE),
                file: settings.token_file.clone(),
            };
            let token = sources.read()?.ok_or(CheckError::NoRelay)?;
            (token.addresses, token.relay_identity)
        }
    };
    let first = addresses.into_iter().next().ok_or(CheckError::NoRelay)?;
    Ok((first, pin))
}
