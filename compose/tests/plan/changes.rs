//! What one change leads to, and what it does not.

use compose::{
    model::{Condition, FileMount, MountKind, Order, ServiceScope, Shipped, UpdateConfig},
    plan::{Obstacle, Operation},
};

use crate::world::{
    World, check, depends, exit, lines, mount, network, port, service, stack, task, volume,
};

#[test]
fn a_fresh_stack_is_made_in_the_order_of_its_dependencies() {
    let mut db = service("db:1");
    db.healthcheck = check();
    let mut job = task();
    depends(&mut job, "db", Condition::Healthy);
    let mut web = service("web:1");
    depends(&mut web, "job", Condition::Completed);
    let stack = stack([("web", web), ("db", db), ("job", job)]);
    let mut world = World::new();
    let plan = world.deploy(&stack);
    let lines = lines(&plan);
    let at = |line: &str| {
        lines
            .iter()
            .position(|l| l == line)
            .unwrap_or_else(|| panic!("{line}"))
    };
    assert!(at("create network shop_default") < at("create container shop-db-1"));
    assert!(at("start container shop-db-1") < at("wait until shop-db-1 is healthy"));
    assert!(at("wait until shop-db-1 is healthy") < at("start container shop-job-1"));
    assert!(at("wait until shop-job-1 has completed") < at("start container shop-web-1"));
    assert_eq!(lines.len(), 9);
}

#[test]
fn what_is_as_it_shall_be_needs_no_operation() {
    let stack = stack([("web", service("web:1")), ("db", service("db:1"))]);
    let mut world = World::new();
    world.deploy(&stack);
    assert_eq!(world.deploy(&stack).steps, []);
}

#[test]
fn only_the_service_that_changed_is_made_anew_and_the_plan_says_why() {
    let mut stack = stack([("web", service("web:1")), ("db", service("db:1"))]);
    depends(
        stack.services.get_mut("web").unwrap(),
        "db",
        Condition::Started,
    );
    let mut world = World::new();
    world.deploy(&stack);
    let web = world.container("shop-web-1").id().to_owned();
    let db = stack.services.get_mut("db").unwrap();
    db.environment
        .insert("LEVEL".to_owned(), Some("2".to_owned()));
    let plan = world.deploy(&stack);
    assert_eq!(plan.steps[0].why, "environment.LEVEL has changed");
    assert_eq!(world.container("shop-web-1").id(), web, "a dependent stays");
    assert!(
        plan.steps
            .iter()
            .all(|step| step.operation.service() == Some("db"))
    );
}

#[test]
fn an_old_container_serves_until_the_new_one_is_healthy() {
    let mut web = service("web:1");
    web.healthcheck = check();
    let mut stack = stack([("web", web)]);
    let mut world = World::new();
    world.deploy(&stack);
    let old = world.container("shop-web-1").id()[..12].to_owned();
    stack.services.get_mut("web").unwrap().image = "web:2".to_owned();
    let temporary = format!("{old}_shop-web-1");
    assert_eq!(
        lines(&world.deploy(&stack)),
        [
            format!("create container {temporary}"),
            format!("start container {temporary}"),
            format!("wait until {temporary} is healthy"),
            "stop container shop-web-1".to_owned(),
            "remove container shop-web-1".to_owned(),
            format!("rename container {temporary} to shop-web-1"),
        ]
    );
}

#[test]
fn what_only_one_can_have_makes_the_old_container_stop_first() {
    let mut published = service("web:1");
    published.ports.push(port("8080", 80));
    let mut writes = service("web:1");
    writes
        .mounts
        .push(mount(MountKind::Volume, Some("state"), "/state"));
    let mut named = service("web:1");
    named.container_name = Some("the-web".to_owned());
    let mut addressed = service("web:1");
    let attachment = addressed.networks.get_mut("default").unwrap();
    attachment.ipv4_address = Some("10.0.0.9".to_owned());
    let mut host = service("web:1");
    host.networks.clear();
    host.network_mode = Some(ServiceScope::Mode("host".to_owned()));
    let anonymous = service("anon:1");
    for changed in [published, writes, named, addressed, host, anonymous] {
        let mut stack = stack([("web", changed)]);
        volume(&mut stack, "state");
        let mut world = World::new();
        world.deploy(&stack);
        stack.services.get_mut("web").unwrap().user = Some("7".to_owned());
        let lines = lines(&world.deploy(&stack));
        let verbs: Vec<_> = lines
            .iter()
            .filter_map(|line| line.split(' ').next())
            .collect();
        assert_eq!(
            verbs,
            ["create", "stop", "remove", "rename", "start"],
            "{lines:?}"
        );
    }
}

