//! Whatever clients do, upstream answers in exactly the context that they meant.

mod model;

use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn upstream_sees_what_the_client_meant(ops in prop::collection::vec(any::<model::Op>(), 1..160)) {
        model::run(&ops);
    }
}
