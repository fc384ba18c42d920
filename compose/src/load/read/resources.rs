//! What a container may use: the top-level attributes and `deploy.resources`.

use std::collections::BTreeMap;

use super::super::{amount, interpolate::Findings, node::Value, spot::Spot};
use crate::model::{
    Blkio, BlkioRate, BlkioWeight, DeviceMapping, DeviceRequest, Resources, Ulimit,
};

const ANY: (i64, i64) = (i64::MIN, i64::MAX);

/// Limits and reservations.
pub(super) fn resources(spot: &Spot<'_>, out: &mut Findings) -> Resources {
    let mut int = |key: &str, (least, most): (i64, i64)| {
        let child = spot.get(key)?;
        child.int(least, most, out)
    };
    let mut read = Resources {
        cpu_shares: int("cpu_shares", (0, i64::MAX)),
        cpu_period: int("cpu_period", (0, i64::MAX)),
        cpu_quota: int("cpu_quota", ANY),
        memory_swappiness: int("mem_swappiness", (0, 100)),
        oom_score_adj: int("oom_score_adj", (-1000, 1000)),
        pids: int("pids_limit", ANY),
        ..Resources::default()
    };
    let mut bytes = |key: &str| {
        let child = spot.get(key)?;
        child.bytes(out)
    };
    read.memory = bytes("mem_limit");
    read.memory_reservation = bytes("mem_reservation");
    // 0 is as if it were not there, by the specification.
    read.memory_swap = bytes("memswap_limit").filter(|size| *size != 0);
    read.cpu_rt_period = spot
        .get("cpu_rt_period")
        .and_then(|spot| micros(&spot, out));
    read.cpu_rt_runtime = spot
        .get("cpu_rt_runtime")
        .and_then(|spot| micros(&spot, out));
    read.nano_cpus = spot.get("cpus").and_then(|spot| cpus(&spot, out));
    read.cpuset = spot.get("cpuset").and_then(|spot| spot.text(out));
    read.oom_kill_disable = spot.get("oom_kill_disable").and_then(|spot| spot.bool(out));
    read.blkio = spot.get("blkio_config").map(|spot| blkio(&spot, out));
    if let Some(deploy) = spot.get("deploy")
        && let Some(resources) = deploy.get("resources")
    {
        if let Some(limits) = resources.get("limits") {
            let cpus = limits.get("cpus").and_then(|spot| cpus(&spot, out));
            join(&mut read.nano_cpus, cpus, "cpus", &limits, out);
            let memory = limits.get("memory").and_then(|spot| spot.bytes(out));
            join(&mut read.memory, memory, "mem_limit", &limits, out);
            let pids = limits
                .get("pids")
                .and_then(|spot| spot.int(-1, i64::MAX, out));
            join(&mut read.pids, pids, "pids_limit", &limits, out);
        }
        if let Some(reserved) = resources.get("reservations") {
            let memory = reserved.get("memory").and_then(|spot| spot.bytes(out));
            join(
                &mut read.memory_reservation,
                memory,
                "mem_reservation",
                &reserved,
                out,
            );
        }
    }
    // 0 processors are no limit, by the specification.
    read.nano_cpus = read.nano_cpus.filter(|nanos| *nanos != 0);
    if read.memory_swap.is_some_and(|size| size > 0)
        && read.memory.is_none()
        && let Some(swap) = spot.get("memswap_limit")
    {
        let message = "is memory and swap together, and needs mem_limit";
        out.refuse(swap.problem(message, "Write mem_limit: beside it"));
    }
    read
}

/// The same limit in two places has to be the same.
fn join(kept: &mut Option<i64>, other: Option<i64>, key: &str, at: &Spot<'_>, out: &mut Findings) {
    if let (Some(kept), Some(other)) = (*kept, other)
        && kept != other
    {
        let message = format!("says something else than {key} of the service");
        out.refuse(at.problem(message, "Take one of them out"));
    }
    *kept = other.or(*kept);
}

fn cpus(spot: &Spot<'_>, out: &mut Findings) -> Option<i64> {
    let read = spot.node.scalar().and_then(|text| amount::nano_cpus(&text));
    if read.is_none() {
        out.refuse(spot.problem("has to be a number of processors", "Such as 0.5"));
    }
    read
}

/// Microseconds: a number, or a duration.
fn micros(spot: &Spot<'_>, out: &mut Findings) -> Option<i64> {
    let text = spot.node.scalar().unwrap_or_default();
    if text.chars().all(|c| c.is_ascii_digit()) {
        return spot.int(0, i64::MAX, out);
    }
    spot.nanos(out).map(|nanos| nanos / 1000)
}

fn blkio(spot: &Spot<'_>, out: &mut Findings) -> Blkio {
    let weight = |spot: Option<Spot<'_>>, out: &mut Findings| {
        let weight = spot?.int(10, 1000, out)?;
        u16::try_from(weight).ok()
    };
    let mut weights = Vec::new();
    if let Some(list) = spot.get("weight_device") {
        list.need_list(out);
        for item in list.items() {
            let path = item.get("path").and_then(|spot| spot.text(out));
            match (path, weight(item.get("weight"), out)) {
                (Some(path), Some(weight)) => weights.push(BlkioWeight { path, weight }),
                _ => out.refuse(item.problem("needs path and weight", "Write both")),
            }
        }
    }
    let mut rates = |key: &str| {
        let mut rates = Vec::new();
        let Some(list) = spot.get(key) else {
            return rates;
        };
        list.need_list(out);
        for item in list.items() {
            let path = item.get("path").and_then(|spot| spot.text(out));
            let rate = item.get("rate").and_then(|spot| spot.bytes(out));
            match (path, rate) {
                (Some(path), Some(rate)) => rates.push(BlkioRate { path, rate }),
                _ => out.refuse(item.problem("needs path and rate", "Write both")),
            }
        }
        rates
    };
    Blkio {
        device_read_bps: rates("device_read_bps"),
        device_read_iops: rates("device_read_iops"),
        device_write_bps: rates("device_write_bps"),
        device_write_iops: rates("device_write_iops"),
        weight: weight(spot.get("weight"), out),
        weight_device: weights,
    }
}