#[test]
fn start_first_that_cannot_be_is_said_and_the_old_one_stops_first() {
    let mut web = service("web:1");
    web.ports.push(port("8080", 80));
    web.deploy.update = Some(UpdateConfig {
        order: Some(Order::StartFirst),
        ..UpdateConfig::default()
    });
    let mut stack = stack([("web", web)]);
    let mut world = World::new();
    world.deploy(&stack);
    stack.services.get_mut("web").unwrap().image = "web:2".to_owned();
    let plan = world.deploy(&stack);
    assert!(plan.notes[0].contains("start-first"), "{:?}", plan.notes);
}

#[test]
fn a_port_goes_from_one_service_to_another() {
    let mut web = service("web:1");
    web.ports.push(port("80", 80));
    let mut stack = stack([("web", web), ("api", service("web:1"))]);
    let mut world = World::new();
    world.deploy(&stack);
    let web = stack.services.get_mut("web").unwrap();
    let ports = std::mem::take(&mut web.ports);
    // Each waits for the other's turn: the port is given away before the new one needs it.
    depends(web, "api", Condition::Started);
    stack.services.get_mut("api").unwrap().ports = ports;
    world.deploy(&stack);
}

#[test]
fn services_that_swap_their_container_names_end_with_each_others() {
    let named = |image: &str, name: &str| {
        let mut service = service(image);
        service.container_name = Some(name.to_owned());
        service
    };
    let mut world = World::new();
    world.deploy(&stack([
        ("web", named("web:1", "a")),
        ("db", named("db:1", "b")),
    ]));
    world.deploy(&stack([
        ("web", named("web:1", "b")),
        ("db", named("db:1", "a")),
    ]));
    assert_eq!(world.container("b").service(), "web");
    assert_eq!(world.container("a").service(), "db");
}

#[test]
fn a_name_is_free_for_what_another_service_needs_before_its_holder_is_removed() {
    let named = || {
        let mut service = service("web:1");
        service.container_name = Some("the-one".to_owned());
        service
    };
    let mut side = service("web:1");
    side.networks.clear();
    side.network_mode = Some(ServiceScope::Service("main".to_owned()));
    let mut world = World::new();
    world.deploy(&stack([("side", named())]));
    // `side` inherits from the holder, lives with `main`, and `main` needs the holder's name.
    world.deploy(&stack([("main", named()), ("side", side)]));
    assert_eq!(world.container("the-one").service(), "main");
}

#[test]
fn scaling_keeps_numbers_and_takes_the_highest_away() {
    let mut stack = stack([("web", service("web:1"))]);
    let mut world = World::new();
    let mut scale = |world: &mut World, replicas: u32| {
        stack.services.get_mut("web").unwrap().replicas = replicas;
        let plan = world.deploy(&stack);
        let all = world.engine.observed.of_project("shop");
        let mut numbers: Vec<_> = all.map(|seen| seen.number()).collect();
        numbers.sort_unstable();
        (numbers, plan.changes())
    };
    assert_eq!(scale(&mut world, 2).0, [1, 2]);
    assert_eq!(scale(&mut world, 3), (vec![1, 2, 3], 2));
    assert_eq!(scale(&mut world, 1), (vec![1], 4));
    assert_eq!(scale(&mut world, 0), (vec![], 2));
}

#[test]
fn a_task_that_has_ended_well_is_left_and_one_that_failed_runs_again() {
    let mut web = service("web:1");
    depends(&mut web, "job", Condition::Completed);
    let stack = stack([("web", web), ("job", task())]);
    let mut world = World::new();
    world.deploy(&stack);
    assert_eq!(world.container("shop-job-1").exit_code(), Some(0));
    exit(world.by_hand("shop-job-1"), 3);
    let plan = world.deploy(&stack);
    assert_eq!(lines(&plan), ["start container shop-job-1"]);
    assert_eq!(plan.steps[0].why, "it has ended with code 3");
}

