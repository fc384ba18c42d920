//! What every store must do, whatever is below it: one suite, run against each.
//!
//! A store joins with `contract::suite!(make)`, where `make().await` gives a guard
//! that keeps the store's place alive, and the store.

mod stack;

use std::collections::BTreeMap;

use futures_util::FutureExt as _;
use jiff::Timestamp;
use wire::{
    id::{AgentId, EnvironmentId, InstanceId},
    key::PublicKey,
    target::Target,
};

use super::{
    AddExposureError, CreateEnvironmentError, EnrolmentToken, ExposureRecord, FirstToken, NewAgent,
    NewApiToken, NewEnvironment, ProbeReportRecord, RedeemError, Store, StoreError,
};
use crate::{
    credential::SecretHash,
    id::{CustomerId, ExposureId},
    metrics::EnvironmentCounts,
};

macro_rules! suite {
    ($make:path) => {
        $crate::store::contract::suite!($make:
            counts_its_boots,
            gives_an_environment_back_as_it_was_written,
            adds_an_environment_together_with_its_first_token,
            refuses_a_second_environment_of_one_name,
            refuses_more_environments_than_the_limit,
            keeps_customers_apart,
            lists_environments_by_name,
            gives_the_first_environments_by_name_without_their_tags,
            counts_environments_by_what_is_known_of_them,
            removes_an_environment_with_all_that_hangs_on_it,
            redeems_a_token_once,
            gives_the_same_record_to_the_key_that_redeemed_a_token,
            refuses_a_token_from_its_expiry_on,
            tells_an_expired_token_from_one_long_forgotten,
            takes_an_unused_token_back_when_another_is_issued,
            replaces_the_former_agent_when_another_enrols,
            issues_no_token_for_an_environment_that_is_gone,
            records_a_start_only_when_its_counter_is_higher,
            records_the_starts_of_a_crowd_as_it_does_one,
            holds_a_copied_agent_until_it_is_released,
            puts_an_api_token_in_place_of_one_of_its_name,
            keeps_exposures_with_their_environment,
            adds_no_exposure_to_an_environment_that_is_gone,
            keeps_the_newest_report_of_the_probe_and_leaves_the_token_unused,
            keeps_no_report_without_a_valid_token,
            keeps_a_blob_once_and_no_more_than_its_bound,
            makes_one_release_of_one_content,
            keeps_the_first_pin_of_an_image,
            counts_assignments_up_and_keeps_the_content_of_the_newest,
            assigns_everything_or_nothing,
            settles_an_assignment_once_for_each_outcome,
            keeps_a_variable_at_each_level,
            keeps_one_login_for_a_registry,
            forgets_what_hangs_on_an_environment_that_is_removed,
        );
    };
    ($make:path: $($name:ident,)+) => {$(
        #[tokio::test]
        async fn $name() {
            let (_guard, store) = $make().await;

            $crate::store::contract::$name(&store).await;
        }
    )+};
}
pub(super) use stack::*;
pub(super) use suite;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn hash(byte: u8) -> SecretHash {
    SecretHash::from_bytes([byte; 32])
}

fn environment(byte: u8, name: &str) -> NewEnvironment {
    NewEnvironment {
        id: EnvironmentId::from_bytes([byte; 16]),
        customer: CustomerId::default(),
        name: name.to_owned(),
        tags: BTreeMap::from([("site".to_owned(), name.to_owned())]),
        created_at: at(0),
        token: FirstToken {
            hash: hash(byte + 100),
            expires_at: at(100),
        },
    }
}

fn agent(byte: u8) -> NewAgent {
    NewAgent {
        agent_id: AgentId::from_bytes([byte; 16]),
        public_key: PublicKey([byte; 32]),
        instance: InstanceId::from_bytes([byte; 16]),
        start_counter: 1,
    }
}

