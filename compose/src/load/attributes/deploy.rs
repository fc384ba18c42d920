//! `services.*.deploy`.

use super::{Attribute, idle, no, noted, yes};

/// `deploy`.
pub(super) const DEPLOY: &[Attribute] = &[
    yes("services.*.deploy"),
    noted(
        "services.*.deploy.mode",
        "`replicated`; `global` is one container, as an environment is one host; jobs are refused",
    ),
    noted(
        "services.*.deploy.endpoint_mode",
        "`dnsrr`, which is what an Engine does; `vip` is refused",
    ),
    yes("services.*.deploy.replicas"),
    idle(
        "services.*.deploy.labels",
        "a service is no object of an Engine that has labels. Use labels, for its containers",
    ),
    noted(
        "services.*.deploy.update_config",
        "Docker's Compose does nothing with it",
    ),
    yes("services.*.deploy.update_config.parallelism"),
    yes("services.*.deploy.update_config.delay"),
    yes("services.*.deploy.update_config.failure_action"),
    yes("services.*.deploy.update_config.monitor"),
    yes("services.*.deploy.update_config.max_failure_ratio"),
    yes("services.*.deploy.update_config.order"),
    noted(
        "services.*.deploy.rollback_config",
        "Docker's Compose does nothing with it",
    ),
    yes("services.*.deploy.rollback_config.parallelism"),
    yes("services.*.deploy.rollback_config.delay"),
    noted(
        "services.*.deploy.rollback_config.failure_action",
        "`continue` or `pause`",
    ),
    yes("services.*.deploy.rollback_config.monitor"),
    yes("services.*.deploy.rollback_config.max_failure_ratio"),
    yes("services.*.deploy.rollback_config.order"),
    yes("services.*.deploy.resources"),
    yes("services.*.deploy.resources.limits"),
    yes("services.*.deploy.resources.limits.cpus"),
    yes("services.*.deploy.resources.limits.memory"),
    yes("services.*.deploy.resources.limits.pids"),
    yes("services.*.deploy.resources.reservations"),
    idle(
        "services.*.deploy.resources.reservations.cpus",
        "an Engine reserves no processors. Use cpu_shares for a weight",
    ),
    yes("services.*.deploy.resources.reservations.memory"),
    yes("services.*.deploy.resources.reservations.devices"),
    yes("services.*.deploy.resources.reservations.devices[].capabilities"),
    yes("services.*.deploy.resources.reservations.devices[].count"),
    yes("services.*.deploy.resources.reservations.devices[].device_ids"),
    yes("services.*.deploy.resources.reservations.devices[].driver"),
    yes("services.*.deploy.resources.reservations.devices[].options"),
    no(
        "services.*.deploy.resources.reservations.generic_resources",
        "they are Swarm's. Use devices",
    ),
    noted("services.*.deploy.restart_policy", "before `restart`"),
    yes("services.*.deploy.restart_policy.condition"),
    yes("services.*.deploy.restart_policy.max_attempts"),
    idle(
        "services.*.deploy.restart_policy.delay",
        "an Engine waits by its own rule: 100 ms, doubled each time",
    ),
    idle(
        "services.*.deploy.restart_policy.window",
        "an Engine counts a start of 10 s as one that succeeded",
    ),
    yes("services.*.deploy.placement"),
    no(
        "services.*.deploy.placement.constraints",
        "an environment is one host. Choose environments by their tags",
    ),
    idle(
        "services.*.deploy.placement.preferences",
        "an environment is one host",
    ),
    idle(
        "services.*.deploy.placement.preferences[].spread",
        "an environment is one host",
    ),
    noted(
        "services.*.deploy.placement.max_replicas_per_node",
        "more replicas than it allows are refused",
    ),
];