#[test]
fn what_was_stopped_on_its_way_out_and_stays_after_all_is_started_again() {
    let first = stack([("worker", task())]);
    let mut world = World::new();
    world.deploy(&first);
    let mut second = first.clone();
    second.services.get_mut("worker").unwrap().user = Some("7".to_owned());
    let plan = world.plan(&second).unwrap();
    let stop =
        |step: &&compose::plan::Step| matches!(step.operation, Operation::StopContainer { .. });
    let stop = plan.steps.iter().find(stop).unwrap().id;
    plan.steps[..=stop]
        .iter()
        .for_each(|step| world.apply(&second, step));
    world.deploy(&first);
    assert!(world.container("shop-worker-1").is_running());
}

#[test]
fn a_server_that_was_stopped_runs_again_whatever_its_exit_code() {
    let mut web = service("web:1");
    web.ports.push(port("80", 80));
    let stack = stack([("web", web)]);
    let mut world = World::new();
    world.deploy(&stack);
    exit(world.by_hand("shop-web-1"), 0);
    assert_eq!(lines(&world.deploy(&stack)), ["start container shop-web-1"]);
}

#[test]
fn dependents_that_ask_for_it_are_restarted_when_what_they_need_is_another_one() {
    let mut web = service("web:1");
    depends(&mut web, "db", Condition::Started);
    web.depends_on.get_mut("db").unwrap().restart = true;
    let mut stack = stack([("web", web), ("db", service("db:1"))]);
    let mut world = World::new();
    world.deploy(&stack);
    stack.services.get_mut("db").unwrap().image = "db:2".to_owned();
    let plan = world.deploy(&stack);
    let last = plan.steps.last().unwrap();
    assert_eq!(last.operation.to_string(), "restart container shop-web-1");
    assert_eq!(last.why, "db was made anew");
}

#[test]
fn what_lives_in_anothers_namespace_is_made_anew_with_it() {
    let mut side = service("web:1");
    side.networks.clear();
    side.network_mode = Some(ServiceScope::Service("db".to_owned()));
    let mut stack = stack([("db", service("db:1")), ("side", side)]);
    let mut world = World::new();
    world.deploy(&stack);
    let old = world.container("shop-side-1").id().to_owned();
    stack.services.get_mut("db").unwrap().image = "db:2".to_owned();
    world.deploy(&stack);
    let side = world.container("shop-side-1");
    assert_ne!(side.id(), old);
    let mode = side
        .0
        .host_config
        .as_ref()
        .unwrap()
        .network_mode
        .clone()
        .unwrap();
    assert_eq!(
        mode,
        format!("container:{}", world.container("shop-db-1").id())
    );
}

#[test]
fn a_network_that_changed_is_made_anew_and_its_containers_stay() {
    let mut stack = stack([("web", service("web:1"))]);
    let mut world = World::new();
    world.deploy(&stack);
    let web = world.container("shop-web-1").id().to_owned();
    stack.networks.get_mut("default").unwrap().internal = true;
    assert_eq!(
        lines(&world.deploy(&stack)),
        [
            "stop container shop-web-1",
            "disconnect shop-web-1 from network shop_default",
            "remove network shop_default",
            "create network shop_default",
            "connect shop-web-1 to network shop_default",
            "start container shop-web-1",
        ]
    );
    assert_eq!(world.container("shop-web-1").id(), web);
}

#[test]
fn a_network_that_nobody_wants_any_more_is_removed_after_its_containers_have_gone() {
    let mut stack = stack([("web", service("web:1"))]);
    stack
        .networks
        .insert("back".to_owned(), network("shop_back"));
    let web = stack.services.get_mut("web").unwrap();
    web.networks.insert(
        "back".to_owned(),
        compose::model::NetworkAttachment::default(),
    );
    let mut world = World::new();
    world.deploy(&stack);
    stack.networks.remove("back");
    stack
        .services
        .get_mut("web")
        .unwrap()
        .networks
        .remove("back");
    let plan = world.deploy(&stack);
    assert!(lines(&plan).contains(&"remove network shop_back".to_owned()));
    assert!(world.engine.observed.network("shop_back").is_none());
}

