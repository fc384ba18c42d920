//! Containers that Docker's own tool makes of the fixtures, against those that we would make:
//! the Engine's `inspect` tells of the former, and the plan says what it would replace, and why.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use agent::stacks::{
    engine::Engine,
    site::{observed, wanted},
};
use compose::{
    load::load,
    model::Stack,
    plan::{Operation, Options, plan},
};
use tunnel::World;

use crate::{
    fixture::{self, Fixture},
    site::Site,
};

const IMAGE: &str = "sternline-stack-test:with-command";
const POLICY: &str = "[docker]\naccess = \"full\"\n";
const TOOL: &str = "/usr/bin/docker-compose";

/// Where our containers are others than the tool's, and why it stays so. What is not here fails
/// the test, and so does what is here and differs no more.
const DIFFERENCES: &[(&str, &str)] = &[
    (
        "blkio-config",
        "a kernel without weights of block devices: the Engine forgets them",
    ),
    (
        "mac-address",
        "refused below API 1.44, where it was of a container and not of its network",
    ),
    (
        "networks-default",
        "empty `networks` is as if there were none; the tool connects it to nothing",
    ),
    (
        "deploy-devices",
        "without a count all devices are meant; the tool asks for 0",
    ),
];

/// Those before it are about how files are read: the rendered model is compared.
const FIRST_OF_CONTAINERS: &str = "088";

/// Fixtures that the tool cannot make containers of on an Engine of this machine, and why.
const NOT_MADE: &[(&str, &str)] = &[
    (
        "cpu-rt",
        "the Engine's kernel has no real-time scheduling of groups",
    ),
    ("cpuset", "it names more processors than every machine has"),
    (
        "logging",
        "the tool passes a number where the Engine wants text",
    ),
    ("memory-bytes", "it is less than a container may have"),
    ("storage-opt", "the Engine's storage has no quotas"),
    (
        "volumes-long",
        "it binds a file of the host that is not there",
    ),
    (
        "network-attributes",
        "the Engine has no pool of IPv6 addresses",
    ),
    (
        "depends-on-long",
        "it waits for a check that nothing makes pass",
    ),
];

/// The tool on a fixture.
fn tool(fixture: &Fixture, folder: &Path, arguments: &[&str]) -> Result<(), String> {
    let mut command = Command::new(TOOL);
    command.args(["--no-ansi", "-p"]).args(fixture.project());
    for profile in &fixture.case.profiles {
        command.args(["--profile", profile]);
    }
    for file in fixture.files() {
        command.args(["-f", &file]);
    }
    command.envs(&fixture.case.variables).args(arguments);
    let output = command.current_dir(folder).output();
    let output = output.map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            let lines = said.lines().filter(|line| !line.trim().is_empty());
            Err(lines.skip(1).collect::<Vec<_>>().join(" / "))
        }
    }
}

/// A folder of its own with the fixture's files, for binds lead to where it is.
fn copied(fixture: &Fixture) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, file) in &fixture.bundle {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, &file.bytes).unwrap();
    }
    folder
}

/// An image that has a command, as most have.
fn build(site: &Site) {
    let folder = tempfile::tempdir().unwrap();
    let dockerfile = format!("FROM {}\nCMD [\"sleep\", \"1000\"]\n", site.image("1"));
    fs::write(folder.path().join("Dockerfile"), dockerfile).unwrap();
    site.docker(&["build", "-t", IMAGE, &folder.path().display().to_string()]);
}

fn label(stack: &Stack) -> String {
    format!("label=com.docker.compose.project={}", stack.name)
}

/// Makes what a stack takes for granted.
fn make_externals(site: &Site, stack: &Stack) {
    for network in stack.networks.values().filter(|network| network.external) {
        drop(site.try_docker(&["network", "create", &network.name]));
    }
    for volume in stack.volumes.values().filter(|volume| volume.external) {
        drop(site.try_docker(&["volume", "create", &volume.name]));
    }
}

