//! How far a status is believed, and what a person reads.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
};

use super::super::{Board, DockerStatus, PolicyStatus};
use super::*;

fn written(pid: u32, uptime_ms: u64) -> Written {
    Written {
        at: Timestamp::UNIX_EPOCH,
        pid,
        pid_namespace: "pid:[1]".into(),
        boot_id: "boot".into(),
        uptime_ms,
    }
}

fn status(state: State) -> Status {
    Status {
        version: "0.1.0".into(),
        state,
        environment: "berlin".into(),
        agent_id: Some("agt_x".into()),
        relay_address: "relay.example:8000".into(),
        session_id: Some("ses_x".into()),
        transport: Some("quic".into()),
        proxy: None,
        intercepted_by: None,
        rtt_ms: Some(12.34),
        connected_since: Some(Timestamp::UNIX_EPOCH),
        last_heard: Some(Timestamp::UNIX_EPOCH),
        last_error: None,
        next_attempt_at: None,
        attempt: 0,
        docker: DockerStatus {
            state: "permission_denied".into(),
            engine_version: String::new(),
            api_version: String::new(),
            advice: "add the agent's user to the group `docker`".into(),
        },
        policy: PolicyStatus {
            file: None,
            ok: true,
            error: None,
            allowed: vec!["docker".into()],
            rules: Vec::new(),
        },
        sandbox: "landlock ABI 7".into(),
        fences: Vec::new(),
        stacks: Vec::new(),
        streams_open: 2,
        written: written(10, 100_000),
    }
}

#[test]
fn a_status_is_believed_for_forty_seconds_of_a_living_process() {
    let status = status(State::Online);
    let at = |uptime_ms| believe(&status, &written(11, uptime_ms), |pid| pid == 10);

    assert_eq!(at(100_000), Belief::Fresh);
    assert_eq!(at(140_000), Belief::Fresh);
    assert_eq!(at(140_001), Belief::Stale(Duration::from_millis(40_001)));
}

#[test]
fn a_status_of_a_dead_process_or_another_boot_is_not_believed() {
    let online = status(State::Online);
    let rebooted = Written {
        boot_id: "other".into(),
        ..written(11, 100_000)
    };

    assert_eq!(
        believe(&online, &written(11, 100_000), |_| false),
        Belief::Dead
    );
    assert_eq!(believe(&online, &rebooted, |_| true), Belief::Dead);
    assert_eq!(
        believe(&status(State::Stopped), &written(11, 100_000), |_| true),
        Belief::Dead
    );
}

#[test]
fn a_process_id_of_another_namespace_proves_nothing() {
    let status = status(State::Online);
    let elsewhere = Written {
        pid_namespace: "pid:[2]".into(),
        ..written(11, 100_000)
    };

    assert_eq!(believe(&status, &elsewhere, |_| false), Belief::Fresh);
}

#[test]
fn only_a_fresh_online_status_is_healthy() {
    assert_eq!(health(&status(State::Online), Belief::Fresh), Ok(()));
    for state in [
        State::Enrolling,
        State::Connecting,
        State::BackingOff,
        State::Refused,
    ] {
        assert!(health(&status(state), Belief::Fresh).is_err(), "{state:?}");
    }
    assert!(health(&status(State::Online), Belief::Dead).is_err());
    assert!(health(&status(State::Online), Belief::Stale(FRESH_FOR)).is_err());
}

#[test]
fn a_person_reads_what_is_wrong_and_what_to_do() {
    let mut status = status(State::Refused);
    status.last_error = Some(LastError {
        code: "agent_unknown".into(),
        message: "the relay does not know this agent".into(),
        advice: "enrol again with a new token".into(),
        at: Timestamp::UNIX_EPOCH,
    });
    let now = Timestamp::from_second(3_725).unwrap();

    let text = render(&status, Belief::Fresh, now);

    for part in [
        "refused by the relay",
        "round trip 12.3 ms, last heard 1h 2m ago",
        "permission denied",
        "add the agent's user to the group `docker`",
        "the relay does not know this agent (agent_unknown, 1h 2m ago)",
        "enrol again with a new token",
        "no file, the default: allows docker",
    ] {
        assert!(text.contains(part), "{part:?} is missing in {text}");
    }
}

#[test]
fn a_missing_status_says_that_no_agent_has_run() {
    let error = read(Path::new("/nowhere/status.json")).unwrap_err();

    assert!(
        error.contains("no agent has run with the state directory /nowhere"),
        "{error}"
    );
}

#[tokio::test]
async fn the_board_writes_a_status_that_reads_back_and_survives_a_full_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("status.json");
    let stop = tokio_util::sync::CancellationToken::new();
    stop.cancel();

    let board = Board::new(status(State::Online));
    board.clone().keep_written(path.clone(), stop.clone()).await;
    let unwritable = PathBuf::from("/proc/status.json");
    board.keep_written(unwritable, stop).await;

    let read = read(&path).unwrap();
    assert_eq!(read.state, State::Online);
    assert_eq!(believe(&read, &Written::now(), is_alive), Belief::Fresh);
}

#[test]
fn whoever_asks_is_told_of_every_change_in_order_and_of_nothing_else() {
    let board = Board::new(status(State::Connecting));
    let told = Arc::new(Mutex::new(Vec::new()));
    let hears = told.clone();
    board.on_change(Box::new(move |status| {
        hears.lock().unwrap().push(status.state);
    }));

    for state in [State::Connecting, State::Online, State::BackingOff] {
        board.update(|status| status.state = state);
    }
    board.update(|_| {});

    assert_eq!(*told.lock().unwrap(), [State::Online, State::BackingOff]);
}

#[test]
fn a_status_of_a_version_that_did_not_tell_the_session_is_still_read() {
    let mut text = serde_json::to_value(status(State::Online)).unwrap();
    text.as_object_mut().unwrap().remove("session_id");

    let read: Status = serde_json::from_value(text).unwrap();

    assert_eq!(read.session_id, None);
}
