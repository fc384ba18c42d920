//! Releases that do not become well, and what is left then.

use compose::exchange::Phase;

use super::{Product, changed};

#[tokio::test(flavor = "multi_thread")]
async fn an_unhealthy_release_goes_back_and_what_was_written_is_still_there() {
    let Some(mut product) = Product::new("as-unhealthy") else {
        return;
    };
    product.site.start();
    product.commits().await;
    let before = product.ids();
    product.sql("INSERT INTO notes (text) VALUES ('written before')");

    product.set("TAG", "3-bad");
    let report = product.deploy().await;

    assert_eq!(report.phase, Phase::Reverted, "{report:#?}");
    let cause = report.cause.unwrap();
    assert_eq!(
        (cause.code.as_str(), cause.service.as_deref()),
        ("unhealthy", Some("app"))
    );
    let said = cause.output.join("\n");
    assert!(
        said.contains("404"),
        "the check's own words are missing: {said:?}"
    );
    assert_eq!(product.sql("SELECT text FROM notes"), "written before");
    assert!(product.get("/").contains(r#""version":"1""#));
    // The old containers of everything that was well served all the time.
    let others: Vec<String> = changed(&before, &product.ids());
    assert!(others.is_empty() || others == ["app"], "{others:?}");
    assert_eq!(product.site.ids("app").len(), 2);

    product.set("TAG", "2");
    product.commits().await;
    assert!(product.get("/").contains(r#""version":"2""#));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_ends_at_once_goes_back_and_its_last_words_are_told() {
    let Some(mut product) = Product::new("as-crash") else {
        return;
    };
    product.site.start();
    product.commits().await;

    product.set("TAG", "4-crash");
    let report = product.deploy().await;

    assert_eq!(report.phase, Phase::Reverted, "{report:#?}");
    let cause = report.cause.unwrap();
    assert_eq!(
        (cause.code.as_str(), cause.service.as_deref()),
        ("exited", Some("app"))
    );
    let said = cause.output.join("\n");
    assert!(said.contains("cannot read its settings"), "{said:?}");
    assert!(product.get("/").contains(r#""version":"1""#));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_not_there_changes_nothing_and_is_named() {
    let Some(mut product) = Product::new("as-image") else {
        return;
    };
    product.site.start();
    product.commits().await;
    let before = product.ids();

    product.set("TAG", "no-such-release");
    let report = product.deploy().await;

    assert_eq!(report.phase, Phase::Reverted, "{report:#?}");
    let cause = report.cause.unwrap();
    assert_eq!(cause.code, "pull_failed");
    assert!(cause.service.is_some(), "{cause:?}");
    assert!(cause.line.contains("no-such-release"), "{}", cause.line);
    assert!(
        cause.line.contains("check name, tag and platform"),
        "{}",
        cause.line
    );
    assert_eq!(product.ids(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_required_variable_without_a_value_is_named_with_where_it_stands() {
    let Some(mut product) = Product::new("as-missing") else {
        return;
    };
    product.variables.remove("TAG");

    let problems = product.load().unwrap_err();

    let text: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let text = text.join("\n");
    assert!(
        text.contains("TAG") && text.contains("the release of the product"),
        "{text}"
    );
    assert!(text.contains("compose.yml:"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_release_that_fails_leaves_nothing_but_its_volumes() {
    let Some(mut product) = Product::new("as-first") else {
        return;
    };
    product.site.start();

    product.set("TAG", "3-bad");
    let report = product.deploy().await;

    assert_eq!(report.phase, Phase::Failed, "{report:#?}");
    assert_eq!(report.cause.unwrap().service.as_deref(), Some("app"));
    let all = format!("label=com.docker.compose.project={}", product.site.project);
    assert_eq!(product.site.docker(&["ps", "-aq", "--filter", &all]), "");
    let volumes = product
        .site
        .docker(&["volume", "ls", "-q", "--filter", &all]);
    assert_eq!(volumes.lines().count(), 3, "{volumes}");

    product.set("TAG", "1");
    product.commits().await;
    assert_eq!(
        product.sql("SELECT version FROM releases ORDER BY 1"),
        "1\n3-bad"
    );
}
