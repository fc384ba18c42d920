//! A service.

use std::collections::BTreeMap;

use super::{
    super::{interpolate::Findings, spot::Spot},
    Reader, deploy, environment, files, health, mounts, network, ports, resources,
};
use crate::model::{Condition, Dependency, Logging, Service};

/// One service as it is written, whatever the others are.
pub(super) fn service(
    name: &str,
    spot: &Spot<'_>,
    top: &Spot<'_>,
    reader: &mut Reader<'_, '_>,
) -> Service {
    let environment = environment::environment(spot, reader);
    let labels = environment::labels(spot, reader);
    let mounts = mounts::mounts(spot, reader);
    let configs = files::file_mounts(files::Section::Configs, spot, top, reader);
    let secrets = files::file_mounts(files::Section::Secrets, spot, top, reader);
    let security = spot.get("security_opt");
    let security_opt = security
        .map(|spot| reader.security_opt(&spot))
        .unwrap_or_default();
    let out = reader.out();
    let mut service = Service {
        environment,
        labels,
        mounts,
        configs,
        secrets,
        security_opt,
        command: spot
            .get("command")
            .and_then(|spot| health::command(&spot, out)),
        entrypoint: spot
            .get("entrypoint")
            .and_then(|spot| health::command(&spot, out)),
        replicas: deploy::replicas(spot, out),
        depends_on: spot
            .get("depends_on")
            .map(|s| depends_on(&s, out))
            .unwrap_or_default(),
        networks: network::attachments(spot, out),
        resources: resources::resources(spot, out),
        restart: deploy::restart(spot, out),
        pull_policy: deploy::pull_policy(spot, out),
        deploy: deploy::deploy(spot, out),
        device_requests: resources::device_requests(spot, out),
        ..Service::default()
    };
    image(spot, &mut service, out);
    texts(spot, &mut service, out);
    lists(spot, &mut service, out);
    flags(spot, &mut service, out);
    modes(spot, &mut service, out);
    if service.container_name.is_some() && service.replicas > 1 {
        let message = format!(
            "{name} has a container_name, and {} replicas",
            service.replicas
        );
        let help = "A name is one container's: take it out";
        out.refuse(spot.problem(message, help));
    }
    service
}

fn image(spot: &Spot<'_>, service: &mut Service, out: &mut Findings) {
    let Some(image) = spot.get("image") else {
        // Who builds has heard of it already.
        if spot.node.get("build").is_none() && spot.node.get("provider").is_none() && spot.is_map()
        {
            out.refuse(spot.problem("has no image", "Write image: and its reference"));
        }
        return;
    };
    let Some(text) = image.open_text(out) else {
        return;
    };
    let is_reference = |c: char| c.is_ascii_alphanumeric() || "._-/:@[]+".contains(c);
    if text.is_empty() || !text.chars().all(is_reference) {
        let message = format!("{text:?} is no reference of an image");
        out.refuse(image.problem(message, "Write it as registry/name:tag"));
    }
    service.image = text;
}

fn texts(spot: &Spot<'_>, service: &mut Service, out: &mut Findings) {
    let mut text = |key: &str| {
        let child = spot.get(key)?;
        child.text(out)
    };
    service.hostname = text("hostname");
    service.domainname = text("domainname");
    service.mac_address = text("mac_address");
    service.user = text("user");
    service.working_dir = text("working_dir");
    service.cgroup_parent = text("cgroup_parent");
    service.stop_signal = text("stop_signal");
    service.runtime = text("runtime");
    service.platform = text("platform");
    if let Some(named) = spot.get("container_name") {
        let name = named.open_text(out).unwrap_or_default();
        let mut letters = name.chars();
        let begins = letters.next().is_some_and(|c| c.is_ascii_alphanumeric());
        let goes_on = letters.all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
        if !(begins && goes_on && name.len() > 1) {
            let message = format!("{name:?} is no name of a container");
            out.refuse(named.problem(message, "Use letters, digits, _, . and -"));
        }
        service.container_name = Some(name);
    }
    service.stop_grace_period = spot
        .get("stop_grace_period")
        .and_then(|spot| spot.nanos(out));
    service.shm_size = spot.get("shm_size").and_then(|spot| spot.bytes(out));
}

