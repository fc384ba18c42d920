//! Hijacked connections: attach, exec, half-closes, terminals, and Ctrl-C.

use std::fs;

use rustix::process::Signal;
use tests::{Process, SOON, eventually};
use tokio::io::AsyncWriteExt;

use crate::site::Site;

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_standard_input_reaches_the_container() {
    for transport in ["quic", "ws", "ws-443"] {
        let Some(site) = Site::over(transport).await else {
            return;
        };
        let fed = site.scratch("fed");
        fs::write(&fed, "hi\n").expect("a file in a temporary folder");
        let image = site.image();

        // `cat` ends only once its standard input does.
        let run = ["run", "--rm", "-i", image, "cat"];
        let printed = site.relay.docker_fed("acme", &run, &fed).await.success();

        assert_eq!(printed, "hi\n", "over {transport}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_carries_a_large_standard_input_and_returns_it() {
    let Some(mut site) = Site::over("quic").await else {
        return;
    };
    let name = site.runs("sleep 600");
    let fed = site.scratch("fed");
    let text: String = (0..1_000_000).map(|number| format!("{number}\n")).collect();
    fs::write(&fed, &text).expect("a file in a temporary folder");

    let exec = ["exec", "-i", &name, "cat"];
    let printed = site.relay.docker_fed("acme", &exec, &fed).await.success();

    assert_eq!(printed.len(), text.len());
    assert!(printed == text, "bytes were changed on the way");
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_with_a_terminal_behaves_as_one() {
    let Some(mut site) = Site::over("ws").await else {
        return;
    };
    let name = site.runs("sleep 600");
    // Answers only on a terminal, of the size that `stty` has set at this end.
    let inside = "test -t 0 && test -t 1 && until stty size 2>&1 | grep 33; do sleep 0.1; done && \
        read word && echo got $word";
    let exec = ["exec", "-it", &name, "sh", "-c", inside];
    let mut terminal = site.docker_on_a_terminal(&exec, "terminal");

    let mut keyboard = terminal.keyboard();
    keyboard.write_all(b"hello\n").await.expect("a keyboard");
    terminal.ended(SOON * 2).await;

    let shown = terminal.log();
    assert!(
        shown.contains("33 77"),
        "not the size of this terminal: {shown}"
    );
    assert!(shown.contains("got hello"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn attach_sees_what_the_container_says_from_then_on() {
    let Some(mut site) = Site::over("quic").await else {
        return;
    };
    let name = site.runs("i=0; while :; do i=$((i+1)); echo tick $i; sleep 0.1; done");

    let mut attach = site.docker_stays(&["attach", "--sig-proxy=false", &name], "attach");
    attach.says("tick", SOON).await;
    site.engine.says(&["kill", &name]);

    // 137 is what a killed container returns.
    assert_eq!(attach.ended(SOON).await.code(), Some(137));
}

/// Interrupts `docker` as Ctrl-C does: the CLI itself, not its parent alone.
fn interrupt(process: &Process) {
    let children = format!("/proc/{0}/task/{0}/children", process.pid());
    let children = fs::read_to_string(&children).unwrap_or_default();
    for child in children
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
    {
        let pid = rustix::process::Pid::from_raw(child).expect("a process id is not 0");
        rustix::process::kill_process(pid, Signal::INT).ok();
    }
    process.signal(Signal::INT);
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_a_followed_log_at_the_far_end_too() {
    for transport in ["quic", "ws"] {
        let Some(mut site) = Site::over(transport).await else {
            return;
        };
        let name = site.runs("echo first; sleep 600");
        let before = unix_connections(site.agent.process.pid());
        let mut follow = site.docker_stays(&["logs", "-f", &name], "logs");
        follow.says("first", SOON).await;
        assert!(site.streams_open().await > 0, "the log is a stream");

        interrupt(&follow);
        follow.ended(SOON).await;

        eventually(
            "the agent closes its request to the engine",
            SOON,
            async || {
                let held = unix_connections(site.agent.process.pid());
                (site.streams_open().await == 0 && held == before).then_some(())
            },
        )
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_stops_what_runs_in_the_foreground() {
    let Some(mut site) = Site::over("quic").await else {
        return;
    };
    let (name, image) = (site.name(), site.image());
    let script = "trap 'echo stopped; exit 3' INT; echo up; while :; do sleep 0.1; done";
    let run = ["run", "--name", &name, image, "sh", "-c", script];
    let mut run = site.docker_stays(&run, "run");
    run.says("up", SOON).await;

    interrupt(&run);

    assert_eq!(run.ended(SOON).await.code(), Some(3));
    run.says("stopped", SOON).await;
}

/// Connected Unix sockets that a process holds: its requests to the engine, and the
/// pair or two that its runtime keeps.
fn unix_connections(pid: u32) -> usize {
    let table = fs::read_to_string("/proc/net/unix").expect("Linux shows it");
    fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("the agent runs")
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|link| {
            let link = link
                .to_str()?
                .strip_prefix("socket:[")?
                .strip_suffix(']')?
                .to_owned();
            Some(link)
        })
        .filter(|inode| {
            table
                .lines()
                .any(|line| line.ends_with(&format!(" {inode}")))
        })
        .count()
}
