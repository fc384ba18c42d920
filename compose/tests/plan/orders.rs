//! `deploy`: how many at a time, and how long between them.

use compose::{
    model::{Condition, Stack, UpdateConfig},
    plan::Operation,
};

use crate::world::{World, check, depends, lines, service, stack};

fn scaled(parallelism: Option<u32>, delay: Option<i64>) -> Stack {
    let mut web = service("web:1");
    web.replicas = 4;
    web.healthcheck = check();
    web.deploy.update = Some(UpdateConfig {
        parallelism,
        delay,
        ..UpdateConfig::default()
    });
    stack([("web", web)])
}

/// The most containers that are in the middle of their replacement at once.
fn at_once(parallelism: Option<u32>) -> usize {
    let mut stack = scaled(parallelism, None);
    let mut world = World::new();
    world.deploy(&stack);
    stack.services.get_mut("web").unwrap().image = "web:2".to_owned();
    let plan = world.deploy(&stack);
    // Everything that can be begun is begun at once.
    let mut done = vec![false; plan.steps.len()];
    let (mut open, mut most) = (0_usize, 0);
    while done.contains(&false) {
        let ready: Vec<_> = plan
            .steps
            .iter()
            .filter(|step| !done[step.id] && step.after.iter().all(|first| done[*first]))
            .collect();
        for step in ready {
            done[step.id] = true;
            match step.operation {
                Operation::CreateContainer { .. } => open += 1,
                Operation::RenameContainer { .. } => open -= 1,
                _ => {}
            }
            most = most.max(open);
        }
    }
    most
}

#[test]
fn one_container_at_a_time_unless_the_author_says_otherwise() {
    assert_eq!(at_once(None), 1);
    assert_eq!(at_once(Some(2)), 2);
    assert_eq!(at_once(Some(0)), 4);
}

#[test]
fn batches_have_the_delay_between_them() {
    let mut stack = scaled(Some(2), Some(1_500_000_000));
    let mut world = World::new();
    world.deploy(&stack);
    stack.services.get_mut("web").unwrap().image = "web:2".to_owned();
    let lines = lines(&world.deploy(&stack));
    let delays = lines
        .iter()
        .filter(|line| *line == "wait 1.500 s before more of web");
    assert_eq!(delays.count(), 1);
}

#[test]
fn a_task_that_has_done_its_work_is_not_waited_for() {
    let mut first = stack([("job", crate::world::task())]);
    first.services.get_mut("job").unwrap().replicas = 2;
    let mut second = first.clone();
    second.services.get_mut("job").unwrap().user = Some("7".to_owned());
    let mut world = World::new();
    world.deploy(&first);
    let plan = world.plan(&second).unwrap();
    // It is made beside its predecessor, and then everything is taken back.
    world.apply(&second, &plan.steps[0]);
    world.finish_tasks(&first);
    let plan = world.deploy(&first);
    assert_eq!(lines(&plan).len(), 1, "what was made is removed: {plan:#?}");
}

#[test]
fn going_back_goes_by_the_rollback_configuration() {
    let mut stack = scaled(Some(1), None);
    let web = stack.services.get_mut("web").unwrap();
    web.deploy.rollback = Some(UpdateConfig {
        parallelism: Some(0),
        ..UpdateConfig::default()
    });
    let mut world = World::new();
    world.deploy(&stack);
    stack.services.get_mut("web").unwrap().image = "web:2".to_owned();
    world.options.rollback = true;
    let plan = world.deploy(&stack);
    let free = plan.steps.iter().filter(|step| step.after.is_empty());
    assert_eq!(free.count(), 4, "all four begin at once");
}

#[test]
fn a_dependency_that_is_optional_or_not_there_does_not_hold_anybody_up() {
    let mut web = service("web:1");
    depends(&mut web, "gone", Condition::Healthy);
    depends(&mut web, "db", Condition::Healthy);
    web.depends_on.get_mut("db").unwrap().required = false;
    let mut db = service("db:1");
    db.healthcheck = check();
    let plan = World::new().deploy(&stack([("web", web), ("db", db)]));
    let waits: Vec<_> = plan
        .steps
        .iter()
        .filter_map(|step| match &step.operation {
            Operation::Wait {
                service, required, ..
            } => Some((service.as_str(), *required)),
            _ => None,
        })
        .collect();
    assert_eq!(waits, [("db", false)]);
}
