//! Stacks that Docker's own tool has started.

use bollard_stubs::models::ContainerInspectResponse;
use compose::{
    load::secret,
    model::{MountKind, Resources, Restart, Stack},
};

use crate::world::{World, as_foreign, check, lines, mount, port, service, stack, volume};

fn rich() -> Stack {
    let mut web = service("web:1");
    web.ports.push(port("80", 80));
    web.environment
        .insert("LEVEL".to_owned(), Some("1".to_owned()));
    web.environment
        .insert("FROM".to_owned(), Some("file".to_owned()));
    web.labels.insert("team".to_owned(), "a".to_owned());
    web.restart = Restart::UnlessStopped;
    web.healthcheck = check();
    web.cap_drop = vec!["ALL".to_owned()];
    web.stop_grace_period = Some(30_000_000_000);
    web.resources = Resources {
        memory: Some(64 << 20),
        ..Resources::default()
    };
    let mut db = service("anon:1");
    db.mounts
        .push(mount(MountKind::Volume, Some("state"), "/state"));
    let mut stack = stack([("web", web), ("db", db)]);
    volume(&mut stack, "state");
    stack
}

/// The stack as Docker's own tool would have left it.
fn foreign(stack: &Stack) -> World {
    let mut world = World::new();
    world.deploy(stack);
    for name in ["shop-web-1", "shop-db-1"] {
        let container = world.by_hand(name);
        as_foreign(container);
        as_the_engine_shows_it(container);
    }
    world
}

/// What an Engine adds by itself.
fn as_the_engine_shows_it(container: &mut ContainerInspectResponse) {
    container.config.as_mut().unwrap().stop_timeout = None;
    let host = container.host_config.as_mut().unwrap();
    host.shm_size = Some(64 << 20);
    host.runtime = Some("runc".to_owned());
    host.cpu_shares = Some(0);
    host.memory.get_or_insert(0);
    host.memory_swap = host.memory.map(|memory| memory * 2);
    host.oom_kill_disable = Some(false);
    host.cap_add.get_or_insert_default();
    host.ipc_mode = Some("private".to_owned());
    host.privileged.get_or_insert(false);
    host.security_opt = None;
    let networks = container
        .network_settings
        .as_mut()
        .unwrap()
        .networks
        .as_mut()
        .unwrap();
    let endpoint = networks.get_mut("shop_default").unwrap();
    let id = container.id.as_ref().unwrap()[..12].to_owned();
    endpoint.aliases.as_mut().unwrap().push(id);
}

#[test]
fn a_stack_of_another_tool_is_taken_over_without_touching_it() {
    let stack = rich();
    let world = foreign(&stack);
    let plan = world.plan(&stack).unwrap();
    assert_eq!(lines(&plan), Vec::<String>::new());
    assert_eq!(plan.adopts.len(), 2);
}

#[test]
fn what_differs_of_another_tools_container_is_named_and_it_alone_is_made_anew() {
    let stack = rich();
    let mut world = foreign(&stack);
    let config = world.by_hand("shop-web-1").config.as_mut().unwrap();
    config
        .env
        .as_mut()
        .unwrap()
        .retain(|entry| !entry.starts_with("LEVEL"));
    config.env.as_mut().unwrap().push("LEVEL=9".to_owned());
    let plan = world.deploy(&stack);
    assert_eq!(plan.steps[0].why, "environment.LEVEL has changed");
    assert!(
        plan.steps
            .iter()
            .all(|step| step.operation.service() == Some("web"))
    );
}

#[test]
fn the_older_tools_container_names_are_kept_until_a_container_is_made_anew() {
    let mut stack = rich();
    let mut world = foreign(&stack);
    world.by_hand("shop-web-1").name = Some("/shop_web_1".to_owned());
    assert_eq!(world.plan(&stack).unwrap().steps, []);
    stack.services.get_mut("web").unwrap().user = Some("7".to_owned());
    let plan = world.deploy(&stack);
    assert_eq!(
        lines(&plan),
        [
            "create container shop-web-1",
            "stop container shop_web_1",
            "remove container shop_web_1",
            "start container shop-web-1",
        ]
    );
}

#[test]
fn what_was_taken_over_is_made_anew_when_its_hash_is_no_longer_the_one_it_was_taken_for() {
    let mut stack = rich();
    let mut world = foreign(&stack);
    world.options.adopted = world.plan(&stack).unwrap().adopts;
    assert_eq!(world.plan(&stack).unwrap().steps, []);
    let hook = compose::model::Hook {
        command: vec!["warm-up".to_owned()],
        ..compose::model::Hook::default()
    };
    stack.services.get_mut("db").unwrap().post_start.push(hook);
    let plan = world.deploy(&stack);
    assert_eq!(
        plan.steps[0].why,
        "its files, secrets or hooks have changed"
    );
}

#[test]
fn a_stop_of_what_another_tool_made_has_the_grace_of_its_service() {
    let mut stack = rich();
    let mut world = foreign(&stack);
    stack.services.get_mut("web").unwrap().user = Some("7".to_owned());
    let plan = world.deploy(&stack);
    let json = serde_json::to_string(&plan).unwrap();
    assert!(json.contains(r#""grace_seconds":30"#), "{json}");
}

#[test]
fn a_secret_that_is_there_is_taken_for_the_one_that_was_asked_for() {
    let mut stack = rich();
    let mark = format!("postgres://app:{}@db", secret::mark("PASSWORD"));
    let web = stack.services.get_mut("web").unwrap();
    web.environment.insert("DB".to_owned(), Some(mark));
    let mut world = foreign(&stack);
    let config = world.by_hand("shop-web-1").config.as_mut().unwrap();
    for entry in config
        .env
        .iter_mut()
        .flatten()
        .filter(|entry| entry.starts_with("DB="))
    {
        *entry = "DB=postgres://app:hunter2@db".to_owned();
    }
    assert_eq!(world.plan(&stack).unwrap().steps, []);
    let config = world.by_hand("shop-web-1").config.as_mut().unwrap();
    for entry in config
        .env
        .iter_mut()
        .flatten()
        .filter(|entry| entry.starts_with("DB="))
    {
        *entry = "DB=postgres://root:hunter2@db".to_owned();
    }
    let plan = world.plan(&stack).unwrap();
    assert_eq!(plan.steps[0].why, "environment.DB has changed");
    let drift = compose::plan::drift(&stack, &world.engine.observed, &world.options);
    let words = format!("{plan:?} {drift:?}");
    assert!(!words.contains("hunter2"), "{words}");
    assert!(words.contains("****PASSWORD****"), "{words}");
}
