//! `healthcheck`, `command`, `entrypoint`, and commands that run beside a container's own.

use super::super::{amount, interpolate::Findings, node::Value, spot::Spot};
use crate::model::{HealthTest, Healthcheck, Hook};

/// Text that a shell would split, or a list.
pub(super) fn command(spot: &Spot<'_>, out: &mut Findings) -> Option<Vec<String>> {
    if let Value::Scalar(..) = spot.node.value {
        let text = spot.text(out)?;
        return match amount::words(&text) {
            Ok(words) => Some(words),
            Err(message) => {
                out.refuse(spot.problem(message, "Close it, or write a list of words"));
                None
            }
        };
    }
    if !spot.need_list(out) {
        return None;
    }
    let words = spot.items().map(|item| item.text(out));
    words.collect::<Vec<_>>().into_iter().collect()
}

/// `healthcheck`.
pub(super) fn healthcheck(spot: &Spot<'_>, out: &mut Findings) -> Option<Healthcheck> {
    if !spot.need_map(out) {
        return None;
    }
    let mut nanos = |key: &str| {
        let child = spot.get(key)?;
        child.nanos(out)
    };
    let (interval, timeout) = (nanos("interval"), nanos("timeout"));
    let (start_period, start_interval) = (nanos("start_period"), nanos("start_interval"));
    let retries = spot
        .get("retries")
        .and_then(|retries| retries.int(0, 1 << 30, out));
    let is_disabled = spot.get("disable").and_then(|disable| disable.bool(out)) == Some(true);
    let test = spot.get("test").and_then(|spot| test(&spot, out));
    Some(Healthcheck {
        test: if is_disabled {
            HealthTest::Disabled
        } else {
            test.unwrap_or_default()
        },
        interval,
        timeout,
        retries,
        start_period,
        start_interval,
    })
}

fn test(spot: &Spot<'_>, out: &mut Findings) -> Option<HealthTest> {
    if let Value::Scalar(..) = spot.node.value {
        let line = spot.text(out)?;
        return Some(match line.as_str() {
            "" => HealthTest::Inherit,
            _ => HealthTest::Shell(line),
        });
    }
    let mut words = command(spot, out)?;
    if words.is_empty() {
        return Some(HealthTest::Inherit);
    }
    let kind = words.remove(0);
    let help = "Begin it with NONE, CMD or CMD-SHELL";
    match kind.as_str() {
        "NONE" => Some(HealthTest::Disabled),
        "CMD" if words.is_empty() => {
            out.refuse(spot.problem(
                "has no program after CMD",
                "Write the program, and its arguments",
            ));
            None
        }
        "CMD" => Some(HealthTest::Command(words)),
        "CMD-SHELL" if words.len() == 1 => Some(HealthTest::Shell(words.remove(0))),
        "CMD-SHELL" => {
            let message = "has to have one line after CMD-SHELL";
            out.refuse(spot.problem(message, "Put it all in one, or write CMD"));
            None
        }
        other => {
            let message = format!("begins with {other:?}");
            out.refuse(spot.problem(message, help));
            None
        }
    }
}

/// `post_start`, `pre_stop`.
pub(super) fn hooks(spot: &Spot<'_>, out: &mut Findings) -> Vec<Hook> {
    let mut hooks = Vec::new();
    if !spot.need_list(out) {
        return hooks;
    }
    for item in spot.items() {
        if !item.need_map(out) {
            continue;
        }
        let command = item.get("command").and_then(|spot| command(&spot, out));
        let Some(command) = command.filter(|command| !command.is_empty()) else {
            out.refuse(item.problem("has no command", "Write command: and what is run"));
            continue;
        };
        let privileged = item.get("privileged").and_then(|spot| spot.bool(out));
        hooks.push(Hook {
            command,
            user: item.get("user").and_then(|spot| spot.text(out)),
            privileged: privileged.unwrap_or_default(),
            working_dir: item.get("working_dir").and_then(|spot| spot.text(out)),
            environment: item
                .get("environment")
                .map(|s| s.pairs(out))
                .unwrap_or_default(),
        });
    }
    hooks
}
