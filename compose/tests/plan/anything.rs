//! Any stack to any other, interrupted anywhere.

use std::collections::BTreeMap;

use compose::{
    model::{
        Condition, Dependency, FileMount, MountKind, NetworkAttachment, Restart, ServiceScope,
        Stack,
    },
    plan::{Plan, Seen},
};
use proptest::{prelude::*, sample::Index};

use crate::world::{
    World, as_foreign, check, check_order, exit, lines, mount, network, port, service, volume,
};

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// What a service is drawn from.
#[derive(Debug, Clone)]
struct Drawn {
    image: usize,
    replicas: u32,
    level: u8,
    checked: bool,
    port: Option<u16>,
    named: bool,
    back: bool,
    address: bool,
    mounts: u8,
    shares: Option<Index>,
    needs: Vec<(Index, u8, bool)>,
    always: bool,
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let needs = prop::collection::vec((any::<Index>(), 0_u8..3, any::<bool>()), 0..3);
    let flags = any::<[bool; 5]>();
    let port = prop::option::weighted(0.5, 80_u16..83);
    let shares = prop::option::weighted(0.2, any::<Index>());
    (
        0_usize..5,
        0_u32..4,
        0_u8..3,
        0_u8..16,
        flags,
        port,
        shares,
        needs,
    )
        .prop_map(
            |(image, replicas, level, mounts, flags, port, shares, needs)| {
                let [checked, named, back, address, always] = flags;
                Drawn {
                    image,
                    replicas,
                    level,
                    checked,
                    port,
                    named: named && level < 2,
                    back,
                    address: address && level > 0,
                    mounts,
                    shares,
                    needs,
                    always,
                }
            },
        )
}

/// Services in an order in which each may need those before it.
fn stacks() -> impl Strategy<Value = Stack> {
    let services = prop::collection::vec(prop::option::weighted(0.7, drawn()), NAMES.len());
    let order = Just(NAMES.to_vec()).prop_shuffle();
    (services, order, 0_u8..3, any::<bool>()).prop_map(|(services, order, variant, renamed)| {
        let mut stack = crate::world::stack([]);
        for key in ["state", "logs"] {
            volume(&mut stack, key);
        }
        let back = if renamed { "shop_rear" } else { "shop_back" };
        stack.networks.insert("back".to_owned(), network(back));
        stack.networks.get_mut("default").unwrap().internal = variant == 1;
        stack.networks.get_mut("back").unwrap().attachable = variant == 2;
        for (index, (name, drawn)) in order.iter().zip(services).enumerate() {
            let Some(drawn) = drawn else { continue };
            let before: Vec<&str> = order[..index]
                .iter()
                .copied()
                .filter(|name| stack.services.contains_key(*name))
                .collect();
            let service = one(&stack, index, &drawn, &before);
            stack.services.insert((*name).to_owned(), service);
        }
        stack
    })
}

