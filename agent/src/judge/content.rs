//! What bodies ask for: walls of a container that come down, paths and ports of the host.
//!
//! A structure is a table of its members. A member that is not in the table is of a newer
//! Engine, and refused unless it says nothing: what is not known cannot be judged.

use std::collections::HashSet;

use super::{Denied, image, json::Json, operation::Look};
use crate::policy::{
    DockerRules, Rule,
    docker::{Namespace, capability_name},
};

mod mount;

use mount::{judge_bind, judge_mount, volume_driver, volume_options};

/// Judges one member.
type Check = fn(&DockerRules, &Json) -> Result<(), Denied>;
/// Members that say how much, and not what.
type Free = &'static [&'static str];
/// Members that are judged, in lower case.
type Judged = &'static [(&'static str, Check)];

/// `POST /containers/create`.
const CONTAINER: (Free, Judged) = (
    &[
        "argsescaped",
        "attachstderr",
        "attachstdin",
        "attachstdout",
        "cmd",
        "domainname",
        "entrypoint",
        "env",
        "exposedports",
        "healthcheck",
        "hostname",
        "labels",
        "macaddress",
        "networkdisabled",
        "onbuild",
        "openstdin",
        "shell",
        "stdinonce",
        "stopsignal",
        "stoptimeout",
        "tty",
        "user",
        "volumes",
        "workingdir",
    ],
    &[
        ("hostconfig", |rules, json| {
            walk(rules, json, "HostConfig", HOST_CONFIG)
        }),
        ("image", |rules, json| image(rules, text(json, "Image")?)),
        // Old Engines read what belongs to `HostConfig` here, too.
        ("maskedpaths", |rules, json| {
            list_wall(rules, json, "MaskedPaths")
        }),
        ("networkingconfig", |rules, json| {
            walk(
                rules,
                json,
                "NetworkingConfig",
                (&[], &[("endpointsconfig", endpoints)]),
            )
        }),
        ("readonlypaths", |rules, json| {
            list_wall(rules, json, "ReadonlyPaths")
        }),
    ],
);

/// `HostConfig`, and what of it `POST /containers/{id}/update` takes.
const HOST_CONFIG: (Free, Judged) = (
    &[
        "autoremove",
        "blkiodevicereadbps",
        "blkiodevicereadiops",
        "blkiodevicewritebps",
        "blkiodevicewriteiops",
        "blkioweight",
        "blkioweightdevice",
        "capdrop",
        "consolesize",
        "containeridfile",
        "cpucount",
        "cpupercent",
        "cpuperiod",
        "cpuquota",
        "cpurealtimeperiod",
        "cpurealtimeruntime",
        "cpusetcpus",
        "cpusetmems",
        "cpushares",
        "dns",
        "dnsoptions",
        "dnssearch",
        "extrahosts",
        "groupadd",
        "init",
        "iomaximumbandwidth",
        "iomaximumiops",
        "isolation",
        "kernelmemory",
        "kernelmemorytcp",
        "links",
        "memory",
        "memoryreservation",
        "memoryswap",
        "memoryswappiness",
        "nanocpus",
        "oomkilldisable",
        "oomscoreadj",
        "pidslimit",
        "readonlyrootfs",
        "restartpolicy",
        "shmsize",
        "storageopt",
        "sysctls",
        "tmpfs",
        "ulimits",
    ],
    &[
        ("annotations", |rules, json| {
            wall(rules, json, "Annotations")
        }),
        ("binds", |rules, json| {
            each(json, "Binds", |bind| judge_bind(rules, bind))
        }),
        ("capadd", |rules, json| {
            each(json, "CapAdd", |name| capability(rules, name))
        }),
        ("cgroup", |rules, json| {
            namespace(rules, json, Namespace::Cgroup)
        }),
        ("cgroupnsmode", |rules, json| {
            namespace(rules, json, Namespace::Cgroup)
        }),
        ("cgroupparent", |rules, json| {
            wall(rules, json, "CgroupParent")
        }),
        ("devicecgrouprules", |rules, json| {
            wall(rules, json, "DeviceCgroupRules")
        }),
        ("devicerequests", |rules, json| {
            each(json, "DeviceRequests", |one| gpu(rules, one))
        }),
        ("devices", |rules, json| {
            each(json, "Devices", |one| walk(rules, one, "Devices", DEVICE))
        }),
        ("ipcmode", |rules, json| {
            namespace(rules, json, Namespace::Ipc)
        }),
        ("logconfig", |rules, json| {
            walk(
                rules,
                json,
                "LogConfig",
                (&["config"], &[("type", log_driver)]),
            )
        }),
        // Even an empty list takes the default ones away.
        ("maskedpaths", |rules, json| {
            list_wall(rules, json, "MaskedPaths")
        }),
        ("mounts", |rules, json| {
            each(json, "Mounts", |mount| judge_mount(rules, mount))
        }),
        ("networkmode", |rules, json| {
            namespace(rules, json, Namespace::Network)
        }),
        ("pidmode", |rules, json| {
            namespace(rules, json, Namespace::Pid)
        }),
        ("portbindings", ports),
        ("privileged", |rules, json| wall(rules, json, "Privileged")),
        ("publishallports", |rules, json| match json.is_blank() {
            true => Ok(()),
            false => port_range(rules, ""),
        }),
        ("readonlypaths", |rules, json| {
            list_wall(rules, json, "ReadonlyPaths")
        }),
        ("runtime", |rules, json| match json {
            Json::Text(name) if matches!(name.as_str(), "runc" | "io.containerd.runc.v2") => Ok(()),
            other => wall(rules, other, "Runtime"),
        }),
        ("securityopt", |rules, json| {
            each(json, "SecurityOpt", |one| security(rules, one))
        }),
        ("usernsmode", |rules, json| {
            namespace(rules, json, Namespace::User)
        }),
        ("utsmode", |rules, json| {
            namespace(rules, json, Namespace::Uts)
        }),
        ("volumedriver", |rules, json| volume_driver(rules, json)),
        ("volumesfrom", |rules, json| {
            let is_allowed = json.is_blank() || rules.volumes_from;
            only_if(is_allowed, Rule::VolumesFrom, || {
                "volumes of another container".to_owned()
            })
        }),
    ],
);