fn lists(spot: &Spot<'_>, service: &mut Service, out: &mut Findings) {
    let mut texts = |key: &str| {
        let child = spot.get(key);
        child.map(|spot| spot.one_or_texts(out)).unwrap_or_default()
    };
    service.dns = texts("dns");
    service.dns_search = texts("dns_search");
    let mut strict = |key: &str| {
        let child = spot.get(key);
        child.map(|spot| spot.texts(out)).unwrap_or_default()
    };
    service.dns_opt = strict("dns_opt");
    service.cap_add = strict("cap_add");
    service.cap_drop = strict("cap_drop");
    service.device_cgroup_rules = strict("device_cgroup_rules");
    if let Some(groups) = spot.get("group_add") {
        groups.need_list(out);
        service.group_add = groups.items().filter_map(|item| item.any(out)).collect();
    }
    let mut pairs = |key: &str| {
        let child = spot.get(key);
        child.map(|spot| spot.filled_pairs(out)).unwrap_or_default()
    };
    service.annotations = pairs("annotations");
    service.sysctls = pairs("sysctls");
    service.storage_opt = pairs("storage_opt");
    service.ports = spot
        .get("ports")
        .map(|s| ports::ports(&s, out))
        .unwrap_or_default();
    service.expose = spot
        .get("expose")
        .map(|s| ports::expose(&s, out))
        .unwrap_or_default();
    service.links = spot
        .get("links")
        .map(|s| links(&s, out))
        .unwrap_or_default();
    service.extra_hosts = spot
        .get("extra_hosts")
        .map(|s| hosts(&s, out))
        .unwrap_or_default();
    service.tmpfs = spot
        .get("tmpfs")
        .map(|s| mounts::tmpfs(&s, out))
        .unwrap_or_default();
    service.volumes_from = spot
        .get("volumes_from")
        .map(|s| mounts::volumes_from(&s, out))
        .unwrap_or_default();
    service.devices = spot
        .get("devices")
        .map(|s| resources::devices(&s, out))
        .unwrap_or_default();
    service.ulimits = spot
        .get("ulimits")
        .map(|s| resources::ulimits(&s, out))
        .unwrap_or_default();
    service.healthcheck = spot
        .get("healthcheck")
        .and_then(|s| health::healthcheck(&s, out));
    service.post_start = spot
        .get("post_start")
        .map(|s| health::hooks(&s, out))
        .unwrap_or_default();
    service.pre_stop = spot
        .get("pre_stop")
        .map(|s| health::hooks(&s, out))
        .unwrap_or_default();
    if let Some(logging) = spot.get("logging") {
        logging.need_map(out);
        service.logging = Some(Logging {
            driver: logging.get("driver").and_then(|spot| spot.text(out)),
            options: logging
                .get("options")
                .map(|s| s.filled_pairs(out))
                .unwrap_or_default(),
        });
    }
    if let Some(profiles) = spot.get("profiles") {
        for profile in profiles.texts(out) {
            let begins = profile.starts_with(|c: char| c.is_ascii_alphanumeric());
            let is_known = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
            if !begins || !profile.chars().all(is_known) {
                let message = format!("{profile:?} is no name of a profile");
                out.refuse(profiles.problem(message, "Use letters, digits, _, . and -"));
            }
        }
    }
}

fn flags(spot: &Spot<'_>, service: &mut Service, out: &mut Findings) {
    let mut flag = |key: &str| network::flag(spot, key, out);
    service.read_only = flag("read_only").unwrap_or_default();
    service.privileged = flag("privileged").unwrap_or_default();
    service.stdin_open = flag("stdin_open").unwrap_or_default();
    service.tty = flag("tty").unwrap_or_default();
    service.init = flag("init");
}

