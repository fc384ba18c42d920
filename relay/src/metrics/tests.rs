//! What the series show.

use std::{sync::Arc, time::Duration};

use tokio::sync::Semaphore;
use tunnel::Occupancy;
use wire::{
    close::{CloseCode, RefusalCode, ResetCode},
    transport::Transport,
};

use super::*;

fn metrics() -> (Registry, Metrics) {
    let registry = Registry::new();
    let metrics = Metrics::new(&registry, "0.1.0", "abc").unwrap();
    (registry, metrics)
}

fn shows(registry: &Registry, line: &str) -> bool {
    render(registry).unwrap().lines().any(|shown| shown == line)
}

#[test]
fn a_session_counts_in_its_state_until_its_guard_is_dropped() {
    let (registry, metrics) = metrics();
    let line = |state, count| {
        format!(
            "sternline_relay_sessions{{role=\"agent\",state=\"{state}\",transport=\"quic\"}} {count}"
        )
    };

    let mut guard = metrics.session_opened(Transport::Quic, Role::Agent);
    assert!(shows(&registry, &line("live", 1)));
    guard.draining();
    assert!(shows(&registry, &line("live", 0)) && shows(&registry, &line("draining", 1)));
    drop(guard);

    assert!(shows(&registry, &line("live", 0)) && shows(&registry, &line("draining", 0)));
}

#[test]
fn a_stream_counts_as_open_until_its_guard_is_dropped_and_as_opened_for_ever() {
    let (registry, metrics) = metrics();
    let labels = "{origin=\"operator\",target=\"docker\"}";

    drop(metrics.stream_opened(Origin::Operator, "docker"));
    let _open = metrics.stream_opened(Origin::Operator, "docker");

    assert!(shows(
        &registry,
        &format!("sternline_relay_streams_open{labels} 1")
    ));
    let opened = format!("sternline_relay_streams_opened_total{labels} 2");
    assert!(shows(&registry, &opened));
}

#[test]
fn what_may_happen_is_shown_at_0_before_it_does() {
    let (registry, _metrics) = metrics();

    for line in [
        "sternline_relay_closes_total{close_code=\"connection_lost\",role=\"agent\"} 0",
        "sternline_relay_enrolments_total{result=\"token_used\"} 0",
        "sternline_relay_refusals_total{reason=\"too_many_connections\"} 0",
        "sternline_relay_resets_total{reset_code=\"policy_denied\"} 0",
        "sternline_relay_store_failures_total{cause=\"full\"} 0",
    ] {
        assert!(shows(&registry, line), "{line}");
    }
}

#[test]
fn sessions_and_doors_are_looked_at_when_somebody_scrapes() {
    let (registry, metrics) = metrics();
    let slots = Arc::new(Semaphore::new(10));
    metrics.watch_slots(Doorway::TunnelTcp, &slots, 10);
    metrics.at_scrape(|| {
        let mut reading = Reading::default();
        let stalled = Occupancy {
            unsent: 7,
            ..Occupancy::default()
        };
        reading.agents.add(&stalled);
        reading.agents.add(&stalled);
        reading
    });
    let _taken = slots.try_acquire_many(3).unwrap();

    for line in [
        "sternline_relay_session_queue_bytes{queue=\"unsent\",role=\"agent\"} 14",
        "sternline_relay_sessions_stalled{role=\"agent\"} 2",
        "sternline_relay_sessions_stalled{role=\"operator\"} 0",
        "sternline_relay_admission_permits_used{door=\"tunnel_tcp\"} 3",
        "sternline_relay_admission_permits{door=\"tunnel_tcp\"} 10",
    ] {
        assert!(shows(&registry, line), "{line}");
    }
}

#[test]
fn a_count_that_the_store_does_not_give_is_not_shown() {
    let (registry, metrics) = metrics();
    let counts = EnvironmentCounts {
        held: 2,
        ..EnvironmentCounts::default()
    };

    metrics.environments_counted(Some(counts));
    assert!(shows(
        &registry,
        "sternline_relay_environments{state=\"held\"} 2"
    ));
    metrics.environments_counted(None);

    assert!(
        !render(&registry)
            .unwrap()
            .contains("sternline_relay_environments{")
    );
}

#[test]
fn every_family_has_help_and_a_series_once_touched() {
    let (registry, metrics) = metrics();
    let _session = metrics.session_opened(Transport::Ws, Role::Operator);
    let _stream = metrics.stream_opened(Origin::Exposure, "tcp");
    let _connection = metrics.exposure_connected();
    metrics.handshake(Transport::Ws, "admitted", Duration::from_millis(3));
    metrics.heartbeat_rtt(Transport::Ws, Duration::from_millis(3));
    metrics.bytes(Direction::Sent, 1);
    metrics.bytes(Direction::Received, 2);
    metrics.closed(Role::Agent, CloseCode::Shutdown, Duration::from_secs(3));
    metrics.came_back(Transport::Ws, Duration::from_secs(3));
    metrics.reset(ResetCode::Cancelled);
    metrics.refused("tls_error");
    metrics.sent_away(Some(Duration::from_secs(2)));
    metrics.enrolment(Err(RefusalCode::TokenUsed));
    metrics.stream_answered("tcp", true, Duration::from_millis(3));
    metrics.api_request("GET", 200, Duration::from_millis(3));
    metrics.api_request("BREW", 999, Duration::from_millis(3));
    metrics.api_auth_failed();
    metrics.certificate_expires(1);
    metrics.certificate_reloaded(ReloadOutcome::Reloaded);
    metrics.certificate_reloaded(ReloadOutcome::Failed);
    metrics.panicked();
    metrics.store_operation("ping", Duration::from_millis(3));
    metrics.environments_counted(Some(EnvironmentCounts::default()));
    metrics.at_scrape(|| Reading {
        admissions: Admissions {
            rate: Some(2_000.0),
            ..Admissions::default()
        },
        ..Reading::default()
    });

    for family in registry.gather() {
        let name = family.name();
        let is_ours = name.starts_with("sternline_relay_") || name.starts_with("process_");
        assert!(is_ours, "{name}");
        assert!(family.help().ends_with('.'), "{name} has no help");
        assert!(!family.get_metric().is_empty(), "{name} has no series");
    }
}

#[test]
fn a_deployment_counts_by_its_outcome_and_stacks_by_their_phase() {
    let (registry, metrics) = metrics();
    let committed = STACK_PHASES.iter().position(|phase| *phase == "committed");
    metrics.at_scrape(move || {
        let mut reading = Reading::default();
        reading.stacks.phases[committed.unwrap()] = 3;
        reading.stacks.drifted = 2;
        reading.stacks.overdue = 1;
        reading
    });

    metrics.deployment_settled("reverted", Some(Duration::from_secs(1)));
    metrics.stack_trouble("refused");

    for line in [
        "sternline_relay_stack_deployments_total{outcome=\"reverted\"} 1",
        "sternline_relay_stack_deployment_duration_seconds_count{outcome=\"reverted\"} 1",
        "sternline_relay_stack_troubles_total{cause=\"refused\"} 1",
        "sternline_relay_stacks{phase=\"committed\"} 3",
        "sternline_relay_stacks_drifted 2",
        "sternline_relay_stacks_overdue 1",
    ] {
        assert!(shows(&registry, line), "{line}");
    }
}