fn token(byte: u8, environment: EnvironmentId) -> EnrolmentToken {
    EnrolmentToken {
        hash: hash(byte),
        environment,
        created_at: at(0),
        expires_at: at(100),
    }
}

fn exposure(byte: u8, environment_id: EnvironmentId) -> ExposureRecord {
    ExposureRecord {
        id: ExposureId::from_bytes([byte; 16]),
        environment_id,
        environment: "berlin".to_owned(),
        target: Target::Tcp {
            host: "db".to_owned(),
            port: 5432,
        },
        listen: "127.0.0.1:5432".parse().unwrap(),
        created_at: at(i64::from(byte)),
    }
}

async fn berlin(store: &dyn Store) -> EnvironmentId {
    let environment = environment(1, "berlin");
    let id = environment.id;
    store.create_environment(environment, 10).await.unwrap();
    id
}

/// Berlin with the agent 5, enrolled by the token 5.
async fn enrolled(store: &dyn Store) -> AgentId {
    let id = berlin(store).await;
    assert!(store.create_enrolment_token(token(5, id)).await.unwrap());
    store
        .redeem_token(&hash(5), agent(5), at(1))
        .await
        .unwrap()
        .agent_id
}

pub(super) async fn counts_its_boots(store: &dyn Store) {
    assert_eq!(store.boot(at(0)).await.unwrap(), 1);
    assert_eq!(store.boot(at(0)).await.unwrap(), 2);
    store.ping().await.unwrap();
}

pub(super) async fn gives_an_environment_back_as_it_was_written(store: &dyn Store) {
    let written = environment(1, "berlin");
    store.create_environment(written.clone(), 10).await.unwrap();

    let by_name = store
        .environment_by_name(&written.customer, "berlin")
        .await
        .unwrap()
        .unwrap();
    let by_id = store.environment_by_id(written.id).await.unwrap().unwrap();

    assert_eq!(by_name, by_id);
    assert_eq!(
        (by_name.id, &by_name.tags, by_name.created_at),
        (written.id, &written.tags, at(0))
    );
    assert_eq!(by_name.agent, None);
}

pub(super) async fn adds_an_environment_together_with_its_first_token(store: &dyn Store) {
    let id = berlin(store).await;

    let record = store
        .redeem_token(&hash(101), agent(5), at(1))
        .await
        .unwrap();

    assert_eq!(record.environment_id, id);
}

pub(super) async fn refuses_a_second_environment_of_one_name(store: &dyn Store) {
    berlin(store).await;

    let second = store.create_environment(environment(2, "berlin"), 10).await;

    assert!(
        matches!(second, Err(CreateEnvironmentError::NameTaken)),
        "{second:?}"
    );
}

pub(super) async fn refuses_more_environments_than_the_limit(store: &dyn Store) {
    store
        .create_environment(environment(1, "a"), 1)
        .await
        .unwrap();

    let second = store.create_environment(environment(2, "b"), 1).await;

    assert!(
        matches!(second, Err(CreateEnvironmentError::LimitReached)),
        "{second:?}"
    );
}

pub(super) async fn keeps_customers_apart(store: &dyn Store) {
    berlin(store).await;
    let other = CustomerId::from_store("other".to_owned());

    assert_eq!(
        store.environment_by_name(&other, "berlin").await.unwrap(),
        None
    );
    assert_eq!(store.environments(&other).await.unwrap(), []);
}

pub(super) async fn lists_environments_by_name(store: &dyn Store) {
    for (byte, name) in [(1, "b"), (2, "c"), (3, "a")] {
        store
            .create_environment(environment(byte, name), 10)
            .await
            .unwrap();
    }

    let all = store.environments(&CustomerId::default()).await.unwrap();

    let names: Vec<_> = all
        .iter()
        .map(|e| (e.name.as_str(), e.tags["site"].as_str()))
        .collect();
    assert_eq!(names, [("a", "a"), ("b", "b"), ("c", "c")]);
}

