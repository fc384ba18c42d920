//! Stacks as an operator has them: deployed, left alone, changed, taken back and removed, by the
//! commands, through the relay, on the real Engine.

use std::{fs, path::Path};

use tests::{Engine, Finished};

use crate::{
    secluded::{Registry, Secluded},
    site::Site,
};

const SECRET: &str = "correct-horse-battery";

fn compose(image: &str, check: &str) -> String {
    format!(
        "services:\n  web:\n    image: {image}\n    network_mode: none\n    \
         command: sh -c 'while [ ! -e /stop ]; do sleep 0.2; done'\n    \
         stop_grace_period: 0s\n    environment: {{LEVEL: \"${{LEVEL:?say which}}\"}}\n    \
         secrets: [password]\n    volumes: [\"./page:/page:ro\"]\n    \
         healthcheck: {{test: {check}, interval: 1s, retries: 2}}\n    \
         deploy: {{update_config: {{monitor: 1s}}}}\n\
         secrets: {{password: {{environment: PASSWORD}}}}\n"
    )
}

struct Shop {
    site: Site,
    folder: tempfile::TempDir,
}

impl Drop for Shop {
    fn drop(&mut self) {
        let label = "label=com.docker.compose.project=st-shop";
        let left = self.site.engine.says(&["ps", "-aq", "--filter", label]);
        let left: Vec<&str> = left.split_whitespace().collect();
        if !left.is_empty() {
            self.site.engine.remove(&left);
        }
    }
}

impl Shop {
    async fn open() -> Option<Self> {
        let site = Site::over("auto").await?;
        let folder = tempfile::tempdir().expect("a file of the test's own");
        fs::create_dir(folder.path().join("page")).expect("a file of the test's own");
        fs::write(folder.path().join("page/index.html"), "hello")
            .expect("a file of the test's own");
        fs::write(folder.path().join("password"), SECRET).expect("a file of the test's own");
        Some(Self { site, folder })
    }

    fn write(&self, check: &str) {
        let text = compose(self.site.image(), check);
        fs::write(self.folder.path().join("compose.yml"), text).expect("a file of the test's own");
    }

    async fn deploy(&self, level: &str) -> Finished {
        let file = |name: &str| self.folder.path().join(name).display().to_string();
        let (compose, secret) = (
            file("compose.yml"),
            format!("PASSWORD=@{}", file("password")),
        );
        let set = format!("LEVEL={level}");
        let deploy = [
            "stack", "deploy", "st-shop", "--env", "acme", "-f", &compose, "--wait",
        ];
        let given = ["--set", &set, "--secret", &secret];
        self.site
            .relay
            .operator(&[&deploy[..], &given[..]].concat())
            .await
    }

    async fn stack(&self, arguments: &[&str]) -> Finished {
        self.site
            .relay
            .operator(&[&["stack"], arguments].concat())
            .await
    }

    fn containers(&self) -> String {
        let label = "label=com.docker.compose.project=st-shop";
        self.site
            .engine
            .says(&["ps", "-q", "--no-trunc", "--filter", label])
    }
}

fn printed(said: &Finished) -> String {
    format!("{}{}", said.stdout, said.stderr)
}

fn holds_secret(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a file of the test's own") {
        let path = entry.expect("a file of the test's own").path();
        if path.is_dir() {
            found.extend(holds_secret(&path));
        } else if let Ok(bytes) = fs::read(&path)
            && bytes
                .windows(SECRET.len())
                .any(|part| part == SECRET.as_bytes())
        {
            found.push(path.display().to_string());
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_is_deployed_left_alone_taken_back_and_removed() {
    let Some(shop) = Shop::open().await else {
        return;
    };
    shop.write("test -f /page/index.html");

    let first = shop.deploy("low").await;
    assert!(first.status.success(), "{}", printed(&first));
    let container = shop.containers();
    let inside = [
        "exec",
        &container,
        "sh",
        "-c",
        "cat /page/index.html /run/secrets/password",
    ];
    assert_eq!(shop.site.engine.says(&inside), format!("hello{SECRET}"));

    let again = shop.deploy("low").await;
    let told = printed(&again);
    assert!(told.contains("already"), "{told}");
    assert_eq!(shop.containers(), container);

    shop.write("echo broken; exit 1");
    let bad = shop.deploy("high").await;
    let told = printed(&bad);
    assert!(!bad.status.success() && told.contains("reverted"), "{told}");
    assert!(told.contains("web:") && told.contains("broken"), "{told}");
    assert_eq!(shop.containers(), container, "the old one serves on");

    let removed = shop
        .stack(&["remove", "st-shop", "--env", "acme", "--wait"])
        .await;
    assert!(removed.status.success(), "{}", printed(&removed));
    assert_eq!(shop.containers(), "");
    // The agent's own folder had it, in a file of 0600, until the stack was removed.
    let relay = holds_secret(shop.site.relay.data_dir());
    assert!(relay.is_empty(), "{relay:?}");
    let agent = holds_secret(shop.site.agent.state_dir());
    assert!(agent.is_empty(), "{agent:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_cannot_be_rendered_is_refused_by_line_and_nothing_is_assigned() {
    let Some(shop) = Shop::open().await else {
        return;
    };
    shop.write("test -f /page/index.html");
    let file = shop.folder.path().join("compose.yml").display().to_string();

    let refused = shop
        .stack(&["deploy", "st-shop", "--env", "acme", "-f", &file])
        .await;

    let told = refused.failure();
    assert!(
        told.contains("LEVEL") && told.contains("compose.yml:"),
        "{told}"
    );
    let status = shop.stack(&["status", "--json"]).await.success();
    assert!(!status.contains("st-shop"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_the_engine_cannot_pull_comes_through_the_session() {
    let (Some(engine), Some(registry)) = (Engine::find(), Registry::start()) else {
        return;
    };
    let Some(secluded) = Secluded::start() else {
        return;
    };
    let image = format!("{}/shop/web:1", registry.host);
    engine.says(&["tag", engine.image(), &image]);
    engine.says(&["push", &image]);
    engine.says(&["rmi", &image]);
    let there = secluded.engine();
    let refused = there.command(&["pull", &image]).output();
    assert!(!refused.expect("docker runs").status.success());
    let site = Site::on(secluded.engine()).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("compose.yml");
    let text = format!(
        "services:\n  web:\n    image: {image}\n    network_mode: none\n    \
         command: sh -c 'while [ ! -e /stop ]; do sleep 0.2; done'\n    stop_grace_period: 0s\n"
    );
    fs::write(&file, text).expect("a file in a temporary folder");
    let file = file.display().to_string();

    let deploy = ["stack", "deploy", "st-sent", "--env", "acme", "-f", &file];
    let deployed = site
        .relay
        .operator(&[&deploy[..], &["--wait"]].concat())
        .await;

    assert!(deployed.status.success(), "{}", printed(&deployed));
    let label = "label=com.docker.compose.project=st-sent";
    let running = there.says(&["ps", "-q", "--filter", label]);
    assert_eq!(running.lines().count(), 1, "{running}");
    assert!(!there.says(&["images", "-q", &image]).is_empty());
}
