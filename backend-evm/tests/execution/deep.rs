//! Programs with more live values than DUP and SWAP reach, under each rule for where values may be put.

use zvm_backend_evm::{Fork, LowerError, Options, lower};
use zvm_ir::{BlockCall, Cursor, Func, Function, Imm, Module, Opcode, Type, Value, Word};

use crate::harness::{Random, agree, some_options, words};

/// What the program does with memory, which decides where values may be put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MemoryUse {
    /// Nothing: spill slots at address zero.
    None,
    /// Constant addresses: spill slots above them.
    Constant,
    /// Any address: only memory that nobody has touched.
    Any,
}

fn inputs() -> Vec<Vec<u8>> {
    let mut random = Random(0xfeed_beef_1234_5678);
    (0..6).map(|_| words(&(0..6).map(|_| random.word()).collect::<Vec<_>>())).chain([vec![]]).collect()
}

fn argument(cursor: &mut Cursor<'_>, at: u64) -> Value {
    let offset = cursor.iconst(Type::LENGTH, Word::from(32 * at));
    cursor.ins(Opcode::Calldataload, &[offset]).unwrap()
}

/// `count` values that cannot be made again cheaply.
fn values(cursor: &mut Cursor<'_>, count: u64) -> Vec<Value> {
    let x = argument(cursor, 0);
    (0..count)
        .map(|at| {
            let y = argument(cursor, at % 5);
            let key = cursor.iconst(Type::WORD, Word::from(at * at + 3));
            let product = cursor.ins(Opcode::Wmul, &[y, key]).unwrap();
            cursor.ins(Opcode::Wadd, &[product, x]).unwrap()
        })
        .collect()
}

fn touch_memory(cursor: &mut Cursor<'_>, memory: MemoryUse) -> Option<Value> {
    match memory {
        MemoryUse::None => None,
        MemoryUse::Constant => {
            let place = cursor.iconst(Type::LENGTH, Word::from(100));
            let word = argument(cursor, 1);
            cursor.effect(Opcode::Mstore, &[place, word]);
            Some(place)
        }
        MemoryUse::Any => {
            let x = argument(cursor, 2);
            let place = cursor.convert(Opcode::Trunc, Type::new(9).unwrap(), x);
            cursor.effect(Opcode::Mstore, &[place, x]);
            Some(place)
        }
    }
}

fn read_back(cursor: &mut Cursor<'_>, place: Option<Value>) -> Option<Value> {
    place.map(|place| cursor.ins(Opcode::Mload, &[place]).unwrap())
}

fn finish(cursor: &mut Cursor<'_>, words: &[Value]) {
    cursor.effect_imm(Opcode::ReturnWords, Imm::Len(32 * words.len() as u32), words);
}

