//! A registry that asks who wants something.

use compose::exchange::{Phase, RegistryLogin, SecretText};

use super::{
    Product,
    registry::{Registry, SECRET, USER},
};
use crate::site::Site;

#[tokio::test(flavor = "multi_thread")]
async fn images_come_with_the_right_login_and_a_wrong_one_is_named_for_what_it_is() {
    let Some(socket) = Site::socket_there() else {
        return;
    };
    let Some(registry) = Registry::start(Some(())) else {
        return;
    };
    let mut product = Product::on(&socket, "as-login", registry);
    product.site.start();

    for password in [None, Some("battery staple")] {
        if let Some(password) = password {
            log_in(&mut product, password);
        }
        let report = product.deploy().await;

        assert_eq!(report.phase, Phase::Failed, "{report:#?}");
        let cause = report.cause.unwrap();
        assert_eq!(cause.code, "pull_failed");
        assert!(cause.line.contains("registry login"), "{}", cause.line);
        assert!(
            !format!("{cause:?}").contains("battery staple"),
            "{cause:?}"
        );
        assert!(product.ids().is_empty());
    }

    log_in(&mut product, SECRET);
    product.commits().await;
    assert!(product.get("/").contains(r#""version":"1""#));
    assert!(
        !product.site.keeps(SECRET),
        "the password is on the agent's disk"
    );
}

fn log_in(product: &mut Product, password: &str) {
    let login = RegistryLogin {
        user: USER.to_owned(),
        password: SecretText(password.to_owned()),
    };
    let host = product.registry.host().to_owned();
    product.logins.insert(host, login);
}
