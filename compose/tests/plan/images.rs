//! Images: what is pulled, and what follows from another one.

use compose::{model::PullPolicy, plan::Obstacle};

use crate::world::{World, checked, image, lines, service, stack};

#[test]
fn an_image_that_is_there_is_not_pulled() {
    let stack = stack([("web", service("web:1"))]);
    let mut world = World::new();
    let plan = world.plan(&stack).unwrap();
    assert_eq!(lines(&plan)[0], "pull image web:1");
    assert!(
        plan.steps[1..].iter().all(|step| !step.after.is_empty()),
        "all wait for it"
    );
    world.deploy(&stack);
    assert_eq!(world.plan(&stack).unwrap().steps, []);
}

#[test]
fn a_tag_that_stands_for_another_image_makes_its_service_anew() {
    let mut web = service("web:1");
    web.pull_policy = PullPolicy::Always;
    let stack = stack([("web", web)]);
    let mut world = World::new();
    let plan = world.plan(&stack).unwrap();
    world.apply_all(&stack, &plan);
    world
        .engine
        .registry
        .insert("web:1".to_owned(), image("moved"));
    world.options.pulled = false;
    let plan = world.plan(&stack).unwrap();
    assert_eq!(lines(&plan), ["pull image web:1"]);
    world.apply_all(&stack, &plan);
    world.options.pulled = true;
    let plan = world.plan(&stack).unwrap();
    assert_eq!(plan.steps[0].why, "image web:1 is another one now");
}

#[test]
fn a_pin_that_is_fulfilled_needs_no_pull_and_one_that_is_not_does() {
    let mut web = service("web:1");
    web.pull_policy = PullPolicy::Always;
    let stack = stack([("web", web)]);
    let mut world = World::new();
    let pin = |world: &mut World, digest: &str| {
        world
            .options
            .context
            .digests
            .insert("web:1".to_owned(), digest.to_owned());
    };
    let mut pulled = image("web:1");
    pulled
        .repo_digests
        .push("registry/web@sha256:first".to_owned());
    world.engine.registry.insert("web:1".to_owned(), pulled);
    pin(&mut world, "sha256:first");
    world.deploy(&stack);
    assert_eq!(world.plan(&stack).unwrap().steps, []);
    pin(&mut world, "sha256:second");
    let lines = lines(&world.plan(&stack).unwrap());
    assert_eq!(lines[0], "pull image web:1");
    assert!(lines[1].starts_with("create container"), "{lines:?}");
}

#[test]
fn an_image_that_may_not_be_pulled_and_is_absent_is_an_obstacle() {
    let mut web = service("web:1");
    web.pull_policy = PullPolicy::Never;
    let reasons = World::new().plan(&stack([("web", web)])).unwrap_err();
    assert!(matches!(&reasons[..], [Obstacle::NoImage { .. }]));
}

#[test]
fn an_image_is_pulled_again_when_it_is_older_than_its_policy() {
    let mut web = service("web:1");
    web.pull_policy = PullPolicy::Older { seconds: 60 };
    let stack = stack([("web", web)]);
    let mut world = World::new();
    world.deploy(&stack);
    world
        .engine
        .observed
        .images
        .get_mut("web:1")
        .unwrap()
        .since_seconds = Some(1_000);
    world.options.now_seconds = Some(1_060);
    assert_eq!(world.plan(&stack).unwrap().steps, []);
    world.options.now_seconds = Some(1_061);
    assert_eq!(lines(&world.plan(&stack).unwrap()), ["pull image web:1"]);
}

#[test]
fn the_check_of_an_image_counts_as_the_services() {
    let mut world = World::new();
    world
        .engine
        .registry
        .insert("web:1".to_owned(), checked("one"));
    let mut stack = stack([("web", service("web:1"))]);
    world.deploy(&stack);
    stack.services.get_mut("web").unwrap().user = Some("7".to_owned());
    let lines = lines(&world.deploy(&stack));
    assert!(
        lines.iter().any(|line| line.ends_with("is healthy")),
        "{lines:?}"
    );
}
