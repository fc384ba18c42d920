//! The table of attributes: complete, true, and in the documentation.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
};

use compose::load::{
    Bundle, File, Sources,
    attributes::{Attribute, Support, all, needs},
    load,
};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/compose.md");
const MARK: &str = "<!-- attributes -->\n";
const END: &str = "<!-- end of attributes -->\n";

/// Every attribute of a service that the schema of the specification has.
const SERVICE: [&str; 93] = [
    "annotations",
    "attach",
    "blkio_config",
    "build",
    "cap_add",
    "cap_drop",
    "cgroup",
    "cgroup_parent",
    "command",
    "configs",
    "container_name",
    "cpu_count",
    "cpu_percent",
    "cpu_period",
    "cpu_quota",
    "cpu_rt_period",
    "cpu_rt_runtime",
    "cpu_shares",
    "cpus",
    "cpuset",
    "credential_spec",
    "depends_on",
    "deploy",
    "develop",
    "device_cgroup_rules",
    "devices",
    "dns",
    "dns_opt",
    "dns_search",
    "domainname",
    "entrypoint",
    "env_file",
    "environment",
    "expose",
    "extends",
    "external_links",
    "extra_hosts",
    "gpus",
    "group_add",
    "healthcheck",
    "hostname",
    "image",
    "init",
    "ipc",
    "isolation",
    "label_file",
    "labels",
    "links",
    "logging",
    "mac_address",
    "mem_limit",
    "mem_reservation",
    "mem_swappiness",
    "memswap_limit",
    "models",
    "network_mode",
    "networks",
    "oom_kill_disable",
    "oom_score_adj",
    "pid",
    "pids_limit",
    "platform",
    "ports",
    "post_start",
    "pre_start",
    "pre_stop",
    "privileged",
    "profiles",
    "provider",
    "pull_policy",
    "pull_refresh_after",
    "read_only",
    "restart",
    "runtime",
    "scale",
    "secrets",
    "security_opt",
    "shm_size",
    "stdin_open",
    "stop_grace_period",
    "stop_signal",
    "storage_opt",
    "sysctls",
    "tmpfs",
    "tty",
    "ulimits",
    "use_api_socket",
    "user",
    "userns_mode",
    "uts",
    "volumes",
    "volumes_from",
    "working_dir",
];

#[test]
fn every_attribute_of_a_service_is_in_the_table_and_no_other() {
    let listed: BTreeSet<&str> = all()
        .filter_map(|attribute| attribute.path.strip_prefix("services.*."))
        .filter_map(|rest| rest.split(['.', '[']).next())
        .collect();

    assert_eq!(listed, BTreeSet::from(SERVICE));
}

#[test]
fn no_attribute_is_in_the_table_twice_and_what_is_refused_says_why() {
    let mut seen = BTreeMap::new();
    for attribute in all() {
        assert!(
            seen.insert(attribute.path, attribute.support).is_none(),
            "{}",
            attribute.path
        );
        let is_explained = !matches!(attribute.support, Support::Refused | Support::NoEffect)
            || !attribute.note.is_empty();
        assert!(is_explained, "{}", attribute.path);
    }
}

#[test]
fn what_the_table_refuses_the_loader_refuses_by_name() {
    for attribute in all().filter(|attribute| attribute.support == Support::Refused) {
        let path = attribute.path.replace(".*", ".x").replace("[]", "");
        let steps: Vec<&str> = path.split('.').collect();
        let mut text = "name: demo\nservices:\n  y: {image: a}\n".to_owned();
        let mut depth = 0;
        for step in &steps {
            if depth == 0 && *step == "services" {
                depth = 1;
                continue;
            }
            text.push_str(&format!("{}{step}:\n", "  ".repeat(depth)));
            depth += 1;
        }
        let text = format!("{} a\n", text.trim_end());
        let bundle = Bundle::from([("compose.yml".to_owned(), File::new(text.as_bytes()))]);

        let problems = load(&Sources::new(&bundle, "compose.yml")).expect_err(attribute.path);

        let name = steps.last().expect("a step");
        let refusal = format!("{path}: {name} is refused: {}", attribute.note);
        let shown: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert!(
            shown.iter().any(|problem| problem.contains(&refusal)),
            "{refusal}\n{shown:?}"
        );
    }
}

