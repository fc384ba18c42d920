//! Deployments over a real store, with agents that a test speaks for.

use std::sync::Arc;

use compose::exchange::{Phase, StackReport};

use super::*;
use crate::{
    control::{
        BundleFile, NewVariable, Scope, Seen, VariableKind, digest_of, fixture::Fixture, locked,
    },
    store::StackStore as _,
};

const PASSWORD: &str = "correct horse battery staple";

const WEB: &str = "services:\n  web:\n    image: registry.example/web:${TAG:-1}\n";

const DATABASE: &str = "services:\n  db:\n    image: postgres:17\n    environment:\n      \
     POSTGRES_PASSWORD: ${PASSWORD}\n      DOMAIN: ${DOMAIN:-none}\n";

impl Fixture {
    async fn bundle(&self, text: &str) -> Manifest {
        let digest = digest_of(text.as_bytes());
        let put = self.control.put_blob(&self.admin, &digest, text.as_bytes());
        put.await.unwrap();
        let file = BundleFile {
            digest,
            size: text.len() as u64,
            mode: 0o644,
        };
        Manifest {
            stack: "shop".to_owned(),
            compose: vec!["compose.yml".to_owned()],
            files: BTreeMap::from([("compose.yml".to_owned(), file)]),
            ..Manifest::default()
        }
    }

    async fn request(&self, text: &str) -> DeployRequest {
        let manifest = Box::new(self.bundle(text).await);
        DeployRequest {
            stack: "shop".to_owned(),
            targets: Targets::Named(vec!["berlin".to_owned()]),
            source: Source::Bundle {
                manifest,
                note: String::new(),
            },
            secrets: BTreeMap::new(),
            options: DeployOptions::default(),
            key: None,
        }
    }

    async fn deploy(&self, text: &str) -> Assigned {
        let request = self.request(text).await;
        let deployed = self.control.deploy(&self.admin, request).await.unwrap();
        deployed.assignments.into_iter().next().unwrap()
    }

    /// What the newest assignment of berlin looks like to its agent.
    async fn sent(&self) -> Assignment {
        let id = self.berlin().await;
        let records = self.control.assignments_of(id).await.unwrap();
        let sent = self.control.assignment_for_agent(&records[0]).await;
        sent.unwrap().unwrap()
    }

    async fn berlin(&self) -> EnvironmentId {
        let found = self.control.resolve_environment(&self.admin, "berlin");
        found.await.unwrap()
    }

    async fn settle(&self, number: u64, phase: &str) {
        let id = self.berlin().await;
        let settled = self
            .control
            .settle_assignment(id, ("shop", number), (phase, None));
        assert!(settled.await.unwrap());
    }

    async fn set(&self, scope: Scope, name: &str, value: Option<&str>, is_secret: bool) {
        let new = NewVariable {
            scope,
            name: name.to_owned(),
            kind: VariableKind::String,
            is_secret,
            is_required: value.is_none(),
            value: value.map(|value| Zeroizing::new(value.to_owned())),
        };
        self.control.put_variable(&self.admin, new).await.unwrap();
    }
}

async fn berlin() -> Fixture {
    let fixture = Fixture::new().await;
    fixture.add("berlin").await;
    fixture
}

fn image(assignment: &Assignment, service: &str) -> String {
    let Desired::Run { stack, .. } = &assignment.desired else {
        panic!("nothing runs")
    };
    stack.services[service].image.clone()
}

#[tokio::test]
async fn a_deployment_is_assigned_and_its_agent_told() {
    let fixture = berlin().await;

    let assigned = fixture.deploy(WEB).await;

    assert_eq!(
        (assigned.release, assigned.number, assigned.is_new),
        (Some(1), 1, true)
    );
    let berlin = fixture.berlin().await;
    assert_eq!(*locked(&fixture.stacks.told), [berlin]);
    let sent = fixture.sent().await;
    assert_eq!(image(&sent, "web"), "registry.example/web:1");
    let views = fixture
        .control
        .stack_views(&fixture.admin, (None, None))
        .await
        .unwrap();
    assert_eq!(views[0].state, StackState::Pending);
}

#[tokio::test]
async fn the_same_again_is_neither_a_release_nor_an_assignment() {
    let fixture = berlin().await;
    fixture.deploy(WEB).await;

    let again = fixture.deploy(WEB).await;

    assert_eq!(
        (again.release, again.number, again.is_new),
        (Some(1), 1, false)
    );
    assert_eq!(locked(&fixture.stacks.told).len(), 1);
}

