//! `deploy`, `scale`, `restart` and `pull_policy`.

use super::super::{amount, interpolate::Findings, spot::Spot};
use crate::model::{Deploy, FailureAction, Order, PullPolicy, Restart, UpdateConfig};

/// Most containers of one service on one host.
const REPLICAS_MAX: i64 = 1000;

/// How many containers.
pub(super) fn replicas(spot: &Spot<'_>, out: &mut Findings) -> u32 {
    let scale = spot
        .get("scale")
        .and_then(|spot| spot.int(0, REPLICAS_MAX, out));
    let deploy = spot.get("deploy");
    let count = deploy.as_ref().and_then(|deploy| deploy.get("replicas"));
    let replicas = count.and_then(|spot| spot.int(0, REPLICAS_MAX, out));
    if let (Some(scale), Some(replicas)) = (scale, replicas)
        && scale != replicas
    {
        let message = "scale and deploy.replicas say two things";
        out.refuse(spot.problem(message, "Take one of them out"));
    }
    let mut count = scale.or(replicas).unwrap_or(1);
    if let Some(deploy) = &deploy {
        if let Some(mode) = deploy.get("mode")
            && mode.choice(&["replicated", "global"], out).as_deref() == Some("global")
        {
            count = 1;
        }
        if let Some(placement) = deploy.get("placement")
            && let Some(most) = placement.get("max_replicas_per_node")
            && let Some(most) = most.int(0, i64::MAX, out)
            && most > 0
            && most < count
        {
            let message = format!("{count} replicas are more than placement allows on one host");
            out.refuse(
                placement.problem(message, "Lower replicas, or raise max_replicas_per_node"),
            );
        }
        if let Some(mode) = deploy.get("endpoint_mode") {
            mode.choice(&["dnsrr"], out);
        }
    }
    u32::try_from(count).unwrap_or(1)
}

/// `deploy.update_config` and `deploy.rollback_config`.
pub(super) fn deploy(spot: &Spot<'_>, out: &mut Findings) -> Deploy {
    let Some(deploy) = spot.get("deploy") else {
        return Deploy::default();
    };
    if !deploy.need_map(out) {
        return Deploy::default();
    }
    let actions = ["continue", "rollback", "pause"];
    Deploy {
        update: deploy
            .get("update_config")
            .map(|spot| update(&spot, &actions, out)),
        rollback: deploy
            .get("rollback_config")
            .map(|spot| update(&spot, &["continue", "pause"], out)),
    }
}

fn update(spot: &Spot<'_>, actions: &[&str], out: &mut Findings) -> UpdateConfig {
    spot.need_map(out);
    let parallelism = spot
        .get("parallelism")
        .and_then(|spot| spot.int(0, REPLICAS_MAX, out));
    let action = spot
        .get("failure_action")
        .and_then(|spot| spot.choice(actions, out));
    let order = spot.get("order");
    let order = order.and_then(|spot| spot.choice(&["start-first", "stop-first"], out));
    let ratio = spot.get("max_failure_ratio");
    let ratio = ratio.and_then(|spot| {
        let ratio = spot.float(out)?;
        if !(0.0..=1.0).contains(&ratio) {
            out.refuse(spot.problem("has to be from 0 to 1", ""));
            return None;
        }
        Some(ratio)
    });
    UpdateConfig {
        parallelism: parallelism.and_then(|number| u32::try_from(number).ok()),
        delay: spot.get("delay").and_then(|spot| spot.nanos(out)),
        failure_action: action.map(|action| match action.as_str() {
            "continue" => FailureAction::Continue,
            "pause" => FailureAction::Pause,
            _ => FailureAction::Rollback,
        }),
        monitor: spot.get("monitor").and_then(|spot| spot.nanos(out)),
        max_failure_ratio: ratio,
        order: order.map(|order| match order.as_str() {
            "start-first" => Order::StartFirst,
            _ => Order::StopFirst,
        }),
    }
}

/// `deploy.restart_policy`, or else `restart`.
pub(super) fn restart(spot: &Spot<'_>, out: &mut Findings) -> Restart {
    let own = spot
        .get("restart")
        .and_then(|spot| restart_text(&spot, out));
    if let Some(deploy) = spot.get("deploy")
        && let Some(policy) = deploy.get("restart_policy")
    {
        policy.need_map(out);
        let attempts = policy.get("max_attempts");
        let attempts = attempts.and_then(|spot| spot.int(0, i64::from(i32::MAX), out));
        let max_retries = attempts
            .and_then(|n| u32::try_from(n).ok())
            .unwrap_or_default();
        let condition = policy.get("condition");
        let condition = condition.and_then(|spot| spot.choice(&["none", "on-failure", "any"], out));
        return match condition.as_deref() {
            Some("none") => Restart::No,
            Some("on-failure") => Restart::OnFailure { max_retries },
            _ => Restart::Always,
        };
    }
    own.unwrap_or_default()
}

fn restart_text(spot: &Spot<'_>, out: &mut Findings) -> Option<Restart> {
    let text = spot.open_text(out)?;
    let (policy, retries) = match text.split_once(':') {
        Some((policy, retries)) => (policy, Some(retries)),
        None => (text.as_str(), None),
    };
    let read = match (policy, retries.map(str::parse::<u32>)) {
        ("no" | "", None) => Some(Restart::No),
        ("always", None) => Some(Restart::Always),
        ("unless-stopped", None) => Some(Restart::UnlessStopped),
        ("on-failure", None) => Some(Restart::OnFailure { max_retries: 0 }),
        ("on-failure", Some(Ok(max_retries))) => Some(Restart::OnFailure { max_retries }),
        _ => None,
    };
    if read.is_none() {
        let help = "Write no, always, unless-stopped, on-failure or on-failure:TIMES";
        out.refuse(spot.problem(format!("{text:?} is no policy"), help));
    }
    read
}

/// `pull_policy` and `pull_refresh_after`.
pub(super) fn pull_policy(spot: &Spot<'_>, out: &mut Findings) -> PullPolicy {
    let refresh = spot
        .get("pull_refresh_after")
        .and_then(|spot| spot.nanos(out));
    let Some(policy) = spot.get("pull_policy") else {
        return PullPolicy::default();
    };
    let Some(text) = policy.open_text(out) else {
        return PullPolicy::default();
    };
    let older = |nanos: i64| PullPolicy::Older {
        seconds: u64::try_from(nanos / 1_000_000_000).unwrap_or_default(),
    };
    let read = match text.as_str() {
        "always" => Some(PullPolicy::Always),
        "never" => Some(PullPolicy::Never),
        "missing" | "if_not_present" => Some(PullPolicy::Missing),
        "daily" => Some(PullPolicy::Older { seconds: 86_400 }),
        "weekly" => Some(PullPolicy::Older {
            seconds: 7 * 86_400,
        }),
        "refresh" => refresh.map(older),
        other => {
            let duration = other.strip_prefix("every_").and_then(amount::nanos);
            duration.filter(|nanos| *nanos > 0).map(older)
        }
    };
    read.unwrap_or_else(|| {
        let (message, help) = match text.as_str() {
            "build" => (
                "build is refused: nothing is built in a customer's network".to_owned(),
                "Build and push the image before, and write missing",
            ),
            "refresh" => (
                "refresh needs a duration".to_owned(),
                "Write pull_refresh_after: and a duration beside it",
            ),
            _ => (
                format!("{text:?} is no policy"),
                "Write always, missing, never, daily, weekly or every_DURATION",
            ),
        };
        out.refuse(policy.problem(message, help));
        PullPolicy::default()
    })
}
