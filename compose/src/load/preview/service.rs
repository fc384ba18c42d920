//! A service in the words of Compose.

use serde_json::{Map, Value, json};

use super::{duration, put};
use crate::model::{
    Blkio, Condition, Dependency, Deploy, FailureAction, FileMount, HealthTest, Healthcheck, Hook,
    Mount, MountKind, NetworkAttachment, Order, Port, PullPolicy, Resources, Restart, Service,
    ServiceScope, UpdateConfig,
};

/// Every attribute that is set.
pub(super) fn service(service: &Service) -> Value {
    let mut map = Map::new();
    plain(service, &mut map);
    written_out(service, &mut map);
    explicit(service, &mut map);
    resources(&service.resources, &mut map);
    put(&mut map, "deploy", deploy(service));
    Value::Object(map)
}

/// What is in the model as Compose has it.
fn plain(service: &Service, map: &mut Map<String, Value>) {
    let mut add = |key: &str, value: Value| put(map, key, value);
    add("image", json!(service.image));
    add("annotations", json!(service.annotations));
    add("container_name", json!(service.container_name));
    add("labels", json!(service.labels));
    add("expose", json!(service.expose));
    add("links", json!(service.links));
    add("hostname", json!(service.hostname));
    add("domainname", json!(service.domainname));
    add("extra_hosts", json!(service.extra_hosts));
    add("dns", json!(service.dns));
    add("dns_search", json!(service.dns_search));
    add("dns_opt", json!(service.dns_opt));
    add("mac_address", json!(service.mac_address));
    add("read_only", json!(service.read_only));
    add("storage_opt", json!(service.storage_opt));
    add("user", json!(service.user));
    add("group_add", json!(service.group_add));
    add("working_dir", json!(service.working_dir));
    add("privileged", json!(service.privileged));
    add("cap_add", json!(service.cap_add));
    add("cap_drop", json!(service.cap_drop));
    add("security_opt", json!(service.security_opt));
    add("devices", json!(service.devices));
    add("device_cgroup_rules", json!(service.device_cgroup_rules));
    add("uts", json!(service.uts));
    add("userns_mode", json!(service.userns_mode));
    add("cgroup", json!(service.cgroup));
    add("cgroup_parent", json!(service.cgroup_parent));
    add("sysctls", json!(service.sysctls));
    add("ulimits", json!(service.ulimits));
    add("logging", json!(service.logging));
    add("stop_signal", json!(service.stop_signal));
    add("stdin_open", json!(service.stdin_open));
    add("tty", json!(service.tty));
    add("runtime", json!(service.runtime));
    add("platform", json!(service.platform));
}

/// What the model keeps in another form.
fn written_out(service: &Service, map: &mut Map<String, Value>) {
    let mut add = |key: &str, value: Value| put(map, key, value);
    add(
        "network_mode",
        service.network_mode.as_ref().map(scope).into(),
    );
    add("ipc", service.ipc.as_ref().map(scope).into());
    add("pid", service.pid.as_ref().map(scope).into());
    add(
        "stop_grace_period",
        service.stop_grace_period.map(duration).into(),
    );
    add(
        "shm_size",
        service.shm_size.map(|size| size.to_string()).into(),
    );
    add("pull_policy", pull_policy(&service.pull_policy));
    add("restart", restart(&service.restart));
    add(
        "healthcheck",
        service.healthcheck.as_ref().map(healthcheck).into(),
    );
    add("ports", service.ports.iter().map(port).collect());
    add("volumes", service.mounts.iter().map(mount).collect());
    add(
        "volumes_from",
        service.volumes_from.iter().map(volumes_from).collect(),
    );
    add("configs", service.configs.iter().map(file_mount).collect());
    add("secrets", service.secrets.iter().map(file_mount).collect());
    add("post_start", service.post_start.iter().map(hook).collect());
    add("pre_stop", service.pre_stop.iter().map(hook).collect());
    add("tmpfs", service.tmpfs.iter().map(tmpfs).collect());
    let depends_on = service.depends_on.iter();
    add(
        "depends_on",
        depends_on
            .map(|(name, one)| (name.clone(), dependency(one)))
            .collect(),
    );
    let networks = service.networks.iter();
    add(
        "networks",
        networks
            .map(|(name, one)| (name.clone(), attachment(one)))
            .collect(),
    );
}

