//! What every store must do with stacks.

use std::collections::BTreeMap;

use wire::id::EnvironmentId;

use super::{at, berlin, environment};
use crate::{
    id::CustomerId,
    store::{
        AssignError, BlobRecord, DoneCommand, KeepError, NewAssignment, OutcomeRecord,
        RegistryLoginRecord, ReleaseRecord, Store, VariableRecord, VariableScope,
    },
};

fn us() -> CustomerId {
    CustomerId::default()
}

fn blob(digest: &str, size: u64) -> BlobRecord {
    BlobRecord {
        customer: us(),
        digest: digest.to_owned(),
        size,
        sealed: vec![7; 3],
        created_at: at(1),
    }
}

fn release(digest: &str) -> ReleaseRecord {
    ReleaseRecord {
        customer: us(),
        stack: "shop".to_owned(),
        number: 0,
        digest: digest.to_owned(),
        manifest: "{}".to_owned(),
        author: "token:admin".to_owned(),
        note: "first".to_owned(),
        created_at: at(2),
        pins: BTreeMap::new(),
    }
}

fn assignment(environment: EnvironmentId, release: Option<u64>) -> NewAssignment {
    NewAssignment {
        environment,
        stack: "shop".to_owned(),
        above: 0,
        release,
        fingerprint: format!("f{release:?}"),
        sealed: vec![1, 2],
        author: "token:admin".to_owned(),
        created_at: at(3),
        deadline_seconds: 60,
    }
}

fn variable(scope: VariableScope, name: &str) -> VariableRecord {
    VariableRecord {
        customer: us(),
        scope,
        name: name.to_owned(),
        kind: "string".to_owned(),
        is_secret: true,
        is_required: false,
        sealed: Some(vec![9]),
        updated_at: at(4),
    }
}

pub(in crate::store) async fn keeps_a_blob_once_and_no_more_than_its_bound(store: &dyn Store) {
    let (a, b) = ("sha256:a".to_owned(), "sha256:b".to_owned());
    store.put_blob(blob(&a, 60), 100).await.unwrap();
    store.put_blob(blob(&a, 60), 100).await.unwrap();

    let too_many = store.put_blob(blob(&b, 60), 100).await;

    assert!(
        matches!(too_many, Err(KeepError::LimitReached)),
        "{too_many:?}"
    );
    let both = [a.clone(), b.clone()];
    let missing = store.missing_blobs(&us(), &both).await.unwrap();
    assert_eq!(missing, both[1..]);
    assert_eq!(store.blob(&us(), &a).await.unwrap(), Some(blob(&a, 60)));
    assert_eq!(store.blob(&us(), &b).await.unwrap(), None);
}

pub(in crate::store) async fn makes_one_release_of_one_content(store: &dyn Store) {
    let first = store.add_release(release("a"), 2).await.unwrap();
    let second = store.add_release(release("b"), 2).await.unwrap();
    let again = store.add_release(release("a"), 2).await.unwrap();
    let third = store.add_release(release("c"), 2).await;

    assert_eq!((first.number, second.number, again.number), (1, 2, 1));
    assert!(matches!(third, Err(KeepError::LimitReached)), "{third:?}");
    let listed = store.releases(&us(), "shop", 1).await.unwrap();
    assert_eq!(listed, [second]);
    let shown = store.stack_release(&us(), "shop", 1).await.unwrap();
    assert_eq!(shown, Some(first));
    assert_eq!(store.stack_release(&us(), "other", 1).await.unwrap(), None);
}

pub(in crate::store) async fn keeps_the_first_pin_of_an_image(store: &dyn Store) {
    store.add_release(release("a"), 9).await.unwrap();
    let pin = |digest: &str| BTreeMap::from([("nginx:1".to_owned(), digest.to_owned())]);

    store
        .learn_pins(&us(), ("shop", 1), &pin("sha256:1"))
        .await
        .unwrap();
    store
        .learn_pins(&us(), ("shop", 1), &pin("sha256:2"))
        .await
        .unwrap();
    store
        .learn_pins(&us(), ("shop", 8), &pin("sha256:2"))
        .await
        .unwrap();

    let shown = store
        .stack_release(&us(), "shop", 1)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(shown.pins, pin("sha256:1"));
}

pub(in crate::store) async fn counts_assignments_up_and_keeps_the_content_of_the_newest(
    store: &dyn Store,
) {
    let id = berlin(store).await;
    let assign = |new| store.assign(Vec::new(), vec![new], None);
    assign(assignment(id, Some(1))).await.unwrap();
    let second = NewAssignment {
        above: 7,
        ..assignment(id, None)
    };

    let second = assign(second).await.unwrap();

    assert_eq!(second[0].number, 8);
    assert_eq!(store.assignments(id).await.unwrap(), second);
    let history = store.assignment_history(id, "shop", 9).await.unwrap();
    let numbers: Vec<u64> = history.iter().map(|one| one.number).collect();
    assert_eq!(numbers, [8, 1]);
    let content = |number| store.assignment_content(id, "shop", number);
    assert_eq!(content(8).await.unwrap(), Some(vec![1, 2]));
    assert_eq!(content(1).await.unwrap(), None);
    assert_eq!(store.assigned_environments().await.unwrap(), [id]);
    let own = store
        .customer_assignments(&us(), Some("shop"))
        .await
        .unwrap();
    assert_eq!(own, second);
    let others = store
        .customer_assignments(&us(), Some("other"))
        .await
        .unwrap();
    assert_eq!(others, []);
}