/// One of `Devices`.
const DEVICE: (Free, Judged) = (
    &["cgrouppermissions", "pathincontainer"],
    &[("pathonhost", |rules, json| {
        let path = text(json, "PathOnHost")?;
        only_if(
            rules.devices.iter().any(|device| device == path),
            Rule::Devices,
            || format!("the device {path:?}"),
        )
    })],
);

/// `POST /containers/{id}/exec`.
const EXEC: (Free, Judged) = (
    &[
        "attachstderr",
        "attachstdin",
        "attachstdout",
        "cmd",
        "consolesize",
        "container",
        "detach",
        "detachkeys",
        "env",
        "tty",
        "user",
        "workingdir",
    ],
    &[("privileged", |rules, json| wall(rules, json, "Privileged"))],
);

/// `POST /volumes/create`.
const VOLUME: (Free, Judged) = (
    &["labels", "name"],
    &[("driver", volume_driver), ("driveropts", volume_options)],
);

/// `POST /networks/create`.
const NETWORK: (Free, Judged) = (
    &[
        "attachable",
        "checkduplicate",
        "configfrom",
        "configonly",
        "enableipv4",
        "enableipv6",
        "ingress",
        "internal",
        "ipam",
        "labels",
        "name",
        "options",
        "scope",
    ],
    &[("driver", |rules, json| match text(json, "Driver")? {
        "" | "bridge" | "default" | "overlay" => Ok(()),
        // macvlan and its like stand beside the host on its own network.
        other => needs_namespace(
            rules,
            Namespace::Network,
            &format!("a network of the driver {other:?}"),
        ),
    })],
);

/// `POST /auth`.
const AUTH: (Free, Judged) = (
    &[
        "auth",
        "email",
        "identitytoken",
        "password",
        "registrytoken",
        "username",
    ],
    &[("serveraddress", |rules, json| {
        registry(
            rules,
            &image::registry_of_server(text(json, "serveraddress")?),
        )
    })],
);

