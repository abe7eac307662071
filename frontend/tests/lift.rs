//! Small programs, one for each case that the lifter treats differently: their IR as snapshots, each also executed
//! against revm.
//!
//! - [x] a loop; a loop at the start of a function; the start of the program as the target of a jump
//! - [x] a function called from two places, from one place, in tail position, recursively; a thousand in each other
//! - [x] two functions that share their end
//! - [x] a function that never returns; one that returns in two ways
//! - [x] a branch inside the argument of a call
//! - [x] a flag that decides between stacks of different heights (what `try`/`catch` leaves behind)
//! - [x] a function pointer: chosen by a branch, passed to a function
//! - [x] a selector table in the code; a return address kept in memory
//! - [x] stack underflow and overflow: always, on some paths, in a loop
//! - [x] jumps to constants that are no targets; jumps that cannot be resolved
//! - [x] copies of the code: inside it, past its end, of unknown length
//! - [x] GAS for a call, and for anything else
//! - [x] push data cut off by the end; undefined opcodes; opcodes of other forks

mod oracle;

use oracle::{Compared, GAS, World, assemble, compare, hex};
use zvm_frontend::{Fork, LiftError, LiftOptions, Lifted, Ring, check, check_lift, lift};
use zvm_ir::{Opcode, Word};