#[tokio::test]
async fn what_was_in_vain_is_tried_again() {
    let fixture = berlin().await;
    fixture.deploy(WEB).await;
    fixture.settle(1, "reverted").await;

    let again = fixture.deploy(WEB).await;
    fixture.settle(2, "committed").await;
    let once_more = fixture.deploy(WEB).await;

    assert_eq!((again.number, again.is_new), (2, true));
    assert_eq!((once_more.number, once_more.is_new), (2, false));
}

#[tokio::test]
async fn what_was_learnt_of_images_makes_no_other_assignment_and_goes_with_the_next() {
    let fixture = berlin().await;
    fixture.deploy(WEB).await;
    let id = fixture.berlin().await;
    let digests = BTreeMap::from([
        ("registry.example/web:1".to_owned(), "sha256:1".to_owned()),
        ("of/another:1".to_owned(), "sha256:2".to_owned()),
    ]);
    fixture
        .control
        .learn_pins(id, ("shop", 1), &digests)
        .await
        .unwrap();

    let again = fixture.deploy(WEB).await;
    fixture.settle(1, "failed").await;
    fixture.deploy(WEB).await;

    assert!(!again.is_new);
    let pins = fixture.sent().await.pins;
    assert_eq!(
        pins.into_iter().collect::<Vec<_>>(),
        [("registry.example/web:1".to_owned(), "sha256:1".to_owned())]
    );
}

#[tokio::test]
async fn nothing_is_assigned_where_one_environment_cannot_have_it() {
    let fixture = berlin().await;
    fixture.add("munich").await;
    fixture
        .set(
            Scope::Environment("berlin".to_owned()),
            "DOMAIN",
            None,
            false,
        )
        .await;
    let both = vec!["berlin".to_owned(), "munich".to_owned()];
    let request = DeployRequest {
        targets: Targets::Named(both),
        secrets: BTreeMap::from([("PASSWORD".to_owned(), Zeroizing::new("x".to_owned()))]),
        ..fixture.request(DATABASE).await
    };

    let refused = fixture
        .control
        .deploy(&fixture.admin, request)
        .await
        .unwrap_err();

    let problems = refused.details().join("\n");
    assert!(
        problems.contains("berlin: ") && problems.contains("DOMAIN"),
        "{problems}"
    );
    assert!(!problems.contains("munich"), "{problems}");
    let views = fixture
        .control
        .stack_views(&fixture.admin, (None, None))
        .await
        .unwrap();
    assert!(views.is_empty(), "{views:?}");
    assert!(
        fixture
            .control
            .releases(&fixture.admin, "shop")
            .await
            .is_err()
    );
    assert!(
        fixture
            .control
            .variables(&fixture.admin)
            .await
            .unwrap()
            .len()
            == 1
    );
}

#[tokio::test]
async fn a_mistake_in_a_file_is_told_with_its_line() {
    let fixture = berlin().await;
    let request = fixture.request("services:\n  web:\n    build: .\n").await;

    let refused = fixture
        .control
        .deploy(&fixture.admin, request)
        .await
        .unwrap_err();

    let problems = refused.details().join("\n");
    assert!(problems.contains("compose.yml:3"), "{problems}");
    assert_eq!(refused.code(), "stack_invalid");
}

#[tokio::test]
async fn a_later_level_of_variables_wins_and_the_release_s_own_is_the_last() {
    let fixture = berlin().await;
    let mut expected = Vec::new();
    let mut images = Vec::new();
    for (scope, tag) in [
        (Scope::Global, "global"),
        (Scope::Environment("berlin".to_owned()), "environment"),
        (Scope::Stack("shop".to_owned()), "stack"),
    ] {
        fixture.set(scope, "TAG", Some(tag), false).await;
        fixture.deploy(WEB).await;
        images.push(image(&fixture.sent().await, "web"));
        expected.push(format!("registry.example/web:{tag}"));
    }
    let mut request = fixture.request(WEB).await;
    if let Source::Bundle { manifest, .. } = &mut request.source {
        manifest
            .variables
            .insert("TAG".to_owned(), "given".to_owned());
    }
    fixture
        .control
        .deploy(&fixture.admin, request)
        .await
        .unwrap();
    images.push(image(&fixture.sent().await, "web"));
    expected.push("registry.example/web:given".to_owned());

    assert_eq!(images, expected);
}