fn modes(spot: &Spot<'_>, service: &mut Service, out: &mut Findings) {
    let ipc = ["host", "private", "shareable", "none"];
    service.network_mode = spot
        .get("network_mode")
        .and_then(|spot| network::scope(&spot, &[], out));
    service.ipc = spot
        .get("ipc")
        .and_then(|spot| network::scope(&spot, &ipc, out));
    service.pid = spot
        .get("pid")
        .and_then(|spot| network::scope(&spot, &["host"], out));
    service.uts = spot.get("uts").and_then(|spot| spot.choice(&["host"], out));
    service.userns_mode = spot
        .get("userns_mode")
        .and_then(|spot| spot.choice(&["host"], out));
    service.cgroup = spot
        .get("cgroup")
        .and_then(|spot| spot.choice(&["host", "private"], out));
}

fn depends_on(spot: &Spot<'_>, out: &mut Findings) -> BTreeMap<String, Dependency> {
    let plain = Dependency {
        condition: Condition::Started,
        restart: false,
        required: true,
    };
    if spot.is_list() {
        let names = spot.texts(out).into_iter();
        return names.map(|name| (name, plain.clone())).collect();
    }
    let mut dependencies = BTreeMap::new();
    if !spot.need_map(out) {
        return dependencies;
    }
    let conditions = [
        "service_started",
        "service_healthy",
        "service_completed_successfully",
    ];
    for (name, entry) in spot.entries() {
        entry.need_map(out);
        let condition = entry.get("condition");
        let condition = condition.and_then(|spot| spot.choice(&conditions, out));
        dependencies.insert(
            name.to_owned(),
            Dependency {
                condition: match condition.as_deref() {
                    Some("service_healthy") => Condition::Healthy,
                    Some("service_completed_successfully") => Condition::Completed,
                    _ => Condition::Started,
                },
                restart: network::flag(&entry, "restart", out).unwrap_or_default(),
                required: network::flag(&entry, "required", out).unwrap_or(true),
            },
        );
    }
    dependencies
}

/// `SERVICE:ALIAS`, the alias written out.
fn links(spot: &Spot<'_>, out: &mut Findings) -> Vec<String> {
    let texts = spot.texts(out).into_iter();
    texts
        .map(|text| {
            if text.contains(':') {
                text
            } else {
                format!("{text}:{text}")
            }
        })
        .collect()
}

/// `HOST:ADDRESS`, sorted, each once.
fn hosts(spot: &Spot<'_>, out: &mut Findings) -> Vec<String> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    if spot.is_map() {
        for (host, addresses) in spot.entries() {
            let texts = addresses.one_or_texts(out).into_iter();
            pairs.extend(texts.map(|address| (host.to_owned(), address)));
        }
    } else {
        for text in spot.texts(out) {
            let parts = text.split_once('=').or_else(|| text.split_once(':'));
            match parts {
                Some((host, address)) => {
                    let each = address.split(',');
                    pairs.extend(each.map(|address| (host.to_owned(), address.to_owned())));
                }
                None => {
                    let message = format!("{text:?} has no address");
                    out.refuse(spot.problem(message, "Write HOST=ADDRESS"));
                }
            }
        }
    }
    let mut hosts: Vec<String> = Vec::with_capacity(pairs.len());
    for (host, address) in pairs {
        let inside = address
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        let bare = inside.unwrap_or(&address);
        let is_address = bare == "host-gateway" || bare.parse::<std::net::IpAddr>().is_ok();
        if host.is_empty() || host.contains([':', '=']) || !is_address {
            let message = format!("{host:?} with {bare:?} is no host with an address");
            out.refuse(spot.problem(message, "Write HOST=ADDRESS; host-gateway is one too"));
            continue;
        }
        hosts.push(format!("{host}:{bare}"));
    }
    hosts.sort();
    hosts.dedup();
    hosts
}