/// Judges a body that a request's operation says to look at.
///
/// # Errors
///
/// What is denied, and by which rule.
pub fn judge(rules: &DockerRules, look: Look, json: &Json) -> Result<(), Denied> {
    match look {
        Look::Container => walk(rules, json, "the container", CONTAINER),
        Look::Update => walk(rules, json, "the update", HOST_CONFIG),
        Look::ExecCreate => walk(rules, json, "the command", EXEC),
        Look::Volume => walk(rules, json, "the volume", VOLUME),
        Look::Network => walk(rules, json, "the network", NETWORK),
        Look::Auth => {
            let says = matches!(json, Json::Object(members)
                if members.iter().any(|(name, _)| name.eq_ignore_ascii_case("serveraddress")));
            match says {
                true => Ok(()),
                false => registry(rules, "docker.io"),
            }?;
            walk(rules, json, "the credentials", AUTH)
        }
        _ if json.is_blank() => Ok(()),
        _ => Err(Denied::new(Rule::Request, "a body where none belongs")),
    }
}

/// Whether an image may be used: by its name, or as one that is there already.
///
/// # Errors
///
/// Its registry is not named.
pub fn image(rules: &DockerRules, reference: &str) -> Result<(), Denied> {
    if image::is_id(reference) {
        return Ok(());
    }
    match image::repository(reference) {
        Some((registry, path)) if rules.permits_repository(&registry, &path) => Ok(()),
        Some((registry, path)) => Err(Denied::new(
            Rule::Registries,
            format!("the image {registry}/{path}"),
        )),
        None => Err(Denied::new(
            Rule::Registries,
            format!("the image {reference:?}"),
        )),
    }
}

/// Whether a registry may be talked to.
///
/// # Errors
///
/// It is not named.
pub fn registry(rules: &DockerRules, name: &str) -> Result<(), Denied> {
    only_if(rules.permits_registry(name), Rule::Registries, || {
        format!("the registry {name:?}")
    })
}

/// Whether a namespace of the host may be shared.
///
/// # Errors
///
/// It is not named.
pub fn needs_namespace(rules: &DockerRules, name: Namespace, what: &str) -> Result<(), Denied> {
    only_if(
        rules.host_namespaces.contains(&name),
        Rule::HostNamespaces,
        || format!("{what}, which needs \"{}\"", name.as_str()),
    )
}

fn walk(
    rules: &DockerRules,
    json: &Json,
    what: &str,
    (free, judged): (Free, Judged),
) -> Result<(), Denied> {
    let members = match json {
        Json::Null => return Ok(()),
        Json::Object(members) => members,
        _ => return Err(Denied::new(Rule::Request, format!("{what} is no object"))),
    };
    // A body may have as many members as fit a mebibyte.
    let mut seen = HashSet::with_capacity(members.len());
    for (name, value) in members {
        let folded = name.to_ascii_lowercase();
        if seen.contains(&folded) {
            let why = format!("{what} has `{name}` more than once");
            return Err(Denied::new(Rule::Request, why));
        }
        match judged.iter().find(|(known, _)| *known == folded) {
            Some(_) if *value == Json::Null => {}
            Some((_, check)) => check(rules, value)?,
            None if free.contains(&folded.as_str()) || value.is_blank() => {}
            None if rules.privileged => {}
            None => {
                let why = format!("{what} has `{name}`, which this agent does not know");
                return Err(Denied::new(Rule::Privileged, why));
            }
        }
        seen.insert(folded);
    }
    Ok(())
}

/// Allowed, or what is denied, and by which rule.
fn only_if(is_allowed: bool, rule: Rule, what: impl FnOnce() -> String) -> Result<(), Denied> {
    if is_allowed {
        Ok(())
    } else {
        Err(Denied::new(rule, what()))
    }
}

fn text<'j>(json: &'j Json, what: &str) -> Result<&'j str, Denied> {
    match json {
        Json::Null => Ok(""),
        Json::Text(text) => Ok(text),
        _ => Err(Denied::new(Rule::Request, format!("`{what}` is no text"))),
    }
}

fn each(
    json: &Json,
    what: &str,
    check: impl Fn(&Json) -> Result<(), Denied>,
) -> Result<(), Denied> {
    match json {
        Json::Null => Ok(()),
        Json::Array(values) => values.iter().try_for_each(check),
        _ => Err(Denied::new(Rule::Request, format!("`{what}` is no list"))),
    }
}

/// A wall that only `privileged` takes down.
fn wall(rules: &DockerRules, json: &Json, what: &str) -> Result<(), Denied> {
    only_if(
        json.is_blank() || rules.privileged,
        Rule::Privileged,
        || format!("`{what}`"),
    )
}