#[tokio::test]
async fn a_secret_reaches_the_agent_and_nobody_else() {
    let fixture = berlin().await;
    let host = "registry.example";
    let login = fixture
        .control
        .put_registry_login(&fixture.admin, (host, "ci"), PASSWORD);
    login.await.unwrap();
    let secrets = BTreeMap::from([("PASSWORD".to_owned(), Zeroizing::new(PASSWORD.to_owned()))]);
    let both = format!("{DATABASE}  web:\n    image: registry.example/web:1\n");
    let request = DeployRequest {
        secrets,
        ..fixture.request(&both).await
    };
    let mut seen = format!("{request:?}");
    let control = &fixture.control;

    let deployed = control.deploy(&fixture.admin, request).await.unwrap();
    let planned = control
        .plan_stack(&fixture.admin, &fixture.request(&both).await)
        .await;
    let sent = fixture.sent().await;

    assert_eq!(sent.secrets["PASSWORD"].0, PASSWORD);
    assert_eq!(sent.registries[host].password.0, PASSWORD);
    seen += &format!("{deployed:?} {planned:?} {sent:?}");
    seen += &format!(
        "{:?}",
        control.stack_views(&fixture.admin, (None, None)).await
    );
    seen += &format!("{:?}", control.releases(&fixture.admin, "shop").await);
    seen += &format!(
        "{:?}",
        control.diff_releases(&fixture.admin, "shop", (1, 1)).await
    );
    seen += &format!("{:?}", control.registry_logins(&fixture.admin).await);
    for variable in control.variables(&fixture.admin).await.unwrap() {
        seen += &format!("{variable:?} {:?}", variable.value);
    }
    seen += &locked(&fixture.stacks.asked).join(" ");
    assert!(seen.contains("PASSWORD"), "{seen}");
    assert!(!seen.contains(PASSWORD), "{seen}");
    let id = fixture.berlin().await;
    let content = fixture
        .store
        .assignment_content(id, "shop", 1)
        .await
        .unwrap()
        .unwrap();
    let is_plain = |window: &[u8]| window == PASSWORD.as_bytes();
    assert!(!content.windows(PASSWORD.len()).any(is_plain));
}

#[tokio::test]
async fn a_secret_of_the_stack_stays_for_the_next_deployment_and_another_value_is_another_one() {
    let fixture = berlin().await;
    let given =
        |value: &str| BTreeMap::from([("PASSWORD".to_owned(), Zeroizing::new(value.to_owned()))]);
    let request = DeployRequest {
        secrets: given("one"),
        ..fixture.request(DATABASE).await
    };
    fixture
        .control
        .deploy(&fixture.admin, request)
        .await
        .unwrap();

    let newest = DeployRequest {
        source: Source::Newest,
        ..fixture.request(DATABASE).await
    };
    let same = fixture
        .control
        .deploy(&fixture.admin, newest)
        .await
        .unwrap();
    let changed = DeployRequest {
        source: Source::Newest,
        secrets: given("two"),
        ..fixture.request(DATABASE).await
    };
    let changed = fixture
        .control
        .deploy(&fixture.admin, changed)
        .await
        .unwrap();

    assert!(!same.assignments[0].is_new, "{same:?}");
    assert!(changed.assignments[0].is_new, "{changed:?}");
    assert_eq!(fixture.sent().await.secrets["PASSWORD"].0, "two");
}

#[tokio::test]
async fn a_key_is_answered_again_and_good_for_one_request() {
    let fixture = berlin().await;
    let key = || Some("k1".to_owned());
    let keyed = |request: DeployRequest| DeployRequest {
        key: key(),
        ..request
    };
    let first = keyed(fixture.request(WEB).await);
    let first = fixture.control.deploy(&fixture.admin, first).await.unwrap();
    fixture.settle(1, "failed").await;

    let again = keyed(fixture.request(WEB).await);
    let again = fixture.control.deploy(&fixture.admin, again).await.unwrap();
    let other = keyed(fixture.request(DATABASE).await);
    let other = fixture.control.deploy(&fixture.admin, other).await;

    assert_eq!(again, first);
    assert!(matches!(other, Err(Error::KeyReused)), "{other:?}");
}