#[track_caller]
fn agrees(code: &[u8], calls: &[Vec<u8>]) -> Lifted {
    let lifted = lift(code, &LiftOptions::default()).unwrap_or_else(|error| panic!("{error}"));
    zvm_ir::verify(&lifted.module).unwrap_or_else(|errors| panic!("{}\n{}", errors[0], lifted.module));
    check_lift(code, &lifted).unwrap_or_else(|errors| panic!("{}\n{}", errors[0], lifted.module));
    let world = World { code: code.to_vec(), ..World::default() };
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

/// Calls with every combination of these words as the two arguments.
fn pairs(list: &[u64]) -> Vec<Vec<u8>> {
    list.iter().flat_map(|&a| list.iter().map(move |&b| words(&[a, b]))).collect()
}

fn functions(lifted: &Lifted) -> Vec<&str> {
    lifted.module.funcs.values().map(|function| function.name.as_str()).collect()
}

macro_rules! snapshot {
    ($name:literal, $lifted:expr) => {
        insta::with_settings!({
            snapshot_path => "../../snapshots", prepend_module_to_snapshot => false, omit_expression => true
        }, {
            insta::assert_snapshot!(concat!("lift_", $name), $lifted.module.to_string());
        });
    };
}

/// Returns the item on top of the stack.
const RETURN: &str = "0 MSTORE 32 0 RETURN";

#[test]
fn fibonacci() {
    let code = hex("5f355f60015b8215601a578181019150909160019003916005565b9150505f5260205ff3");
    let calls: Vec<_> = [0, 1, 2, 3, 10, 1000].iter().map(|&n| words(&[n])).collect();
    let lifted = agrees(&code, &calls);
    assert_eq!(lifted.report.blocks, 4);
    snapshot!("fibonacci", lifted);
}

#[test]
fn a_function_called_twice() {
    let code = assemble(&format!(
        "@a 0 CALLDATALOAD @square JUMP :a @b 32 CALLDATALOAD @square JUMP :b ADD {RETURN}
         :square DUP1 MUL SWAP1 JUMP"
    ));
    let lifted = agrees(&code, &pairs(&[0, 3, u64::MAX]));
    assert_eq!(lifted.module.funcs.len(), 2);
    snapshot!("call_twice", lifted);
}

#[test]
fn a_function_called_once_is_part_of_its_caller() {
    let code = assemble(&format!("@a 0 CALLDATALOAD @square JUMP :a {RETURN} :square DUP1 MUL SWAP1 JUMP"));
    let lifted = agrees(&code, &[words(&[7])]);
    assert_eq!(functions(&lifted), ["main"]);
}

#[test]
fn names_are_those_given() {
    let code = assemble(&format!("@a 1 @f JUMP :a @b 32 CALLDATALOAD @f JUMP :b ADD {RETURN} :f DUP1 MUL SWAP1 JUMP"));
    let at = code.len() as u32 - 5;
    let options = LiftOptions { names: [(at, "square".to_owned())].into(), ..LiftOptions::default() };
    let lifted = lift(&code, &options).expect("it lifts");
    assert_eq!(functions(&lifted), ["main", "square"]);
}

/// `f(n) = n < 2 ? n : f(n − 1) + f(n − 2)`.
#[test]
fn recursion() {
    let code = assemble(&format!(
        "@end 0 CALLDATALOAD @f JUMP :end {RETURN}
         :f 2 DUP2 LT @leaf JUMPI
         @one 1 DUP3 SUB @f JUMP :one @two 2 DUP4 SUB @f JUMP :two ADD SWAP1 POP
         :leaf SWAP1 JUMP"
    ));
    let calls: Vec<_> = [0, 1, 2, 12].iter().map(|&n| words(&[n])).collect();
    snapshot!("recursion", agrees(&code, &calls));
}

/// The loop's head is the function's start: its back edge is a branch, not a call of itself.
#[test]
fn a_loop_at_the_start_of_a_function() {
    let code = assemble(&format!(
        "@a 0 CALLDATALOAD @f JUMP :a @b 32 CALLDATALOAD @f JUMP :b ADD {RETURN}
         :f 10 DUP2 GT ISZERO @done JUMPI 3 SWAP1 DIV @f JUMP :done SWAP1 JUMP"
    ));
    let lifted = agrees(&code, &pairs(&[0, 10, 11, 1 << 60]));
    let f = lifted.module.funcs.values().last().expect("a function");
    assert!(f.insts_in_order().all(|(_, inst)| f.insts[inst].opcode != Opcode::Call), "{f}");
}

#[test]
fn a_jump_to_the_start_of_the_program() {
    let code = assemble(":start 0 MLOAD 1 ADD DUP1 0 MSTORE 5 GT @start JUMPI 32 0 RETURN");
    snapshot!("loop_at_zero", agrees(&code, &[vec![]]));
}

#[test]
fn tail_calls_and_a_shared_end() {
    let code = assemble(&format!(
        "@a 0 CALLDATALOAD @f JUMP :a @b 32 CALLDATALOAD @g JUMP :b @c 1 @f JUMP :c @d 2 @g JUMP :d ADD ADD ADD {RETURN}
         :f 7 ADD @end JUMP
         :g 9 MUL @end JUMP
         :end 1 ADD SWAP1 JUMP"
    ));
    snapshot!("shared_end", agrees(&code, &pairs(&[0, 1, 99])));
}

#[test]
fn a_function_that_never_returns() {
    let code = assemble(&format!(
        "0 CALLDATALOAD @fail JUMPI @b 32 CALLDATALOAD @f JUMP :b @c 64 CALLDATALOAD @f JUMP :c ADD {RETURN}
         :f DUP1 @fail JUMPI 5 ADD SWAP1 JUMP
         :fail @x 17 @panic JUMP :x STOP
         :panic 0 MSTORE 32 CALLDATALOAD 3 EQ @other JUMPI 32 0 REVERT :other 1 0 REVERT"
    ));
    agrees(&code, &pairs(&[0, 3, 4]));
}

/// A function that returns to one of two addresses.
#[test]
fn two_exits() {
    let code = assemble(&format!(
        "@yes @no 0 CALLDATALOAD @choose JUMP :yes 1 {RETURN} :no
         @yes2 @no2 32 CALLDATALOAD @choose JUMP :yes2 2 {RETURN} :no2 3 {RETURN}
         :choose @left JUMPI SWAP1 POP JUMP :left POP JUMP"
    ));
    snapshot!("two_exits", agrees(&code, &pairs(&[0, 1])));
}

/// `f(a ? 1 : b)`: the return address waits on the stack while the argument branches.
#[test]
fn a_branch_in_an_argument() {
    let code = assemble(&format!(
        "@a 0 CALLDATALOAD @one JUMPI 32 CALLDATALOAD @go JUMP :one 1 :go @f JUMP :a
         @b 5 @f JUMP :b ADD {RETURN} :f 3 MUL SWAP1 JUMP"
    ));
    let lifted = agrees(&code, &pairs(&[0, 1, 8]));
    assert_eq!(lifted.module.funcs.len(), 2, "{}", lifted.module);
}

/// On success there is one item more under the flag; both ways meet before the flag is tested again.
#[test]
fn a_flag_that_decides_the_height() {
    let code = assemble(&format!(
        "@r 0 CALLDATALOAD @try JUMP :r @r2 32 CALLDATALOAD @try JUMP :r2 ADD {RETURN}
         :try DUP1 ISZERO @failed JUMPI
           1 ADD 1
           @meet JUMP
         :failed POP 0 :meet
           @success JUMPI
           77 SWAP1 JUMP
         :success SWAP1 JUMP"
    ));
    snapshot!("flag", agrees(&code, &pairs(&[0, 1, 5])));
}

#[test]
fn function_pointers() {
    // The pointer is chosen by a branch, masked, and handed to a function that calls it twice.
    let code = assemble(&format!(
        "0 CALLDATALOAD @double JUMPI @inc @go JUMP :double @dbl :go
         @end SWAP1 32 CALLDATALOAD @twice JUMP :end {RETURN}
         :twice @one SWAP1 DUP3 4294967295 AND JUMP :one @two SWAP1 DUP3 4294967295 AND JUMP :two SWAP1 POP SWAP1 JUMP
         :inc 1 ADD SWAP1 JUMP
         :dbl DUP1 ADD SWAP1 JUMP"
    ));
    snapshot!("function_pointers", agrees(&code, &pairs(&[0, 1, 40])));
}

/// What Vyper does: an entry of a table behind the code, chosen by a remainder, is the target.
#[test]
fn a_selector_table() {
    let program = |table: &str| {
        assemble(&format!(
            "2 0 CALLDATALOAD 3 SWAP1 MOD 2 MUL {table} ADD 30 CODECOPY 0 MLOAD JUMP
             :a 11 {RETURN} :b 32 CALLDATALOAD {RETURN} :c 0 0 REVERT"
        ))
    };
    let len = program("100").len();
    let mut code = program(&len.to_string());
    for label in code.clone().iter().enumerate().filter(|(_, byte)| **byte == 0x5b).map(|(at, _)| at as u16) {
        code.extend(label.to_be_bytes());
    }
    let lifted = agrees(&code, &pairs(&[0, 1, 2, 3, u64::MAX]));
    assert_eq!(lifted.edges.len(), 3);
    snapshot!("selector_table", lifted);
}

#[test]
fn a_return_address_in_memory() {
    let code = assemble(&format!(
        "@a 64 MSTORE 0 CALLDATALOAD @f JUMP :a @b 64 MSTORE 1 ADD @f JUMP :b {RETURN} :f DUP1 MUL 64 MLOAD JUMP"
    ));
    agrees(&code, &[words(&[3])]);
}

#[test]
fn underflow() {
    agrees(&assemble("1 ADD"), &[vec![]]);
    // On one path only.
    let code = assemble(&format!("0 CALLDATALOAD @x JUMPI 1 :x 2 ADD {RETURN}"));
    let lifted = agrees(&code, &[words(&[0]), words(&[1])]);
    snapshot!("underflow_on_a_path", lifted);
    // In a function, for one of its callers.
    let code = assemble(&format!(
        "0 CALLDATALOAD @x JUMPI 5 @a 1 @f JUMP :a ADD {RETURN} :x @b 2 @f JUMP :b {RETURN}
         :f DUP3 ADD SWAP1 JUMP"
    ));
    agrees(&code, &[words(&[0]), words(&[1])]);
}

#[test]
fn overflow() {
    let pushes = "1 ".repeat(1024);
    agrees(&assemble(&format!("{pushes} STOP")), &[vec![]]);
    agrees(&assemble(&format!("{pushes} 1 STOP")), &[vec![]]);
    // A loop that lets the stack grow until it traps, or leaves before.
    let code = assemble(":top 0 MLOAD 1 ADD DUP1 0 MSTORE 0 CALLDATALOAD GT @top JUMPI 32 0 RETURN");
    agrees(&code, &[words(&[5])]);
    let code = assemble(":top DUP1 0 MLOAD 1 ADD DUP1 0 MSTORE 0 CALLDATALOAD GT @top JUMPI 32 0 RETURN");
    agrees(&code, &[words(&[5]), words(&[2000])]);
    let code = assemble("7 :top DUP1 0 MLOAD 1 ADD DUP1 0 MSTORE 0 CALLDATALOAD GT @top JUMPI 32 0 RETURN");
    agrees(&code, &[words(&[5]), words(&[1022]), words(&[1023]), words(&[2000])]);
}

#[test]
fn bad_jumps_trap() {
    agrees(&assemble("3 JUMP STOP"), &[vec![]]);
    // Into push data, and beyond what a position can be.
    agrees(&assemble("4 JUMP #605b STOP"), &[vec![]]);
    agrees(&assemble("115792089237316195423570985008687907853269984665640564039457584007913129639935 JUMP"), &[vec![]]);
    agrees(&assemble("0 CALLDATALOAD 1 JUMPI STOP"), &[words(&[0]), words(&[1])]);
}

#[test]
fn unresolved_jumps_are_named() {
    // With few places to go to, all of them are compared.
    agrees(&assemble("0 CALLDATALOAD JUMP :a STOP :b 0 0 REVERT"), &[words(&[0]), words(&[3]), words(&[5])]);
    let code = [assemble("0 CALLDATALOAD JUMP"), vec![0x5b; 100]].concat();
    let error = lift(&code, &LiftOptions::default()).expect_err("a refusal");
    assert_eq!(error, LiftError::Unresolved { jumps: vec![2] });
    assert_eq!((error.code(), error.pc()), ("ZV0102", Some(2)));
    let report = check(&code, &LiftOptions::default());
    assert!(!report.l1_ring && report.unresolved == 1);
    assert_eq!((report.problems[0].ring, report.problems[0].opcode.as_str()), (Ring::L1, "JUMP"));
    // The same in a place that is never reached does not matter.
    agrees(&assemble("STOP :a 0 CALLDATALOAD JUMP"), &[vec![]]);
}

#[test]
fn copies_of_the_code() {
    let code = assemble("4 3 0 CODECOPY 32 0 RETURN");
    let lifted = agrees(&code, &[vec![]]);
    assert_eq!(lifted.module.data.values().next().map(Vec::as_slice), Some(&code[3..7]));
    // Past the end, of unknown length, and the size.
    agrees(&assemble("90 3 0 CODECOPY 96 0 RETURN"), &[vec![]]);
    agrees(&assemble("0 CALLDATALOAD 2 0 CODECOPY 96 0 RETURN"), &pairs(&[0, 5, 96]));
    agrees(&assemble("CODESIZE 0 MSTORE PC 32 MSTORE 64 0 RETURN"), &[vec![]]);
}

#[test]
fn gas_is_for_calls() {
    let call = "0 0 0 0 0 1 GAS CALL";
    assert!(lift(&assemble(call), &LiftOptions::default()).is_ok());
    let less = "0 0 0 0 0 1 100 GAS SUB CALL POP STOP";
    assert!(lift(&assemble(less), &LiftOptions::default()).is_ok());
    for (program, pc) in [("GAS 0 SSTORE", 2), ("100 GAS LT @a JUMPI STOP :a STOP", 7), ("GAS 0 MSTORE", 2)] {
        let error = lift(&assemble(program), &LiftOptions::default()).expect_err(program);
        assert!(matches!(error, LiftError::Subset { .. }));
        assert_eq!(error.pc(), Some(pc), "{program}");
    }
}

#[test]
fn the_end_of_the_code() {
    // PUSH4 with two bytes of data left, an empty program, a program that runs off its end.
    agrees(&hex("630102"), &[vec![]]);
    agrees(&[], &[vec![]]);
    agrees(&assemble("1 0 SSTORE"), &[vec![]]);
    // The data that is cut off is zero: the target is 0x0400.
    let mut code = assemble("1 JUMP");
    code.extend([0x5b, 0x61, 0x04]);
    agrees(&code, &[vec![]]);
}

#[test]
fn opcodes_depend_on_the_fork() {
    agrees(&hex("0c"), &[vec![]]);
    let traps = |code: &[u8], fork| {
        let lifted = lift(code, &LiftOptions { fork, ..LiftOptions::default() }).expect("it lifts");
        lifted.module.to_string().contains("trap invalid")
    };
    let push0 = assemble("0 0 RETURN");
    assert!(traps(&push0, Fork::London) && !traps(&push0, Fork::Shanghai));
    let clz = assemble("1 CLZ 0 SSTORE");
    assert!(traps(&clz, Fork::Prague) && !traps(&clz, Fork::Osaka));
    // DUPN 17, on seventeen items.
    let dupn = [assemble(&"1 ".repeat(17)), hex("e680")].concat();
    assert!(traps(&dupn, Fork::Osaka) && !traps(&dupn, Fork::Amsterdam));
    let error = lift(&hex("4b"), &LiftOptions { fork: Fork::Amsterdam, ..LiftOptions::default() });
    assert!(matches!(error, Err(LiftError::Subset { .. })), "{error:?}");
}

#[test]
fn placeholders_must_be_filled() {
    let code = assemble("STOP PUSH32 #0000000000000000000000000000000000000000000000000000000000000000 STOP");
    let options = |start| LiftOptions { placeholders: vec![(start, 32)], ..LiftOptions::default() };
    // Not reached, reached, beside it.
    assert!(lift(&code, &options(2)).is_ok());
    let error = lift(&code[1..], &options(1)).expect_err("a placeholder");
    assert_eq!(error, LiftError::Placeholder { start: 1, end: 33 });
    assert!(lift(&code[1..], &options(33)).is_ok());
    assert!(lift(&code[1..], &LiftOptions::default()).is_ok());
}

#[test]
fn the_proof_ring_lists_what_circuits_cannot_do() {
    let report = check(&assemble("0 EXTCODESIZE 0 BALANCE 0 0 RETURN"), &LiftOptions::default());
    assert!(report.l1_ring && !report.proof_ring);
    let problems: Vec<_> = report.problems.iter().map(|p| (p.ring, p.pc, p.opcode.as_str())).collect();
    assert_eq!(problems, [(Ring::Proof, Some(1), "EXTCODESIZE"), (Ring::Proof, Some(3), "BALANCE")]);
    for inside in ["1 0 MSTORE 32 0 RETURN", "0 TLOAD 0 0 RETURN", "0 SLOAD 0 0 LOG0 0 0 RETURN"] {
        assert!(check(&assemble(inside), &LiftOptions::default()).proof_ring, "{inside}");
    }
}

#[test]
fn lifting_is_deterministic() {
    let code = assemble(&format!("@a 0 CALLDATALOAD @f JUMP :a @b 3 @f JUMP :b ADD {RETURN} :f DUP1 MUL SWAP1 JUMP"));
    let text = |_| lift(&code, &LiftOptions::default()).expect("it lifts").module.to_string();
    let texts: std::collections::BTreeSet<String> = (0..5).map(text).collect();
    assert_eq!(texts.len(), 1);
}

/// A word of memory that nobody wrote is zero, and a jump to it goes to the start of the program, or nowhere.
#[test]
fn an_address_from_memory_that_nobody_wrote() {
    let loops = hex("5b5b6006601790586007601892601e1a5156600c600f56600e60106013");
    let lifted = lift(&loops, &LiftOptions::default()).unwrap_or_else(|error| panic!("{error}"));
    check_lift(&loops, &lifted).unwrap_or_else(|errors| panic!("{}\n{}", errors[0], lifted.module));
    assert!(lifted.edges.contains(&(0x11, 0)));
    let counts = assemble(&format!(
        ":start 32 MLOAD 1 ADD DUP1 32 MSTORE 3 LT @end JUMPI :load 0 MLOAD JUMP :end 32 MLOAD {RETURN}"
    ));
    agrees(&counts, &[words(&[])]);
    let traps = assemble("CALLER POP :load 0 MLOAD JUMP");
    agrees(&traps, &[words(&[])]);
}

/// Programs of `count` functions each: their name, how many visits for each block are allowed, and the text.
fn towers(count: usize) -> [(&'static str, usize, String); 5] {
    let start = format!("@end @f0 JUMP :end 0 CALLDATALOAD {RETURN}\n");
    let each = |piece: &dyn Fn(usize) -> String| (0..count).map(piece).collect::<String>();
    let nest = |at: usize| format!(":f{at} @a{at} @f{} JUMP :a{at} JUMP\n", at + 1);
    let twice = |at: usize| {
        let next = at + 1;
        format!(
            ":f{at} @a{at} :x{at} @f{next} JUMP :a{at} CALLDATASIZE @b{at} JUMPI @b{at} :y{at} @f{next} JUMP :b{at} JUMP\n"
        )
    };
    let calls = |at: usize| format!("@c{at} @f{at} JUMP :c{at} @d{at} @f{at} JUMP :d{at} ");
    let ring = |at: usize| {
        let next = (at + 1) % count;
        format!(":f{at} CALLDATASIZE @r{at} JUMPI @a{at} @f{next} JUMP :a{at} :r{at} JUMP\n")
    };
    let end = format!("0 CALLDATALOAD {RETURN}\n");
    let tails = format!("{end}{}JUMP", each(&|at| format!(":f{at} CALLER POP ")));
    let shared =
        format!("{end}{}:t0 @u JUMP :t1 @u JUMP :t2 :u JUMP", each(&|at| format!(":f{at} @t{} JUMP\n", at % 3)));
    [
        ("in each other", 10, format!("{start}{}:f{count} JUMP", each(&nest))),
        ("in each other, called twice", 20, format!("{start}{}:f{count} JUMP", each(&twice))),
        ("the ends of others", 75, format!("{}{tails}", each(&|at| format!("@c{at} @f{at} JUMP :c{at} ")))),
        ("with shared ends", 10, format!("{}{shared}", each(&calls))),
        ("in a ring", 15, format!("{start}{}", each(&ring))),
    ]
}

/// However deep functions lie in each other, each edge is visited a bounded number of times to find them.
#[test]
fn visits_grow_with_the_code() {
    for count in [40, 160, 480] {
        for (name, factor, text) in towers(count) {
            let code = assemble(&text);
            let lifted = lift(&code, &LiftOptions::default()).unwrap_or_else(|error| panic!("{count} {name}: {error}"));
            let (visits, blocks) = (lifted.visits, lifted.report.blocks);
            assert!(visits >= blocks - 1, "{count} {name}: every edge is visited, and they are {visits}");
            assert!(visits <= factor * (blocks + 200), "{count} {name}: {visits} visits for {blocks} blocks");
            let world = World { code, ..World::default() };
            let compared = compare(&lifted.module, &world, &[7; 32], Word::ZERO, 2_000_000);
            assert!(matches!(compared, Compared::Same(..)), "{count} {name}: {compared:?}");
        }
    }
}
