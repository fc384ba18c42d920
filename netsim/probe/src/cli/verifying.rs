//! `verify`: the rules of a file, all at once, and what came of them.

use std::{process::ExitCode, sync::Arc};

use futures_util::{StreamExt, stream};

use super::{EXIT_SOFTWARE, EXIT_USAGE, VerifyArguments, settle, show};
use crate::{
    measure,
    verify::{self, Demand, Rule, Rules, Tested, Verified},
};

/// Rules that are tested at once.
const AT_ONCE: usize = 32;

/// Runs the command.
pub(super) fn run(asked: &VerifyArguments) -> ExitCode {
    let wrong = |problem: &str| {
        anstream::eprintln!("error: {problem}");
        ExitCode::from(EXIT_USAGE)
    };
    let rules = match verify::read(&asked.rules) {
        Ok(rules) => rules,
        Err(problem) => return wrong(&problem),
    };
    let environment: Vec<_> = std::env::vars_os().collect();
    let proxy = settle::proxy(asked.proxy.as_deref(), false, &environment);
    let (proxy, roots) = match (proxy, settle::roots(asked.ca.as_deref())) {
        (Ok(proxy), Ok(roots)) => (proxy, Arc::new(roots)),
        (Err(error), _) | (_, Err(error)) => return wrong(&error.to_string()),
    };
    tunnel::install_crypto_provider();
    let runtime = match super::runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            anstream::eprintln!("error: this program cannot start: {error}");
            return ExitCode::from(EXIT_SOFTWARE);
        }
    };
    let demands = demands(&rules, asked.strict);
    let tested = runtime.block_on(async {
        let testing = demands.into_iter().map(|(rule, demand, is_sample)| {
            let (proxy, roots) = (proxy.as_ref(), &roots);
            async move {
                let came = measure::destination(&rule.asked(), (proxy, roots)).await;
                let (outcome, says) = verify::judge(&rule, demand, &came);
                Tested {
                    rule,
                    demand,
                    is_sample,
                    outcome,
                    says,
                }
            }
        });
        stream::iter(testing)
            .buffered(AT_ONCE)
            .collect::<Vec<_>>()
            .await
    });
    runtime.shutdown_background();
    let verified = Verified {
        kind: "sternline-probe verification".to_owned(),
        version: 1,
        rules: tested,
        listening: asked.strict.then(verify::agents),
    };
    shown(&verified, asked.json)
}

fn demands(rules: &Rules, is_strict: bool) -> Vec<(Rule, Demand, bool)> {
    let allow = rules
        .allow
        .iter()
        .map(|rule| (rule.clone(), Demand::Allow, false));
    let deny = rules
        .deny
        .iter()
        .map(|rule| (rule.clone(), Demand::Deny, false));
    let mut all: Vec<_> = allow.chain(deny).collect();
    if is_strict {
        let sample = verify::sample(rules).into_iter();
        all.extend(sample.map(|rule| (rule, Demand::Deny, true)));
    }
    all
}

fn shown(verified: &Verified, is_json: bool) -> ExitCode {
    let text = match is_json {
        true => match serde_json::to_string_pretty(verified) {
            Ok(json) => format!("{json}\n"),
            Err(error) => return show::unwritten(&error.to_string()),
        },
        false => verified.text(),
    };
    match show::print(&text) {
        Ok(()) => ExitCode::from(verified.exit_code()),
        Err(error) => show::unwritten(&error.to_string()),
    }
}
