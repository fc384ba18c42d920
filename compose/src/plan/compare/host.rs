//! The part of a container that concerns its host.

use std::collections::BTreeSet;

use bollard_stubs::models::{HostConfig, PortMap};
use serde_json::{Value, json};

use super::Differences;
use crate::model::{Service, ServiceScope};

/// Fields that are compared as they are; what is empty is the Engine's default.
const PLAIN: [(&str, &str); 28] = [
    ("CpuShares", "cpu_shares"),
    ("CpuPeriod", "cpu_period"),
    ("CpuQuota", "cpu_quota"),
    ("CpuRealtimePeriod", "cpu_rt_period"),
    ("CpuRealtimeRuntime", "cpu_rt_runtime"),
    ("CpusetCpus", "cpuset"),
    ("NanoCpus", "cpus"),
    ("Memory", "mem_limit"),
    ("MemoryReservation", "mem_reservation"),
    ("OomKillDisable", "oom_kill_disable"),
    ("OomScoreAdj", "oom_score_adj"),
    ("BlkioWeight", "blkio_config.weight"),
    ("BlkioWeightDevice", "blkio_config.weight_device"),
    ("BlkioDeviceReadBps", "blkio_config.device_read_bps"),
    ("BlkioDeviceReadIOps", "blkio_config.device_read_iops"),
    ("BlkioDeviceWriteBps", "blkio_config.device_write_bps"),
    ("BlkioDeviceWriteIOps", "blkio_config.device_write_iops"),
    ("CgroupParent", "cgroup_parent"),
    ("Privileged", "privileged"),
    ("ReadonlyRootfs", "read_only"),
    ("UTSMode", "uts"),
    ("Dns", "dns"),
    ("DnsSearch", "dns_search"),
    ("Sysctls", "sysctls"),
    ("StorageOpt", "storage_opt"),
    ("Annotations", "annotations"),
    ("DeviceRequests", "device_requests"),
    ("Devices", "devices"),
];

/// Lists whose order means nothing.
const SETS: [(&str, &str); 5] = [
    ("DnsOptions", "dns_opt"),
    ("ExtraHosts", "extra_hosts"),
    ("GroupAdd", "group_add"),
    ("DeviceCgroupRules", "device_cgroup_rules"),
    ("Ulimits", "ulimits"),
];

/// Compared where they are asked for; else the Engine's configuration decides.
const WHERE_ASKED: [(&str, &str); 6] = [
    ("ShmSize", "shm_size"),
    ("Runtime", "runtime"),
    ("CgroupnsMode", "cgroup"),
    ("Init", "init"),
    ("UsernsMode", "userns_mode"),
    ("MemorySwappiness", "mem_swappiness"),
];

pub(super) fn compare(
    found: &mut Differences,
    service: &Service,
    desired: &HostConfig,
    observed: &HostConfig,
) {
    let d = serde_json::to_value(desired).unwrap_or(Value::Null);
    let o = serde_json::to_value(observed).unwrap_or(Value::Null);
    for (field, name) in PLAIN {
        found.value(name, &d[field], &o[field]);
    }
    for (field, name) in SETS {
        found.value(name, &sorted(&d[field]), &sorted(&o[field]));
    }
    for (field, name) in WHERE_ASKED {
        if !d[field].is_null() {
            found.value(name, &d[field], &o[field]);
        }
    }
    for (field, name) in [("CapAdd", "cap_add"), ("CapDrop", "cap_drop")] {
        found.value(name, &capabilities(&d[field]), &capabilities(&o[field]));
    }
    found.value(
        "security_opt",
        &sorted(&d["SecurityOpt"]),
        &security(&d, &o),
    );
    found.value(
        "ports",
        &ports(&desired.port_bindings),
        &ports(&observed.port_bindings),
    );
    found.value(
        "restart",
        &restart(&d["RestartPolicy"]),
        &restart(&o["RestartPolicy"]),
    );
    limits(found, desired, observed);
    for (scope, name, field) in [
        (&service.ipc, "ipc", "IpcMode"),
        (&service.pid, "pid", "PidMode"),
    ] {
        let asked = scope.is_some() || name == "pid";
        if asked && !matches!(scope, Some(ServiceScope::Service(_))) {
            found.value(name, &d[field], &o[field]);
        }
    }
    network_mode(found, service, &d["NetworkMode"], &o["NetworkMode"]);
    if let Some(logging) = &service.logging {
        let (wanted, has) = (&d["LogConfig"], &o["LogConfig"]);
        if logging.driver.is_some() {
            found.value("logging.driver", &wanted["Type"], &has["Type"]);
        }
        found.value("logging.options", &wanted["Config"], &has["Config"]);
    }
    let others = service
        .volumes_from
        .iter()
        .all(|(from, _)| !matches!(from, ServiceScope::Service(_)));
    if others {
        found.value(
            "volumes_from",
            &sorted(&d["VolumesFrom"]),
            &sorted(&o["VolumesFrom"]),
        );
    }
}

