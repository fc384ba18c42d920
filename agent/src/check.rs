//! `sternline-agent check`: what the network between this host and the relay lets through, tried
//! with the agent's own settings, at each of the relay's addresses. A process of its own; it
//! changes nothing, and a running agent does not notice.

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
    match plans(settings, asked, &environment) {
        Ok(plans) => cli::of_plans(&plans, &asked.output, None),
        Err(error) => {
            anstream::eprintln!("sternline-agent: {error}");
            ExitCode::from(EXIT_CONFIG)
        }
    }
}

/// A run for each address of the relay, in the order in which the agent has them.
fn plans(
    settings: &Settings,
    asked: &CheckArgs,
    environment: &[(OsString, OsString)],
) -> Result<Vec<Plan>, CheckError> {
    let (addresses, pin) = relay(settings, asked)?;
    let dialling = Dialling::of(settings, environment)?;
    let mut roots = tls::system_roots();
    // A CA that may intercept vouches for what the report shows of an interceptor.
    let own = dialling.roots.roots.iter();
    let interceptors = dialling.interceptors.iter().flat_map(|roots| &roots.roots);
    roots.extend(own.chain(interceptors).cloned());
    let roots = Arc::new(roots);
    let depth = match (asked.quick, asked.full) {
        (true, _) => Depth::Quick,
        (_, true) => Depth::Full,
        _ => Depth::Usual,
    };
    let plan = |address: RelayAddress| Plan {
        target: Target {
            host: address.host,
            https_port: address.https_port,
            tunnel_port: address.tunnel_port,
            pin: Some(pin.to_string()),
        },
        pin: Some(pin),
        addresses: None,
        proxy: dialling.proxy.clone(),
        roots: Arc::clone(&roots),
        interceptors: dialling.interceptors.clone(),
        depth,
        rungs: cli::rungs(asked.idle, depth),
        registry: None,
    };
    Ok(addresses.into_iter().map(plan).collect())
}

/// The relay that this host has enrolled at, or that a token names: at least one address.
fn relay(
    settings: &Settings,
    asked: &CheckArgs,
) -> Result<(Vec<RelayAddress>, PublicKey), CheckError> {
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
    match addresses.is_empty() {
        true => Err(CheckError::NoRelay),
        false => Ok((addresses, pin)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser;
    use wire::{key::Secret, token::EnrolToken};

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        check: CheckArgs,
    }

    #[test]
    fn every_address_of_the_relay_is_tried_in_the_agents_order_and_with_the_relays_key() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let address = |host: &str, https_port| RelayAddress {
            host: host.to_owned(),
            tunnel_port: 8000,
            https_port,
        };
        let token = EnrolToken {
            addresses: vec![address("relay.example", 443), address("192.0.2.7", 8443)],
            relay_identity: PublicKey([7; 32]),
            secret: Secret::from_bytes([9; 32]),
            expires_unix_seconds: i64::MAX,
            environment: "berlin".to_owned(),
        };
        fs::write(&file, token.to_text()).unwrap();
        let line = Line::parse_from(["check", "--quick", "--token-file", file.to_str().unwrap()]);

        let plans = plans(&Settings::default(), &line.check, &[]).unwrap();

        let tried: Vec<_> = plans
            .iter()
            .map(|plan| (plan.target.host.as_str(), plan.target.https_port))
            .collect();
        assert_eq!(tried, [("relay.example", 443), ("192.0.2.7", 8443)]);
        let key = Some(token.relay_identity);
        assert!(plans.iter().all(|plan| plan.pin == key));
    }
}
