//! Which way is tried first, what the wrong ones cost, and what is left of those that lost.

use wire::close::CloseCode;

use super::*;

/// A shipped scenario with an uplink of this delay.
fn with_uplink(name: &str, delay: &str) -> Scenario {
    let (_, text) = SHIPPED
        .iter()
        .find(|(shipped, _)| *shipped == name)
        .unwrap();
    let text = text.replace("\"5ms..60ms\"", &format!("\"{delay}\""));
    check(&text).unwrap().drawn(Seed(1))
}

/// A session, and how long it took to come about.
async fn timed(site: &mut Site) -> (Dialled, Duration) {
    let begun = site.sim.now();
    let (dialled, _relay) = site.connect(AUTO).await;
    (dialled, site.sim.now().since(begun))
}

#[test]
fn blocked_udp_costs_a_head_start_at_first_and_nothing_once_it_is_known() {
    for delay in ["1ms", "20ms", "150ms", "400ms"] {
        run(
            with_uplink("udp-blocked", delay),
            Seed(1),
            |sim| async move {
                let mut site = Site::new(sim);
                let (unknown, first) = timed(&mut site).await;
                site.prefer = Some(unknown.preference());

                let (known, second) = timed(&mut site).await;

                assert_eq!(unknown.transport(), Transport::Ws);
                assert_eq!(known.transport(), Transport::Ws);
                let cost = first.saturating_sub(second);
                let (least, most) = (Duration::from_millis(290), Duration::from_millis(301));
                assert!(
                    (least..most).contains(&cost),
                    "{delay}: {first:?} {second:?}"
                );
            },
        );
    }
}

#[test]
fn a_hello_that_is_swallowed_has_a_smaller_one_beside_it_and_is_not_sent_again() {
    run(
        with_uplink("large-hello-swallowed", "20ms"),
        Seed(1),
        |sim| async move {
            let mut site = Site::new(sim);
            let (unknown, first) = timed(&mut site).await;
            site.prefer = Some(unknown.preference());

            let (known, second) = timed(&mut site).await;

            assert!(unknown.is_classical && known.is_classical);
            // QUIC's head start, the stall, and one more connection's round trip.
            let cost = first.saturating_sub(second);
            let (least, most) = (Duration::from_millis(1_800), Duration::from_millis(1_900));
            assert!((least..most).contains(&cost), "{first:?} {second:?}");
        },
    );
}

#[test]
fn a_slow_path_is_not_taken_for_one_that_swallows() {
    // A round trip takes longer than the stall, so that both are under way.
    run(
        with_uplink("udp-blocked", "900ms"),
        Seed(1),
        |sim| async move {
            let relay = sim.hosts("relay")[0];
            let mut site = Site::new(sim.clone());
            let doors = sim.sockets_held(relay);

            let (dialled, session) = site.connect(AUTO).await;

            assert!(!dialled.is_classical, "the one that came first is to win");
            dialled.session.close(CloseCode::Shutdown, "done");
            session.closed().await;
            nothing_is_left(&sim, relay, doors).await;
        },
    );
}

#[test]
fn a_network_that_swallows_hellos_of_late_is_got_through_once_it_is_in_doubt() {
    run(
        with_uplink("large-hello-swallowed", "20ms"),
        Seed(1),
        |sim| async move {
            let mut site = Site::new(sim);
            site.prefer = Some(Preference {
                transport: Transport::Ws,
                is_proxied: false,
                is_classical: false,
            });
            let believed = site.dial(AUTO).await.unwrap_err();
            // As the agent does after a few attempts.
            site.prefer = None;

            let (dialled, _relay) = site.connect(AUTO).await;

            assert_eq!(believed.kind(), "timed_out", "{believed}");
            assert!(dialled.is_classical);
        },
    );
}

#[test]
fn what_is_known_costs_a_head_start_where_it_is_no_longer_true() {
    run(with_uplink("open", "20ms"), Seed(1), |sim| async move {
        let mut site = Site::new(sim);
        site.prefer = Some(Preference {
            transport: Transport::Ws443,
            is_proxied: true,
            is_classical: false,
        });

        let (dialled, took) = timed(&mut site).await;

        // There is no proxy any more, and so nothing to prefer.
        assert_eq!(dialled.transport(), Transport::Quic);
        assert!(took < Duration::from_millis(300), "{took:?}");
    });
}

#[test]
fn whoever_loses_a_race_leaves_nothing_at_the_relay() {
    // A round trip takes longer than a head start: all are under way at once.
    run(with_uplink("open", "200ms"), Seed(1), |sim| async move {
        let relay = sim.hosts("relay")[0];
        let mut site = Site::new(sim.clone());
        let doors = sim.sockets_held(relay);
        let (dialled, session) = site.connect(AUTO).await;

        assert_eq!(dialled.transport(), Transport::Quic);
        dialled.session.close(CloseCode::Shutdown, "done");
        session.closed().await;
        nothing_is_left(&sim, relay, doors).await;
    });
}

#[test]
fn two_dials_of_one_agent_at_a_time_come_to_one_session() {
    run(with_uplink("open", "200ms"), Seed(1), |sim| async move {
        let mut site = Site::new(sim);
        let turn = Turn::after(Duration::ZERO);
        let dial = || site.dial_beside(AUTO, &turn);
        let (first, second) = (dial(), dial());

        // Neither is dropped when the other has succeeded, as whoever dials would do.
        let both = async { tokio::join!(first, second) };
        let dialled = tokio::time::timeout(Duration::from_secs(90), both).await;

        let (first, second) = dialled.expect("whoever was not welcomed gives up in time");
        assert_eq!(u32::from(first.is_ok()) + u32::from(second.is_ok()), 1);
        let _relay = site.welcomed.recv().await.unwrap();
        assert!(site.welcomed.try_recv().is_err(), "a second session");
    });
}

/// Once all goodbyes are through, TIME-WAIT included, a host holds no more sockets than these.
async fn nothing_is_left(sim: &Sim, host: NodeId, held: usize) {
    let while_nothing_happens = std::future::pending::<()>();
    let _elapsed = tokio::time::timeout(Duration::from_secs(90), while_nothing_happens).await;
    assert_eq!(sim.sockets_held(host), held);
}
