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
    if let Some(named) = spot.get("container_name")
        && let Some(name) = named.open_text(out)
    {
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

/// What is under a key, or nothing.
fn part<T: Default>(
    spot: &Spot<'_>,
    key: &str,
    out: &mut Findings,
    read: fn(&Spot<'_>, &mut Findings) -> T,
) -> T {
    let child = spot.get(key);
    child.map(|spot| read(&spot, out)).unwrap_or_default()
}

fn one_or_list(spot: &Spot<'_>, out: &mut Findings) -> Vec<String> {
    spot.one_or_texts(out)
}

fn list_of(spot: &Spot<'_>, out: &mut Findings) -> Vec<String> {
    spot.texts(out)
}

fn map_of(spot: &Spot<'_>, out: &mut Findings) -> BTreeMap<String, String> {
    spot.filled_pairs(out)
}

fn lists(spot: &Spot<'_>, service: &mut Service, out: &mut Findings) {
    service.dns = part(spot, "dns", out, one_or_list);
    service.dns_search = part(spot, "dns_search", out, one_or_list);
    service.dns_opt = part(spot, "dns_opt", out, list_of);
    service.cap_add = part(spot, "cap_add", out, list_of);
    service.cap_drop = part(spot, "cap_drop", out, list_of);
    service.device_cgroup_rules = part(spot, "device_cgroup_rules", out, list_of);
    service.group_add = part(spot, "group_add", out, groups);
    service.annotations = part(spot, "annotations", out, map_of);
    service.sysctls = part(spot, "sysctls", out, map_of);
    service.storage_opt = part(spot, "storage_opt", out, map_of);
    service.ports = part(spot, "ports", out, ports::ports);
    service.expose = part(spot, "expose", out, ports::expose);
    service.links = part(spot, "links", out, links);
    service.extra_hosts = part(spot, "extra_hosts", out, hosts);
    service.tmpfs = part(spot, "tmpfs", out, mounts::tmpfs);
    service.volumes_from = part(spot, "volumes_from", out, mounts::volumes_from);
    service.devices = part(spot, "devices", out, resources::devices);
    service.ulimits = part(spot, "ulimits", out, resources::ulimits);
    service.healthcheck = part(spot, "healthcheck", out, health::healthcheck);
    service.post_start = part(spot, "post_start", out, health::hooks);
    service.pre_stop = part(spot, "pre_stop", out, health::hooks);
    service.logging = part(spot, "logging", out, logging);
    part(spot, "profiles", out, profiles);
}

fn groups(spot: &Spot<'_>, out: &mut Findings) -> Vec<String> {
    spot.need_list(out);
    spot.items().filter_map(|item| item.any(out)).collect()
}

fn logging(spot: &Spot<'_>, out: &mut Findings) -> Option<Logging> {
    spot.need_map(out);
    Some(Logging {
        driver: spot.get("driver").and_then(|spot| spot.text(out)),
        options: part(spot, "options", out, map_of),
    })
}

/// Which are active was asked before; here, whether they are names.
fn profiles(spot: &Spot<'_>, out: &mut Findings) {
    for profile in spot.texts(out) {
        let begins = profile.starts_with(|c: char| c.is_ascii_alphanumeric());
        let is_known = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        if !begins || !profile.chars().all(is_known) {
            let message = format!("{profile:?} is no name of a profile");
            out.refuse(spot.problem(message, "Use letters, digits, _, . and -"));
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
