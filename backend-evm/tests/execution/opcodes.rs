//! `interp(m) = revm(lower(m))` for each instruction of the table, on corner words, in every fork.

use std::collections::BTreeSet;

use crate::harness::{agree, corner_words, execute, lowered, parse, words};
use zvm_backend_evm::{Fork, LowerError, Options, lower};
use zvm_ir::{Class, Cursor, Function, Halt, Imm, Module, Opcode, Type, Value, Word};

/// A module whose entry function is built by `build`.
fn module(build: impl FnOnce(&mut Cursor<'_>)) -> Module {
    let mut module = Module::new();
    let mut function = Function::new("main");
    let block = function.create_block();
    build(&mut Cursor::new(&mut function, block));
    module.entry = Some(module.funcs.push(function));
    module
}

fn argument(cursor: &mut Cursor<'_>, at: u64) -> Value {
    let offset = cursor.iconst(Type::LENGTH, Word::from(32 * at));
    cursor.ins(Opcode::Calldataload, &[offset]).unwrap()
}

fn truncated(cursor: &mut Cursor<'_>, value: Value, bits: u16) -> Value {
    cursor.convert(Opcode::Trunc, Type::new(bits).unwrap(), value)
}

fn finish(cursor: &mut Cursor<'_>, words: &[Value]) {
    cursor.effect_imm(Opcode::ReturnWords, Imm::Len(32 * words.len() as u32), words);
}

fn options() -> Vec<Options> {
    Fork::ALL.iter().map(|&fork| Options { fork, ..Options::default() }).collect()
}

/// Pairs and triples of corner words: all pairs, and triples with a third word that varies.
fn inputs(operands: usize) -> Vec<Vec<u8>> {
    let corners = corner_words();
    let mut all = Vec::new();
    for (i, &a) in corners.iter().enumerate() {
        if operands == 1 {
            all.push(words(&[a]));
            continue;
        }
        for (j, &b) in corners.iter().enumerate() {
            all.push(words(&[a, b, corners[(i * 7 + j * 3) % corners.len()]]));
        }
    }
    all
}

#[test]
fn pure_instructions() {
    let mut tested = BTreeSet::new();
    for &opcode in Opcode::ALL {
        let row = opcode.info();
        if !opcode.is_pure() || row.operands.is_empty() || matches!(opcode, Opcode::KeccakWords | Opcode::KeccakF) {
            continue;
        }
        let module = module(|cursor| {
            let mut args: Vec<Value> = (0..row.operands.len() as u64).map(|at| argument(cursor, at)).collect();
            for (arg, operand) in args.iter_mut().zip(row.operands) {
                if operand.class == Class::Bool {
                    *arg = truncated(cursor, *arg, 1);
                }
            }
            let result = match opcode {
                Opcode::Zext => {
                    let narrow = truncated(cursor, args[0], 100);
                    cursor.zext(Type::WORD, narrow)
                }
                Opcode::Trunc => truncated(cursor, args[0], 77),
                Opcode::Narrow => {
                    let small = truncated(cursor, args[0], 77);
                    let wide = cursor.zext(Type::WORD, small);
                    cursor.convert(Opcode::Narrow, Type::new(77).unwrap(), wide)
                }
                Opcode::Add | Opcode::Mul => {
                    let narrow: Vec<Value> = args.iter().map(|&arg| truncated(cursor, arg, 128)).collect();
                    cursor.ins(opcode, &narrow).unwrap()
                }
                // a | b ≥ b.
                Opcode::Sub => {
                    let large = cursor.ins(Opcode::Or, &args).unwrap();
                    cursor.ins(Opcode::Sub, &[large, args[1]]).unwrap()
                }
                _ => cursor.ins(opcode, &args).unwrap(),
            };
            finish(cursor, &[result]);
        });
        agree(&module, &options(), &inputs(row.operands.len()));
        tested.insert(opcode);
    }
    assert!(tested.len() >= 30, "most pure instructions have operands");
}

#[test]
fn pure_instructions_on_constants_and_repeated_operands() {
    for &opcode in Opcode::ALL {
        let row = opcode.info();
        let plain = row.operands.iter().all(|operand| operand.class == Class::Any);
        if !opcode.is_pure()
            || row.operands.len() < 2
            || !plain
            || matches!(opcode, Opcode::Add | Opcode::Mul | Opcode::Sub | Opcode::KeccakF)
        {
            continue;
        }
        let module = module(|cursor| {
            let x = argument(cursor, 0);
            let mut results = Vec::new();
            for constant in [Word::from(3), Word::MAX, Word::from(1) << 200] {
                let k = cursor.iconst(Type::WORD, constant);
                let mut args = vec![k; row.operands.len()];
                args[0] = x;
                results.push(cursor.ins(opcode, &args).unwrap());
                args.reverse();
                results.push(cursor.ins(opcode, &args).unwrap());
            }
            results.push(cursor.ins(opcode, &vec![x; row.operands.len()]).unwrap());
            finish(cursor, &results);
        });
        agree(&module, &options(), &inputs(1));
    }
}

#[test]
fn selections_of_every_shape() {
    let constants = [None, Some(Word::ZERO), Some(Word::from(1)), Some(Word::MAX), Some(Word::from(0x1234))];
    for a in constants {
        for b in constants {
            let module = module(|cursor| {
                let c = argument(cursor, 0);
                let c = truncated(cursor, c, 1);
                let mut side = |constant: Option<Word>, at| match constant {
                    Some(word) => cursor.iconst(Type::of(&word), word),
                    None => argument(cursor, at),
                };
                let (a, b) = (side(a, 1), side(b, 2));
                let one = cursor.ins(Opcode::Select, &[c, a, b]).unwrap();
                let two = cursor.ins(Opcode::Select, &[c, a, a]).unwrap();
                finish(cursor, &[one, two]);
            });
            agree(&module, &options(), &inputs(2)[..60]);
        }
    }
}

#[test]
fn keccak_of_words_leaves_memory_as_it_was() {
    for count in [0usize, 1, 2, 3, 5, 9] {
        // With no reads, with reads elsewhere, with reads of the same place, and with reads anywhere.
        for reads in 0..4 {
            let module = module(|cursor| {
                let args: Vec<Value> = (0..count as u64).map(|at| argument(cursor, at)).collect();
                let zero = cursor.iconst(Type::LENGTH, Word::ZERO);
                let far = cursor.iconst(Type::LENGTH, Word::from(1024));
                let x = argument(cursor, 3);
                let offset = truncated(cursor, x, 6);
                if reads > 0 {
                    for place in [zero, far, offset] {
                        cursor.effect(Opcode::Mstore, &[place, x]);
                    }
                }
                let hash = cursor.ins(Opcode::KeccakWords, &args).unwrap();
                let again = cursor.ins(Opcode::KeccakWords, &[&args[..], &[hash]].concat()).unwrap();
                let mut results = vec![hash, again];
                match reads {
                    1 => results.push(cursor.ins(Opcode::Mload, &[far]).unwrap()),
                    2 => results.push(cursor.ins(Opcode::Mload, &[zero]).unwrap()),
                    3 => results.push(cursor.ins(Opcode::Mload, &[offset]).unwrap()),
                    _ => {}
                }
                finish(cursor, &results);
            });
            agree(&module, &options(), &inputs(2)[..40]);
        }
    }
}

#[test]
fn inputs_of_the_environment() {
    for fork in Fork::ALL {
        let options = [Options { fork, ..Options::default() }];
        for &opcode in Opcode::ALL {
            let fixed = opcode.info().operands.is_empty() && opcode.effects().has(zvm_ir::Effects::READS_INPUT);
            let blobs = matches!(opcode, Opcode::Blobbasefee) && !fork.has_blobs();
            // A value only in deployed code: the next test.
            let unfilled = opcode == Opcode::Immutable;
            if (!fixed && opcode != Opcode::Selfbalance) || blobs || unfilled {
                continue;
            }
            let module = module(|cursor| {
                let first = cursor.ins(opcode, &[]).unwrap();
                let second = cursor.ins(opcode, &[]).unwrap();
                let sum = cursor.ins(Opcode::Wadd, &[first, second]).unwrap();
                finish(cursor, &[first, sum]);
            });
            agree(&module, &options, &[vec![], vec![1; 37]]);
        }
    }
}

/// The code has zeros where the constructor puts words; with those words there it is the program with constants.
#[test]
fn immutables_are_filled_in() {
    let (first, second) = (Word::from(0xabcd_1234u64), Word::MAX - Word::from(5));
    let template = module(|cursor| {
        let (a, b, again) = (cursor.immutable(7), cursor.immutable(99), cursor.immutable(7));
        let sum = cursor.ins(Opcode::Wadd, &[a, b]).unwrap();
        finish(cursor, &[sum, again, b]);
    });
    let filled = module(|cursor| {
        let (a, b) = (cursor.iconst(Type::WORD, first), cursor.iconst(Type::WORD, second));
        let sum = cursor.ins(Opcode::Wadd, &[a, b]).unwrap();
        finish(cursor, &[sum, a, b]);
    });
    for options in crate::harness::all_options() {
        let lowered = lowered(&template, &options);
        let mut code = lowered.code.clone();
        assert!(lowered.immutables.iter().any(|&(_, place)| place == 7));
        assert!(lowered.immutables.iter().any(|&(_, place)| place == 99));
        for &(at, place) in &lowered.immutables {
            let word = if place == 7 { first } else { second };
            let hole = &mut code[at as usize..at as usize + 32];
            assert!(hole.iter().all(|&byte| byte == 0));
            hole.copy_from_slice(&word.to_be_bytes::<32>());
        }
        let found = execute(&code, options.fork, &[]).map(|(outcome, _)| outcome);
        assert_eq!(found, Some(crate::harness::interpret(&filled, &[])), "{}", lowered.listing());
    }
}

#[test]
fn accounts_and_blocks() {
    let module = module(|cursor| {
        let zero = cursor.iconst(Type::BOOL, Word::ZERO);
        let someone = cursor.iconst(Type::ADDRESS, Word::from(0x1234_5678));
        let balance = cursor.ins(Opcode::Balance, &[someone]).unwrap();
        let size = cursor.ins(Opcode::Extcodesize, &[someone]).unwrap();
        let hash = cursor.ins(Opcode::Extcodehash, &[someone]).unwrap();
        let block = cursor.ins(Opcode::Blockhash, &[zero]).unwrap();
        let (to, len) = (cursor.iconst(Type::LENGTH, Word::from(64)), cursor.iconst(Type::LENGTH, Word::from(40)));
        cursor.effect(Opcode::Mstore, &[to, balance]);
        cursor.effect(Opcode::Extcodecopy, &[someone, to, zero, len]);
        let copied = cursor.ins(Opcode::Mload, &[to]).unwrap();
        finish(cursor, &[balance, size, hash, block, copied]);
    });
    agree(&module, &options(), &[vec![]]);
}

#[test]
fn memory_instructions() {
    let module = module(|cursor| {
        let (x, y) = (argument(cursor, 0), argument(cursor, 1));
        let (to, from, len) = (truncated(cursor, x, 7), truncated(cursor, y, 6), truncated(cursor, x, 6));
        cursor.effect(Opcode::Mstore, &[from, x]);
        cursor.effect(Opcode::Mstore8, &[to, y]);
        let before = cursor.ins(Opcode::Mload, &[to]).unwrap();
        cursor.effect(Opcode::Calldatacopy, &[from, to, len]);
        let after = cursor.ins(Opcode::Mload, &[to]).unwrap();
        cursor.effect(Opcode::Mcopy, &[to, from, len]);
        let copied = cursor.ins(Opcode::Mload, &[to]).unwrap();
        let hash = cursor.ins(Opcode::Keccak256, &[from, len]).unwrap();
        cursor.effect(Opcode::Log, &[to, len, x, hash]);
        cursor.effect(Opcode::Log, &[to, len]);
        cursor.effect(Opcode::Log, &[from, len, x, before, copied, y]);
        let size = cursor.ins(Opcode::Returndatasize, &[]).unwrap();
        cursor.effect(Opcode::Returndatacopy, &[from, size, size]);
        cursor.effect(Opcode::Mstore, &[to, before]);
        let wide = cursor.ins(Opcode::Wadd, &[to, len]).unwrap();
        cursor.effect(Opcode::Mstore, &[wide, after]);
        cursor.effect(Opcode::Return, &[from, wide]);
    });
    agree(&module, &options(), &inputs(2));
}

#[test]
fn memory_copies_overlap_in_both_directions() {
    for msize in [false, true] {
        let module = module(|cursor| {
            let (to, from, len) = (argument(cursor, 0), argument(cursor, 1), argument(cursor, 2));
            let (to, from, len) = (truncated(cursor, to, 8), truncated(cursor, from, 8), truncated(cursor, len, 8));
            for at in 0..12u64 {
                let place = cursor.iconst(Type::LENGTH, Word::from(32 * at));
                let word = cursor.iconst(Type::WORD, zvm_ir::eval::keccak256(&[at as u8]));
                cursor.effect(Opcode::Mstore, &[place, word]);
            }
            cursor.effect(Opcode::Mcopy, &[to, from, len]);
            let size =
                if msize { cursor.ins(Opcode::Msize, &[]).unwrap() } else { cursor.iconst(Type::LENGTH, Word::ZERO) };
            let (zero, end) = (cursor.iconst(Type::BOOL, Word::ZERO), cursor.iconst(Type::LENGTH, Word::from(640)));
            cursor.effect(Opcode::Mstore, &[end, size]);
            let all = cursor.iconst(Type::LENGTH, Word::from(672));
            cursor.effect(Opcode::Return, &[zero, all]);
        });
        let mut inputs = Vec::new();
        for (to, from) in
            [(0u64, 0u64), (0, 1), (1, 0), (7, 40), (40, 7), (0, 200), (200, 0), (31, 32), (32, 31), (255, 255)]
        {
            for len in [0u64, 1, 2, 31, 32, 33, 64, 95, 255] {
                inputs.push(words(&[Word::from(to), Word::from(from), Word::from(len)]));
            }
        }
        agree(&module, &options(), &inputs);
    }
}

#[test]
fn data_is_copied_and_padded_with_zeros() {
    let mut dynamic = module(|cursor| {
        let (from, len) = (argument(cursor, 0), argument(cursor, 1));
        let len = truncated(cursor, len, 7);
        let to = cursor.iconst(Type::LENGTH, Word::from(16));
        let (zero, ones) = (cursor.iconst(Type::BOOL, Word::ZERO), cursor.iconst(Type::WORD, Word::MAX));
        for at in 0..6u64 {
            let place = cursor.iconst(Type::LENGTH, Word::from(32 * at));
            cursor.effect(Opcode::Mstore, &[place, ones]);
        }
        for data in 0..3 {
            cursor.datacopy(zvm_ir::Data::from_u32(data), &[to, from, len]);
        }
        let end = cursor.iconst(Type::LENGTH, Word::from(192));
        cursor.effect(Opcode::Return, &[zero, end]);
    });
    for len in [40u8, 0, 3] {
        dynamic.data.push((1..=len).collect());
    }
    let mut inputs = Vec::new();
    for from in [0u64, 1, 2, 3, 4, 39, 40, 41, 100, u64::MAX] {
        for len in [0u64, 1, 2, 3, 4, 38, 40, 41, 127] {
            inputs.push(words(&[Word::from(from), Word::from(len)]));
        }
    }
    inputs.push(words(&[Word::MAX, Word::from(60)]));
    inputs.push(words(&[Word::MAX - Word::from(20), Word::from(60)]));
    agree(&dynamic, &options(), &inputs);

    for (from, len) in [(0u64, 40u64), (0, 41), (5, 35), (5, 36), (40, 0), (40, 1), (39, 1), (39, 2), (500, 9), (0, 0)]
    {
        let mut fixed = module(|cursor| {
            let (zero, ones) = (cursor.iconst(Type::BOOL, Word::ZERO), cursor.iconst(Type::WORD, Word::MAX));
            cursor.effect(Opcode::Mstore, &[zero, ones]);
            let (from, len) =
                (cursor.iconst(Type::LENGTH, Word::from(from)), cursor.iconst(Type::LENGTH, Word::from(len)));
            cursor.datacopy(zvm_ir::Data::from_u32(0), &[zero, from, len]);
            let end = cursor.iconst(Type::LENGTH, Word::from(64));
            cursor.effect(Opcode::Return, &[zero, end]);
        });
        fixed.data.push((1..=40).collect());
        agree(&fixed, &options(), &[vec![]]);
    }
}

/// What the program does not access after all must still end it.
#[test]
fn places_beyond_the_limit_of_memory_halt() {
    for accessed in [false, true] {
        let module = module(|cursor| {
            let x = argument(cursor, 0);
            let place = cursor.bound(32, x);
            if accessed {
                cursor.effect(Opcode::Mstore, &[place, x]);
            }
            finish(cursor, &[place]);
        });
        let last = Word::from(zvm_ir::memory::MEMORY_LIMIT - 32);
        let small = [Word::ZERO, Word::from(31), Word::from(70_000)];
        agree(&module, &options(), &small.map(|place| words(&[place])));
        if !accessed {
            agree(&module, &options(), &[words(&[last])]);
        }
        for place in [last + Word::from(1), Word::from(1) << 32, Word::from(1) << 255, Word::MAX] {
            let calldata = words(&[place]);
            let env = zvm_ir::Env::default();
            let limit = zvm_ir::run(&module, zvm_ir::Call::new(&calldata, &env), &zvm_ir::EmptyState);
            assert_eq!(limit, Err(zvm_ir::InterpError::MemoryLimit { pc: None }));
            for options in options() {
                let code = lower(&module, &options).unwrap().code;
                let halted =
                    execute(&code, options.fork, &calldata).is_none_or(|(outcome, _)| outcome.halt == Halt::Trap);
                assert!(halted, "{place:#x} with {options:?}");
            }
        }
    }
}

#[test]
fn logs_of_words_leave_memory_as_it_was() {
    for (dynamic, topics) in [(false, 0), (false, 2), (true, 1), (true, 4)] {
        let module = module(|cursor| {
            let (x, y) = (argument(cursor, 0), argument(cursor, 1));
            // Where the address of a read is not known the words have to go where the program keeps its own.
            let place = if dynamic { truncated(cursor, x, 6) } else { cursor.iconst(Type::LENGTH, Word::from(20)) };
            cursor.effect(Opcode::Mstore, &[place, y]);
            for len in [0u32, 1, 31, 32, 33, 64, 70] {
                let mut args: Vec<Value> = [x, y, place, x][..topics].to_vec();
                args.extend((0..len.div_ceil(32)).map(|at| if at == 1 { y } else { x }));
                cursor.effect_imm(Opcode::LogWords, Imm::Len(len), &args);
            }
            let loaded = cursor.ins(Opcode::Mload, &[place]).unwrap();
            let zero = cursor.iconst(Type::BOOL, Word::ZERO);
            let first = cursor.ins(Opcode::Mload, &[zero]).unwrap();
            finish(cursor, &[loaded, first]);
        });
        agree(&module, &options(), &inputs(2)[..40]);
    }
    let seen = module(|cursor| {
        let x = argument(cursor, 0);
        cursor.effect_imm(Opcode::LogWords, Imm::Len(32), &[x]);
        let size = cursor.ins(Opcode::Msize, &[]).unwrap();
        finish(cursor, &[size]);
    });
    for options in options() {
        let refused = lower(&seen, &options);
        assert!(matches!(refused, Err(LowerError::ScratchSeen { opcode: Opcode::LogWords, .. })), "{refused:?}");
    }
}

#[test]
fn storage_is_read_and_written_in_order() {
    let module = module(|cursor| {
        let (x, y) = (argument(cursor, 0), argument(cursor, 1));
        let before = cursor.ins(Opcode::Sload, &[x]).unwrap();
        cursor.effect(Opcode::Sstore, &[x, y]);
        let between = cursor.ins(Opcode::Sload, &[x]).unwrap();
        cursor.effect(Opcode::Sstore, &[y, x]);
        let after = cursor.ins(Opcode::Sload, &[x]).unwrap();
        let sum = cursor.ins(Opcode::Wadd, &[between, after]).unwrap();
        finish(cursor, &[before, between, after, sum]);
    });
    agree(&module, &options(), &inputs(2)[..80]);
}

#[test]
fn transient_storage_where_the_fork_has_it() {
    let module = module(|cursor| {
        let (x, y) = (argument(cursor, 0), argument(cursor, 1));
        cursor.effect(Opcode::Tstore, &[x, y]);
        let between = cursor.ins(Opcode::Tload, &[x]).unwrap();
        cursor.effect(Opcode::Tstore, &[x, x]);
        let after = cursor.ins(Opcode::Tload, &[x]).unwrap();
        finish(cursor, &[between, after]);
    });
    let (new, old): (Vec<Options>, Vec<Options>) =
        options().into_iter().partition(|options| options.fork.has_transient());
    agree(&module, &new, &inputs(2)[..40]);
    for options in old {
        assert!(matches!(lower(&module, &options), Err(LowerError::Unsupported { opcode: Opcode::Tstore, .. })));
    }
}

#[test]
fn the_permutation_of_keccak_is_refused() {
    let module = parse(
        "zvm 1
        entry @main
        func @main() {
        block0:
            v0: u160 = caller
            v1: u256 = zext v0
            v2: u256 = keccak_f 6, v1, v1, v1, v1, v1, v1, v1
            return_words 32, v2
        }",
    );
    for options in options() {
        assert!(matches!(lower(&module, &options), Err(LowerError::Unsupported { opcode: Opcode::KeccakF, .. })));
    }
}

#[test]
fn halts() {
    for opcode in [Opcode::Stop, Opcode::Trap, Opcode::Selfdestruct, Opcode::Revert, Opcode::Return] {
        let module = module(|cursor| {
            let x = argument(cursor, 0);
            cursor.effect(Opcode::Sstore, &[x, x]);
            let (zero, len) = (cursor.iconst(Type::BOOL, Word::ZERO), truncated(cursor, x, 5));
            match opcode {
                Opcode::Trap => drop(cursor.trap(zvm_ir::TrapCode::Invalid)),
                Opcode::Selfdestruct => drop(cursor.effect(opcode, &[zero])),
                Opcode::Stop => drop(cursor.effect(opcode, &[])),
                _ => drop(cursor.effect(opcode, &[zero, len])),
            }
        });
        agree(&module, &options(), &inputs(1));
    }
    for len in [0u32, 1, 31, 32, 33, 64, 70, 96] {
        for opcode in [Opcode::ReturnWords, Opcode::RevertWords] {
            let module = module(|cursor| {
                let args: Vec<Value> = (0..u64::from(len.div_ceil(32))).map(|at| argument(cursor, at)).collect();
                cursor.effect_imm(opcode, Imm::Len(len), &args);
            });
            agree(&module, &options(), &inputs(2)[..20]);
        }
    }
}

/// The interpreter runs no foreign code: what the precompiles and empty accounts do is known.
#[test]
fn calls_of_other_accounts() {
    for options in options() {
        for opcode in [Opcode::EvmCall, Opcode::EvmCallcode, Opcode::EvmDelegatecall, Opcode::EvmStaticcall] {
            let module = module(|cursor| {
                let x = argument(cursor, 0);
                let mut constant = |n: u64| cursor.iconst(Type::LENGTH, Word::from(n));
                let (zero, identity, place, len, out, out_len) =
                    (constant(0), constant(4), constant(32), constant(40), constant(96), constant(36));
                cursor.effect(Opcode::Mstore, &[place, x]);
                let gas = cursor.ins(Opcode::Gas, &[]).unwrap();
                let value = matches!(opcode, Opcode::EvmCall | Opcode::EvmCallcode);
                let mut args = vec![gas, identity];
                args.extend(value.then_some(zero));
                args.extend([place, len, out, out_len]);
                let success = cursor.ins(opcode, &args).unwrap();
                let size = cursor.ins(Opcode::Returndatasize, &[]).unwrap();
                let copied = cursor.ins(Opcode::Mload, &[out]).unwrap();
                cursor.effect(Opcode::Returndatacopy, &[place, zero, size]);
                let again = cursor.ins(Opcode::Mload, &[place]).unwrap();
                finish(cursor, &[success, size, copied, again]);
            });
            for corner in corner_words() {
                let result = lowered(&module, &options);
                let (outcome, _) = execute(&result.code, options.fork, &words(&[corner])).unwrap();
                assert_eq!(outcome.halt, Halt::Return);
                assert_eq!(outcome.data, words(&[Word::from(1), Word::from(40), corner, corner]), "{opcode}");
            }
        }
    }
}

#[test]
fn creations_of_accounts() {
    for options in options() {
        let module = module(|cursor| {
            let zero = cursor.iconst(Type::BOOL, Word::ZERO);
            let salt = cursor.iconst(Type::WORD, Word::from(99));
            let first = cursor.ins(Opcode::EvmCreate, &[zero, zero, zero]).unwrap();
            let second = cursor.ins(Opcode::EvmCreate2, &[zero, zero, zero, salt]).unwrap();
            let third = cursor.ins(Opcode::EvmCreate2, &[zero, zero, zero, salt]).unwrap();
            let one = cursor.ins(Opcode::Iszero, &[first]).unwrap();
            let two = cursor.ins(Opcode::Iszero, &[second]).unwrap();
            finish(cursor, &[one, two, third]);
        });
        let result = lowered(&module, &options);
        let (outcome, _) = execute(&result.code, options.fork, &[]).unwrap();
        assert_eq!(outcome.data, words(&[Word::ZERO, Word::ZERO, Word::ZERO]), "both exist, the third collides");
    }
}

#[test]
fn msize_forbids_scratch_memory() {
    let module = module(|cursor| {
        let x = argument(cursor, 0);
        let hash = cursor.ins(Opcode::KeccakWords, &[x]).unwrap();
        let size = cursor.ins(Opcode::Msize, &[]).unwrap();
        finish(cursor, &[hash, size]);
    });
    assert!(matches!(lower(&module, &Options::default()), Err(LowerError::ScratchSeen { .. })));
}

#[test]
fn msize_sees_reads_whose_result_is_not_used() {
    let module = module(|cursor| {
        let x = argument(cursor, 0);
        let offset = truncated(cursor, x, 9);
        let before = cursor.ins(Opcode::Msize, &[]).unwrap();
        cursor.ins(Opcode::Mload, &[offset]).unwrap();
        let between = cursor.ins(Opcode::Msize, &[]).unwrap();
        let far = cursor.iconst(Type::LENGTH, Word::from(700));
        cursor.ins(Opcode::Keccak256, &[far, offset]).unwrap();
        let after = cursor.ins(Opcode::Msize, &[]).unwrap();
        finish(cursor, &[after, between, before]);
    });
    agree(&module, &options(), &inputs(1));
}