fn one(stack: &Stack, index: usize, drawn: &Drawn, before: &[&str]) -> compose::model::Service {
    let images = ["web:1", "web:2", "db:1", "job:1", "anon:1"];
    let mut service = service(images[drawn.image]);
    service.replicas = drawn.replicas;
    let level = drawn.level.to_string();
    service.environment = BTreeMap::from([("LEVEL".to_owned(), Some(level))]);
    service.healthcheck = if drawn.checked { check() } else { None };
    service.restart = if drawn.always {
        Restart::Always
    } else {
        Restart::No
    };
    if drawn.named && drawn.replicas < 2 {
        service.container_name = Some(format!("named-{}", index % 2));
    }
    if drawn.back {
        service
            .networks
            .insert("back".to_owned(), NetworkAttachment::default());
    }
    if let Some(host) = drawn.port.filter(|_| drawn.replicas < 2) {
        service.ports.push(port(&host.to_string(), 80));
    }
    if drawn.address && drawn.replicas < 2 {
        let attachment = service.networks.get_mut("default").unwrap();
        attachment.ipv4_address = Some(format!("10.0.0.{}", index % 2));
    }
    if drawn.mounts & 1 > 0 {
        service
            .mounts
            .push(mount(MountKind::Volume, Some("state"), "/state"));
    }
    if drawn.mounts & 2 > 0 {
        service
            .mounts
            .push(mount(MountKind::Volume, None, "/cache"));
    }
    let up = |name: &&&str| stack.services[**name].replicas > 0;
    if service.image == "job:1" {
        service.restart = Restart::No;
        service.healthcheck = None;
        service.ports.clear();
    }
    let running: Vec<_> = before
        .iter()
        .filter(up)
        .filter(|n| !ends(stack, n))
        .collect();
    if let (Some(index), false) = (drawn.shares, running.is_empty()) {
        let parent = ServiceScope::Service((**index.get(&running)).to_string());
        if drawn.mounts & 8 > 0 {
            service.volumes_from.push((parent, drawn.always));
        } else {
            service.networks.clear();
            service.ports.clear();
            service.network_mode = Some(parent);
        }
    }
    if drawn.mounts & 4 > 0 {
        service.configs.push(FileMount {
            source: "conf".to_owned(),
            target: "/conf".to_owned(),
            uid: None,
            gid: None,
            mode: 0o444,
        });
    }
    needs(stack, drawn, before, &mut service);
    service
}

fn needs(stack: &Stack, drawn: &Drawn, before: &[&str], service: &mut compose::model::Service) {
    for (index, condition, restart) in &drawn.needs {
        if before.is_empty() {
            continue;
        }
        let on = *index.get(before);
        let condition = match (
            condition,
            ends(stack, on),
            stack.services[on].healthcheck.is_some(),
        ) {
            (2, true, _) => Condition::Completed,
            (1, false, true) => Condition::Healthy,
            _ => Condition::Started,
        };
        let dependency = Dependency {
            condition,
            restart: *restart,
            required: true,
        };
        service.depends_on.insert(on.to_owned(), dependency);
    }
}

/// Does it end by itself?
fn ends(stack: &Stack, name: &str) -> bool {
    let service = &stack.services[name];
    service.image == "job:1"
}

/// A world in which the first stack runs; none where that one cannot be.
fn running(first: &Stack) -> Option<World> {
    let mut world = World::new();
    world.plan(first).ok()?;
    world.deploy(first);
    Some(world)
}

/// Steps in any order that the plan allows.
fn any_order(plan: &Plan, choices: &[Index]) -> Vec<usize> {
    let mut order = Vec::new();
    let mut done = vec![false; plan.steps.len()];
    while order.len() < plan.steps.len() {
        let ready: Vec<_> = plan
            .steps
            .iter()
            .filter(|step| !done[step.id] && step.after.iter().all(|first| done[*first]))
            .map(|step| step.id)
            .collect();
        let choice = choices[order.len() % choices.len()];
        let next = *choice.get(&ready);
        done[next] = true;
        order.push(next);
    }
    order
}

/// Goes on until nothing is to be done, as an agent does that starts anew.
fn converge(world: &mut World, stack: &Stack) {
    for _ in 0..3 {
        let plan = world.plan(stack).expect("a plan");
        if plan.is_empty() {
            return;
        }
        world.apply_all(stack, &plan);
    }
    let plan = world.plan(stack).expect("a plan");
    assert_eq!(
        lines(&plan),
        Vec::<String>::new(),
        "it does not come to an end"
    );
}

