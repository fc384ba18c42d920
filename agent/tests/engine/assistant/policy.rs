//! What the example's customer allows.

use compose::exchange::Phase;

use super::{Product, registry::Registry};
use crate::site::Site;

/// The example's policy, for the registry and the port of a test.
fn policy(registries: &str, port: u16) -> String {
    let path = super::root().join("examples/assistant/policy.toml");
    let text = std::fs::read_to_string(path).unwrap();
    let text = text.replace("registry.example.com/you", registries);
    text.replace("8080", &port.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_policy_allows_the_example_and_none_of_what_is_not_in_it() {
    let Some(socket) = Site::socket_there() else {
        return;
    };
    let Some(registry) = Registry::start(None) else {
        return;
    };
    let mut product = Product::on(&socket, "as-policy", registry);
    let text = policy(product.registry.host(), product.port);
    product.site = Site::at(&socket, "as-policy", &text);
    product.site.start();
    product.commits().await;
    let before = product.ids();

    let port = product.port;
    product.set("PORT", &format!("{}", port ^ 1));
    let report = product.deploy().await;

    assert_eq!(report.phase, Phase::Refused, "{report:#?}");
    let cause = report.cause.unwrap();
    assert_eq!(cause.code, "policy");
    assert_eq!(cause.output.len(), 1, "{:?}", cause.output);
    let told = &cause.output[0];
    assert!(
        told.starts_with("proxy: ") && told.contains("docker.ports"),
        "{told}"
    );
    assert_eq!(product.ids(), before);

    product.set("PORT", &port.to_string());
    product.set("REGISTRY", "registry.example.org");
    let report = product.deploy().await;

    assert_eq!(report.phase, Phase::Refused, "{report:#?}");
    let told = report.cause.unwrap().output;
    assert_eq!(told.len(), 6, "{told:?}");
    assert!(
        told.iter().all(|line| line.contains("docker.registries")),
        "{told:?}"
    );
    assert_eq!(product.ids(), before);
}
