//! Use cases over a real store.

use std::sync::atomic::Ordering;

use wire::{
    close::{CloseCode, RefusalCode},
    key::Secret,
    target::Target,
};

use super::{
    fixture::{Fixture, Ports, facts, hello},
    *,
};

#[tokio::test]
async fn only_a_valid_token_speaks_for_somebody() {
    let fixture = Fixture::new().await;
    let other = ApiToken::from_random(&[2; 32]);

    let refused = fixture.control.authenticate(other.expose()).await;

    assert!(
        matches!(refused, Err(Error::Unauthenticated)),
        "{refused:?}"
    );
    assert_eq!(fixture.admin.name(), "token:admin");
}

#[tokio::test]
async fn a_token_carries_all_that_an_agent_needs() {
    let fixture = Fixture::new().await;

    let (view, token) = fixture.add("berlin").await;

    assert_eq!(view.status, EnvironmentStatus::NeverConnected);
    assert_eq!(token.addresses, [facts().address]);
    assert_eq!(token.relay_identity, facts().identity);
    assert_eq!(token.environment, "berlin");
    assert_eq!(token.expires_unix_seconds, 1_800_000_100);
}

#[tokio::test]
async fn a_second_environment_of_one_name_is_refused() {
    let fixture = Fixture::new().await;
    fixture.add("berlin").await;

    let second = fixture
        .control
        .add_environment(&fixture.admin, "berlin", BTreeMap::new())
        .await;

    assert!(
        matches!(second, Err(Error::EnvironmentExists { .. })),
        "{second:?}"
    );
}

#[tokio::test]
async fn an_agent_that_enrolled_is_admitted_again_without_the_token() {
    let fixture = Fixture::new().await;
    let enrolled = fixture.enrol("berlin").await;

    let again = fixture.come(enrolled.agent_id, 1, 1).await;

    assert_eq!(again, Ok(enrolled.clone()));
    assert_eq!(
        fixture.control.agent_key(enrolled.agent_id).await,
        Ok(PublicKey([7; 32]))
    );
    assert_eq!(fixture.status("berlin").await, EnvironmentStatus::Offline);
}

#[tokio::test]
async fn an_agent_whose_welcome_was_lost_enrols_again_with_the_same_token() {
    let fixture = Fixture::new().await;
    let (_, token) = fixture.add("berlin").await;
    let first = fixture
        .control
        .admit_agent(hello(token.secret.clone(), 1))
        .await
        .unwrap();

    let again = fixture.control.admit_agent(hello(token.secret, 1)).await;

    assert_eq!(again, Ok(first));
}

#[tokio::test]
async fn tokens_are_refused_for_the_reason_that_is_true() {
    let fixture = Fixture::new().await;
    let (_, token) = fixture.add("berlin").await;
    let unknown = hello(Secret::from_bytes([0xEE; 32]), 1);

    fixture.sources.second.store(100, Ordering::Relaxed);
    let expired = fixture.control.admit_agent(hello(token.secret, 1)).await;

    assert_eq!(expired, Err(RefusalCode::TokenExpired));
    assert_eq!(
        fixture.control.admit_agent(unknown).await,
        Err(RefusalCode::TokenUnknown)
    );
}

#[tokio::test]
async fn a_copied_identity_is_held_until_an_operator_releases_it() {
    let fixture = Fixture::new().await;
    let agent_id = fixture.enrol("berlin").await.agent_id;

    fixture.come(agent_id, 2, 2).await.unwrap();
    let original = fixture.come(agent_id, 1, 1).await;
    let status = fixture.status("berlin").await;
    let restarted_original = fixture.come(agent_id, 9, 3).await;
    let connected_copy = fixture.come(agent_id, 2, 2).await;

    assert_eq!(original, Err(RefusalCode::CopiedIdentity));
    assert_eq!(status, EnvironmentStatus::CopiedIdentity);
    assert_eq!(restarted_original, Err(RefusalCode::CopiedIdentity));
    assert!(
        connected_copy.is_ok(),
        "a held session may return: {connected_copy:?}"
    );

    fixture
        .control
        .release_environment(&fixture.admin, "berlin")
        .await
        .unwrap();

    assert_eq!(fixture.status("berlin").await, EnvironmentStatus::Offline);
    assert!(fixture.come(agent_id, 1, 1).await.is_ok());
}