/// What says something by being empty, or false.
fn explicit(service: &Service, map: &mut Map<String, Value>) {
    let mut add = |key: &str, value: Value| map.insert(key.to_owned(), value);
    if let Some(command) = &service.command {
        add("command", json!(command));
    }
    if let Some(entrypoint) = &service.entrypoint {
        add("entrypoint", json!(entrypoint));
    }
    if let Some(init) = service.init {
        add("init", json!(init));
    }
    if !service.environment.is_empty() {
        add("environment", json!(service.environment));
    }
}

fn scope(scope: &ServiceScope) -> String {
    match scope {
        ServiceScope::Service(name) => format!("service:{name}"),
        ServiceScope::Container(name) => format!("container:{name}"),
        ServiceScope::Mode(mode) => mode.clone(),
    }
}

fn volumes_from((from, read_only): &(ServiceScope, bool)) -> Value {
    let name = match from {
        ServiceScope::Service(name) => name.clone(),
        other => scope(other),
    };
    json!(if *read_only {
        format!("{name}:ro")
    } else {
        name
    })
}

fn tmpfs((path, options): (&String, &String)) -> Value {
    json!(if options.is_empty() {
        path.clone()
    } else {
        format!("{path}:{options}")
    })
}

fn dependency(dependency: &Dependency) -> Value {
    let condition = match dependency.condition {
        Condition::Started => "service_started",
        Condition::Healthy => "service_healthy",
        Condition::Completed => "service_completed_successfully",
    };
    let mut map = Map::new();
    put(&mut map, "condition", json!(condition));
    put(&mut map, "restart", json!(dependency.restart));
    map.insert("required".to_owned(), json!(dependency.required));
    Value::Object(map)
}

fn attachment(network: &NetworkAttachment) -> Value {
    json!(network)
}

fn port(port: &Port) -> Value {
    json!(port)
}

fn mount(mount: &Mount) -> Value {
    let (kind, section) = match mount.kind {
        MountKind::Volume => ("volume", "volume"),
        MountKind::Bind => ("bind", "bind"),
        MountKind::Shipped => ("bind", "bind"),
        MountKind::Tmpfs => ("tmpfs", "tmpfs"),
        MountKind::Image => ("image", "image"),
        MountKind::Npipe => ("npipe", "npipe"),
        MountKind::Cluster => ("cluster", "cluster"),
    };
    let mut map = Map::new();
    put(&mut map, "type", json!(kind));
    let source = mount.source.as_deref();
    let shown = match mount.kind {
        MountKind::Shipped => {
            source.map(|key| format!("./{}", key.strip_prefix("file:").unwrap_or(key)))
        }
        _ => source.map(str::to_owned),
    };
    put(&mut map, "source", json!(shown));
    put(&mut map, "target", json!(mount.target));
    put(&mut map, "read_only", json!(mount.read_only));
    put(&mut map, "consistency", json!(mount.consistency));
    let mut options = Map::new();
    put(&mut options, "propagation", json!(mount.propagation));
    // True where nothing is said.
    if mount.kind == MountKind::Bind {
        let create = json!(mount.create_host_path);
        options.insert("create_host_path".to_owned(), create);
    }
    put(&mut options, "selinux", json!(mount.selinux));
    put(&mut options, "recursive", json!(mount.recursive));
    put(&mut options, "nocopy", json!(mount.nocopy));
    put(&mut options, "subpath", json!(mount.subpath));
    put(&mut options, "labels", json!(mount.labels));
    put(&mut options, "size", json!(mount.tmpfs_size));
    let mode = mount.tmpfs_mode.map(|mode| format!("{mode:04o}"));
    put(&mut options, "mode", mode.into());
    put(&mut map, section, Value::Object(options));
    Value::Object(map)
}

fn file_mount(mount: &FileMount) -> Value {
    let name = mount
        .source
        .split_once(':')
        .map_or(mount.source.as_str(), |(_, name)| name);
    let mut map = Map::new();
    put(&mut map, "source", json!(name));
    put(&mut map, "target", json!(mount.target));
    put(&mut map, "uid", mount.uid.map(|id| id.to_string()).into());
    put(&mut map, "gid", mount.gid.map(|id| id.to_string()).into());
    put(&mut map, "mode", json!(format!("{:04o}", mount.mode)));
    Value::Object(map)
}

fn hook(hook: &Hook) -> Value {
    json!(hook)
}