pub(in crate::store) async fn assigns_everything_or_nothing(store: &dyn Store) {
    let id = berlin(store).await;
    let gone = EnvironmentId::from_bytes([77; 16]);
    let done = DoneCommand {
        customer: us(),
        key: "k".to_owned(),
        fingerprint: "f".to_owned(),
        answer: "{}".to_owned(),
        done_at: at(5),
    };
    let variables = vec![variable(VariableScope::Stack("shop".to_owned()), "P")];
    let both = vec![assignment(id, Some(1)), assignment(gone, Some(1))];

    let failed = store
        .assign(variables.clone(), both, Some(done.clone()))
        .await;

    assert!(
        matches!(failed, Err(AssignError::EnvironmentUnknown)),
        "{failed:?}"
    );
    assert_eq!(store.assignments(id).await.unwrap(), []);
    assert_eq!(store.variables(&us()).await.unwrap(), []);
    assert_eq!(store.done_command(&us(), "k", at(0)).await.unwrap(), None);

    let one = vec![assignment(id, Some(1))];
    store
        .assign(variables.clone(), one, Some(done.clone()))
        .await
        .unwrap();

    assert_eq!(store.variables(&us()).await.unwrap(), variables);
    let found = store.done_command(&us(), "k", at(5)).await.unwrap();
    assert_eq!(found, Some(done));
    assert_eq!(store.done_command(&us(), "k", at(6)).await.unwrap(), None);
}

pub(in crate::store) async fn settles_an_assignment_once_for_each_outcome(store: &dyn Store) {
    let id = berlin(store).await;
    let one = vec![assignment(id, Some(1))];
    store.assign(Vec::new(), one, None).await.unwrap();
    let outcome = |phase: &str| OutcomeRecord {
        phase: phase.to_owned(),
        cause: None,
        at: at(9),
    };
    let settle = |number, phase| store.settle(id, ("shop", number), outcome(phase));

    let settled = [
        settle(1, "committed").await.unwrap(),
        settle(1, "committed").await.unwrap(),
        settle(1, "failed").await.unwrap(),
        settle(2, "failed").await.unwrap(),
    ];

    assert_eq!(settled, [true, false, true, false]);
    let shown = store.assignments(id).await.unwrap();
    assert_eq!(shown[0].outcome, Some(outcome("failed")));
}

pub(in crate::store) async fn keeps_a_variable_at_each_level(store: &dyn Store) {
    let id = berlin(store).await;
    let scopes = [
        VariableScope::Global,
        VariableScope::Environment(id),
        VariableScope::Stack("shop".to_owned()),
    ];
    for scope in &scopes {
        let former = VariableRecord {
            sealed: None,
            ..variable(scope.clone(), "LEVEL")
        };
        assert!(store.put_variable(former).await.unwrap());
        assert!(
            store
                .put_variable(variable(scope.clone(), "LEVEL"))
                .await
                .unwrap()
        );
    }

    let listed = store.variables(&us()).await.unwrap();

    let expected = scopes.clone().map(|scope| variable(scope, "LEVEL"));
    assert_eq!(listed, expected);
    let gone = VariableScope::Environment(EnvironmentId::from_bytes([77; 16]));
    assert!(!store.put_variable(variable(gone, "LEVEL")).await.unwrap());
    assert!(
        store
            .remove_variable(&us(), &scopes[0], "LEVEL")
            .await
            .unwrap()
    );
    assert!(
        !store
            .remove_variable(&us(), &scopes[0], "LEVEL")
            .await
            .unwrap()
    );
    assert_eq!(store.variables(&us()).await.unwrap().len(), 2);
}

pub(in crate::store) async fn keeps_one_login_for_a_registry(store: &dyn Store) {
    let login = |account: &str| RegistryLoginRecord {
        customer: us(),
        host: "registry.example".to_owned(),
        account: account.to_owned(),
        sealed: vec![3],
        updated_at: at(4),
    };
    store.put_registry_login(login("a")).await.unwrap();
    store.put_registry_login(login("b")).await.unwrap();

    assert_eq!(store.registry_logins(&us()).await.unwrap(), [login("b")]);
    assert!(
        store
            .remove_registry_login(&us(), "registry.example")
            .await
            .unwrap()
    );
    assert!(
        !store
            .remove_registry_login(&us(), "registry.example")
            .await
            .unwrap()
    );
}

pub(in crate::store) async fn forgets_what_hangs_on_an_environment_that_is_removed(
    store: &dyn Store,
) {
    let id = berlin(store).await;
    let munich = environment(2, "munich");
    let other = munich.id;
    store.create_environment(munich, 10).await.unwrap();
    for place in [id, other] {
        let one = vec![assignment(place, Some(1))];
        store.assign(Vec::new(), one, None).await.unwrap();
        let scope = VariableScope::Environment(place);
        store.put_variable(variable(scope, "LEVEL")).await.unwrap();
    }

    store.remove_environment(id).await.unwrap();

    assert_eq!(store.assigned_environments().await.unwrap(), [other]);
    let left = store.variables(&us()).await.unwrap();
    assert_eq!(left, [variable(VariableScope::Environment(other), "LEVEL")]);
}
