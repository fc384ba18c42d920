//! What goes, and what stays although nobody wants it.

use compose::plan::{Observed, Operation, Seen, remove};

use crate::world::{World, as_foreign, depends, lines, mount, port, service, stack, volume};
use compose::model::{Condition, MountKind};

#[test]
fn a_service_that_is_no_more_goes_after_the_others_are_up() {
    let mut world = World::new();
    world.deploy(&stack([
        ("web", service("web:1")),
        ("old", service("db:1")),
    ]));
    let plan = world.deploy(&stack([("web", service("web:2"))]));
    let lines = lines(&plan);
    let tail = &lines[lines.len() - 2..];
    assert_eq!(
        tail,
        ["stop container shop-old-1", "remove container shop-old-1"]
    );
}

#[test]
fn a_service_that_is_no_more_goes_at_once_where_its_port_is_needed() {
    let with_port = || {
        let mut service = service("web:1");
        service.ports.push(port("80", 80));
        service
    };
    let mut world = World::new();
    world.deploy(&stack([("old", with_port())]));
    world.deploy(&stack([("new", with_port())]));
    assert!(world.container("shop-new-1").is_running());
}

#[test]
fn an_orphan_of_another_tool_stays_unless_its_removal_is_asked_for() {
    let mut world = World::new();
    world.deploy(&stack([
        ("web", service("web:1")),
        ("old", service("db:1")),
    ]));
    as_foreign(world.by_hand("shop-old-1"));
    let stack = stack([("web", service("web:1"))]);
    let plan = world.plan(&stack).unwrap();
    assert_eq!(plan.steps, []);
    assert!(plan.notes[0].contains("shop-old-1"), "{:?}", plan.notes);
    world.options.remove_foreign_orphans = true;
    assert_eq!(
        lines(&world.deploy(&stack)),
        ["stop container shop-old-1", "remove container shop-old-1"]
    );
}

#[test]
fn a_port_that_an_orphan_of_another_tool_holds_is_refused_by_name() {
    let with_port = || {
        let mut service = service("web:1");
        service.ports.push(port("80", 80));
        service
    };
    let mut world = World::new();
    world.deploy(&stack([("old", with_port())]));
    as_foreign(world.by_hand("shop-old-1"));
    let reasons = world.plan(&stack([("new", with_port())])).unwrap_err();
    assert_eq!(
        reasons[0].to_string(),
        "service new: port 80/tcp of the host is held by container shop-old-1, which is of no \
         service of the release: allow orphans to be removed, or stop it"
    );
}

#[test]
fn a_container_of_compose_run_is_left_alone() {
    let stack = stack([("web", service("web:1"))]);
    let mut world = World::new();
    world.deploy(&stack);
    let mut run = world.container("shop-web-1").0.clone();
    run.id = Some("run".to_owned());
    run.name = Some("/shop-web-run-1".to_owned());
    let labels = run.config.as_mut().unwrap().labels.as_mut().unwrap();
    labels.insert(compose::plan::labels::ONEOFF.to_owned(), "True".to_owned());
    world.engine.observed.containers.push(run);
    assert_eq!(world.plan(&stack).unwrap().steps, []);
}

fn running() -> (World, Observed) {
    let mut web = service("web:1");
    depends(&mut web, "db", Condition::Started);
    let mut db = service("db:1");
    db.mounts
        .push(mount(MountKind::Volume, Some("state"), "/state"));
    let mut stack = stack([("web", web), ("db", db)]);
    volume(&mut stack, "state");
    let mut world = World::new();
    world.deploy(&stack);
    let observed = world.engine.observed.clone();
    (world, observed)
}

#[test]
fn a_stack_goes_without_its_volumes_and_dependents_go_first() {
    let (mut world, observed) = running();
    let plan = remove("shop", &observed, false);
    assert_eq!(
        lines(&plan),
        [
            "stop container shop-web-1",
            "remove container shop-web-1",
            "stop container shop-db-1",
            "remove container shop-db-1",
            "remove network shop_default",
        ]
    );
    world.apply_all(&stack([]), &plan);
    assert!(world.engine.observed.volume("shop_state").is_some());
    assert_eq!(remove("shop", &world.engine.observed, false).steps, []);
}

#[test]
fn volumes_go_where_that_was_asked_for_and_others_stay() {
    let (mut world, observed) = running();
    let plan = remove("shop", &observed, true);
    for step in &plan.steps {
        let done = world
            .engine
            .apply(&step.operation, &stack([]), &world.options);
        assert_eq!(done, Ok(()));
    }
    assert!(world.engine.observed.volume("shop_state").is_none());
    assert!(world.engine.observed.volume("theirs").is_some());
    assert!(
        world
            .engine
            .observed
            .containers
            .iter()
            .all(|c| Seen(c).name() == "theirs")
    );
}

#[test]
fn a_network_with_somebody_elses_container_on_it_stays() {
    let (_, mut observed) = running();
    let network = observed
        .networks
        .iter_mut()
        .find(|n| n.name.as_deref() == Some("shop_default"));
    let attached = network.unwrap().containers.get_or_insert_default();
    attached.insert(
        "stranger".to_owned(),
        bollard_stubs::models::EndpointResource::default(),
    );
    let plan = remove("shop", &observed, false);
    let removes =
        |step: &compose::plan::Step| matches!(step.operation, Operation::RemoveNetwork { .. });
    assert!(!plan.steps.iter().any(removes));
    assert!(plan.notes[0].contains("stranger"), "{:?}", plan.notes);
}
