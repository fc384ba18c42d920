//! A stack, an Engine, and what is true whatever happens between them.

use std::collections::{BTreeMap, BTreeSet};

use bollard_stubs::models::{ContainerInspectResponse, HealthConfig, NetworkInspect, Volume};
use compose::{
    model::{
        Condition, Dependency, HealthTest, Healthcheck, Mount, MountKind, Network,
        NetworkAttachment, Port, Restart, Service, Stack, Volume as StackVolume,
    },
    plan::{
        ImageSeen, Obstacle, Operation, Options, Plan, Seen, Step, labels, plan, simulate::Engine,
    },
};

/// A service that runs one container on the default network, for ever.
pub(crate) fn service(image: &str) -> Service {
    Service {
        image: image.to_owned(),
        replicas: 1,
        restart: Restart::Always,
        networks: BTreeMap::from([("default".to_owned(), NetworkAttachment::default())]),
        ..Service::default()
    }
}

/// A stack `shop` of these services, with the default network and a volume `state`.
pub(crate) fn stack(services: impl IntoIterator<Item = (&'static str, Service)>) -> Stack {
    let services = services
        .into_iter()
        .map(|(name, service)| (name.to_owned(), service));
    let mut stack = Stack {
        name: "shop".to_owned(),
        services: services.collect(),
        networks: BTreeMap::new(),
        volumes: BTreeMap::new(),
        files: BTreeMap::new(),
    };
    stack
        .networks
        .insert("default".to_owned(), network("shop_default"));
    stack
}

pub(crate) fn network(name: &str) -> Network {
    Network {
        name: name.to_owned(),
        ..Network::default()
    }
}

pub(crate) fn volume(stack: &mut Stack, key: &str) {
    let volume = StackVolume {
        name: format!("shop_{key}"),
        ..StackVolume::default()
    };
    stack.volumes.insert(key.to_owned(), volume);
}

pub(crate) fn mount(kind: MountKind, source: Option<&str>, target: &str) -> Mount {
    Mount {
        kind,
        source: source.map(str::to_owned),
        target: target.to_owned(),
        read_only: false,
        consistency: None,
        propagation: None,
        create_host_path: false,
        selinux: None,
        recursive: None,
        nocopy: false,
        subpath: None,
        labels: BTreeMap::new(),
        tmpfs_size: None,
        tmpfs_mode: None,
    }
}

pub(crate) fn port(published: &str, target: u16) -> Port {
    Port {
        target,
        protocol: "tcp".to_owned(),
        published: Some(published.to_owned()),
        ..Port::default()
    }
}

pub(crate) fn check() -> Option<Healthcheck> {
    Some(Healthcheck {
        test: HealthTest::Shell("true".to_owned()),
        ..Healthcheck::default()
    })
}

pub(crate) fn depends(service: &mut Service, on: &str, condition: Condition) {
    let dependency = Dependency {
        condition,
        restart: false,
        required: true,
    };
    service.depends_on.insert(on.to_owned(), dependency);
}

pub(crate) fn image(id: &str) -> ImageSeen {
    ImageSeen {
        id: format!("sha256:{id}"),
        env: vec!["PATH=/bin".to_owned(), "FROM=image".to_owned()],
        cmd: vec!["serve".to_owned()],
        ..ImageSeen::default()
    }
}

/// An image that brings a check.
pub(crate) fn checked(id: &str) -> ImageSeen {
    ImageSeen {
        healthcheck: Some(HealthConfig {
            test: Some(vec!["CMD".to_owned(), "true".to_owned()]),
            ..HealthConfig::default()
        }),
        ..image(id)
    }
}

/// What there is, and what must never change.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub engine: Engine,
    pub options: Options,
    volumes: BTreeSet<String>,
}

impl World {
    /// Everything can be pulled, and somebody else has something running.
    pub(crate) fn new() -> Self {
        let mut engine = Engine::default();
        for name in ["web:1", "web:2", "db:1", "db:2", "job:1", "anon:1"] {
            let mut image = image(name);
            if name == "anon:1" {
                image.volumes.push("/var/lib/anon".to_owned());
            }
            engine.registry.insert(name.to_owned(), image);
        }
        engine.observed.networks.push(NetworkInspect {
            name: Some("theirs".to_owned()),
            id: Some("theirs".to_owned()),
            ..NetworkInspect::default()
        });
        engine.observed.volumes.push(Volume {
            name: "theirs".to_owned(),
            ..Volume::default()
        });
        engine.observed.containers.push(theirs());
        Self {
            engine,
            options: Options::default(),
            volumes: BTreeSet::new(),
        }
    }

    pub(crate) fn plan(&self, stack: &Stack) -> Result<Plan, Vec<Obstacle>> {
        plan(stack, &self.engine.observed, &self.options)
    }