fn healthcheck(check: &Healthcheck) -> Value {
    let mut map = Map::new();
    match &check.test {
        HealthTest::Inherit => {}
        HealthTest::Disabled => put(&mut map, "disable", json!(true)),
        HealthTest::Command(words) => {
            let all = [&["CMD".to_owned()], words.as_slice()].concat();
            put(&mut map, "test", json!(all));
        }
        HealthTest::Shell(line) => put(&mut map, "test", json!(["CMD-SHELL", line])),
    }
    put(&mut map, "interval", check.interval.map(duration).into());
    put(&mut map, "timeout", check.timeout.map(duration).into());
    put(&mut map, "retries", json!(check.retries));
    put(
        &mut map,
        "start_period",
        check.start_period.map(duration).into(),
    );
    put(
        &mut map,
        "start_interval",
        check.start_interval.map(duration).into(),
    );
    Value::Object(map)
}

fn pull_policy(policy: &PullPolicy) -> Value {
    match policy {
        PullPolicy::Missing => Value::Null,
        PullPolicy::Always => json!("always"),
        PullPolicy::Never => json!("never"),
        PullPolicy::Older { seconds } => json!(format!("every_{seconds}s")),
    }
}

fn restart(restart: &Restart) -> Value {
    match restart {
        Restart::No => Value::Null,
        Restart::Always => json!("always"),
        Restart::UnlessStopped => json!("unless-stopped"),
        Restart::OnFailure { max_retries: 0 } => json!("on-failure"),
        Restart::OnFailure { max_retries } => json!(format!("on-failure:{max_retries}")),
    }
}

fn resources(resources: &Resources, map: &mut Map<String, Value>) {
    let size = |size: Option<i64>| Value::from(size.map(|size| size.to_string()));
    let cpus = resources
        .nano_cpus
        .map(|nanos| super::decimal(nanos, 1_000_000_000));
    put(map, "cpus", cpus.into());
    put(map, "cpu_shares", json!(resources.cpu_shares));
    put(map, "cpu_period", json!(resources.cpu_period));
    put(map, "cpu_quota", json!(resources.cpu_quota));
    put(map, "cpu_rt_period", json!(resources.cpu_rt_period));
    put(map, "cpu_rt_runtime", json!(resources.cpu_rt_runtime));
    put(map, "cpuset", json!(resources.cpuset));
    put(map, "mem_limit", size(resources.memory));
    put(map, "mem_reservation", size(resources.memory_reservation));
    put(map, "memswap_limit", size(resources.memory_swap));
    put(map, "mem_swappiness", json!(resources.memory_swappiness));
    if let Some(flag) = resources.oom_kill_disable {
        map.insert("oom_kill_disable".to_owned(), json!(flag));
    }
    put(map, "oom_score_adj", json!(resources.oom_score_adj));
    put(map, "pids_limit", json!(resources.pids));
    put(
        map,
        "blkio_config",
        resources
            .blkio
            .as_ref()
            .map_or(Value::Null, |blkio: &Blkio| json!(blkio)),
    );
}

fn deploy(service: &Service) -> Value {
    let mut map = Map::new();
    if service.replicas != 1 {
        put(&mut map, "replicas", json!(service.replicas));
    }
    let Deploy { update, rollback } = &service.deploy;
    put(
        &mut map,
        "update_config",
        update.as_ref().map(update_config).into(),
    );
    put(
        &mut map,
        "rollback_config",
        rollback.as_ref().map(update_config).into(),
    );
    let devices: Vec<Value> = service
        .device_requests
        .iter()
        .map(|request| json!(request))
        .collect();
    if !devices.is_empty() {
        put(
            &mut map,
            "resources",
            json!({"reservations": {"devices": devices}}),
        );
    }
    Value::Object(map)
}

fn update_config(config: &UpdateConfig) -> Value {
    let mut map = Map::new();
    put(&mut map, "parallelism", json!(config.parallelism));
    put(&mut map, "delay", config.delay.map(duration).into());
    let action = config.failure_action.map(|action| match action {
        FailureAction::Continue => "continue",
        FailureAction::Rollback => "rollback",
        FailureAction::Pause => "pause",
    });
    put(&mut map, "failure_action", json!(action));
    put(&mut map, "monitor", config.monitor.map(duration).into());
    put(
        &mut map,
        "max_failure_ratio",
        json!(config.max_failure_ratio),
    );
    let order = config.order.map(|order| match order {
        Order::StartFirst => "start-first",
        Order::StopFirst => "stop-first",
    });
    put(&mut map, "order", json!(order));
    Value::Object(map)
}
