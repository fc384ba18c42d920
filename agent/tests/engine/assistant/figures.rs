//! How long things take, and what memory they need; printed, and not judged.

use std::fs;

use compose::exchange::Phase;
use tunnel::World;

use super::Product;

/// Kilobytes of this process that are in memory, now and at most.
fn memory() -> (String, String) {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name));
        line.unwrap_or_default()
            .split_whitespace()
            .nth(1)
            .unwrap_or_default()
            .to_owned()
    };
    (line("VmRSS:"), line("VmHWM:"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_deployment_takes_is_told() {
    let Some(mut product) = Product::new("as-figures") else {
        return;
    };
    let clock = World::real().clock;
    product.site.start();
    println!("memory of the test's process, with the agent's engine in it, kB (now, most):");
    println!("  idle: {:?}", memory());

    let begun = clock.now();
    product.commits().await;
    println!("fresh deployment: {:?}", clock.now() - begun);
    println!("  after it: {:?}", memory());

    for _ in 0..3 {
        let begun = clock.now();
        let report = product.commits().await;
        println!(
            "no-op deployment, {} operations: {:?}",
            report.operations,
            clock.now() - begun
        );
    }

    product.set("TAG", "3-bad");
    let number = product.assign().await.number;
    let failed = |report: &compose::exchange::StackReport| {
        report.assignment == number && report.phase == Phase::Reverting
    };
    product.site.follow(failed).await;
    let begun = clock.now();
    let report = product.site.settled(number).await;
    assert_eq!(report.phase, Phase::Reverted);
    println!(
        "from the failed check to the old release, watched for 1 s: {:?}",
        clock.now() - begun
    );
    println!("  at the end: {:?}", memory());
}