pub(super) async fn gives_the_first_environments_by_name_without_their_tags(store: &dyn Store) {
    for (byte, name) in [(1, "c"), (2, "b")] {
        store
            .create_environment(environment(byte, name), 10)
            .await
            .unwrap();
    }

    let first = store.first_environments(1).await.unwrap();

    assert_eq!(first.len(), 1);
    assert_eq!((first[0].name.as_str(), first[0].tags.len()), ("b", 0));
}

pub(super) async fn counts_environments_by_what_is_known_of_them(store: &dyn Store) {
    let agent_id = enrolled(store).await;
    store
        .create_environment(environment(2, "oslo"), 10)
        .await
        .unwrap();
    let before = store.count_environments().await.unwrap();
    store.hold_copied(agent_id, at(10)).await.unwrap();

    let after = store.count_environments().await.unwrap();

    let counts = |enrolled, held| EnvironmentCounts {
        enrolled,
        held,
        never_enrolled: 1,
    };
    assert_eq!((before, after), (counts(1, 0), counts(0, 1)));
}

pub(super) async fn removes_an_environment_with_all_that_hangs_on_it(store: &dyn Store) {
    let agent_id = enrolled(store).await;
    let id = EnvironmentId::from_bytes([1; 16]);
    store.add_exposure(exposure(7, id)).await.unwrap();

    assert!(store.remove_environment(id).await.unwrap());

    assert_eq!(store.agent(agent_id).await.unwrap(), None);
    assert_eq!(store.exposures().await.unwrap(), []);
    let again = store.redeem_token(&hash(5), agent(5), at(2)).await;
    assert!(matches!(again, Err(RedeemError::Unknown)), "{again:?}");
    assert!(!store.remove_environment(id).await.unwrap());
}

pub(super) async fn redeems_a_token_once(store: &dyn Store) {
    enrolled(store).await;

    let second = store.redeem_token(&hash(5), agent(6), at(2)).await;

    assert!(matches!(second, Err(RedeemError::Used)), "{second:?}");
    let unknown = store.redeem_token(&hash(9), agent(6), at(2)).await;
    assert!(matches!(unknown, Err(RedeemError::Unknown)), "{unknown:?}");
}

pub(super) async fn gives_the_same_record_to_the_key_that_redeemed_a_token(store: &dyn Store) {
    let first = enrolled(store).await;
    let again = NewAgent {
        agent_id: AgentId::from_bytes([99; 16]),
        ..agent(5)
    };

    let record = store
        .redeem_token(&hash(5), again, at(1_000))
        .await
        .unwrap();

    assert_eq!(
        (record.agent_id, record.environment.as_str()),
        (first, "berlin")
    );
}

pub(super) async fn refuses_a_token_from_its_expiry_on(store: &dyn Store) {
    let id = berlin(store).await;
    store.create_enrolment_token(token(5, id)).await.unwrap();

    let late = store.redeem_token(&hash(5), agent(5), at(100)).await;

    assert!(matches!(late, Err(RedeemError::Expired)), "{late:?}");
    store
        .redeem_token(&hash(5), agent(5), at(99))
        .await
        .unwrap();
}

pub(super) async fn tells_an_expired_token_from_one_long_forgotten(store: &dyn Store) {
    let id = berlin(store).await;
    store.create_enrolment_token(token(5, id)).await.unwrap();

    store.boot(at(50)).await.unwrap();
    let remembered = store.redeem_token(&hash(5), agent(5), at(1_000)).await;
    store.boot(at(500)).await.unwrap();
    let forgotten = store.redeem_token(&hash(5), agent(5), at(1_000)).await;

    assert!(
        matches!(remembered, Err(RedeemError::Expired)),
        "{remembered:?}"
    );
    assert!(
        matches!(forgotten, Err(RedeemError::Unknown)),
        "{forgotten:?}"
    );
}

