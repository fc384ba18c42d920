//! What the Engine is asked for.

use std::collections::BTreeMap;

use compose::{
    load::secret,
    model::{
        FileMount, Mount, MountKind, NetworkAttachment, Service, ServiceScope, Shipped, Stack,
    },
    plan::{
        Context, labels,
        spec::{self, ContainerSpec},
    },
};
use serde_json::{Value, json};

use crate::world::{World, depends, mount, network, port, service, stack, volume};

fn asked(stack: &Stack, context: &Context) -> ContainerSpec {
    spec::container(stack, "web", 1, context).expect("a request")
}

fn host(service: Service) -> Value {
    let mut stack = stack([("web", service)]);
    volume(&mut stack, "state");
    let spec = asked(&stack, &Context::default());
    serde_json::to_value(spec.body.host_config).expect("JSON")
}

#[test]
fn a_container_carries_the_labels_of_dockers_own_tool_and_ours() {
    let mut web = service("web:1");
    depends(&mut web, "db", compose::model::Condition::Healthy);
    web.labels.insert("team".to_owned(), "a".to_owned());
    let stack = stack([("web", web), ("db", service("db:1"))]);
    let context = Context {
        release: "r7".to_owned(),
        assignment: 7,
        digests: BTreeMap::from([("web:1".to_owned(), "sha256:abc".to_owned())]),
        working_dir: "/srv/shop".to_owned(),
        config_files: "/srv/shop/compose.yml".to_owned(),
        ..Context::default()
    };
    let spec = asked(&stack, &context);
    let found = spec.body.labels.expect("labels");
    for (label, value) in [
        ("com.docker.compose.project", "shop"),
        ("com.docker.compose.service", "web"),
        ("com.docker.compose.container-number", "1"),
        ("com.docker.compose.oneoff", "False"),
        ("com.docker.compose.image", "sha256:abc"),
        ("com.docker.compose.depends_on", "db:service_healthy:false"),
        ("com.docker.compose.project.working_dir", "/srv/shop"),
        (
            "com.docker.compose.project.config_files",
            "/srv/shop/compose.yml",
        ),
        ("com.docker.compose.config-hash", &spec.hash),
        ("com.sternline.hash", &spec.hash),
        ("com.sternline.release", "r7"),
        ("com.sternline.stack", "shop"),
        ("team", "a"),
    ] {
        assert_eq!(found.get(label).map(String::as_str), Some(value), "{label}");
    }
}

#[test]
fn networks_and_volumes_carry_the_labels_of_dockers_own_tool_and_ours() {
    let mut stack = stack([("web", service("web:1"))]);
    volume(&mut stack, "state");
    let network = spec::network(&stack, "default", &Context::default()).expect("a request");
    let found = network.labels.expect("labels");
    assert_eq!(found["com.docker.compose.network"], "default");
    assert_eq!(found["com.docker.compose.project"], "shop");
    assert!(found.contains_key(labels::HASH));
    let volume = spec::volume(&stack, "state").expect("a request");
    assert_eq!(volume.name.as_deref(), Some("shop_state"));
    assert_eq!(
        volume.labels.expect("labels")["com.docker.compose.volume"],
        "state"
    );
}

#[test]
fn the_hash_does_not_depend_on_number_release_place_or_version_of_the_api() {
    let mut web = service("web:1");
    web.mounts
        .push(mount(MountKind::Shipped, Some("site"), "/site"));
    web.networks
        .insert("back".to_owned(), NetworkAttachment::default());
    let mut stack = stack([("web", web)]);
    stack
        .networks
        .insert("back".to_owned(), network("shop_back"));
    let text = Shipped::Text {
        text: "hello".to_owned(),
    };
    stack.files.insert("site".to_owned(), text);
    let first = asked(&stack, &Context::default()).hash;
    let context = Context {
        api: (1, 48),
        shipped_root: "/elsewhere/7/".to_owned(),
        release: "r9".to_owned(),
        assignment: 9,
        containers: BTreeMap::from([("web".to_owned(), "id".to_owned())]),
        digests: BTreeMap::from([("web:1".to_owned(), "sha256:abc".to_owned())]),
        ..Context::default()
    };
    let second = spec::container(&stack, "web", 2, &context).expect("a request");
    assert_eq!(second.hash, first);
    let text = Shipped::Text {
        text: "other".to_owned(),
    };
    stack.files.insert("site".to_owned(), text);
    assert_ne!(
        asked(&stack, &context).hash,
        first,
        "the content does matter"
    );
}

