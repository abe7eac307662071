//! Hand-made programs: their IR as snapshots, each also executed against revm.

mod oracle;

use oracle::{Compared, GAS, World, compare, hex};
use zvm_frontend::{LiftOptions, Lifted, lift};
use zvm_ir::Word;

fn lifted(code: &str) -> Lifted {
    let lifted = lift(&hex(code), &LiftOptions::default()).expect("it lifts");
    zvm_ir::verify(&lifted.module).expect("it verifies");
    lifted
}

#[track_caller]
fn agrees(code: &str, calls: &[Vec<u8>]) -> Lifted {
    let lifted = lifted(code);
    let world = World { code: hex(code), ..World::default() };
    for calldata in calls {
        match compare(&lifted.module, &world, calldata, Word::ZERO, GAS) {
            Compared::Same(_, steps) => assert!(steps.edges.is_subset(&lifted.edges), "an edge is missing"),
            Compared::Unfit => panic!("the call cannot be compared"),
            Compared::Different(what) => panic!("{what}\n{}", lifted.module),
        }
    }
    lifted
}

fn words(list: &[u64]) -> Vec<u8> {
    list.iter().flat_map(|&word| Word::from(word).to_be_bytes::<32>()).collect()
}

macro_rules! snapshot {
    ($name:literal, $lifted:expr) => {
        insta::with_settings!({snapshot_path => "../../snapshots", prepend_module_to_snapshot => false}, {
            insta::assert_snapshot!(concat!("lift_", $name), $lifted.module.to_string());
        });
    };
}

#[test]
fn fibonacci() {
    let code = "5f355f60015b8215601a578181019150909160019003916005565b9150505f5260205ff3";
    let calls: Vec<_> = [0, 1, 2, 3, 10, 1000].iter().map(|&n| words(&[n])).collect();
    snapshot!("fibonacci", agrees(code, &calls));
}