pub(super) async fn takes_an_unused_token_back_when_another_is_issued(store: &dyn Store) {
    let id = berlin(store).await;
    store.create_enrolment_token(token(5, id)).await.unwrap();
    store.create_enrolment_token(token(6, id)).await.unwrap();

    let old = store.redeem_token(&hash(5), agent(5), at(1)).await;

    assert!(matches!(old, Err(RedeemError::Unknown)), "{old:?}");
    store.redeem_token(&hash(6), agent(5), at(1)).await.unwrap();
}

pub(super) async fn replaces_the_former_agent_when_another_enrols(store: &dyn Store) {
    let former = enrolled(store).await;
    let id = EnvironmentId::from_bytes([1; 16]);
    store.create_enrolment_token(token(6, id)).await.unwrap();

    let record = store
        .redeem_token(&hash(6), agent(6), at(50))
        .await
        .unwrap();

    assert_eq!(store.agent(former).await.unwrap(), None);
    let environment = store.environment_by_id(id).await.unwrap().unwrap();
    let enrolled = environment.agent.unwrap();
    assert_eq!(
        (enrolled.agent_id, enrolled.enrolled_at),
        (record.agent_id, at(50))
    );
    let old_token = store.redeem_token(&hash(5), agent(5), at(51)).await;
    assert!(matches!(old_token, Err(RedeemError::Used)), "{old_token:?}");
}

pub(super) async fn issues_no_token_for_an_environment_that_is_gone(store: &dyn Store) {
    let gone = EnvironmentId::from_bytes([77; 16]);

    assert!(!store.create_enrolment_token(token(5, gone)).await.unwrap());
}

pub(super) async fn records_a_start_only_when_its_counter_is_higher(store: &dyn Store) {
    let agent_id = enrolled(store).await;
    let second = InstanceId::from_bytes([6; 16]);
    let third = InstanceId::from_bytes([7; 16]);

    assert!(store.record_start(agent_id, 2, second).await.unwrap());
    assert!(!store.record_start(agent_id, 2, third).await.unwrap());

    let record = store.agent(agent_id).await.unwrap().unwrap();
    assert_eq!((record.start_counter, record.instance), (2, Some(second)));
}

pub(super) async fn records_the_starts_of_a_crowd_as_it_does_one(store: &dyn Store) {
    let crowd = 1..=30_u8;
    for byte in crowd.clone() {
        let environment = environment(byte, &format!("e-{byte}"));
        store.create_environment(environment, 100).await.unwrap();
        let (secret, now) = (hash(byte + 100), at(1));
        let redeemed = store.redeem_token(&secret, agent(byte), now).await;
        redeemed.unwrap();
    }
    let start = |byte: u8, counter: u8| {
        let instance = InstanceId::from_bytes([byte + counter * 50; 16]);
        store.record_start(AgentId::from_bytes([byte; 16]), counter.into(), instance)
    };

    // One of them goes away before it has its answer.
    drop(start(1, 2).now_or_never());
    let first = futures_util::future::join_all(crowd.clone().map(|byte| start(byte, 2))).await;
    let again = futures_util::future::join_all(crowd.clone().map(|byte| start(byte, 1))).await;

    let was_first = |result: Result<bool, StoreError>| result.unwrap();
    let written = first.into_iter().map(was_first).filter(|written| *written);
    assert!(written.count() >= crowd.len() - 1, "all but who went away");
    assert!(!again.into_iter().any(was_first), "an older start");
    for byte in crowd {
        let record = store.agent(AgentId::from_bytes([byte; 16])).await.unwrap();
        assert_eq!(record.unwrap().start_counter, 2);
    }
}