#[test]
fn the_hash_follows_the_fingerprint_of_a_secret_and_never_its_value() {
    let mut web = service("web:1");
    web.environment
        .insert("KEY".to_owned(), Some(secret::mark("KEY")));
    let stack = stack([("web", web)]);
    let with = |print: &str| {
        let context = Context {
            fingerprints: BTreeMap::from([
                ("KEY".to_owned(), print.to_owned()),
                ("OTHER".to_owned(), format!("not used {print}")),
            ]),
            ..Context::default()
        };
        asked(&stack, &context)
    };
    assert_eq!(with("a").hash, with("a").hash);
    assert_ne!(with("a").hash, with("b").hash);
    let env = with("a").body.env.expect("an environment");
    assert_eq!(
        env,
        [format!("KEY={}", secret::mark("KEY"))],
        "the agent reveals it"
    );
}

#[test]
fn what_a_plan_compares_is_what_the_engine_is_asked_for() {
    let mut web = service("web:1");
    web.replicas = 2;
    web.networks.insert(
        "default".to_owned(),
        NetworkAttachment {
            ipv6_address: None,
            aliases: vec!["www".to_owned()],
            ..NetworkAttachment::default()
        },
    );
    let stack = stack([("web", web)]);
    let mut world = World::new();
    world.deploy(&stack);
    for number in [1, 2] {
        let spec = spec::container(&stack, "web", number, &Context::default()).unwrap();
        let seen = world.container(&format!("shop-web-{number}"));
        assert_eq!(seen.hash(), Some(spec.hash.as_str()));
        assert_eq!(seen.number(), number);
    }
    let drift = compose::plan::drift(&stack, &world.engine.observed, &world.options);
    assert_eq!(drift, []);
}

#[test]
fn older_engines_get_the_first_network_with_the_request_and_the_others_after_it() {
    let mut web = service("web:1");
    for (key, priority) in [("back", 0), ("front", 10)] {
        let attachment = NetworkAttachment {
            priority,
            ..NetworkAttachment::default()
        };
        web.networks.insert(key.to_owned(), attachment);
    }
    let mut stack = stack([("web", web)]);
    stack
        .networks
        .insert("back".to_owned(), network("shop_back"));
    stack
        .networks
        .insert("front".to_owned(), network("shop_front"));
    let names = |list: &[(String, _)]| list.iter().map(|(n, _)| n.clone()).collect::<Vec<_>>();
    let old = asked(&stack, &Context::default());
    assert_eq!(
        names(&old.networks),
        ["shop_front", "shop_back", "shop_default"]
    );
    assert_eq!(names(old.to_connect()), ["shop_back", "shop_default"]);
    let host = old.body.host_config.expect("a host configuration");
    assert_eq!(host.network_mode.as_deref(), Some("shop_front"));
    let new = asked(
        &stack,
        &Context {
            api: (1, 44),
            ..Context::default()
        },
    );
    assert_eq!(new.to_connect(), []);
}

#[test]
fn a_container_is_known_on_its_networks_by_name_service_and_aliases() {
    let mut web = service("web:1");
    web.networks.get_mut("default").unwrap().aliases = vec!["www".to_owned(), "web".to_owned()];
    let spec = asked(&stack([("web", web)]), &Context::default());
    let aliases = spec.networks[0].1.aliases.clone();
    assert_eq!(aliases.expect("aliases"), ["shop-web-1", "web", "www"]);
}

#[test]
fn mounts_reach_the_engine_each_in_its_form() {
    let mut web = service("web:1");
    web.mounts
        .push(mount(MountKind::Volume, Some("state"), "/state"));
    web.mounts.push(Mount {
        read_only: true,
        ..mount(MountKind::Bind, Some("/etc/ssl"), "/ssl")
    });
    web.mounts.push(Mount {
        create_host_path: true,
        selinux: Some("z".to_owned()),
        propagation: Some("rslave".to_owned()),
        ..mount(MountKind::Bind, Some("/var/x"), "/x")
    });
    web.mounts.push(Mount {
        tmpfs_size: Some(1024),
        tmpfs_mode: Some(0o1777),
        ..mount(MountKind::Tmpfs, None, "/tmp")
    });
    web.mounts
        .push(mount(MountKind::Shipped, Some("site"), "/site"));
    let host = host(web);
    assert_eq!(host["Binds"], json!(["/var/x:/x:rw,z,rslave"]));
    assert_eq!(
        host["Mounts"],
        json!([
            { "Target": "/state", "Source": "shop_state", "Type": "volume" },
            { "Target": "/ssl", "Source": "/etc/ssl", "Type": "bind", "ReadOnly": true },
            {
                "Target": "/tmp",
                "Type": "tmpfs",
                "TmpfsOptions": { "SizeBytes": 1024, "Mode": 0o1777 },
            },
            { "Target": "/site", "Source": "/site", "Type": "bind" },
        ])
    );
}