#[tokio::test]
async fn a_rollback_goes_to_the_release_that_was_last_well() {
    let fixture = berlin().await;
    let text = |tag: &str| WEB.replace("${TAG:-1}", tag);
    for (number, phase) in [(1, "committed"), (2, "reverted"), (3, "committed")] {
        fixture.deploy(&text(&format!("v{number}"))).await;
        fixture.settle(number, phase).await;
    }
    let request = DeployRequest {
        targets: Targets::Assigned,
        ..fixture.request(WEB).await
    };
    let back = fixture
        .control
        .rollback_stack(&fixture.admin, request, None)
        .await
        .unwrap();

    assert_eq!(back.assignments[0].release, Some(1));
    assert_eq!(
        image(&fixture.sent().await, "web"),
        "registry.example/web:v1"
    );
    let request = DeployRequest {
        targets: Targets::Assigned,
        ..fixture.request(WEB).await
    };
    let unknown = fixture
        .control
        .rollback_stack(&fixture.admin, request, Some(9))
        .await;
    assert!(
        matches!(unknown, Err(Error::ReleaseUnknown { release: 9, .. })),
        "{unknown:?}"
    );
}

#[tokio::test]
async fn a_stack_that_is_removed_is_assigned_nowhere() {
    let fixture = berlin().await;
    fixture.deploy(WEB).await;
    let control = &fixture.control;
    let options = DeployOptions::default();
    let places = ("shop", &Targets::Assigned);

    let removed = control
        .remove_stack(&fixture.admin, places, (true, &options))
        .await;
    let again = control
        .remove_stack(&fixture.admin, places, (true, &options))
        .await;

    assert_eq!(removed.unwrap().assignments[0].release, None);
    assert!(matches!(again, Err(Error::Invalid { .. })), "{again:?}");
    let sent = fixture.sent().await;
    assert_eq!(sent.desired, Desired::Absent { volumes: true });
}

#[tokio::test]
async fn an_assignment_is_above_what_its_agent_knows() {
    let fixture = berlin().await;
    let id = fixture.berlin().await;
    let report: StackReport = serde_json::from_value(serde_json::json!({
        "stack": "shop", "assignment": 41, "phase": "committed", "since_ms": 0, "services": {},
    }))
    .unwrap();
    let seen = Seen {
        is_live: true,
        report: Some(Arc::new(report)),
        ..Seen::default()
    };
    locked(&fixture.stacks.seen).insert((id, "shop".to_owned()), seen);

    let assigned = fixture.deploy(WEB).await;

    assert_eq!(assigned.number, 42);
    let views = fixture
        .control
        .stack_views(&fixture.admin, (Some("shop"), None))
        .await
        .unwrap();
    assert_eq!(views[0].state, StackState::Sending);
    assert_ne!(views[0].state, StackState::At(Phase::Committed));
}

#[tokio::test]
async fn files_that_never_came_are_named() {
    let fixture = berlin().await;
    let mut request = fixture.request(WEB).await;
    if let Source::Bundle { manifest, .. } = &mut request.source {
        let file = BundleFile {
            digest: digest_of(b"never sent"),
            size: 10,
            mode: 0o644,
        };
        manifest.files.insert("conf/site.conf".to_owned(), file);
    }

    let refused = fixture
        .control
        .deploy(&fixture.admin, request)
        .await
        .unwrap_err();

    assert!(refused.to_string().contains("conf/site.conf"), "{refused}");
}

#[tokio::test]
async fn a_file_whose_bytes_are_others_is_not_kept() {
    let fixture = Fixture::new().await;
    let digest = digest_of(b"one");

    let put = fixture
        .control
        .put_blob(&fixture.admin, &digest, b"two")
        .await;

    assert!(
        matches!(
            put,
            Err(Error::Invalid {
                field: "digest",
                ..
            })
        ),
        "{put:?}"
    );
    let missing = fixture
        .control
        .missing_blobs(&fixture.admin, std::slice::from_ref(&digest));
    assert_eq!(missing.await.unwrap(), [digest]);
}

#[test]
fn an_image_s_registry_is_the_part_before_its_first_slash_that_looks_like_a_host() {
    let cases = [
        ("nginx", "docker.io"),
        ("library/nginx:1", "docker.io"),
        ("registry.example/a/b:1", "registry.example"),
        ("localhost/a", "localhost"),
        ("registry:5000/a@sha256:1", "registry:5000"),
    ];

    for (image, host) in cases {
        assert_eq!(registry_of(image), host, "{image}");
    }
}