/// Limits that the Engine derives, or writes in more than one way.
fn limits(found: &mut Differences, desired: &HostConfig, observed: &HostConfig) {
    let pids = |limit: Option<i64>| limit.filter(|limit| *limit > 0);
    let (wanted, has) = (pids(desired.pids_limit), pids(observed.pids_limit));
    found.value("pids_limit", &wanted.into(), &has.into());
    let memory = desired.memory.unwrap_or(0);
    let swap = observed.memory_swap.unwrap_or(0);
    match desired.memory_swap.filter(|limit| *limit != 0) {
        Some(wanted) => found.value("memswap_limit", &wanted.into(), &swap.into()),
        // The Engine doubles the memory, or cannot limit swap at all.
        None if swap == memory.saturating_mul(2) || swap <= 0 => {}
        None => found.value("memswap_limit", &Value::Null, &swap.into()),
    }
}

fn network_mode(found: &mut Differences, service: &Service, desired: &Value, observed: &Value) {
    match &service.network_mode {
        Some(ServiceScope::Service(_)) => {}
        Some(ServiceScope::Mode(mode)) if mode == "bridge" => {
            let bridge = matches!(observed.as_str(), Some("bridge" | "default"));
            if !bridge {
                found.value("network_mode", desired, observed);
            }
        }
        Some(_) => found.value("network_mode", desired, observed),
        None => {
            let mode = observed.as_str().unwrap_or_default();
            let own = mode.starts_with("container:") || mode == "host";
            if own || (service.networks.is_empty() && mode != "none") {
                found.value("network_mode", desired, observed);
            }
        }
    }
}

fn restart(policy: &Value) -> Value {
    let name = policy["Name"]
        .as_str()
        .filter(|name| !name.is_empty())
        .unwrap_or("no");
    let retries = policy["MaximumRetryCount"].as_i64().unwrap_or(0);
    match (name, retries) {
        (name, 0) => json!(name),
        (name, retries) => json!(format!("{name}:{retries}")),
    }
}

fn capabilities(list: &Value) -> Value {
    let names = list
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    let short = |name: &str| {
        let name = name.to_uppercase();
        name.strip_prefix("CAP_").unwrap_or(&name).to_owned()
    };
    json!(names.map(short).collect::<BTreeSet<_>>())
}

/// The Engine takes the label away by itself from a container that has much of the host.
fn security(desired: &Value, observed: &Value) -> Value {
    let wanted = desired["SecurityOpt"].as_array();
    let asked = |option: &Value| wanted.is_some_and(|all| all.contains(option));
    let all = observed["SecurityOpt"].as_array().into_iter().flatten();
    let kept = all.filter(|option| asked(option) || option.as_str() != Some("label=disable"));
    sorted(&kept.cloned().collect())
}

fn sorted(list: &Value) -> Value {
    let mut all: Vec<_> = list.as_array().cloned().unwrap_or_default();
    all.sort_by_key(ToString::to_string);
    Value::Array(all)
}

fn ports(bindings: &Option<PortMap>) -> Value {
    let mut all = BTreeSet::new();
    for (target, hosts) in bindings.iter().flatten() {
        for host in hosts.iter().flatten() {
            let address = host.host_ip.as_deref().unwrap_or_default();
            let port = host.host_port.as_deref().unwrap_or_default();
            all.insert(match address {
                "" => format!("{port}:{target}"),
                address => format!("{address}:{port}:{target}"),
            });
        }
    }
    json!(all)
}
