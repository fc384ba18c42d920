//! What an operator does every day: version, run, logs, events, stats, cp.

use std::fs;

use tests::{SOON, eventually};

use crate::site::Site;

#[tokio::test(flavor = "multi_thread")]
async fn version_negotiates_with_the_far_engine() {
    for transport in ["quic", "ws", "ws-443"] {
        let Some(site) = Site::over(transport).await else {
            return;
        };

        let far = site
            .docker(&["version", "--format", "{{json .Server}}"])
            .await
            .success();

        let near = site
            .engine
            .says(&["version", "--format", "{{json .Server}}"]);
        assert_eq!(far.trim(), near, "over {transport}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn run_prints_what_the_container_prints_and_keeps_its_exit_code() {
    let Some(site) = Site::over("quic").await else {
        return;
    };
    let image = site.image();

    let run = [
        "run",
        "--rm",
        image,
        "sh",
        "-c",
        "echo out; echo err >&2; exit 7",
    ];
    let finished = site.docker(&run).await;

    assert_eq!(finished.stdout, "out\n");
    assert!(finished.stderr.contains("err\n"), "{}", finished.stderr);
    assert_eq!(finished.status.code(), Some(7));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_shows_the_engine() {
    let Some(site) = Site::over("quic").await else {
        return;
    };

    let docker = eventually("the engine is reported", SOON, async || {
        let docker = site.shown().await["session"]["docker"].clone();
        (docker["state"] == "ok").then_some(docker)
    })
    .await;

    let version = site
        .engine
        .says(&["version", "--format", "{{.Server.Version}}"]);
    assert_eq!(docker["engine_version"], version);
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_follow_from_the_first_line_and_end_with_the_container() {
    let Some(mut site) = Site::over("ws").await else {
        return;
    };
    let name = site.runs("for i in 1 2 3; do echo line $i; done; sleep 600");

    let mut follow = site.docker_stays(&["logs", "-f", &name], "logs");
    follow.says("line 3", SOON).await;
    site.engine.says(&["kill", &name]);

    assert!(follow.ended(SOON).await.success());
    assert_eq!(follow.log(), "line 1\nline 2\nline 3\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_of_many_lines_come_whole_and_in_order() {
    let Some(mut site) = Site::over("quic").await else {
        return;
    };
    let name = site.runs("seq 1 200000");
    site.engine.says(&["wait", &name]);

    let far = site.docker(&["logs", &name]).await.success();

    let expected: String = (1..=200_000).map(|number| format!("{number}\n")).collect();
    assert_eq!(far.len(), expected.len());
    assert!(far == expected, "lines were lost or swapped");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_arrive_as_they_happen() {
    let Some(mut site) = Site::over("quic").await else {
        return;
    };
    let events = site.docker_stays(
        &[
            "events",
            "--filter",
            "type=container",
            "--format",
            "{{.Action}} {{.Actor.Attributes.name}}",
        ],
        "events",
    );
    eventually("events are followed", SOON, async || {
        (site.streams_open().await > 0).then_some(())
    })
    .await;

    let name = site.name();
    let image = site.image();
    site.docker(&["run", "--name", &name, image, "echo", "hello"])
        .await
        .success();

    for action in ["create", "start", "die"] {
        events.says(&format!("{action} {name}"), SOON).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stats_stream_and_end_when_asked_once() {
    let Some(mut site) = Site::over("ws").await else {
        return;
    };
    let name = site.runs("sleep 600");

    let once = [
        "stats",
        "--no-stream",
        "--format",
        "{{.Name}} {{.MemUsage}}",
        &name,
    ];
    let stats = site.docker(&once).await.success();

    assert!(stats.starts_with(&name), "{stats}");
}

#[tokio::test(flavor = "multi_thread")]
async fn cp_carries_files_both_ways() {
    let Some(mut site) = Site::over("quic").await else {
        return;
    };
    let name = site.runs("sleep 600");
    let sent = site.scratch("sent");
    let bytes: Vec<u8> = (0..5_000_000_u32)
        .map(|number| (number % 251) as u8)
        .collect();
    fs::write(&sent, &bytes).expect("a file in a temporary folder");
    let received = site.scratch("received");

    let (from, to) = (sent.display().to_string(), received.display().to_string());
    site.docker(&["cp", &from, &format!("{name}:/file")])
        .await
        .success();
    site.docker(&["cp", &format!("{name}:/file"), &to])
        .await
        .success();

    assert!(
        fs::read(received).expect("it was copied") == bytes,
        "the file was changed"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_docker_host_serves_any_tool() {
    let Some(site) = Site::over("quic").await else {
        return;
    };
    let socket = site.scratch("docker.sock");
    let listen = format!("unix://{}", socket.display());
    let _listening = site
        .relay
        .operator_stays(&["docker", "acme", "--listen", &listen], "listen");
    eventually("the socket is there", SOON, async || {
        socket.exists().then_some(())
    })
    .await;
    let image = site.image();

    let output = tokio::process::Command::new("docker")
        .env("DOCKER_HOST", &listen)
        .args(["run", "--rm", image, "echo", "hello"])
        .output()
        .await
        .expect("the docker CLI runs");

    assert_eq!(String::from_utf8_lossy(&output.stdout), "hello\n");
}