#[test]
fn a_volume_whose_definition_changed_stays_and_is_spoken_of() {
    let mut web = service("web:1");
    web.mounts
        .push(mount(MountKind::Volume, Some("state"), "/state"));
    let mut stack = stack([("web", web)]);
    volume(&mut stack, "state");
    let mut world = World::new();
    world.deploy(&stack);
    let state = stack.volumes.get_mut("state").unwrap();
    state
        .driver_opts
        .insert("o".to_owned(), "size=1g".to_owned());
    let plan = world.deploy(&stack);
    assert_eq!(plan.steps, []);
    assert!(
        plan.notes[0].contains("shop_state has changed"),
        "{:?}",
        plan.notes
    );
}

#[test]
fn anonymous_volumes_go_from_the_old_container_to_the_new_one() {
    let mut web = service("anon:1");
    web.mounts.push(mount(MountKind::Volume, None, "/cache"));
    let mut stack = stack([("web", web)]);
    let mut world = World::new();
    world.deploy(&stack);
    let volumes = |world: &World| {
        let mut all: Vec<_> = world
            .container("shop-web-1")
            .0
            .mounts
            .iter()
            .flatten()
            .map(|point| (point.destination.clone(), point.name.clone()))
            .collect();
        all.sort();
        all
    };
    let before = volumes(&world);
    assert_eq!(before.len(), 2);
    stack.services.get_mut("web").unwrap().user = Some("7".to_owned());
    let plan = world.deploy(&stack);
    assert!(plan.steps.iter().any(|step| matches!(
        &step.operation,
        Operation::CreateContainer { inherits: Some(old), .. } if old.name == "shop-web-1"
    )));
    assert_eq!(volumes(&world), before);
}

#[test]
fn another_content_of_a_config_makes_its_service_anew() {
    let mut web = service("web:1");
    web.configs.push(FileMount {
        source: "conf".to_owned(),
        target: "/conf".to_owned(),
        uid: None,
        gid: None,
        mode: 0o444,
    });
    let mut stack = stack([("web", web), ("db", service("db:1"))]);
    let text = |text: &str| Shipped::Text {
        text: text.to_owned(),
    };
    stack.files.insert("conf".to_owned(), text("a"));
    let mut world = World::new();
    world.deploy(&stack);
    stack.files.insert("conf".to_owned(), text("b"));
    let plan = world.deploy(&stack);
    assert_eq!(
        plan.steps[0].why,
        "its files, secrets or hooks have changed"
    );
    assert!(
        plan.steps
            .iter()
            .all(|step| step.operation.service() == Some("web"))
    );
}

#[test]
fn what_is_external_and_absent_is_named_before_anything_is_touched() {
    let mut stack = stack([("web", service("web:1"))]);
    stack.networks.get_mut("default").unwrap().external = true;
    volume(&mut stack, "state");
    stack.volumes.get_mut("state").unwrap().external = true;
    let reasons = World::new().plan(&stack).unwrap_err();
    let reasons: Vec<_> = reasons.iter().map(ToString::to_string).collect();
    assert_eq!(reasons.len(), 2);
    assert!(
        reasons
            .iter()
            .any(|reason| reason.contains("network shop_default"))
    );
    assert!(
        reasons
            .iter()
            .any(|reason| reason.contains("volume shop_state"))
    );
}

#[test]
fn a_port_that_two_containers_would_publish_is_refused_by_name() {
    let mut web = service("web:1");
    web.ports.push(port("80", 80));
    web.replicas = 2;
    let reasons = World::new().plan(&stack([("web", web)])).unwrap_err();
    assert!(matches!(&reasons[..], [Obstacle::PortTwice { port, .. }] if port == "80/tcp"));
}

#[test]
fn more_containers_than_a_host_should_run_are_refused() {
    let mut web = service("web:1");
    web.replicas = u32::MAX;
    let reasons = World::new().plan(&stack([("web", web)])).unwrap_err();
    assert!(matches!(&reasons[..], [Obstacle::TooMany { .. }]));
}