fn list_wall(rules: &DockerRules, json: &Json, what: &str) -> Result<(), Denied> {
    only_if(
        *json == Json::Null || rules.privileged,
        Rule::Privileged,
        || format!("`{what}`"),
    )
}

fn namespace(rules: &DockerRules, json: &Json, name: Namespace) -> Result<(), Denied> {
    let mode = text(json, name.as_str())?.to_ascii_lowercase();
    // What another container shares with the host cannot be seen from here.
    match mode == "host" || mode.starts_with("container:") {
        true => needs_namespace(rules, name, &format!("the namespace {mode:?}")),
        false => Ok(()),
    }
}

fn capability(rules: &DockerRules, json: &Json) -> Result<(), Denied> {
    let name = capability_name(text(json, "CapAdd")?);
    let is_named = |known: &String| *known == name || known == "ALL";
    only_if(
        rules.capabilities.iter().any(is_named),
        Rule::Capabilities,
        || format!("the capability {name:?}"),
    )
}

fn security(rules: &DockerRules, json: &Json) -> Result<(), Denied> {
    let option = text(json, "SecurityOpt")?;
    let tightens = matches!(
        option,
        "no-new-privileges"
            | "no-new-privileges:true"
            | "no-new-privileges=true"
            | "seccomp=builtin"
            | "apparmor=docker-default"
    );
    only_if(tightens || rules.privileged, Rule::Privileged, || {
        // A profile may be given as a whole.
        let name = option.split(['=', ':']).next().unwrap_or_default();
        format!("the security option {name:?}")
    })
}

fn gpu(rules: &DockerRules, json: &Json) -> Result<(), Denied> {
    let driver = match json {
        Json::Object(members) => {
            let driver = members
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case("driver"));
            driver.map_or(Ok(""), |(_, value)| text(value, "Driver"))?
        }
        _ => "?",
    };
    let is_gpu = matches!(driver, "" | "nvidia") && rules.devices.iter().any(|name| name == "gpu");
    only_if(is_gpu || rules.privileged, Rule::Devices, || {
        format!("devices of the driver {driver:?}")
    })
}

fn log_driver(rules: &DockerRules, json: &Json) -> Result<(), Denied> {
    let name = text(json, "Type")?;
    let stays = matches!(name, "" | "json-file" | "local" | "journald" | "none");
    only_if(
        stays || rules.log_drivers.iter().any(|known| known == name),
        Rule::LogDrivers,
        || format!("the log driver {name:?}"),
    )
}

fn endpoints(rules: &DockerRules, json: &Json) -> Result<(), Denied> {
    let Json::Object(networks) = json else {
        return each(json, "EndpointsConfig", |_| Ok(()));
    };
    match networks
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("host"))
    {
        true => needs_namespace(rules, Namespace::Network, "the network \"host\""),
        false => Ok(()),
    }
}

fn ports(rules: &DockerRules, json: &Json) -> Result<(), Denied> {
    let Json::Object(bindings) = json else {
        return each(json, "PortBindings", |_| Ok(()));
    };
    bindings.iter().try_for_each(|(_, list)| {
        each(list, "PortBindings", |binding| {
            let Json::Object(members) = binding else {
                return port_range(rules, "");
            };
            let is_port = |name: &str| name.eq_ignore_ascii_case("hostport");
            let said: Vec<_> = members.iter().filter(|(name, _)| is_port(name)).collect();
            match said.as_slice() {
                [] => port_range(rules, ""),
                said => said
                    .iter()
                    .try_for_each(|(_, port)| port_range(rules, text(port, "HostPort")?)),
            }
        })
    })
}

/// One port, several, or none: then the Engine takes a free one, as Linux has them.
fn port_range(rules: &DockerRules, text: &str) -> Result<(), Denied> {
    let (first, last) = match text.trim() {
        "" | "0" => ("32768", "60999"),
        range => range.split_once('-').unwrap_or((range, range)),
    };
    let permitted = match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) => (first..=last).all(|port| rules.permits_port(port)),
        _ => false,
    };
    match permitted {
        true => Ok(()),
        false if text.is_empty() => Err(Denied::new(Rule::Ports, "any free port of the host")),
        false => Err(Denied::new(
            Rule::Ports,
            format!("the port {text:?} of the host"),
        )),
    }
}

#[cfg(test)]
mod tests;
