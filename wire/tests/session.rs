//! The session machine against a small reference model: two ends in virtual time,
//! random operations, connections lost, replaced and changed in the middle.
//!
//! What must hold whatever happens: no honest end ever accuses the other; what was
//! read is a beginning of what was written, and all of it once the network heals;
//! every end of a direction is seen; and nothing is kept once both have let go.

use proptest::{
    prelude::*,
    test_runner::{Config, FileFailurePersistence},
};

mod model;
#[path = "../src/session/tests/pair.rs"]
#[expect(
    dead_code,
    reason = "shared with the tests beside the machine, which use more of it"
)]
mod pair;

use model::{Model, Operation};

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    prop::collection::vec(model::operation(), 1..80)
}

fn config() -> Config {
    let file = FileFailurePersistence::Direct("proptest-regressions/session.txt");
    Config {
        failure_persistence: Some(Box::new(file)),
        ..Config::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn two_ends_keep_their_promises_whatever_happens(
        start in model::transport(),
        jitter in prop_oneof![Just(0), 1_u64..],
        operations in operations(),
        last in model::transport(),
    ) {
        let mut model = Model::new(start, jitter);
        for operation in operations {
            model.apply(operation);
        }
        model.heal(last);
        model.let_go();
    }
}
