//! What the agent tells the relay about itself and its host.

use wire::message::{AgentReport, control};

use crate::{docker::Health, host::Host, policy::Policy};

/// Program and version, in hellos and reports.
pub const SOFTWARE: &str = concat!("sternline-agent/", env!("CARGO_PKG_VERSION"));

/// Most targets that a report names: with the longest names they fit a control message.
const TARGETS_MAX: usize = 100;

/// A report as a control message. `resident_bytes` is of the process.
pub fn compose(
    host: &Host,
    sandbox: &str,
    resident_bytes: u64,
    docker: &Health,
    policy: &Policy,
) -> control::Message {
    let mut allowed_targets = policy.words();
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
        sandbox: sandbox.to_owned(),
        resident_bytes,
    })
}

#[cfg(test)]
mod tests {
    use wire::limits::CONTROL_BYTES_MAX;

    use super::*;

    #[test]
    fn the_longest_report_fits_a_control_message() {
        let name = format!("{}.example", "x".repeat(240));
        let entries: Vec<String> = (1..=1_000)
            .map(|port| format!("'{name}:{port}-{}'", port + 1))
            .collect();
        let text = format!("[targets]\ntcp = [{}]\n", entries.join(","));
        let policy = Policy::parse(&text).unwrap();
        let long = "x".repeat(300);
        let host = Host {
            hostname: long.clone(),
            os: long.clone(),
            arch: long.clone(),
            kernel: long.clone(),
        };

        let message = compose(
            &host,
            &long,
            u64::MAX,
            &Health::Missing {
                advice: long.clone(),
            },
            &policy,
        );

        assert!(
            message.encoded_len() + 8 < CONTROL_BYTES_MAX,
            "{}",
            message.encoded_len()
        );
    }
}