/// `ulimits`.
pub(super) fn ulimits(spot: &Spot<'_>, out: &mut Findings) -> BTreeMap<String, Ulimit> {
    let mut limits = BTreeMap::new();
    if !spot.need_map(out) {
        return limits;
    }
    for (name, limit) in spot.entries() {
        let read = if limit.is_map() {
            let soft = limit
                .get("soft")
                .and_then(|spot| spot.int(-1, i64::MAX, out));
            let hard = limit
                .get("hard")
                .and_then(|spot| spot.int(-1, i64::MAX, out));
            if let (Some(soft), Some(hard)) = (soft, hard) {
                Some(Ulimit { soft, hard })
            } else {
                out.refuse(limit.problem("needs soft and hard", "Write both, or one number"));
                None
            }
        } else {
            let both = limit.int(-1, i64::MAX, out);
            both.map(|both| Ulimit {
                soft: both,
                hard: both,
            })
        };
        if let Some(read) = read {
            limits.insert(name.to_owned(), read);
        }
    }
    limits
}

/// `devices`; of equal targets the last, in the place of the first.
pub(super) fn devices(spot: &Spot<'_>, out: &mut Findings) -> Vec<DeviceMapping> {
    let mut devices: Vec<DeviceMapping> = Vec::new();
    if !spot.need_list(out) {
        return devices;
    }
    for item in spot.items() {
        let read = if item.is_map() {
            let source = item.get("source").and_then(|spot| spot.open_text(out));
            let Some(source) = source else {
                out.refuse(item.problem("has no source", "Write source: and the host's device"));
                continue;
            };
            let target = item.get("target").and_then(|spot| spot.open_text(out));
            let permissions = item.get("permissions").and_then(|spot| spot.open_text(out));
            DeviceMapping {
                target: target.unwrap_or_else(|| source.clone()),
                source,
                permissions: permissions.unwrap_or_else(|| "rwm".to_owned()),
            }
        } else {
            let Some(text) = item.open_text(out) else {
                continue;
            };
            let parts: Vec<&str> = text.split(':').collect();
            let (source, target, permissions) = match parts.as_slice() {
                [source] => (*source, *source, "rwm"),
                [source, target] => (*source, *target, "rwm"),
                [source, target, permissions] => (*source, *target, *permissions),
                _ => {
                    let help = "Write source, target and permissions below each other";
                    out.refuse(item.problem("has too many colons", help));
                    continue;
                }
            };
            DeviceMapping {
                source: source.to_owned(),
                target: target.to_owned(),
                permissions: permissions.to_owned(),
            }
        };
        match devices.iter_mut().find(|kept| kept.target == read.target) {
            Some(kept) => *kept = read,
            None => devices.push(read),
        }
    }
    devices
}

/// `gpus` and `deploy.resources.reservations.devices`.
pub(super) fn device_requests(spot: &Spot<'_>, out: &mut Findings) -> Vec<DeviceRequest> {
    let mut requests = Vec::new();
    if let Some(gpus) = spot.get("gpus") {
        if let Value::Scalar(..) = gpus.node.value {
            if gpus.choice(&["all"], out).is_some() {
                requests.push(DeviceRequest {
                    count: Some(-1),
                    capabilities: vec!["gpu".to_owned()],
                    ..DeviceRequest::default()
                });
            }
        } else if gpus.need_list(out) {
            requests.extend(gpus.items().map(|item| request(&item, true, out)));
        }
    }
    if let Some(deploy) = spot.get("deploy")
        && let Some(resources) = deploy.get("resources")
        && let Some(reserved) = resources.get("reservations")
        && let Some(devices) = reserved.get("devices")
        && devices.need_list(out)
    {
        requests.extend(devices.items().map(|item| request(&item, false, out)));
    }
    requests
}

fn request(spot: &Spot<'_>, is_gpu: bool, out: &mut Findings) -> DeviceRequest {
    let texts = |key: &str, out: &mut Findings| {
        let child = spot.get(key);
        child.map(|spot| spot.texts(out)).unwrap_or_default()
    };
    let mut capabilities = texts("capabilities", out);
    if is_gpu && !capabilities.iter().any(|capability| capability == "gpu") {
        capabilities.push("gpu".to_owned());
    }
    if capabilities.is_empty() {
        out.refuse(spot.problem("has no capabilities", "Write capabilities: [gpu]"));
    }
    let device_ids = texts("device_ids", out);
    let count = match spot.get("count") {
        Some(count) if count.node.scalar().as_deref() == Some("all") => Some(-1),
        Some(count) => count.int(-1, i64::MAX, out),
        None if device_ids.is_empty() => Some(-1),
        None => None,
    };
    if count.is_some() && !device_ids.is_empty() {
        let message = "has both count and device_ids";
        out.refuse(spot.problem(message, "Take one of them out"));
    }
    DeviceRequest {
        driver: spot.get("driver").and_then(|spot| spot.text(out)),
        count,
        device_ids,
        capabilities,
        options: spot
            .get("options")
            .map(|s| s.filled_pairs(out))
            .unwrap_or_default(),
    }
}
