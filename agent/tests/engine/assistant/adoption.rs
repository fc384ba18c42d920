//! Side by side with Docker's own tool: Debian's `docker-compose` 1.29.

use std::{fs, path::Path, process::Command};

use compose::exchange::{Phase, ServiceState};

use super::{POLICY, Product, changed};
use crate::site::Site;

/// A stack as both tools read it.
const ADOPTED: &str = r#"
services:
  vectors:
    image: sternline-stack-test:1
    command: sh -c 'trap "exit 0" TERM; while sleep 1; do :; done'
    restart: unless-stopped
    volumes: ["vectors:/qdrant/storage", "/scratch"]
    networks: {back: {aliases: [qdrant]}}
    healthcheck: {test: test -d /qdrant/storage, interval: 1s, timeout: 5s, retries: 3}
    logging: {driver: json-file, options: {max-size: 10m}}
    stop_grace_period: 3s
    ulimits: {nofile: {soft: 1000, hard: 2000}}
  app:
    image: sternline-stack-test:1
    entrypoint: [sh, -c]
    command: ['trap "exit 0" TERM; while sleep 1; do :; done']
    environment: {NEEDS: "vectors:6333", LEVEL: low, EMPTY: ""}
    depends_on: {vectors: {condition: service_healthy}}
    networks: [front, back]
    labels: {com.example.of: adoption}
    deploy: {replicas: 2, resources: {limits: {memory: 64M, cpus: "0.5"}}}
    ports: ["127.0.0.1::80"]
    extra_hosts: ["old.example.com:10.1.2.3"]
    cap_drop: [NET_RAW]
    read_only: true
    tmpfs: [/tmp]
    init: true
networks: {front: {}, back: {labels: {com.example.of: adoption}}}
volumes: {vectors: {}}
"#;

/// The example as far as the tool needs it to find what is of it.
const OUTLINE: &str = r#"
services:
  proxy: {image: any, networks: [front]}
  app: {image: any, networks: [front, back]}
  migrate: {image: any, networks: [back]}
  db: {image: any, networks: [back]}
  vectors: {image: any, networks: [back]}
  flows: {image: any, networks: [front, back]}
networks: {front: {}, back: {}}
"#;

/// The tool with a Compose file, in a folder of its own; none, with the test skipped by name.
#[derive(Debug)]
struct Tool {
    folder: tempfile::TempDir,
    project: String,
}

impl Tool {
    fn new(project: &str, file: &str) -> Option<Self> {
        if !Path::new("/usr/bin/docker-compose").exists() {
            let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
            assert!(
                !ci,
                "docker-compose is missing (CI=true: nothing may be skipped)"
            );
            println!("skipped: docker-compose is not installed");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("docker-compose.yml"), file).unwrap();
        Some(Self {
            folder,
            project: project.to_owned(),
        })
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output = Command::new("/usr/bin/docker-compose")
            .args(["--no-ansi", "-p", &self.project])
            .args(arguments)
            .current_dir(self.folder.path())
            .output()
            .unwrap();
        let failed = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "docker-compose {arguments:?}: {failed}"
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_that_dockers_tool_started_is_taken_over_as_it_is_and_is_ours_from_then_on() {
    let Some(socket) = Site::socket_there() else {
        return;
    };
    let Some(tool) = Tool::new("as-adopted", ADOPTED) else {
        return;
    };
    let mut site = Site::at(&socket, "as-adopted", POLICY);
    site.image("1");
    tool.run(&["up", "-d"]);
    let there = (site.ids("vectors"), site.ids("app"));
    assert_eq!((there.0.len(), there.1.len()), (1, 2));
    site.start();

    let files = [("compose.yml", ADOPTED)];
    let plan = site.plan(&files).await;
    assert!(plan.is_empty(), "{plan:#?}");
    let report = site.commits(&files).await;

    assert_eq!(report.operations, 0);
    assert_eq!((site.ids("vectors"), site.ids("app")), there);
    let ok = |service: &compose::exchange::ServiceReport| service.state == ServiceState::Ok;
    assert!(report.services.values().all(ok), "{report:#?}");
    assert!(report.drift.is_empty(), "{:?}", report.drift);
    assert_eq!(site.commits(&files).await.operations, 0);

    let changed = ADOPTED.replace("LEVEL: low", "LEVEL: high");
    site.commits(&[("compose.yml", &changed)]).await;
    assert_eq!(site.ids("vectors"), there.0);
    assert_eq!(site.ids("app").len(), 2);
    assert!(site.ids("app").iter().all(|id| !there.1.contains(id)));

    // What is not well goes back to what is ours, also where another tool had made it.
    let bad = ADOPTED.replace("test -d /qdrant/storage", "exit 1");
    let report = site.deploy(&[("compose.yml", &bad)]).await;
    assert_eq!(report.phase, Phase::Reverted, "{report:#?}");
    assert_eq!((site.ids("vectors").len(), site.ids("app").len()), (1, 2));

    let absent = site.absent(true);
    site.assign(&absent, &Default::default()).await;
    site.gone().await;
    let label = "label=com.docker.compose.project=as-adopted";
    for list in [["ps", "-a"], ["network", "ls"], ["volume", "ls"]] {
        let left = site.docker(&[&list[..], &["--filter", label, "-q"]].concat());
        assert_eq!(left, "", "{list:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_differs_from_what_dockers_tool_started_is_all_that_is_replaced() {
    let Some(socket) = Site::socket_there() else {
        return;
    };
    let Some(tool) = Tool::new("as-differs", ADOPTED) else {
        return;
    };
    let mut site = Site::at(&socket, "as-differs", POLICY);
    site.image("1");
    tool.run(&["up", "-d"]);
    let (vectors, app) = (site.ids("vectors"), site.ids("app"));
    site.start();

    let changed = ADOPTED.replace("LEVEL: low", "LEVEL: high");
    let report = site.commits(&[("compose.yml", &changed)]).await;

    assert!(report.operations > 0);
    assert_eq!(site.ids("vectors"), vectors);
    assert!(site.ids("app").iter().all(|id| !app.contains(id)));
    assert_eq!(site.ids("app").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn dockers_tool_lists_reads_and_takes_down_what_we_deployed() {
    let Some(mut product) = Product::new("as-tool") else {
        return;
    };
    let Some(tool) = Tool::new("as-tool", OUTLINE) else {
        return;
    };
    product.site.start();
    product.commits().await;
    let before = product.ids();

    let listed = tool.run(&["ps", "-a"]);
    let healthy = listed.lines().filter(|line| line.contains("Up (healthy)"));
    assert_eq!(healthy.count(), 6, "{listed}");
    assert!(
        listed
            .lines()
            .any(|line| line.contains("migrate") && line.contains("Exit 0"))
    );
    let printed = tool.run(&["logs", "--no-color", "app", "migrate"]);
    assert!(printed.contains("app 1 is ready on 8080"), "{printed}");
    assert!(
        printed.contains("the schema is that of release 1"),
        "{printed}"
    );
    let inside = tool.run(&["exec", "-T", "app", "cat", "/version"]);
    assert_eq!(inside.trim(), "1");
    assert!(changed(&before, &product.ids()).is_empty());

    // Down is the other tool's word: it is not made undone, and the next deployment is.
    tool.run(&["down"]);
    assert!(product.ids().is_empty());
    let all = "label=com.docker.compose.project=as-tool";
    let networks = ["network", "ls", "-q", "--filter", all];
    assert_eq!(product.site.docker(&networks), "");
    product.commits().await;
    assert_eq!(product.ids().len(), before.len());
    assert_eq!(product.sql("SELECT version FROM releases"), "1");
}
