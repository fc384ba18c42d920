//! Deployments, from fresh to gone.

use compose::exchange::{Phase, ServiceState};

use crate::site::Site;

const TWO: &str = r#"
services:
  db:
    image: IMAGE:1
    command: >-
      sh -c 'test -f /data/made || date > /data/made; while [ ! -e /stop ]; do sleep 0.2; done'
    stop_grace_period: 0s
    volumes: ["data:/data"]
    healthcheck: {test: test -f /data/made, interval: 1s, retries: 3}
  web:
    image: IMAGE:1
    command: sh -c 'while [ ! -e /stop ]; do sleep 0.2; done'
    stop_grace_period: 0s
    environment: {LEVEL: low, PASSWORD: $$PASSWORD}
    depends_on: {db: {condition: service_healthy}}
    configs: [{source: page, target: /etc/page}]
    volumes: ["./site:/site:ro"]
    deploy: {update_config: {monitor: 1s}}
configs: {page: {content: hello}}
volumes: {data: {}}
"#;

fn files(compose: &str) -> Vec<(&str, &str)> {
    vec![("compose.yml", compose), ("site/index.html", "<p>1</p>")]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_is_made_stays_as_it_is_and_changes_only_where_it_differs() {
    let Some(mut site) = Site::new("st-fresh") else {
        return;
    };
    site.start();

    let report = site.commits(&files(TWO)).await;
    assert!(report.operations > 0);
    assert!(
        report
            .services
            .values()
            .all(|service| service.state == ServiceState::Ok)
    );
    let line = serde_json::to_value(&site.recorded.newest()[0]).unwrap();
    assert_eq!(
        (&line["event"], &line["action"]),
        (&"stack".into(), &"deploy".into()),
        "{line}"
    );
    assert_eq!(
        (&line["principal"], &line["release"]),
        (&"ann".into(), &"r1".into()),
        "{line}"
    );
    let (db, web) = (site.ids("db"), site.ids("web"));
    let inside = site.docker(&[
        "exec",
        &web[0],
        "sh",
        "-c",
        "cat /etc/page /site/index.html",
    ]);
    assert_eq!(inside, "hello<p>1</p>");

    let again = site.commits(&files(TWO)).await;
    assert_eq!(again.operations, 0);
    assert_eq!((site.ids("db"), site.ids("web")), (db.clone(), web.clone()));

    let changed = TWO.replace("LEVEL: low", "LEVEL: high");
    let planned = site.plan(&files(&changed)).await;
    assert!(
        planned
            .steps
            .iter()
            .all(|step| step.operation.service() != Some("db"))
    );
    site.commits(&files(&changed)).await;
    assert_eq!(site.ids("db"), db);
    assert_ne!(site.ids("web"), web);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unhealthy_release_is_taken_back_with_data_intact_and_says_why() {
    let Some(mut site) = Site::new("st-revert") else {
        return;
    };
    site.start();
    site.commits(&files(TWO)).await;
    let made = site.docker(&["exec", &site.ids("db")[0], "cat", "/data/made"]);

    let bad = TWO.replace(
        "test -f /data/made, interval",
        "echo no such table; exit 1, interval",
    );
    let report = site.deploy(&files(&bad)).await;

    assert_eq!(report.phase, Phase::Reverted, "{report:#?}");
    let cause = report.cause.clone().unwrap();
    assert_eq!(cause.service.as_deref(), Some("db"));
    assert!(
        cause
            .output
            .iter()
            .any(|line| line.contains("no such table")),
        "{cause:?}"
    );
    assert_eq!(report.committed.as_deref(), Some("r1"));
    assert_eq!(
        site.docker(&["exec", &site.ids("db")[0], "cat", "/data/made"]),
        made
    );
    assert_eq!(site.ids("web").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_step_the_agent_is_killed_at_it_ends_in_the_new_release() {
    let Some(mut site) = Site::new("st-kill") else {
        return;
    };
    site.start();
    let mut at = 0;
    loop {
        let release = TWO.replace("LEVEL: low", &format!("LEVEL: l{at}"));
        let release = release.replace("retries: 3", &format!("retries: {}", 3 + at));
        let loaded = site.load(&files(&release));
        let assignment = site.next(loaded.stack);
        site.assign(&assignment, &loaded.blobs).await;
        let number = assignment.number;
        // Killed at the `at`-th sign of progress.
        let over = site.progresses(number, at).await;
        site.kill_and_wait().await;
        site.start();
        let report = site.settled(number).await;
        assert_eq!(
            report.phase,
            Phase::Committed,
            "killed at {at}: {report:#?}"
        );
        assert_eq!(
            report.release.as_deref(),
            Some(format!("r{number}").as_str())
        );
        assert_eq!(
            (site.ids("db").len(), site.ids("web").len()),
            (1, 1),
            "killed at {at}"
        );
        let all = format!("label=com.docker.compose.project={}", site.project);
        let names = site.docker(&["ps", "-a", "--filter", &all, "--format", "{{.Names}}"]);
        let mut names: Vec<&str> = names.lines().collect();
        names.sort_unstable();
        assert_eq!(names, ["st-kill-db-1", "st-kill-web-1"], "killed at {at}");
        if over {
            break;
        }
        at += 1;
    }
    assert!(at > 10, "{at} steps are too few to have been killed at");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_away_is_gone_and_its_volumes_only_where_that_was_asked() {
    let Some(mut site) = Site::new("st-gone") else {
        return;
    };
    site.start();
    site.commits(&files(TWO)).await;
    let volume = |site: &Site| {
        let label = format!("label=com.docker.compose.project={}", site.project);
        site.docker(&["volume", "ls", "-q", "--filter", &label])
    };

    let absent = site.absent(false);
    site.assign(&absent, &Default::default()).await;
    site.gone().await;
    assert!(site.ids("db").is_empty());
    assert_eq!(volume(&site), "st-gone_data");

    site.commits(&files(TWO)).await;
    let absent = site.absent(true);
    site.assign(&absent, &Default::default()).await;
    site.gone().await;
    assert_eq!(volume(&site), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_policy_refuses_is_refused_before_anything_is_touched_rule_by_rule() {
    let policy = "[docker]\naccess = \"limited\"\nregistries = [\"docker.io/library/sternline-stack-test\"]\n";
    let Some(mut site) = Site::under("st-policy", policy) else {
        return;
    };
    site.start();
    let compose = r#"
services:
  a:
    image: IMAGE:1
    privileged: true
    network_mode: host
    cap_add: [NET_ADMIN]
    volumes: ["/etc:/host"]
"#;

    let report = site.deploy(&[("compose.yml", compose)]).await;

    assert_eq!(report.phase, Phase::Refused, "{report:#?}");
    let told = report.cause.unwrap().output.join("\n");
    for rule in [
        "docker.privileged",
        "docker.host_namespaces",
        "docker.capabilities",
        "docker.bind_mounts",
    ] {
        assert!(told.contains(rule), "{rule} is not in {told}");
    }
    assert!(site.ids("a").is_empty());
}