#[test]
fn an_address_that_two_containers_would_have_is_refused_by_name() {
    let mut web = service("web:1");
    let attachment = web.networks.get_mut("default").unwrap();
    attachment.ipv4_address = Some("10.0.0.9".to_owned());
    web.replicas = 2;
    let reasons = World::new().plan(&stack([("web", web)])).unwrap_err();
    assert!(matches!(&reasons[..], [Obstacle::AddressTwice { .. }]));
}

#[test]
fn a_network_of_somebody_else_is_neither_used_nor_changed() {
    let mut stack = stack([("web", service("web:1"))]);
    stack.networks.get_mut("default").unwrap().name = "theirs".to_owned();
    let reasons = World::new().plan(&stack).unwrap_err();
    assert!(matches!(&reasons[..], [Obstacle::NotOurs { name, .. }] if name == "theirs"));
}

#[test]
fn a_network_that_has_to_be_made_anew_and_has_a_stranger_on_it_is_an_obstacle() {
    let mut stack = stack([("web", service("web:1"))]);
    let mut world = World::new();
    world.deploy(&stack);
    for network in &mut world.engine.observed.networks {
        let attached = network.containers.get_or_insert_default();
        let stranger = bollard_stubs::models::EndpointResource::default();
        attached.insert("stranger".to_owned(), stranger);
    }
    assert_eq!(
        world.plan(&stack).unwrap().steps,
        [],
        "as long as nothing changes"
    );
    stack.networks.get_mut("default").unwrap().internal = true;
    let reasons = world.plan(&stack).unwrap_err();
    assert!(matches!(&reasons[..], [Obstacle::NetworkInUse { .. }]));
}

#[test]
fn a_name_of_somebody_elses_container_is_an_obstacle() {
    let mut web = service("web:1");
    web.container_name = Some("theirs".to_owned());
    let reasons = World::new().plan(&stack([("web", web)])).unwrap_err();
    assert!(matches!(&reasons[..], [Obstacle::NameTaken { .. }]));
}

#[test]
fn a_volume_of_another_tool_is_used_and_spoken_of() {
    let mut web = service("web:1");
    web.mounts
        .push(mount(MountKind::Volume, Some("state"), "/state"));
    let mut stack = stack([("web", web)]);
    volume(&mut stack, "state");
    stack.volumes.get_mut("state").unwrap().name = "theirs".to_owned();
    let plan = World::new().deploy(&stack);
    assert!(plan.notes[0].contains("volume theirs"), "{:?}", plan.notes);
    assert!(!lines(&plan).iter().any(|line| line.contains("volume")));
}

#[test]
fn waiting_for_the_health_of_a_service_without_a_check_is_refused() {
    let mut web = service("web:1");
    depends(&mut web, "db", Condition::Healthy);
    let mut db = service("db:1");
    db.healthcheck = Some(compose::model::Healthcheck {
        test: compose::model::HealthTest::Disabled,
        ..compose::model::Healthcheck::default()
    });
    let reasons = World::new()
        .plan(&stack([("web", web), ("db", db)]))
        .unwrap_err();
    assert!(matches!(&reasons[..], [Obstacle::NoCheck { service, .. }] if service == "db"));
}

#[test]
fn services_that_need_each_other_are_named() {
    let (mut a, mut b) = (service("web:1"), service("web:1"));
    depends(&mut a, "b", Condition::Started);
    depends(&mut b, "a", Condition::Started);
    let reasons = World::new().plan(&stack([("a", a), ("b", b)])).unwrap_err();
    assert_eq!(
        reasons[0].to_string(),
        "services depend on each other in a circle: a, b"
    );
}

#[test]
fn forced_replacement_happens_once_an_assignment() {
    let stack = stack([("web", service("web:1"))]);
    let mut world = World::new();
    world.options.context.assignment = 1;
    world.deploy(&stack);
    world.options.force_recreate = true;
    world.options.context.assignment = 2;
    assert!(world.deploy(&stack).changes() > 0);
    assert_eq!(world.deploy(&stack).changes(), 0);
}
