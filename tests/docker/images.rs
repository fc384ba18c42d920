//! The images, as an operator and a customer run them.

use std::process::Command;

use serde_json::Value;
use tests::{Engine, Relay, RelaySetup, SOON, binary, eventually};

/// Of the tests alone: an operator's own images keep their names.
const REPOSITORY: &str = "sternline-test";

/// The agent's image is smaller than this.
const AGENT_BYTES_MAX: u64 = 20_000_000;

/// A check runs every 15 s, and the first one may come before there is a session.
const HEALTHY_WITHIN: std::time::Duration = std::time::Duration::from_secs(60);

/// A container and its volume, gone when dropped.
struct Container<'a> {
    engine: &'a Engine,
    name: String,
}

impl<'a> Container<'a> {
    fn new(engine: &'a Engine, kind: &str) -> Self {
        let name = format!("sternline-test-{kind}-{}", std::process::id());
        Self { engine, name }
    }

    fn inspect(&self, format: &str) -> String {
        self.engine
            .says(&["inspect", "--format", format, &self.name])
    }

    fn logs(&self) -> String {
        let output = self.engine.command(&["logs", &self.name]).output();
        let output = output.expect("the docker CLI runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr)
    }

    async fn is_healthy(&self) {
        eventually("the container is healthy", HEALTHY_WITHIN, async || {
            let health = self.inspect("{{.State.Health.Status}}");
            (health == "healthy").then_some(())
        })
        .await;
    }

    /// Stops it, and it ends by itself and in order.
    fn stops_in_order(&self) {
        self.engine.says(&["stop", "--time", "30", &self.name]);
        assert_eq!(self.inspect("{{.State.ExitCode}}"), "0", "{}", self.logs());
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        self.engine.remove(&[&self.name]);
        drop(self.engine.command(&["volume", "rm", &self.name]).output());
    }
}

/// Builds an image from the programs under test, and returns its name.
fn image(engine: &Engine, kind: &str) -> String {
    let program = binary(&format!("sternline-{kind}"));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/images");
    let built = Command::new(script)
        .args(["--repository", REPOSITORY, "--programs"])
        .arg(program.parent().expect("it is in a folder"))
        .arg(kind)
        .env("DOCKER_HOST", format!("unix://{}", engine.socket.display()))
        .output()
        .expect("the script is there");
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    String::from_utf8_lossy(&built.stdout).trim().to_owned()
}

/// The line for the customer as the relay prints it, with a container, a volume and a
/// socket of the test's own.
async fn customers_line(relay: &Relay, container: &str, engine: &Engine) -> String {
    let added = relay.operator(&["env", "add", "acme", "--json"]).await;
    let added: Value = serde_json::from_str(&added.success()).expect("JSON");
    let line = added["docker_run_command"].as_str().expect("a line");
    let socket = engine.socket.display();
    let own = [
        ("--name sternline-agent ", format!("--name {container} ")),
        ("-v sternline-agent:", format!("-v {container}:")),
        ("%g /var/run/docker.sock", format!("%g {socket}")),
        ("-v /var/run/docker.sock:", format!("-v {socket}:")),
    ];
    own.iter().fold(line.to_owned(), |line, (printed, own)| {
        assert!(line.contains(printed), "no `{printed}` in `{line}`");
        line.replace(printed, own)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agents_image_is_small_and_serves_docker_as_the_printed_line_starts_it() {
    let Some(engine) = Engine::find() else {
        return;
    };
    let image = image(&engine, "agent");
    let size = engine.says(&["image", "inspect", "--format", "{{.Size}}", &image]);
    let relay = Relay::start_with(RelaySetup {
        config: Some(format!("[agent]\nimage = \"{image}\"\n")),
        ..RelaySetup::default()
    })
    .await;
    let container = Container::new(&engine, "agent");
    let line = customers_line(&relay, &container.name, &engine).await;

    let started = Command::new("sh")
        .args(["-c", &line])
        .env("DOCKER_HOST", format!("unix://{}", engine.socket.display()))
        .output()
        .expect("a shell runs");
    assert!(
        started.status.success(),
        "{}",
        String::from_utf8_lossy(&started.stderr)
    );
    relay.shows("acme", "online", SOON).await;
    let names = relay
        .docker("acme", &["ps", "--format", "{{.Names}}"])
        .await;
    let status = engine.says(&["exec", &container.name, "sternline-agent", "status"]);
    container.is_healthy().await;
    container.stops_in_order();

    let size: u64 = size.parse().expect("a number of bytes");
    assert!(size < AGENT_BYTES_MAX, "the agent's image has {size} bytes");
    assert!(names.success().lines().any(|name| name == container.name));
    // The kernel's fences hold inside of Docker's own.
    assert!(
        status.contains("listen and accept denied (tried)"),
        "{status}"
    );
    assert!(
        container.logs().contains("stopping"),
        "{}",
        container.logs()
    );
    assert_ne!(container.inspect("{{.Config.User}}"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_relays_image_serves_without_root_and_keeps_its_data_in_the_volume() {
    let Some(engine) = Engine::find() else {
        return;
    };
    let image = image(&engine, "relay");
    let container = Container::new(&engine, "relay");
    let volume = format!("{}:/var/lib/sternline-relay", container.name);
    let any = "127.0.0.1:0";
    let run = [
        "run",
        "-d",
        "--name",
        &container.name,
        "--network",
        "host",
        "--read-only",
        "-v",
        &volume,
        &image,
        "serve",
        "--public-name",
        "localhost",
        "--https",
        any,
        "--tunnel",
        any,
        "--metrics",
        any,
    ];
    let operator = |arguments: &[&str]| {
        let mut all = vec!["exec", &container.name, "sternline-relay"];
        all.extend_from_slice(arguments);
        engine.command(&all).output().expect("the docker CLI runs")
    };

    engine.says(&run);
    container.is_healthy().await;
    assert!(operator(&["env", "add", "acme"]).status.success());
    container.stops_in_order();
    engine.remove(&[&container.name]);
    engine.says(&run);
    let listed = eventually("the relay answers again", SOON, async || {
        let output = operator(&["env", "list"]);
        output.status.success().then_some(output.stdout)
    })
    .await;

    assert!(String::from_utf8_lossy(&listed).contains("acme"));
    assert_ne!(container.inspect("{{.Config.User}}"), "");
}