#[test]
fn configs_are_copied_in_and_bound_where_the_file_system_is_read_only() {
    let mut web = service("web:1");
    web.secrets.push(FileMount {
        source: "key".to_owned(),
        target: "/run/secrets/key".to_owned(),
        uid: Some(33),
        gid: None,
        mode: 0o400,
    });
    let mut stack = stack([("web", web)]);
    let key = Shipped::Secret {
        variable: "KEY".to_owned(),
    };
    stack.files.insert("key".to_owned(), key);
    let context = Context {
        shipped_root: "/var/lib/x".to_owned(),
        ..Context::default()
    };
    let spec = asked(&stack, &context);
    assert_eq!(
        (spec.files[0].uid, spec.files[0].gid, spec.files[0].mode),
        (33, 0, 0o400)
    );
    stack.services.get_mut("web").unwrap().read_only = true;
    let spec = asked(&stack, &context);
    assert_eq!(spec.files, []);
    let host = serde_json::to_value(spec.body.host_config).expect("JSON");
    assert_eq!(
        host["Mounts"],
        json!([{
            "Target": "/run/secrets/key",
            "Source": "/var/lib/x/key",
            "Type": "bind",
            "ReadOnly": true,
        }])
    );
}

#[test]
fn ports_and_namespaces_reach_the_engine() {
    let mut web = service("web:1");
    web.ports.push(port("8000-8010", 80));
    web.ports.push(compose::model::Port {
        host_ip: Some("127.0.0.1".to_owned()),
        ..port("81", 80)
    });
    web.pid = Some(ServiceScope::Service("db".to_owned()));
    web.ipc = Some(ServiceScope::Mode("host".to_owned()));
    let mut stack = stack([("web", web), ("db", service("db:1"))]);
    let spec = asked(&stack, &Context::default());
    assert_eq!(spec.body.exposed_ports.clone().expect("ports"), ["80/tcp"]);
    let host = serde_json::to_value(spec.body.host_config).expect("JSON");
    assert_eq!(
        host["PortBindings"],
        json!({ "80/tcp": [
            { "HostPort": "8000-8010" },
            { "HostIp": "127.0.0.1", "HostPort": "81" },
        ] })
    );
    assert_eq!(host["PidMode"], "container:shop-db-1");
    assert_eq!(host["IpcMode"], "host");
    stack.services.get_mut("web").unwrap().networks.clear();
    let host = asked(&stack, &Context::default())
        .body
        .host_config
        .expect("host");
    assert_eq!(host.network_mode.as_deref(), Some("none"));
}

#[test]
fn what_needs_a_newer_engine_is_refused_by_name_with_the_version() {
    let mut web = service("web:1");
    web.healthcheck = crate::world::check();
    web.healthcheck.as_mut().unwrap().start_interval = Some(1);
    web.annotations.insert("a".to_owned(), "b".to_owned());
    web.mac_address = Some("02:00:00:00:00:01".to_owned());
    web.networks.insert(
        "default".to_owned(),
        NetworkAttachment {
            gw_priority: Some(1),
            interface_name: Some("eth9".to_owned()),
            mac_address: Some("02:00:00:00:00:02".to_owned()),
            ..NetworkAttachment::default()
        },
    );
    web.mounts
        .push(mount(MountKind::Image, Some("web:2"), "/image"));
    web.mounts.push(Mount {
        subpath: Some("a".to_owned()),
        ..mount(MountKind::Volume, Some("state"), "/state")
    });
    web.mounts.push(Mount {
        recursive: Some("readonly".to_owned()),
        ..mount(MountKind::Bind, Some("/a"), "/a")
    });
    let found = spec::unsupported("web", &web, (1, 41));
    let found: Vec<_> = found
        .iter()
        .map(|u| (u.attribute.as_str(), u.needs.as_str()))
        .collect();
    assert_eq!(
        found,
        [
            ("healthcheck.start_interval", "1.44"),
            ("annotations", "1.43"),
            ("mac_address", "1.44"),
            ("networks.default.mac_address", "1.44"),
            ("networks.default.gw_priority", "1.48"),
            ("networks.default.interface_name", "1.49"),
            ("volumes /image: type image", "1.48"),
            ("volumes /state: volume.subpath", "1.45"),
            ("volumes /a: bind.recursive", "1.44"),
        ]
    );
    let newest = spec::unsupported("web", &web, (1, 49));
    assert_eq!(newest, []);
    let refused = spec::container(&stack([("web", web)]), "web", 1, &Context::default());
    assert_eq!(
        refused.unwrap_err().to_string(),
        "service web: healthcheck.start_interval needs Docker 25.0 (API 1.44), and this Engine \
         speaks API 1.41: update Docker, or take the attribute out"
    );
}
