//! Names are comments: they come from the interface or from selectors, are the same after every pass, and change nothing.

use std::collections::BTreeSet;

use zvm::names::Names;
use zvm::{Contract, Error, Input, Program, Source, picture};
use zvm_ir::passes::Goal;
use zvm_ir::{Labels, Module, parse};

const FUNCTIONS: [&str; 6] = [
    "clampedDifference(uint256,uint256,uint128)",
    "compound(uint256,uint64,uint32)",
    "div(uint256,uint256)",
    "mix(uint256,uint256,uint256)",
    "mul(uint256,uint256)",
    "sqrt(uint256)",
];

fn fixed_point(with_abi: bool) -> Contract {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/fixed-point/FixedPoint.json");
    let Source::Contract(contract) = Input::read(path, None).expect("an artifact").source else {
        panic!("no contract")
    };
    let abi = contract.abi.clone().filter(|_| with_abi);
    Contract { abi, ..*contract }
}

fn modules(contract: &Contract) -> Vec<Module> {
    let source = Source::Contract(Box::new(contract.clone()));
    let program = Program::load(&Input { origin: "test".to_owned(), source }).expect("a program");
    let optimized = |goal| program.optimized(goal).expect("a module");
    vec![program.module.clone(), optimized(Goal::Evm), optimized(Goal::Circuit)]
}

fn beginnings(module: &Module, contract: &Contract) -> BTreeSet<String> {
    Names::of(module, contract.abi.as_ref()).labels.blocks.into_values().collect()
}

#[test]
fn functions_are_named_after_their_signatures() {
    let contract = fixed_point(true);
    for module in modules(&contract) {
        let names: Vec<_> = beginnings(&module, &contract).into_iter().collect();
        assert_eq!(names, FUNCTIONS, "{module}");
    }
}

#[test]
fn without_an_interface_selectors_are_names() {
    let (named, bare) = (fixed_point(true), fixed_point(false));
    let abi = named.abi.as_ref().expect("an interface");
    let selectors: BTreeSet<String> =
        abi.functions().map(|function| format!("fn_{}", hex::encode(function.selector()))).collect();
    for module in modules(&bare) {
        assert_eq!(beginnings(&module, &bare), selectors);
    }
}

#[test]
fn names_are_no_part_of_the_program() {
    let (named, bare) = (fixed_point(true), fixed_point(false));
    for (module, same) in modules(&named).iter().zip(modules(&bare)) {
        assert_eq!(module.to_string(), same.to_string());
        let labels = Names::of(module, named.abi.as_ref()).labels;
        let text = module.labelled(&labels).to_string();
        assert!(FUNCTIONS.iter().all(|name| text.contains(&format!("  ; {name}"))), "{text}");
        assert_eq!(parse(&text).expect("IR").to_string(), module.to_string());
    }
}

#[test]
fn instructions_belong_to_functions() {
    let contract = fixed_point(true);
    let module = &modules(&contract)[0];
    let names = Names::of(module, contract.abi.as_ref());
    let pcs = module.funcs.values().flat_map(|function| function.insts.values().filter_map(|inst| inst.pc));
    let found: BTreeSet<_> = pcs.filter_map(|pc| names.function_at(pc)).collect();
    assert_eq!(found.into_iter().collect::<Vec<_>>(), FUNCTIONS);
    assert_eq!(names.function_at(0), None, "the free memory pointer is everybody's");
}

/// Two selectors whose code is the same, a name that would end the comment, and a block that is also reached otherwise.
#[test]
fn names_are_one_line_and_only_where_they_hold() {
    let module = parse(
        "zvm 1\nentry @main\nfunc @main() {\nblock0:\nv0: u1 = iconst 0\nv1: u256 = calldataload v0\nv2: u8 = iconst 224
        v3: u256 = shr v2, v1\nv4: u4 = iconst 10\nv5: u1 = eq v3, v4\nbrif v5, block3, block1(v3)
        block1(v6: u256):\nv7: u4 = iconst 11\nv8: u1 = eq v7, v6\nbrif v8, block3, block2\nblock2:\nv9: u4 = iconst 12
        v10: u256 = wsub v3, v9\nv11: u1 = iszero v10\nbrif v11, block5, block4\nblock3:\nstop\nblock4:\njump block5
        block5:\nstop\n}",
    )
    .expect("IR");
    let labels = Names::of(&module, None).labels;
    let names: Vec<_> = labels.blocks.values().map(String::as_str).collect();
    assert_eq!(names, ["fn_0000000a, fn_0000000b"]);
}

#[test]
fn pictures_show_every_block() {
    let contract = fixed_point(true);
    for module in modules(&contract) {
        let labels = Names::of(&module, contract.abi.as_ref()).labels;
        let svg = picture::svg(&module, &labels).expect("a picture");
        assert_eq!(svg, picture::svg(&module, &labels).expect("a picture"));
        let blocks: usize = module.funcs.values().map(|function| function.layout.len()).sum();
        // One frame is the background.
        assert_eq!(svg.matches("<rect").count(), blocks + 1);
        assert!(FUNCTIONS.iter().all(|name| svg.contains(name)) && svg.ends_with("</svg>\n"));
    }
}

/// Loops, edges back to the entry of a loop and to the block itself, two edges to one block.
#[test]
fn pictures_of_odd_graphs() {
    let module = parse(
        "zvm 1\nentry @main\nfunc @main() {\nblock0:\njump block1\nblock1:\nv0: u64 = calldatasize\nv1: u1 = iszero v0
        brif v1, block1, block2\nblock2:\nbrif v1, block3, block3\nblock3:\nbrif v1, block4, block1\nblock4:\nbrif v1, block2, block5
        block5:\nstop\n}\nfunc @f() {\nblock0:\nret\n}",
    )
    .expect("IR");
    let svg = picture::svg(&module, &Labels::default()).expect("a picture");
    assert_eq!(svg.matches("<rect").count(), 8);
    assert_eq!(svg.matches("<path").count(), 8);
}

#[test]
fn pictures_that_are_too_large_are_refused() {
    let mut text = "zvm 1\nentry @main\nfunc @main() {\n".to_owned();
    for block in 0..picture::BLOCK_LIMIT {
        text += &format!("block{block}:\njump block{}\n", block + 1);
    }
    text += &format!("block{}:\nstop\n}}\n", picture::BLOCK_LIMIT);
    let module = parse(&text).expect("IR");
    let error = picture::svg(&module, &Labels::default()).expect_err("too large");
    assert!(matches!(error, Error::PictureTooLarge { .. }));
    assert!(error.help().is_some_and(|help| help.contains("--cfg dot")));
}
