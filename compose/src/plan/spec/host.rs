//! What a container gets of its host.

use std::collections::HashMap;

use bollard_stubs::models::{
    DeviceMapping, DeviceRequest, EndpointSettings, HostConfig, HostConfigCgroupnsModeEnum,
    HostConfigLogConfig, PortBinding, ResourcesBlkioWeightDevice, ResourcesUlimits, RestartPolicy,
    RestartPolicyNameEnum, ThrottleDevice,
};

use super::{Context, container_name, filled, filled_map, mounts};
use crate::model::{Blkio, BlkioRate, Restart, Service, ServiceScope, Stack};

/// Devices of the container device interface have names, not paths.
pub(super) fn is_cdi(source: &str) -> bool {
    !source.starts_with('/') && source.contains('=')
}

pub(super) fn config(
    stack: &Stack,
    service: &Service,
    networks: &[(String, EndpointSettings)],
    context: &Context,
) -> HostConfig {
    let scope = |scope: &ServiceScope| scoped(stack, scope, context);
    let network_mode = match (&service.network_mode, networks.first()) {
        (Some(mode), _) => scope(mode),
        (None, Some((first, _))) => first.clone(),
        (None, None) => "none".to_owned(),
    };
    let from = service.volumes_from.iter().map(|(from, read_only)| {
        let container = scope(from);
        let container = container.strip_prefix("container:").unwrap_or(&container);
        format!("{container}:{}", if *read_only { "ro" } else { "rw" })
    });
    let mut config = HostConfig {
        network_mode: Some(network_mode),
        port_bindings: ports(service),
        extra_hosts: filled(service.extra_hosts.clone()),
        dns: filled(service.dns.clone()),
        dns_search: filled(service.dns_search.clone()),
        dns_options: filled(service.dns_opt.clone()),
        volumes_from: filled(from.collect()),
        tmpfs: filled_map(&service.tmpfs),
        readonly_rootfs: service.read_only.then_some(true),
        shm_size: service.shm_size,
        storage_opt: filled_map(&service.storage_opt),
        restart_policy: Some(restart(&service.restart)),
        log_config: service.logging.as_ref().map(|logging| HostConfigLogConfig {
            typ: logging.driver.clone(),
            config: filled_map(&logging.options),
        }),
        init: service.init,
        runtime: service.runtime.clone(),
        annotations: filled_map(&service.annotations),
        ..HostConfig::default()
    };
    config.binds = filled(mounts::binds(service));
    config.mounts = filled(mounts::mounts(stack, service, context));
    isolation(&mut config, service, scope);
    resources(&mut config, service);
    config
}

/// Namespaces, rights and devices.
fn isolation(config: &mut HostConfig, service: &Service, scope: impl Fn(&ServiceScope) -> String) {
    config.ipc_mode = service.ipc.as_ref().map(&scope);
    config.pid_mode = service.pid.as_ref().map(&scope);
    config.uts_mode.clone_from(&service.uts);
    config.userns_mode.clone_from(&service.userns_mode);
    config.cgroupns_mode = service.cgroup.as_deref().and_then(|mode| match mode {
        "host" => Some(HostConfigCgroupnsModeEnum::HOST),
        "private" => Some(HostConfigCgroupnsModeEnum::PRIVATE),
        _ => None,
    });
    config.cgroup_parent.clone_from(&service.cgroup_parent);
    config.privileged = service.privileged.then_some(true);
    config.cap_add = filled(service.cap_add.clone());
    config.cap_drop = filled(service.cap_drop.clone());
    config.security_opt = filled(service.security_opt.clone());
    config.group_add = filled(service.group_add.clone());
    config.sysctls = filled_map(&service.sysctls);
    config.device_cgroup_rules = filled(service.device_cgroup_rules.clone());
    let (named, paths): (Vec<_>, Vec<_>) = service
        .devices
        .iter()
        .partition(|device| is_cdi(&device.source));
    config.devices = filled(
        paths
            .into_iter()
            .map(|device| DeviceMapping {
                path_on_host: Some(device.source.clone()),
                path_in_container: Some(device.target.clone()),
                cgroup_permissions: Some(device.permissions.clone()),
            })
            .collect(),
    );
    let mut requests: Vec<_> = service.device_requests.iter().map(request).collect();
    if !named.is_empty() {
        requests.push(DeviceRequest {
            driver: Some("cdi".to_owned()),
            device_ids: Some(named.iter().map(|device| device.source.clone()).collect()),
            ..DeviceRequest::default()
        });
    }
    config.device_requests = filled(requests);
}