pub(super) async fn holds_a_copied_agent_until_it_is_released(store: &dyn Store) {
    let agent_id = enrolled(store).await;
    let other = InstanceId::from_bytes([6; 16]);

    store.hold_copied(agent_id, at(10)).await.unwrap();
    store.hold_copied(agent_id, at(20)).await.unwrap();

    let held = store.agent(agent_id).await.unwrap().unwrap();
    assert_eq!(held.copied_since, Some(at(10)));
    assert!(!store.record_start(agent_id, 9, other).await.unwrap());
    assert!(store.release(agent_id).await.unwrap());
    let released = store.agent(agent_id).await.unwrap().unwrap();
    assert_eq!((released.copied_since, released.instance), (None, None));
    assert!(store.record_start(agent_id, 1, other).await.unwrap());
    assert!(!store.release(AgentId::from_bytes([88; 16])).await.unwrap());
}

pub(super) async fn puts_an_api_token_in_place_of_one_of_its_name(store: &dyn Store) {
    let api_token = |byte| NewApiToken {
        hash: hash(byte),
        customer: CustomerId::default(),
        name: "admin".to_owned(),
        created_at: at(0),
    };
    store.put_api_token(api_token(1)).await.unwrap();
    store.put_api_token(api_token(1)).await.unwrap();
    store.put_api_token(api_token(2)).await.unwrap();

    let old = store.api_token(&hash(1)).await.unwrap();
    let current = store.api_token(&hash(2)).await.unwrap().unwrap();

    assert_eq!(old, None);
    assert_eq!(
        (current.name.as_str(), current.customer),
        ("admin", CustomerId::default())
    );
}

pub(super) async fn keeps_exposures_with_their_environment(store: &dyn Store) {
    let id = berlin(store).await;
    let (first, second) = (exposure(3, id), exposure(4, id));
    store.add_exposure(second.clone()).await.unwrap();
    store.add_exposure(first.clone()).await.unwrap();

    assert_eq!(
        store.exposures().await.unwrap(),
        [first.clone(), second.clone()]
    );
    assert!(store.remove_exposure(first.id).await.unwrap());
    assert!(!store.remove_exposure(first.id).await.unwrap());
    assert_eq!(store.exposures().await.unwrap(), [second]);
}

pub(super) async fn adds_no_exposure_to_an_environment_that_is_gone(store: &dyn Store) {
    let gone = EnvironmentId::from_bytes([77; 16]);

    let added = store.add_exposure(exposure(3, gone)).await;

    assert!(
        matches!(added, Err(AddExposureError::EnvironmentUnknown)),
        "{added:?}"
    );
}

fn report(summary: &str) -> ProbeReportRecord {
    ProbeReportRecord {
        received_at: at(7),
        summary: summary.to_owned(),
    }
}

pub(super) async fn keeps_the_newest_report_of_the_probe_and_leaves_the_token_unused(
    store: &dyn Store,
) {
    let id = berlin(store).await;
    assert_eq!(store.probe_report(id).await.unwrap(), None);

    for summary in ["first", "second"] {
        let token = hash(101);
        let kept = store.keep_probe_report(&token, report(summary), at(50));
        assert_eq!(kept.await.unwrap(), "berlin");
    }

    assert_eq!(
        store.probe_report(id).await.unwrap(),
        Some(report("second"))
    );
    store
        .redeem_token(&hash(101), agent(5), at(50))
        .await
        .unwrap();
    store.remove_environment(id).await.unwrap();
    assert_eq!(store.probe_report(id).await.unwrap(), None);
}

pub(super) async fn keeps_no_report_without_a_valid_token(store: &dyn Store) {
    let id = berlin(store).await;
    let keep = async |byte, now| {
        let token = hash(byte);
        store.keep_probe_report(&token, report("x"), now).await
    };

    assert!(matches!(keep(9, at(1)).await, Err(RedeemError::Unknown)));
    assert!(matches!(
        keep(101, at(100)).await,
        Err(RedeemError::Expired)
    ));
    store
        .redeem_token(&hash(101), agent(5), at(50))
        .await
        .unwrap();
    assert!(matches!(keep(101, at(51)).await, Err(RedeemError::Used)));

    assert_eq!(store.probe_report(id).await.unwrap(), None);
}
