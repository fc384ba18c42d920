//! The top level, and what stands there beside services.

use super::{Attribute, from, idle, no, noted, yes};

/// The top level.
pub(super) const TOP: &[Attribute] = &[
    idle("version", "it is obsolete, and every version is read alike"),
    noted("name", "before it comes a name that the command gives"),
    noted(
        "include",
        "each project with its own folder and `.env`; a name that is there twice is merged, with a warning",
    ),
    yes("include[].path"),
    yes("include[].project_directory"),
    yes("include[].env_file"),
    yes("services"),
    yes("networks"),
    yes("volumes"),
    yes("configs"),
    yes("secrets"),
    no(
        "models",
        "a Docker Engine runs no models. Run one as a service, from an image",
    ),
];

/// Networks, volumes, configs and secrets.
pub(super) const RESOURCES: &[Attribute] = &[
    yes("networks.*.name"),
    yes("networks.*.driver"),
    yes("networks.*.driver_opts"),
    yes("networks.*.ipam"),
    yes("networks.*.ipam.driver"),
    yes("networks.*.ipam.options"),
    yes("networks.*.ipam.config[].subnet"),
    yes("networks.*.ipam.config[].ip_range"),
    yes("networks.*.ipam.config[].gateway"),
    yes("networks.*.ipam.config[].aux_addresses"),
    noted(
        "networks.*.external",
        "with `name` beside it; the old form with `name` inside is read, with a warning",
    ),
    yes("networks.*.external.name"),
    yes("networks.*.internal"),
    from("networks.*.enable_ipv4", "1.48", "where it is `false`"),
    yes("networks.*.enable_ipv6"),
    yes("networks.*.attachable"),
    yes("networks.*.labels"),
    yes("volumes.*.name"),
    yes("volumes.*.driver"),
    yes("volumes.*.driver_opts"),
    noted(
        "volumes.*.external",
        "with `name` beside it; the old form with `name` inside is read, with a warning",
    ),
    yes("volumes.*.external.name"),
    yes("volumes.*.labels"),
    noted("configs.*.file", "relative; it ships with the release"),
    yes("configs.*.content"),
    noted(
        "configs.*.environment",
        "a secret variable's value stays out of the release",
    ),
    idle(
        "configs.*.name",
        "a config is a file in a container, and no object of an Engine that has a name",
    ),
    idle(
        "configs.*.labels",
        "a config is a file in a container, and no object of an Engine that has labels",
    ),
    no(
        "configs.*.external",
        "a Docker Engine without Swarm keeps no configs. Use file, content or environment",
    ),
    no(
        "configs.*.template_driver",
        "templates are Swarm's. Use interpolation in content",
    ),
    noted(
        "secrets.*.file",
        "relative; it ships with the release, where the vendor can read it. Prefer environment",
    ),
    noted(
        "secrets.*.environment",
        "its value stays out of the release where the variable is secret; with a warning otherwise",
    ),
    idle(
        "secrets.*.name",
        "a secret is a file in a container, and no object of an Engine that has a name",
    ),
    idle(
        "secrets.*.labels",
        "a secret is a file in a container, and no object of an Engine that has labels",
    ),
    no(
        "secrets.*.external",
        "a Docker Engine without Swarm keeps no secrets. Use environment, with a secret variable",
    ),
    no(
        "secrets.*.driver",
        "secret drivers are Swarm's. Use environment, with a secret variable",
    ),
    no(
        "secrets.*.driver_opts",
        "secret drivers are Swarm's. Use environment, with a secret variable",
    ),
    no(
        "secrets.*.template_driver",
        "templates are Swarm's. Use a config with content",
    ),
];