    /// One operation, and what has to be true after any.
    pub(crate) fn apply(&mut self, stack: &Stack, step: &Step) {
        let operation = &step.operation;
        let done = self.engine.apply(operation, stack, &self.options);
        assert_eq!(done, Ok(()), "step {} ({operation}) of a plan", step.id);
        let now: BTreeSet<_> = self
            .engine
            .observed
            .volumes
            .iter()
            .map(|volume| volume.name.clone())
            .collect();
        assert!(
            now.is_superset(&self.volumes),
            "{operation} took a volume away"
        );
        self.volumes = now;
        assert!(
            self.engine.observed.containers.contains(&theirs()),
            "{operation}: not ours"
        );
        assert!(
            self.engine.observed.network("theirs").is_some(),
            "{operation}: not ours"
        );
    }

    pub(crate) fn apply_all(&mut self, stack: &Stack, plan: &Plan) {
        check_order(plan);
        plan.steps.iter().for_each(|step| self.apply(stack, step));
    }

    /// As the agent does it: pull, look again, plan again, apply. Gives what was done.
    pub(crate) fn deploy(&mut self, stack: &Stack) -> Plan {
        let mut plan = self.plan(stack).expect("a plan");
        let pulls = |plan: &Plan| {
            let mut plan = plan.clone();
            plan.steps
                .retain(|step| matches!(step.operation, Operation::Pull { .. }));
            plan
        };
        let first = pulls(&plan);
        if !first.is_empty() {
            first.steps.iter().for_each(|step| self.apply(stack, step));
            self.options.pulled = true;
            plan = self.plan(stack).expect("a plan after the images are there");
            assert_eq!(pulls(&plan).steps, [], "no image is pulled twice");
        }
        self.apply_all(stack, &plan);
        let again = self.plan(stack).expect("a plan after it was done");
        assert_eq!(
            lines(&again),
            Vec::<String>::new(),
            "nothing is left after\n{plan:#?}"
        );
        self.options.pulled = false;
        plan
    }

    /// The container of this name.
    pub(crate) fn container(&self, name: &str) -> Seen<'_> {
        let mut all = self.engine.observed.containers.iter().map(Seen);
        all.find(|seen| seen.name() == name)
            .unwrap_or_else(|| panic!("no container {name}"))
    }

    /// The same, to be changed by hand.
    pub(crate) fn by_hand(&mut self, name: &str) -> &mut ContainerInspectResponse {
        let mut all = self.engine.observed.containers.iter_mut();
        all.find(|c| Seen(c).name() == name)
            .unwrap_or_else(|| panic!("no container {name}"))
    }

    /// What matters of the containers of the stack: service, number, name, what it is made from,
    /// image, whether it runs, networks.
    pub(crate) fn summary(&self) -> BTreeSet<String> {
        let all = self.engine.observed.of_project("shop");
        all.map(|seen| {
            let networks: BTreeSet<_> = seen.networks().map(|(name, _)| name).collect();
            format!(
                "{} {} {} {} {} {} {networks:?}",
                seen.service(),
                seen.number(),
                seen.name(),
                seen.hash().unwrap_or("foreign"),
                seen.image_id(),
                seen.is_running(),
            )
        })
        .collect()
    }

    /// Whatever ends by itself has ended.
    pub(crate) fn finish_tasks(&mut self, stack: &Stack) {
        for container in &mut self.engine.observed.containers {
            let service = Seen(container).service().to_owned();
            let Some(service) = stack.services.get(&service) else {
                continue;
            };
            if service.image == "job:1" {
                exit(container, 0);
            }
        }
    }
}

/// It has ended.
pub(crate) fn exit(container: &mut ContainerInspectResponse, code: i64) {
    use bollard_stubs::models::ContainerStateStatusEnum::EXITED;
    if let Some(state) = &mut container.state {
        state.status = Some(EXITED);
        state.exit_code = Some(code);
        state.health = None;
    }
}

fn theirs() -> ContainerInspectResponse {
    ContainerInspectResponse {
        id: Some("theirs".to_owned()),
        name: Some("/theirs".to_owned()),
        ..ContainerInspectResponse::default()
    }
}

/// Every step comes after those that it needs.
pub(crate) fn check_order(plan: &Plan) {
    for (index, step) in plan.steps.iter().enumerate() {
        assert_eq!(step.id, index);
        assert!(step.after.iter().all(|first| *first < step.id), "{step:?}");
    }
}

/// A plan in words.
pub(crate) fn lines(plan: &Plan) -> Vec<String> {
    plan.steps
        .iter()
        .map(|step| step.operation.to_string())
        .collect()
}

/// A container as Docker's own tool would have made it: without our labels.
pub(crate) fn as_foreign(container: &mut ContainerInspectResponse) {
    let labels = container
        .config
        .as_mut()
        .and_then(|config| config.labels.as_mut());
    labels
        .expect("labels")
        .retain(|label, _| !label.starts_with(labels::OURS));
}

/// A service that ends by itself.
pub(crate) fn task() -> Service {
    Service {
        restart: Restart::No,
        ..service("job:1")
    }
}
