//! How long a plan takes for a stack of fifty services: fresh, nothing to do, all changed.
//!
//! `cargo run --release -p compose --example plan_fifty`

use std::{collections::BTreeMap, time::Instant};

use compose::{
    model::{
        Condition, Dependency, HealthTest, Healthcheck, Mount, MountKind, Network,
        NetworkAttachment, Restart, Service, Stack, Volume,
    },
    plan::{ImageSeen, Options, Plan, plan, simulate::Engine},
};

const SERVICES: usize = 50;
const ROUNDS: u32 = 20;

fn service(index: usize, level: &str) -> Service {
    let mount = serde_json::json!({ "kind": "volume", "source": "state", "target": "/state" });
    let mount: Option<Mount> = serde_json::from_value(mount).ok();
    let dependency = Dependency {
        condition: Condition::Healthy,
        restart: false,
        required: true,
    };
    Service {
        image: "image:1".to_owned(),
        replicas: 2,
        restart: Restart::Always,
        environment: (0..20)
            .map(|variable| (format!("VARIABLE_{variable}"), Some(level.to_owned())))
            .collect(),
        networks: BTreeMap::from([("default".to_owned(), NetworkAttachment::default())]),
        mounts: mount
            .into_iter()
            .filter(|mount| mount.kind == MountKind::Volume)
            .collect(),
        healthcheck: Some(Healthcheck {
            test: HealthTest::Shell("true".to_owned()),
            ..Healthcheck::default()
        }),
        depends_on: (index.saturating_sub(3)..index)
            .map(|before| (name(before), dependency.clone()))
            .collect(),
        ..Service::default()
    }
}

fn name(index: usize) -> String {
    format!("service-{index:02}")
}

fn stack(level: &str) -> Stack {
    let network = Network {
        name: "fifty_default".to_owned(),
        ..Network::default()
    };
    let volume = Volume {
        name: "fifty_state".to_owned(),
        ..Volume::default()
    };
    Stack {
        name: "fifty".to_owned(),
        services: (0..SERVICES)
            .map(|index| (name(index), service(index, level)))
            .collect(),
        networks: BTreeMap::from([("default".to_owned(), network)]),
        volumes: BTreeMap::from([("state".to_owned(), volume)]),
        files: BTreeMap::new(),
    }
}

/// Plans several times over, and tells how long one took.
fn measure(what: &str, stack: &Stack, engine: &Engine, options: &Options) -> Plan {
    let begun = Instant::now();
    let mut last = Plan::default();
    for _ in 0..ROUNDS {
        last = plan(stack, &engine.observed, options).unwrap_or_default();
    }
    let each = begun.elapsed() / ROUNDS;
    println!("{what}: {} steps in {each:.2?}", last.steps.len());
    last
}

fn main() -> Result<(), String> {
    let options = Options::default();
    let mut engine = Engine::default();
    let image = ImageSeen {
        id: "sha256:1".to_owned(),
        ..ImageSeen::default()
    };
    engine.observed.images.insert("image:1".to_owned(), image);
    let first = stack("1");
    let fresh = measure("fresh", &first, &engine, &options);
    for step in &fresh.steps {
        engine.apply(&step.operation, &first, &options)?;
    }
    measure("nothing to do", &first, &engine, &options);
    measure("all changed", &stack("2"), &engine, &options);
    Ok(())
}