#[tokio::test]
async fn a_removed_environment_is_cut_off_and_its_agent_unknown() {
    let fixture = Fixture::new().await;
    let agent = fixture.enrol("berlin").await;
    locked(&fixture.live.online).insert(agent.environment_id);

    fixture
        .control
        .remove_environment(&fixture.admin, "berlin")
        .await
        .unwrap();

    let closed = locked(&fixture.live.closed).clone();
    assert_eq!(closed, [(agent.environment_id, CloseCode::Revoked)]);
    assert!(fixture.control.is_removed(agent.environment_id));
    assert_eq!(
        fixture.come(agent.agent_id, 1, 1).await,
        Err(RefusalCode::AgentUnknown)
    );
    let gone = fixture.control.environment(&fixture.admin, "berlin").await;
    assert!(
        matches!(gone, Err(Error::EnvironmentUnknown { .. })),
        "{gone:?}"
    );
}

#[tokio::test]
async fn environments_are_selected_by_a_tag() {
    let fixture = Fixture::new().await;
    let tags = |site: &str| BTreeMap::from([("site".to_owned(), site.to_owned())]);
    let (control, admin) = (&fixture.control, &fixture.admin);
    control
        .add_environment(admin, "a", tags("berlin"))
        .await
        .unwrap();
    control
        .add_environment(admin, "b", tags("paris"))
        .await
        .unwrap();

    let selected = control
        .environments(admin, Some(&"site=paris".parse().unwrap()))
        .await
        .unwrap();

    let names: Vec<_> = selected
        .iter()
        .map(|view| view.record.name.as_str())
        .collect();
    assert_eq!(names, ["b"]);
    assert!("site".parse::<TagFilter>().is_err());
}

#[tokio::test]
async fn a_principal_reaches_no_other_customers_environments() {
    let fixture = Fixture::new().await;
    fixture.add("berlin").await;
    let stranger = Principal::of_token("x", CustomerId::from_store("other".to_owned()));

    let seen = fixture.control.environment(&stranger, "berlin").await;

    assert!(
        matches!(seen, Err(Error::EnvironmentUnknown { .. })),
        "{seen:?}"
    );
    assert!(
        fixture
            .control
            .environments(&stranger, None)
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn an_exposure_is_open_until_its_environment_is_removed() {
    let fixture = Fixture::new().await;
    fixture.add("berlin").await;
    let (control, admin) = (&fixture.control, &fixture.admin);
    let listen = "127.0.0.1:5432".parse().unwrap();

    let view = control
        .add_exposure(admin, "berlin", Target::Docker, listen)
        .await
        .unwrap();

    assert_eq!(view.outcome, Ok(listen));
    assert_eq!(control.exposures(admin).await.unwrap().len(), 1);
    control.remove_environment(admin, "berlin").await.unwrap();
    assert!(locked(&fixture.ports.open).is_empty());
    assert!(control.exposures(admin).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_exposure_that_cannot_listen_is_not_kept() {
    let fixture = Fixture::new().await;
    fixture.add("berlin").await;
    locked(&fixture.ports.blocked).insert(80);
    let (control, admin) = (&fixture.control, &fixture.admin);

    let refused = control
        .add_exposure(
            admin,
            "berlin",
            Target::Docker,
            "127.0.0.1:80".parse().unwrap(),
        )
        .await;

    assert!(
        matches!(refused, Err(Error::ListenFailed { .. })),
        "{refused:?}"
    );
    assert!(control.exposures(admin).await.unwrap().is_empty());
}

#[tokio::test]
async fn stored_exposures_open_at_the_next_start_as_soon_as_their_port_is_free() {
    let fixture = Fixture::new().await;
    fixture.add("berlin").await;
    let listen = "127.0.0.1:80".parse().unwrap();
    let (first, admin) = (&fixture.control, &fixture.admin);
    let id = first
        .add_exposure(admin, "berlin", Target::Docker, listen)
        .await
        .unwrap()
        .record
        .id;
    let ports = Arc::new(Ports::default());
    locked(&ports.blocked).insert(80);
    let parts = Parts {
        store: fixture.store.clone(),
        presence: fixture.live.clone(),
        exposer: ports.clone(),
        sources: fixture.sources.clone(),
        converger: fixture.stacks.clone(),
        sealer: Sealer::new(&Secret::from_bytes([4; 32])).unwrap(),
    };
    let second = Control::new(parts, facts());

    second.open_exposures().await.unwrap();
    let waiting = second.waiting_exposures();
    locked(&ports.blocked).clear();
    second.open_exposures().await.unwrap();

    assert_eq!(waiting, 1);
    assert_eq!(second.waiting_exposures(), 0);
    assert_eq!(
        second.exposures(admin).await.unwrap()[0].outcome,
        Ok(listen)
    );
    second.remove_exposure(admin, id).await.unwrap();
    assert!(locked(&ports.open).is_empty());
}
