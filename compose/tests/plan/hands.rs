//! What somebody has changed by hand: it is told field by field, and a deployment mends it.

use bollard_stubs::models::ContainerStateStatusEnum;
use compose::{
    model::{Resources, Stack},
    plan::drift,
};

use crate::world::{World, exit, lines, service, stack};

fn running() -> (World, Stack) {
    let mut web = service("web:1");
    web.resources = Resources {
        memory: Some(64 << 20),
        ..Resources::default()
    };
    let stack = stack([("web", web), ("db", service("db:1"))]);
    let mut world = World::new();
    world.deploy(&stack);
    assert_eq!(found(&world, &stack), Vec::<String>::new());
    (world, stack)
}

fn found(world: &World, stack: &Stack) -> Vec<String> {
    let all = drift(stack, &world.engine.observed, &world.options);
    all.into_iter()
        .map(|d| format!("{} {}: {} -> {}", d.subject, d.field, d.desired, d.observed))
        .collect()
}

#[test]
fn resources_that_were_updated_are_drift() {
    let (mut world, stack) = running();
    let host = world.by_hand("shop-web-1").host_config.as_mut().unwrap();
    host.memory = Some(128 << 20);
    host.cpu_shares = Some(512);
    let found = found(&world, &stack);
    assert_eq!(
        found,
        [
            "shop-web-1 cpu_shares: (default) -> 512",
            "shop-web-1 mem_limit: 67108864 -> 134217728",
        ]
    );
    assert_eq!(
        world.plan(&stack).unwrap().steps,
        [],
        "told, and not undone by a plan"
    );
}

#[test]
fn a_paused_container_is_drift_and_goes_on_with_the_next_deployment() {
    let (mut world, stack) = running();
    let state = world.by_hand("shop-web-1").state.as_mut().unwrap();
    state.status = Some(ContainerStateStatusEnum::PAUSED);
    assert_eq!(
        found(&world, &stack),
        ["shop-web-1 state: running -> paused"]
    );
    assert_eq!(
        lines(&world.deploy(&stack)),
        ["unpause container shop-web-1"]
    );
}

#[test]
fn a_stopped_container_is_drift_and_is_started() {
    let (mut world, stack) = running();
    exit(world.by_hand("shop-web-1"), 137);
    assert_eq!(
        found(&world, &stack),
        ["shop-web-1 state: running -> exited with code 137"]
    );
    assert_eq!(lines(&world.deploy(&stack)), ["start container shop-web-1"]);
}

#[test]
fn a_renamed_container_is_drift_and_gets_its_name_back() {
    let (mut world, stack) = running();
    world.by_hand("shop-web-1").name = Some("/mine".to_owned());
    assert_eq!(
        found(&world, &stack),
        ["shop-web-1 name: shop-web-1 -> mine"]
    );
    assert_eq!(
        lines(&world.deploy(&stack)),
        ["rename container mine to shop-web-1"]
    );
}

#[test]
fn containers_with_each_others_names_get_their_own_back() {
    let (mut world, stack) = running();
    world.by_hand("shop-web-1").name = Some("/x".to_owned());
    world.by_hand("shop-db-1").name = Some("/shop-web-1".to_owned());
    world.by_hand("x").name = Some("/shop-db-1".to_owned());
    world.deploy(&stack);
    assert_eq!(world.container("shop-web-1").service(), "web");
}

#[test]
fn a_removed_container_is_drift_and_is_made() {
    let (mut world, stack) = running();
    let all = &mut world.engine.observed.containers;
    all.retain(|container| container.name.as_deref() != Some("/shop-db-1"));
    assert_eq!(
        found(&world, &stack),
        ["shop-db-1 container: there -> removed"]
    );
    assert_eq!(
        lines(&world.deploy(&stack)),
        ["create container shop-db-1", "start container shop-db-1"]
    );
}

#[test]
fn a_container_off_its_network_is_drift_and_is_connected() {
    let (mut world, stack) = running();
    let settings = world
        .by_hand("shop-web-1")
        .network_settings
        .as_mut()
        .unwrap();
    settings.networks.as_mut().unwrap().clear();
    assert_eq!(
        found(&world, &stack),
        ["shop-web-1 networks.shop_default: attached -> (not attached)"]
    );
    assert_eq!(
        lines(&world.deploy(&stack)),
        ["connect shop-web-1 to network shop_default"]
    );
}

#[test]
fn a_container_that_was_never_started_and_may_lack_its_files_is_made_anew() {
    let mut web = service("web:1");
    web.configs.push(compose::model::FileMount {
        source: "conf".to_owned(),
        target: "/conf".to_owned(),
        uid: None,
        gid: None,
        mode: 0o444,
    });
    let stack = stack([("web", web), ("db", service("db:1"))]);
    let mut world = World::new();
    world.deploy(&stack);
    for name in ["shop-web-1", "shop-db-1"] {
        let state = world.by_hand(name).state.as_mut().unwrap();
        state.status = Some(ContainerStateStatusEnum::CREATED);
    }
    let plan = world.deploy(&stack);
    let of = |service: &str| {
        let mine = plan
            .steps
            .iter()
            .filter(|step| step.operation.service() == Some(service));
        mine.count()
    };
    assert_eq!(of("db"), 1, "it is started");
    assert_eq!(of("web"), 4, "create, remove, rename, start");
}

#[test]
fn a_network_too_many_is_drift() {
    let (mut world, stack) = running();
    let settings = world
        .by_hand("shop-web-1")
        .network_settings
        .as_mut()
        .unwrap();
    let networks = settings.networks.as_mut().unwrap();
    networks.insert(
        "theirs".to_owned(),
        bollard_stubs::models::EndpointSettings::default(),
    );
    assert_eq!(
        found(&world, &stack),
        ["shop-web-1 networks.theirs: (not attached) -> attached"]
    );
}

#[test]
fn a_network_that_was_made_again_by_hand_makes_those_anew_that_remember_the_old_one() {
    let (mut world, stack) = running();
    for network in &mut world.engine.observed.networks {
        if network.name.as_deref() == Some("shop_default") {
            network.id = Some("another".to_owned());
        }
    }
    let plan = world.deploy(&stack);
    assert_eq!(plan.steps[0].why, "network shop_default is another one now");
}