fn single(build: impl FnOnce(&mut Cursor<'_>)) -> Module {
    let mut module = Module::new();
    let mut function = Function::new("main");
    let block = function.create_block();
    build(&mut Cursor::new(&mut function, block));
    module.entry = Some(module.funcs.push(function));
    module
}

const USES: [MemoryUse; 3] = [MemoryUse::None, MemoryUse::Constant, MemoryUse::Any];

#[test]
fn many_values_used_first_to_last() {
    for memory in USES {
        for count in [15u64, 17, 20, 40] {
            let module = single(|cursor| {
                let place = touch_memory(cursor, memory);
                let all = values(cursor, count);
                // Storing each forces all to be computed before the first is used again.
                for &value in &all {
                    cursor.effect(Opcode::Sstore, &[value, value]);
                }
                let mut last = all[0];
                let mut results = Vec::new();
                for &value in &all {
                    last = cursor.ins(Opcode::Xor, &[value, last]).unwrap();
                    last = cursor.ins(Opcode::Wmul, &[last, value]).unwrap();
                    results.push(last);
                }
                results.extend(read_back(cursor, place));
                finish(cursor, &results);
            });
            agree(&module, &some_options(), &inputs());
        }
    }
}

#[test]
fn many_loop_parameters_rotated() {
    for memory in USES {
        for count in [8usize, 16, 18, 30] {
            let mut module = Module::new();
            let mut function = Function::new("main");
            let (start, head, exit) = (function.create_block(), function.create_block(), function.create_block());
            let params: Vec<Value> = (0..count).map(|_| function.append_param(head, Type::WORD)).collect();
            let counter = function.append_param(head, Type::WORD);
            let cursor = &mut Cursor::new(&mut function, start);
            let place = touch_memory(cursor, memory);
            let mut all = values(cursor, count as u64);
            all.push(cursor.iconst(Type::WORD, Word::from(7)));
            cursor.jump(head, &all);
            cursor.switch_to(head);
            let one = cursor.iconst(Type::BOOL, Word::from(1));
            let left = cursor.ins(Opcode::Wsub, &[counter, one]).unwrap();
            let done = cursor.ins(Opcode::Iszero, &[left]).unwrap();
            let mut next: Vec<Value> = params.iter().copied().cycle().skip(3).take(count).collect();
            next[0] = cursor.ins(Opcode::Wadd, &[params[0], params[1]]).unwrap();
            next.push(left);
            cursor.brif(done, BlockCall { block: exit, args: vec![] }, BlockCall { block: head, args: next });
            cursor.switch_to(exit);
            let mut results = params.clone();
            results.extend(read_back(cursor, place));
            finish(cursor, &results);
            module.entry = Some(module.funcs.push(function));
            agree(&module, &some_options(), &inputs());
        }
    }
}

/// A function with `count` parameters and results that rotates and calls itself `depth` times.
fn recursive(count: usize, memory: MemoryUse) -> Module {
    let mut module = Module::new();
    let mut function = Function::new("main");
    let block = function.create_block();
    let cursor = &mut Cursor::new(&mut function, block);
    let place = touch_memory(cursor, memory);
    let mut args = values(cursor, count as u64);
    args.push(cursor.iconst(Type::WORD, Word::from(4)));
    let callee = Func::from_u32(1);
    let mut results = cursor.call(callee, &args, &vec![Type::WORD; count]);
    results.extend(&args[..count]);
    results.extend(read_back(cursor, place));
    finish(cursor, &results);
    module.entry = Some(module.funcs.push(function));

    let mut function = Function::new("rotate");
    function.results = vec![Type::WORD; count];
    let (entry, stop, again) = (function.create_block(), function.create_block(), function.create_block());
    let params: Vec<Value> = (0..=count).map(|_| function.append_param(entry, Type::WORD)).collect();
    let cursor = &mut Cursor::new(&mut function, entry);
    let done = cursor.ins(Opcode::Iszero, &[params[count]]).unwrap();
    cursor.brif(done, BlockCall { block: stop, args: vec![] }, BlockCall { block: again, args: vec![] });
    cursor.switch_to(stop);
    cursor.effect(Opcode::Ret, &params[..count]);
    cursor.switch_to(again);
    let one = cursor.iconst(Type::BOOL, Word::from(1));
    let mut next: Vec<Value> = params[..count].iter().copied().cycle().skip(2).take(count).collect();
    next.push(cursor.ins(Opcode::Wsub, &[params[count], one]).unwrap());
    let results = cursor.call(callee, &next, &vec![Type::WORD; count]);
    // The parameters live across the call.
    let sums: Vec<Value> =
        results.iter().zip(&params).map(|(&r, &p)| cursor.ins(Opcode::Wadd, &[r, p]).unwrap()).collect();
    cursor.effect(Opcode::Ret, &sums);
    module.funcs.push(function);
    module
}

#[test]
fn recursion_with_many_values_across_the_call() {
    for memory in USES {
        for count in [2usize, 7, 15, 20] {
            agree(&recursive(count, memory), &some_options(), &inputs());
        }
    }
}

#[test]
fn a_program_that_reads_msize_is_refused_only_when_it_must() {
    let module = |count| {
        single(|cursor| {
            let size = cursor.ins(Opcode::Msize, &[]).unwrap();
            let all = values(cursor, count);
            for &value in &all {
                cursor.effect(Opcode::Sstore, &[value, size]);
            }
            for &value in &all {
                cursor.effect(Opcode::Sstore, &[size, value]);
            }
            cursor.effect(Opcode::Stop, &[]);
        })
    };
    agree(&module(10), &some_options(), &inputs());
    for fork in Fork::ALL {
        let options = Options { fork, ..Options::default() };
        let result = lower(&module(30), &options);
        if fork.reach() > 30 {
            agree(&module(30), &[options], &inputs());
        } else {
            assert!(matches!(result, Err(LowerError::TooDeep { .. })), "{fork}");
        }
    }
}

/// A few blocks, each of which hands on more words than DUP and SWAP reach, in a function of thousands: spilling one value after the
/// other schedules the function again for each, which has an end before all of them are found.
#[test]
fn more_values_to_spill_than_can_be_found_one_by_one() {
    const DEEP: usize = 8;
    const ALL: usize = 4096;
    let mut module = Module::new();
    let mut function = Function::new("main");
    let blocks: Vec<_> = (0..ALL).map(|_| function.create_block()).collect();
    let mut given = values(&mut Cursor::new(&mut function, blocks[0]), 20);
    for pair in blocks[..DEEP].windows(2) {
        let words: Vec<Value> = {
            let mut cursor = Cursor::new(&mut function, pair[0]);
            let next = |at: usize| cursor.ins(Opcode::Wadd, &[given[at], given[(at + 7) % given.len()]]).unwrap();
            (0..given.len()).map(next).collect()
        };
        let params: Vec<Value> = words.iter().map(|_| function.append_param(pair[1], Type::WORD)).collect();
        // Reversed, so that nothing is in its place.
        let args: Vec<Value> = words.into_iter().rev().collect();
        Cursor::new(&mut function, pair[0]).jump(pair[1], &args);
        given = params;
    }
    let last = {
        let mut cursor = Cursor::new(&mut function, blocks[DEEP - 1]);
        let last = given.iter().copied().reduce(|sum, word| cursor.ins(Opcode::Wmul, &[sum, word]).unwrap()).unwrap();
        cursor.jump(blocks[DEEP], &[]);
        last
    };
    let end = function.create_block();
    for pair in blocks[DEEP..].windows(2) {
        let mut cursor = Cursor::new(&mut function, pair[0]);
        let goes_on = argument(&mut cursor, 1);
        let goes_on = cursor.ins(Opcode::Iszero, &[goes_on]).unwrap();
        let to = |block| BlockCall { block, args: Vec::new() };
        cursor.brif(goes_on, to(end), to(pair[1]));
    }
    Cursor::new(&mut function, blocks[ALL - 1]).jump(end, &[]);
    finish(&mut Cursor::new(&mut function, end), &[last]);
    module.entry = Some(module.funcs.push(function));
    agree(&module, &[Options::default()], &inputs()[..2]);
}