/// Something that people and machines do.
fn disturb(world: &mut World, kind: u8, which: Index) {
    let names: Vec<_> = world
        .engine
        .observed
        .of_project("shop")
        .map(|seen| seen.name().to_owned())
        .collect();
    if names.is_empty() {
        return;
    }
    let name = which.get(&names).clone();
    match kind {
        0 => exit(world.by_hand(&name), 137),
        1 => {
            exit(world.by_hand(&name), 1);
            let all = &mut world.engine.observed.containers;
            all.retain(|container| Seen(container).name() != name);
        }
        2 => world.by_hand(&name).name = Some(format!("/mine-{name}")),
        3 => {
            let settings = world.by_hand(&name).network_settings.as_mut();
            if let Some(networks) = settings.and_then(|all| all.networks.as_mut()) {
                networks.clear();
            }
        }
        _ => {
            let state = world.by_hand(&name).state.as_mut().expect("a state");
            if state.status == Some(bollard_stubs::models::ContainerStateStatusEnum::RUNNING) {
                state.status = Some(bollard_stubs::models::ContainerStateStatusEnum::PAUSED);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 120,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn after_any_plan_in_any_order_nothing_is_left_to_do(
        first in stacks(),
        second in stacks(),
        choices in prop::collection::vec(any::<Index>(), 8),
    ) {
        let Some(mut world) = running(&first) else { return Ok(()) };
        world.finish_tasks(&first);
        world.options.pulled = true;
        let Ok(plan) = world.plan(&second) else { return Ok(()) };
        check_order(&plan);
        for id in any_order(&plan, &choices) {
            world.apply(&second, &plan.steps[id]);
        }
        let again = world.plan(&second).expect("a plan");
        prop_assert_eq!(lines(&again), Vec::<String>::new(), "after {:#?}", lines(&plan));
        world.finish_tasks(&second);
        let again = world.plan(&second).expect("a plan");
        prop_assert_eq!(lines(&again), Vec::<String>::new(), "after its tasks have ended");
    }

    #[test]
    fn an_apply_that_was_interrupted_anywhere_ends_where_the_whole_one_does(
        first in stacks(),
        second in stacks(),
        choices in prop::collection::vec(any::<Index>(), 8),
        cuts in prop::collection::vec(any::<Index>(), 1..4),
    ) {
        let Some(mut world) = running(&first) else { return Ok(()) };
        world.options.pulled = true;
        let Ok(plan) = world.plan(&second) else { return Ok(()) };
        let mut whole = world.clone();
        whole.apply_all(&second, &plan);
        for cut in cuts {
            let plan = world.plan(&second).expect("a plan");
            let order = any_order(&plan, &choices);
            let count = cut.index(order.len() + 1);
            for id in &order[..count] {
                world.apply(&second, &plan.steps[*id]);
            }
        }
        converge(&mut world, &second);
        world.finish_tasks(&second);
        whole.finish_tasks(&second);
        prop_assert_eq!(world.summary(), whole.summary());
    }

    #[test]
    fn an_interrupted_apply_can_be_taken_back(
        first in stacks(),
        second in stacks(),
        choices in prop::collection::vec(any::<Index>(), 8),
        cut in any::<Index>(),
    ) {
        let Some(mut world) = running(&first) else { return Ok(()) };
        world.options.pulled = true;
        let Ok(plan) = world.plan(&second) else { return Ok(()) };
        let order = any_order(&plan, &choices);
        for id in &order[..cut.index(order.len() + 1)] {
            world.apply(&second, &plan.steps[*id]);
        }
        converge(&mut world, &first);
    }

    #[test]
    fn what_another_tool_runs_is_taken_over_and_can_be_changed(
        first in stacks(),
        second in stacks(),
    ) {
        let Some(mut world) = running(&first) else { return Ok(()) };
        world.options.pulled = true;
        world.options.remove_foreign_orphans = true;
        let own = |c: &&mut bollard_stubs::models::ContainerInspectResponse| {
            Seen(c).project() == Some("shop")
        };
        world.engine.observed.containers.iter_mut().filter(own).for_each(as_foreign);
        let plan = world.plan(&first).expect("a plan");
        prop_assert_eq!(lines(&plan), Vec::<String>::new(), "{:#?}", plan);
        if let Ok(plan) = world.plan(&second) {
            world.apply_all(&second, &plan);
            converge(&mut world, &second);
        }
    }

    #[test]
    fn whatever_somebody_does_by_hand_is_mended(
        stack in stacks(),
        hands in prop::collection::vec((0_u8..5, any::<Index>()), 1..5),
    ) {
        let Some(mut world) = running(&stack) else { return Ok(()) };
        world.options.pulled = true;
        for (kind, which) in hands {
            disturb(&mut world, kind, which);
        }
        converge(&mut world, &stack);
    }
}
