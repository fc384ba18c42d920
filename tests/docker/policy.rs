//! The customer's policy against the real Docker CLI: what it allows works as ever, and what
//! it refuses is printed with the key that would allow it.

use std::fs;

use tests::{Finished, SOON};

use crate::site::Site;

/// Whether the CLI failed and printed the refusal, with key and file.
fn is_refused(said: &Finished, key: &str) {
    let printed = format!("{}{}", said.stdout, said.stderr);
    assert!(!said.status.success(), "{printed}");
    assert!(
        printed.contains(&format!("`{key}`")),
        "{key} is missing in {printed}"
    );
    assert!(printed.contains("policy.toml"), "{printed}");
}

fn worked(said: &Finished) {
    assert!(said.status.success(), "{}{}", said.stdout, said.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn read_only_looks_and_touches_nothing() {
    let Some(mut site) = Site::under("[docker]\naccess = \"read-only\"\n").await else {
        return;
    };
    let name = site.runs("echo it speaks; sleep 1000");
    let image = site.image();

    let listed = site.docker(&["ps", "--format", "{{.Names}}"]).await;
    assert!(
        listed.stdout.contains(&name),
        "{}{}",
        listed.stdout,
        listed.stderr
    );
    let logged = site.docker(&["logs", &name]).await;
    assert!(
        logged.stdout.contains("it speaks"),
        "{}{}",
        logged.stdout,
        logged.stderr
    );
    worked(&site.docker(&["inspect", &name]).await);
    worked(&site.docker(&["version"]).await);
    worked(&site.docker(&["stats", "--no-stream", &name]).await);

    is_refused(
        &site.docker(&["run", "--rm", image, "true"]).await,
        "docker.access",
    );
    is_refused(&site.docker(&["exec", &name, "true"]).await, "docker.exec");
    is_refused(&site.docker(&["rm", "-f", &name]).await, "docker.access");
    is_refused(
        &site.docker(&["cp", &format!("{name}:/bin/sh"), "-"]).await,
        "docker.files",
    );
    is_refused(&site.docker(&["stop", &name]).await, "docker.access");

    let running = site
        .engine
        .says(&["inspect", "-f", "{{.State.Running}}", &name]);
    assert_eq!(running, "true");
    let record = fs::read_to_string(site.agent.state_dir().join("audit.log"));
    let record = record.expect("the agent keeps a record");
    let refused = |line: &&str| line.contains("\"event\":\"request\"") && line.contains("refused");
    let lines: Vec<_> = record.lines().filter(refused).collect();
    assert!(lines.len() >= 5, "{record}");
    assert!(
        lines
            .iter()
            .any(|line| line.contains("\"rule\":\"docker.exec\"")),
        "{record}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn limited_runs_what_stays_within_its_walls() {
    let policy = "[docker]\naccess = \"limited\"\nexec = true\nregistries = [\"docker.io\"]\n\
        host_namespaces = [\"network\"]\nbind_mounts = [\"/tmp\", \"/var/**:ro\"]\n";
    let Some(mut site) = Site::under(policy).await else {
        return;
    };
    let (image, name) = (site.image(), site.name());
    // The engine of the tests has no bridge.
    let run = ["run", "--rm", "--network", "host", "--name", &name];
    let with = |more: &[&'static str]| [&run[..], more, &[image, "echo", "it runs"]].concat();

    let ran = site.docker(&with(&[])).await;
    assert!(
        ran.stdout.contains("it runs"),
        "{}{}",
        ran.stdout,
        ran.stderr
    );
    worked(&site.docker(&with(&["-v", "/tmp:/x"])).await);
    worked(&site.docker(&with(&["-v", "/var/lib:/x:ro"])).await);

    for (more, key) in [
        (&["--privileged"][..], "docker.privileged"),
        (&["-v", "/etc:/x"], "docker.bind_mounts"),
        (&["-v", "/var/lib:/x"], "docker.bind_mounts"),
        (&["-v", "/tmp/..:/x"], "docker.bind_mounts"),
        (
            &["--mount", "type=bind,source=/etc,target=/x"],
            "docker.bind_mounts",
        ),
        (&["--cap-add", "SYS_ADMIN"], "docker.capabilities"),
        (&["--pid", "host"], "docker.host_namespaces"),
        (&["--device", "/dev/null"], "docker.devices"),
        (
            &["--security-opt", "seccomp=unconfined"],
            "docker.privileged",
        ),
        (&["-p", "80:80"], "docker.ports"),
    ] {
        is_refused(&site.docker(&with(more)).await, key);
    }
    is_refused(
        &site.docker(&["pull", "ghcr.io/a/b"]).await,
        "docker.registries",
    );
    is_refused(&site.docker(&["swarm", "init"]).await, "docker.access");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_passes_in_both_directions_and_ends_when_the_policy_says_so() {
    let policy = "[docker]\naccess = \"read-only\"\nexec = true\n";
    let Some(mut site) = Site::under(policy).await else {
        return;
    };
    let name = site.runs("sleep 1000");

    let said = site
        .docker(&["exec", &name, "sh", "-c", "echo out; echo err >&2; exit 3"])
        .await;
    assert_eq!(
        said.status.code(),
        Some(3),
        "{}{}",
        said.stdout,
        said.stderr
    );
    assert!(said.stdout.contains("out") && said.stderr.contains("err"));

    let mut stays = site.docker_stays(
        &["exec", &name, "sh", "-c", "echo begun; sleep 1000"],
        "exec.log",
    );
    stays.says("begun", SOON).await;
    site.agent
        .write_policy("[docker]\naccess = \"read-only\"\n");

    stays.ended(SOON).await;
    is_refused(&site.docker(&["exec", &name, "true"]).await, "docker.exec");
}
