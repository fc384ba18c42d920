//! What the agent tells the relay about itself and its host.

use tunnel::{Dialled, dial::proxy::Proxy};
use wire::message::{self, AgentReport, control};

use crate::{docker::Health, host::Host, policy_file::PolicyInForce, sandbox::Told};

/// Program and version, in hellos and reports.
pub const SOFTWARE: &str = concat!("sternline-agent/", env!("CARGO_PKG_VERSION"));

/// Most targets that a report names: with the longest names they fit a control message.
const TARGETS_MAX: usize = 60;
/// Bytes of the other rules that a report has: those of a policy that a person wrote.
const RULES_BYTES_MAX: usize = 8 * 1024;

/// Most bytes of an issuer that are told: a stranger has written it.
const ISSUER_BYTES_MAX: usize = 512;

/// What a session passes on its way to the relay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Passed {
    /// The proxy, without its login; empty: none.
    proxy: String,
    /// Who intercepts TLS; empty: nobody.
    intercepted_by: String,
}

impl Passed {
    /// Of a session that was dialled.
    pub fn of(dialled: &Dialled) -> Self {
        let issuer = dialled.intercepted_by.as_deref().unwrap_or_default();
        let proxy = dialled.way.proxy.as_ref();
        Self {
            proxy: proxy.map(Proxy::to_string).unwrap_or_default(),
            intercepted_by: issuer[..issuer.floor_char_boundary(ISSUER_BYTES_MAX)].to_owned(),
        }
    }
}

/// A report as a control message. `resident_bytes` is of the process.
pub fn compose(
    (host, sandbox, resident_bytes): (&Host, &Told, u64),
    way: &Passed,
    docker: &Health,
    in_force: &PolicyInForce,
) -> control::Message {
    let mut allowed_targets = in_force.policy.words();
    if allowed_targets.len() > TARGETS_MAX {
        let left_out = allowed_targets.len() - TARGETS_MAX;
        allowed_targets.truncate(TARGETS_MAX);
        allowed_targets.push(format!("and {left_out} more"));
    }
    control::Message::AgentReport(AgentReport {
        hostname: host.hostname.clone(),
        os: host.os.clone(),
        arch: host.arch.clone(),
        kernel: host.kernel.clone(),
        software: SOFTWARE.to_owned(),
        docker: Some(docker.to_message()),
        allowed_targets,
        sandbox: sandbox.words.clone(),
        resident_bytes,
        policy_rules: bounded(in_force.policy.rules()),
        policy_file_broken: in_force.error.is_some(),
        fences: sandbox
            .fences
            .iter()
            .map(|fence| message::Fence {
                name: fence.name.clone(),
                in_force: fence.in_force,
                detail: fence.detail.clone(),
                needed: fence.is_needed(),
            })
            .collect(),
        proxy: way.proxy.clone(),
        intercepted_by: way.intercepted_by.clone(),
    })
}

/// As many rules as fit, each cut where it alone is too long.
fn bounded(rules: Vec<String>) -> Vec<String> {
    let (mut left, count) = (RULES_BYTES_MAX, rules.len());
    let mut kept = Vec::new();
    for mut rule in rules {
        if rule.len() > RULES_BYTES_MAX / 4 {
            rule.truncate(rule.floor_char_boundary(RULES_BYTES_MAX / 4));
            rule.push('…');
        }
        match left.checked_sub(rule.len()) {
            Some(rest) => left = rest,
            None => break,
        }
        kept.push(rule);
    }
    if kept.len() < count {
        kept.push(format!("and {} more", count - kept.len()));
    }
    kept
}

#[cfg(test)]
mod tests {
    use wire::limits::CONTROL_BYTES_MAX;

    use super::*;
    use crate::{policy::Policy, sandbox::Fence};

    #[test]
    fn the_longest_report_fits_a_control_message() {
        let name = format!("{}.example", "x".repeat(240));
        let entries: Vec<String> = (1..=1_000)
            .map(|port| format!("'{name}:{port}-{}'", port + 1))
            .collect();
        let mounts: Vec<String> = (0..1_000)
            .map(|number| format!("'/{number}/{name}'"))
            .collect();
        let text = format!(
            "[targets]\ntcp = [{}]\n[docker]\naccess = 'limited'\nbind_mounts = [{}]\n",
            entries.join(","),
            mounts.join(",")
        );
        let policy = PolicyInForce::of(Policy::parse(&text).unwrap());
        let long = "x".repeat(300);
        let host = Host {
            hostname: long.clone(),
            os: long.clone(),
            arch: long.clone(),
            kernel: long.clone(),
        };

        let way = Passed {
            proxy: long.clone(),
            intercepted_by: "x".repeat(ISSUER_BYTES_MAX),
        };

        let message = compose(
            (
                &host,
                &Told {
                    words: long.clone(),
                    fences: vec![
                        Fence {
                            name: "x".repeat(20),
                            in_force: false,
                            detail: "x".repeat(100),
                        };
                        16
                    ],
                },
                u64::MAX,
            ),
            &way,
            &Health::Missing { advice: long },
            &policy,
        );

        assert!(
            message.encoded_len() + 8 < CONTROL_BYTES_MAX,
            "{}",
            message.encoded_len()
        );
    }
}