/// Takes that away.
fn remove_externals(site: &Site, stack: &Stack) {
    site.clean();
    for network in stack.networks.values().filter(|network| network.external) {
        drop(site.try_docker(&["network", "rm", &network.name]));
    }
    for volume in stack.volumes.values().filter(|volume| volume.external) {
        drop(site.try_docker(&["volume", "rm", &volume.name]));
    }
}

/// Gives the image of these tests the names that the stack's services want; whether it could,
/// for a digest is nobody's to give.
fn name_images(site: &Site, stack: &Stack) -> bool {
    let mut images = stack.services.values().map(|service| &service.image);
    images.all(|image| site.try_docker(&["tag", IMAGE, image]).is_ok())
}

/// What would be done to what the tool has made, beside starting it.
async fn differences(engine: &Engine, stack: &Stack) -> Vec<String> {
    let found = engine.look(&stack.name, &wanted(stack)).await.unwrap();
    assert!(!found.containers.is_empty(), "the tool has made nothing");
    let seen = observed(engine, found).await.unwrap();
    let options = Options {
        pulled: true,
        ..Options::default()
    };
    let planned = match plan(stack, &seen, &options) {
        Ok(planned) => planned,
        Err(obstacles) => return obstacles.iter().map(ToString::to_string).collect(),
    };
    let is_start = |operation: &Operation| {
        matches!(
            operation,
            Operation::StartContainer { .. } | Operation::Wait { .. }
        )
    };
    let steps = planned
        .steps
        .iter()
        .filter(|step| !is_start(&step.operation));
    steps
        .map(|step| format!("{:?}: {}", step.operation, step.why))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_are_those_that_dockers_own_tool_makes() {
    let Some(socket) = Site::socket_there() else {
        return;
    };
    if !Path::new(TOOL).exists() {
        let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
        assert!(
            !ci,
            "docker-compose is missing (CI=true: nothing may be skipped)"
        );
        println!("skipped: docker-compose is not installed");
        return;
    }
    build(&Site::at(&socket, "demo", POLICY));
    let engine = Engine::connect(&World::real().net, &socket).await.unwrap();

    let (mut compared, mut wrong, mut differing) = (0, Vec::new(), BTreeSet::new());
    for fixture in fixture::all() {
        let name = fixture.name.as_str();
        let left_out = NOT_MADE.iter().any(|(ends, _)| name.ends_with(ends));
        let Ok(loaded) = load(&fixture.sources()) else {
            continue;
        };
        // The rules before these are about how files are read, not about containers.
        let is_of_reading = name < FIRST_OF_CONTAINERS;
        if fixture.case.without_docker_compose.is_some() || left_out || is_of_reading {
            continue;
        }
        let folder = copied(&fixture);
        // Takes away what the tool makes, at its end.
        let site = Site::at(&socket, &loaded.stack.name, POLICY);
        if !name_images(&site, &loaded.stack) {
            continue;
        }
        make_externals(&site, &loaded.stack);
        println!("{name}");
        let made = tool(&fixture, folder.path(), &["up", "-d", "-t", "0"]);
        // What was made and does not start is compared as well.
        let left = site.docker(&["ps", "-aq", "--filter", &label(&loaded.stack)]);
        match made {
            Err(said) if left.is_empty() => wrong.push(format!("{name}: the tool says: {said}")),
            _ => {
                compared += 1;
                let found = differences(&engine, &loaded.stack).await;
                match DIFFERENCES.iter().find(|(ends, _)| name.ends_with(ends)) {
                    Some(known) if !found.is_empty() => drop(differing.insert(*known)),
                    _ => wrong.extend(found.iter().map(|found| format!("{name}: {found}"))),
                }
            }
        }
        remove_externals(&site, &loaded.stack);
    }

    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(compared >= 60, "{compared} projects are compared");
    let gone = DIFFERENCES.iter().find(|known| !differing.contains(*known));
    assert_eq!(gone, None, "is no difference any more");
}
