//! The agent is killed in the middle of an update of the whole product.

use compose::exchange::{Phase, StackReport};

use super::Product;

/// Signs of progress after which it is killed: while images are pulled, containers made,
/// replaced, waited for.
const MOMENTS: [u32; 7] = [0, 2, 5, 9, 14, 20, 27];

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_killed_in_an_update_ends_it_when_it_is_back() {
    let Some(mut product) = Product::new("as-killed") else {
        return;
    };
    product.site.start();
    product.commits().await;
    product.sql("INSERT INTO notes (text) VALUES ('written before')");

    for (round, moment) in MOMENTS.into_iter().enumerate() {
        let tag = if round % 2 == 0 { "2" } else { "1" };
        product.set("TAG", tag);
        product.set("DB_CONNECTIONS", &format!("{}", 40 + round));
        let number = product.assign().await.number;
        product.site.progresses(number, moment).await;
        product.site.kill_and_wait().await;
        product.site.start();
        let report = product.site.settled(number).await;

        assert_eq!(
            report.phase,
            Phase::Committed,
            "killed at {moment}: {report:#?}"
        );
        assert_eq!(names(&product), EXPECTED, "killed at {moment}");
        let version = format!(r#""version":"{tag}""#);
        assert!(product.get("/").contains(&version), "killed at {moment}");
        assert_eq!(product.sql("SELECT text FROM notes"), "written before");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_killed_on_the_way_back_is_back_in_the_old_release_in_the_end() {
    let Some(mut product) = Product::new("as-back") else {
        return;
    };
    product.site.start();
    product.commits().await;

    for round in 0..4 {
        product.set("TAG", "3-bad");
        let number = product.assign().await.number;
        if round < 2 {
            product.site.progresses(number, 8 * (round + 1)).await;
        } else {
            let going_back = |report: &StackReport| {
                report.assignment == number && report.phase == Phase::Reverting
            };
            product.site.follow(going_back).await;
            product.site.progresses(number, 4 * (round - 2)).await;
        }
        product.site.kill_and_wait().await;
        product.site.start();
        let report = product.site.settled(number).await;

        assert_eq!(report.phase, Phase::Reverted, "round {round}: {report:#?}");
        assert_eq!(report.committed.as_deref(), Some("r1"), "round {round}");
        assert_eq!(report.cause.unwrap().service.as_deref(), Some("app"));
        assert_eq!(names(&product).len(), EXPECTED.len(), "round {round}");
        assert!(
            product.get("/").contains(r#""version":"1""#),
            "round {round}"
        );
    }
}

const EXPECTED: [&str; 7] = [
    "as-killed-app-1",
    "as-killed-app-2",
    "as-killed-db-1",
    "as-killed-flows-1",
    "as-killed-migrate-1",
    "as-killed-proxy-1",
    "as-killed-vectors-1",
];

fn names(product: &Product) -> Vec<String> {
    let all = format!("label=com.docker.compose.project={}", product.site.project);
    let format = "{{.Names}}";
    let names = product
        .site
        .docker(&["ps", "-a", "--filter", &all, "--format", format]);
    let mut names: Vec<String> = names.lines().map(str::to_owned).collect();
    names.sort_unstable();
    names
}