fn request(request: &crate::model::DeviceRequest) -> DeviceRequest {
    DeviceRequest {
        driver: request.driver.clone(),
        count: request.count,
        device_ids: filled(request.device_ids.clone()),
        capabilities: filled(request.capabilities.clone()).map(|all| vec![all]),
        options: filled_map(&request.options),
    }
}

fn resources(config: &mut HostConfig, service: &Service) {
    let wanted = &service.resources;
    config.nano_cpus = wanted.nano_cpus;
    config.cpu_shares = wanted.cpu_shares;
    config.cpu_period = wanted.cpu_period;
    config.cpu_quota = wanted.cpu_quota;
    config.cpu_realtime_period = wanted.cpu_rt_period;
    config.cpu_realtime_runtime = wanted.cpu_rt_runtime;
    config.cpuset_cpus.clone_from(&wanted.cpuset);
    config.memory = wanted.memory;
    config.memory_reservation = wanted.memory_reservation;
    config.memory_swap = wanted.memory_swap;
    config.memory_swappiness = wanted.memory_swappiness;
    config.oom_kill_disable = wanted.oom_kill_disable;
    config.oom_score_adj = wanted.oom_score_adj;
    config.pids_limit = wanted.pids;
    let limits = service
        .ulimits
        .iter()
        .map(|(name, limit)| ResourcesUlimits {
            name: Some(name.clone()),
            soft: Some(limit.soft),
            hard: Some(limit.hard),
        });
    config.ulimits = filled(limits.collect());
    if let Some(blkio) = &wanted.blkio {
        block_devices(config, blkio);
    }
}

fn block_devices(config: &mut HostConfig, blkio: &Blkio) {
    config.blkio_weight = blkio.weight;
    let weights = blkio
        .weight_device
        .iter()
        .map(|device| ResourcesBlkioWeightDevice {
            path: Some(device.path.clone()),
            weight: Some(usize::from(device.weight)),
        });
    config.blkio_weight_device = filled(weights.collect());
    config.blkio_device_read_bps = rates(&blkio.device_read_bps);
    config.blkio_device_read_iops = rates(&blkio.device_read_iops);
    config.blkio_device_write_bps = rates(&blkio.device_write_bps);
    config.blkio_device_write_iops = rates(&blkio.device_write_iops);
}

fn rates(rates: &[BlkioRate]) -> Option<Vec<ThrottleDevice>> {
    let rates = rates.iter().map(|rate| ThrottleDevice {
        path: Some(rate.path.clone()),
        rate: Some(rate.rate),
    });
    filled(rates.collect())
}

/// Another's namespace, or a mode, as the Engine takes it.
fn scoped(stack: &Stack, scope: &ServiceScope, context: &Context) -> String {
    match scope {
        ServiceScope::Mode(mode) => mode.clone(),
        ServiceScope::Container(name) => format!("container:{name}"),
        ServiceScope::Service(name) => match context.containers.get(name) {
            Some(id) => format!("container:{id}"),
            None => format!("container:{}", container_name(stack, name, 1)),
        },
    }
}

fn ports(service: &Service) -> Option<HashMap<String, Option<Vec<PortBinding>>>> {
    let mut all = HashMap::<String, Option<Vec<PortBinding>>>::new();
    for port in &service.ports {
        let key = format!("{}/{}", port.target, port.protocol);
        let bindings = all.entry(key).or_default().get_or_insert_default();
        bindings.push(PortBinding {
            host_ip: port.host_ip.clone(),
            host_port: port.published.clone(),
        });
    }
    (!all.is_empty()).then_some(all)
}

fn restart(restart: &Restart) -> RestartPolicy {
    let (name, retries) = match restart {
        Restart::No => (RestartPolicyNameEnum::NO, None),
        Restart::Always => (RestartPolicyNameEnum::ALWAYS, None),
        Restart::UnlessStopped => (RestartPolicyNameEnum::UNLESS_STOPPED, None),
        Restart::OnFailure { max_retries } => (
            RestartPolicyNameEnum::ON_FAILURE,
            Some(i64::from(*max_retries)),
        ),
    };
    RestartPolicy {
        name: Some(name),
        maximum_retry_count: retries,
    }
}