#[test]
fn what_needs_a_newer_engine_is_named_with_the_version() {
    let text = "
name: demo
services:
  web:
    image: a
    annotations: {a: b}
    healthcheck: {test: a, start_interval: 5s}
    networks: {n: {mac_address: '02:42:ac:11:00:02', gw_priority: 1, interface_name: eth0}}
    devices: ['vendor.com/device=gpu']
    volumes:
      - {type: image, source: a, target: /a, image: {subpath: x}}
      - {type: volume, source: v, target: /v, volume: {subpath: x}}
      - {type: bind, source: /b, target: /b, bind: {recursive: disabled}}
networks: {n: {enable_ipv4: false}}
volumes: {v: {}}
";
    let bundle = Bundle::from([("compose.yml".to_owned(), File::new(text.as_bytes()))]);

    let loaded = load(&Sources::new(&bundle, "compose.yml")).expect("a stack");

    let mut named: Vec<String> = needs(&loaded.stack)
        .iter()
        .map(ToString::to_string)
        .collect();
    named.sort();
    let expected = [
        "networks.n.enable_ipv4 needs a Docker Engine with API 1.48",
        "services.web.annotations needs a Docker Engine with API 1.43",
        "services.web.devices[0] needs a Docker Engine with API 1.44",
        "services.web.healthcheck.start_interval needs a Docker Engine with API 1.44",
        "services.web.networks.n.gw_priority needs a Docker Engine with API 1.48",
        "services.web.networks.n.interface_name needs a Docker Engine with API 1.49",
        "services.web.networks.n.mac_address needs a Docker Engine with API 1.44",
        "services.web.volumes[0].image needs a Docker Engine with API 1.48",
        "services.web.volumes[1].volume.subpath needs a Docker Engine with API 1.45",
        "services.web.volumes[2].bind.recursive needs a Docker Engine with API 1.44",
    ];
    assert_eq!(named, expected);
}

fn row(attribute: &Attribute) -> String {
    let support = match attribute.support {
        Support::Honoured => "honoured".to_owned(),
        Support::HonouredFrom(api) => format!("honoured from API {api}"),
        Support::NoEffect => "no effect".to_owned(),
        Support::Refused => "**refused**".to_owned(),
    };
    format!(
        "| `{}` | {support} | {} |\n",
        attribute.path, attribute.note
    )
}

fn reference() -> String {
    let count = |wanted: fn(&Support) -> bool| all().filter(|a| wanted(&a.support)).count();
    let honoured = count(|s| matches!(s, Support::Honoured | Support::HonouredFrom(_)));
    let mut page = format!(
        "\nOf {} attributes, {honoured} are honoured, {} have no effect on any Engine and are taken \
         with a warning, and {} are refused.\n\n| attribute | what becomes of it | note |\n\
         |---|---|---|\n",
        all().count(),
        count(|s| *s == Support::NoEffect),
        count(|s| *s == Support::Refused),
    );
    page.extend(all().map(row));
    page.push('\n');
    page
}

/// Write it anew with `STERNLINE_UPDATE_REFERENCE=1 cargo test -p compose --test reference`,
/// and have the difference reviewed.
#[test]
fn the_table_in_the_document_is_what_the_code_does() {
    let kept = fs::read_to_string(DOCUMENT).expect("the document");
    let (above, rest) = kept.split_once(MARK).expect("the mark");
    let (between, below) = rest.split_once(END).expect("the end");
    let generated = reference();
    if env::var_os("STERNLINE_UPDATE_REFERENCE").is_some() {
        let document = format!("{above}{MARK}{generated}{END}{below}");
        fs::write(DOCUMENT, document).expect("the document can be written");
        return;
    }

    assert!(
        between == generated,
        "docs/compose.md differs from the code: \
         STERNLINE_UPDATE_REFERENCE=1 cargo test -p compose --test reference"
    );
}
