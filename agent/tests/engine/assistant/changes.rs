//! What a new release changes, and what it leaves alone.

use compose::exchange::ServiceState;

use super::{PASSWORD, Product, changed};

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_product_answers_and_the_same_again_takes_no_operation() {
    let Some(mut product) = Product::new("as-fresh") else {
        return;
    };
    product.site.start();

    let report = product.commits().await;

    assert!(report.operations > 0);
    for (name, service) in &report.services {
        assert_eq!(service.state, ServiceState::Ok, "{name}: {service:?}");
    }
    assert!(
        !report.services.contains_key("worker"),
        "its profile is not active"
    );
    assert_eq!(product.site.ids("app").len(), 2);
    let answer = product.get("/");
    assert!(
        answer.contains(r#""service":"app","version":"1""#),
        "{answer}"
    );
    let answer = product.get("/flows/");
    assert!(answer.contains(r#""service":"n8n""#), "{answer}");
    assert_eq!(product.sql("SELECT version FROM releases"), "1");
    for (reference, digest) in &report.digests {
        assert!(
            digest.starts_with("sha256:"),
            "{reference} is not pinned: {digest}"
        );
    }
    let app = product.site.ids("app").remove(0);
    let arguments = [
        "exec",
        &app,
        "cat",
        "/etc/assistant/settings.toml",
        "/run/secrets/db-password",
    ];
    let inside = product.site.docker(&arguments);
    assert!(inside.contains("release = \"1\""), "{inside}");
    assert!(inside.ends_with(PASSWORD), "{inside}");
    let shown = product.site.docker(&["inspect", &app]);
    assert!(!shown.contains(PASSWORD), "a container shows the secret");

    let before = product.ids();
    let again = product.commits().await;

    assert_eq!(again.operations, 0);
    assert_eq!(product.ids(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_tag_replaces_what_has_it_and_nothing_else() {
    let Some(mut product) = Product::new("as-tag") else {
        return;
    };
    product.site.start();
    product.commits().await;
    let before = product.ids();

    product.set("QDRANT_TAG", "2");
    product.commits().await;

    let after = product.ids();
    assert_eq!(changed(&before, &after), ["vectors"]);
    let qdrant = product.site.ids("vectors").remove(0);
    assert_eq!(
        product.site.docker(&["exec", &qdrant, "cat", "/version"]),
        "2"
    );
    let starts = ["exec", &qdrant, "wc", "-l", "/qdrant/storage/starts"];
    assert!(
        product.site.docker(&starts).starts_with('2'),
        "its volume is another one"
    );

    product.set("TAG", "2");
    product.commits().await;

    assert_eq!(changed(&after, &product.ids()), ["app"]);
    assert!(product.get("/").contains(r#""version":"2""#));
    assert_eq!(
        product.sql("SELECT version FROM releases ORDER BY 1"),
        "1\n2"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_variable_replaces_the_services_that_it_stands_in() {
    let Some(mut product) = Product::new("as-variable") else {
        return;
    };
    product.site.start();
    product.commits().await;
    let before = product.ids();

    product.set("LOG_LEVEL", "debug");
    product.commits().await;

    let after = product.ids();
    assert_eq!(changed(&before, &after), ["app"]);
    let app = product.site.ids("app").remove(0);
    let inside = product.site.docker(&[
        "exec",
        &app,
        "sh",
        "-c",
        "echo $LOG_LEVEL; cat /etc/assistant/*",
    ]);
    assert!(inside.starts_with("debug\n"), "{inside}");
    assert!(inside.contains("log_level = \"debug\""), "{inside}");

    product.set("DB_CONNECTIONS", "40");
    product.commits().await;

    assert_eq!(changed(&after, &product.ids()), ["db"]);
    assert_eq!(product.sql("SHOW max_connections"), "40");
    assert_eq!(product.sql("SELECT version FROM releases"), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_come_and_go_and_those_that_stay_are_not_touched() {
    let Some(mut product) = Product::new("as-scale") else {
        return;
    };
    product.site.start();
    product.commits().await;
    let two = product.site.ids("app");

    product.set("APP_REPLICAS", "3");
    let before = product.ids();
    product.commits().await;
    let three = product.site.ids("app");
    assert_eq!(three.len(), 3);
    assert_eq!(three[..2], two);
    assert_eq!(changed(&before, &product.ids()), ["app"]);

    product.set("APP_REPLICAS", "1");
    product.commits().await;
    assert_eq!(product.site.ids("app"), two[..1]);
    assert!(product.get("/").contains(r#""service":"app""#));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_adds_its_service_and_without_it_the_service_is_an_orphan_that_goes() {
    let Some(mut product) = Product::new("as-orphan") else {
        return;
    };
    product.site.start();
    product.profiles.insert("worker".to_owned());
    product.commits().await;
    assert_eq!(product.site.ids("worker").len(), 1);
    let before = product.ids();

    product.profiles.clear();
    product.commits().await;

    assert_eq!(changed(&before, &product.ids()), ["worker"]);
    let all = format!("label=com.docker.compose.project={}", product.site.project);
    let names = product
        .site
        .docker(&["ps", "-a", "--filter", &all, "--format", "{{.Names}}"]);
    assert!(!names.contains("worker"), "{names}");
}
