//! `interp(m) = revm(lower(m))` on generated modules: nested branches and loops, several functions, many live values.

use zvm_backend_evm::{Fork, LowerError, Optimize, Options, lower};
use zvm_ir::{Block, BlockCall, Cursor, Func, Function, Imm, InstData, Module, Opcode, Type, Value, Word};

use crate::harness::{Random, agree, words};

/// What a generated module may contain.
#[derive(Clone, Copy, Debug)]
struct Shape {
    /// How many values are kept for use.
    live: usize,
    /// How deep control flow nests.
    depth: usize,
    /// Statements per region.
    statements: usize,
    functions: usize,
    /// 0: no memory, 1: constant addresses, 2: any address, 3: also MSIZE, 4: constant addresses below 128 and others from
    /// there on, as compilers do.
    memory: usize,
}

struct Generator<'r> {
    random: &'r mut Random,
    shape: Shape,
    /// Parameters and results of the functions that may be called: those with a greater number.
    callees: Vec<(Func, usize, usize)>,
}

const BINARY: [Opcode; 20] = [
    Opcode::Wadd,
    Opcode::Wsub,
    Opcode::Wmul,
    Opcode::Udiv,
    Opcode::Urem,
    Opcode::Sdiv,
    Opcode::Srem,
    Opcode::Exp,
    Opcode::Signextend,
    Opcode::Eq,
    Opcode::Ult,
    Opcode::Slt,
    Opcode::And,
    Opcode::Or,
    Opcode::Xor,
    Opcode::Shl,
    Opcode::Shr,
    Opcode::Sar,
    Opcode::Byte,
    Opcode::Wsub,
];

impl Generator<'_> {
    fn pick(&mut self, values: &[Value]) -> Value {
        values[self.random.below(values.len())]
    }

    fn word(&mut self, cursor: &mut Cursor<'_>, value: Value) -> Value {
        cursor.zext(Type::WORD, value)
    }

    fn condition(&mut self, cursor: &mut Cursor<'_>, values: &[Value]) -> Value {
        let (a, b) = (self.pick(values), self.pick(values));
        match self.random.below(5) {
            0 => cursor.ins(Opcode::Iszero, &[a]).unwrap(),
            1 => cursor.ins(Opcode::Eq, &[a, b]).unwrap(),
            2 => cursor.ins(Opcode::Ult, &[a, b]).unwrap(),
            3 => cursor.convert(Opcode::Trunc, Type::BOOL, a),
            _ => {
                let less = cursor.ins(Opcode::Slt, &[a, b]).unwrap();
                cursor.ins(Opcode::Iszero, &[less]).unwrap()
            }
        }
    }

    fn address(&mut self, cursor: &mut Cursor<'_>, values: &[Value]) -> Value {
        if self.shape.memory == 4 {
            if self.random.below(3) == 0 {
                let address = 32 * self.random.below(4) as u64;
                return cursor.iconst(Type::LENGTH, Word::from(address));
            }
            return self.pointer(cursor, values);
        }
        if self.shape.memory >= 2 && self.random.below(2) == 0 {
            let value = self.pick(values);
            let value = self.word(cursor, value);
            return cursor.convert(Opcode::Trunc, Type::new(8).unwrap(), value);
        }
        let address = self.random.below(10) as u64 * 24;
        cursor.iconst(Type::LENGTH, Word::from(address))
    }

    /// An address of which no more is known than that it lies beyond 128.
    fn pointer(&mut self, cursor: &mut Cursor<'_>, values: &[Value]) -> Value {
        let base = cursor.iconst(Type::LENGTH, Word::from(128 + 32 * self.random.below(4) as u64));
        let mut len = cursor.ins(Opcode::Calldatasize, &[]).unwrap();
        if self.random.below(2) == 0 {
            let mask = cursor.iconst(Type::LENGTH, Word::from(u64::MAX - 31));
            len = cursor.ins(Opcode::And, &[len, mask]).unwrap();
        }
        let sum = cursor.ins([Opcode::Add, Opcode::Wadd][self.random.below(2)], &[base, len]).unwrap();
        let data = InstData {
            opcode: Opcode::Bound,
            imm: Imm::Word(Word::from(128)),
            args: vec![sum],
            targets: vec![],
            results: vec![],
            pc: None,
        };
        let block = cursor.block();
        let inst = cursor.func.create_inst(data, &[Type::PLACE]);
        cursor.func.blocks[block].insts.push(inst);
        let bound = cursor.func.insts[inst].results[0];
        match self.random.below(3) {
            0 => cursor.convert(Opcode::Zext, Type::WORD, bound),
            1 => {
                let condition = self.condition(cursor, values);
                let other = cursor.iconst(Type::WORD, Word::from(160));
                cursor.ins(Opcode::Select, &[condition, bound, other]).unwrap()
            }
            _ => bound,
        }
    }

    fn value(&mut self, cursor: &mut Cursor<'_>, values: &[Value]) -> Value {
        if self.shape.memory == 4 && self.random.below(8) == 0 {
            // What programs may know of addresses: their order, and how far apart they are.
            let (p, q) = (self.pointer(cursor, values), self.pointer(cursor, values));
            let bound = cursor.iconst(Type::WORD, Word::from(300));
            return match self.random.below(5) {
                0 => cursor.ins(Opcode::Eq, &[p, q]).unwrap(),
                1 => cursor.ins(Opcode::Ult, &[p, q]).unwrap(),
                2 => cursor.ins(Opcode::Ult, &[bound, p]).unwrap(),
                3 => cursor.ins(Opcode::Iszero, &[p]).unwrap(),
                _ => cursor.ins(Opcode::Wsub, &[p, q]).unwrap(),
            };
        }
        let (a, b, c) = (self.pick(values), self.pick(values), self.pick(values));
        match self.random.below(12) {
            0 => {
                let word = self.random.word();
                cursor.iconst(Type::of(&word), word)
            }
            1 => {
                let condition = self.condition(cursor, values);
                cursor.ins(Opcode::Select, &[condition, a, b]).unwrap()
            }
            2 => cursor.ins(Opcode::Addmod, &[a, b, c]).unwrap(),
            3 => cursor.ins(Opcode::KeccakWords, &[a, b][..1 + self.random.below(2)]).unwrap_or(a),
            4 => cursor.ins(Opcode::Sload, &[a]).unwrap(),
            5 => {
                let at = Word::from(self.random.below(160) as u64);
                let offset = cursor.iconst(Type::LENGTH, at);
                cursor.ins(Opcode::Calldataload, &[offset]).unwrap()
            }
            6 if self.shape.memory > 0 => {
                let address = self.address(cursor, values);
                cursor.ins(Opcode::Mload, &[address]).unwrap()
            }
            7 => cursor.ins([Opcode::Caller, Opcode::Calldatasize, Opcode::Number][self.random.below(3)], &[]).unwrap(),
            8 if self.shape.memory == 3 => cursor.ins(Opcode::Msize, &[]).unwrap(),
            _ => cursor.ins(BINARY[self.random.below(BINARY.len())], &[a, b]).unwrap(),
        }
    }

    fn effect(&mut self, cursor: &mut Cursor<'_>, values: &[Value]) {
        let (a, b) = (self.pick(values), self.pick(values));
        match self.random.below(6) {
            0 | 1 if self.shape.memory > 0 => {
                let address = self.address(cursor, values);
                cursor.effect([Opcode::Mstore, Opcode::Mstore8][self.random.below(2)], &[address, a]);
            }
            2 if self.shape.memory > 0 => {
                let address = self.address(cursor, values);
                let len = cursor.iconst(Type::LENGTH, Word::from(40));
                let topics = [a, b];
                let topics = &topics[..self.random.below(3)];
                cursor.effect(Opcode::Log, &[&[address, len], topics].concat());
            }
            _ => drop(cursor.effect(Opcode::Sstore, &[a, b])),
        }
    }

    fn keep(&mut self, values: &mut Vec<Value>, value: Value) {
        if values.len() < self.shape.live {
            values.push(value);
        } else {
            let at = self.random.below(values.len());
            values[at] = value;
        }
    }

    fn halt(&mut self, cursor: &mut Cursor<'_>, values: &[Value]) {
        let words: Vec<Value> = (0..1 + self.random.below(4)).map(|_| self.pick(values)).collect();
        let len = Imm::Len(32 * words.len() as u32 - self.random.below(32) as u32);
        match self.random.below(4) {
            0 => drop(cursor.effect_imm(Opcode::ReturnWords, len, &words)),
            1 => drop(cursor.effect_imm(Opcode::RevertWords, len, &words)),
            2 => drop(cursor.trap(zvm_ir::TrapCode::Invalid)),
            _ => drop(cursor.effect(Opcode::Stop, &[])),
        }
    }

    /// Statements from the cursor on; ends in another block with the values that may be used there.
    fn region(&mut self, cursor: &mut Cursor<'_>, values: &mut Vec<Value>, depth: usize) {
        for _ in 0..1 + self.random.below(self.shape.statements) {
            match self.random.below(14) {
                0..=5 => {
                    let value = self.value(cursor, values);
                    self.keep(values, value);
                }
                6 | 7 => self.effect(cursor, values),
                8 => {
                    let stop = cursor.func.create_block();
                    let go = cursor.func.create_block();
                    let condition = self.condition(cursor, values);
                    let call = |block| BlockCall { block, args: vec![] };
                    cursor.brif(condition, call(stop), call(go));
                    cursor.switch_to(stop);
                    self.halt(cursor, values);
                    cursor.switch_to(go);
                }
                9 | 10 if depth > 0 => self.branch(cursor, values, depth),
                11 | 12 if depth > 0 => self.cycle(cursor, values, depth),
                13 if !self.callees.is_empty() => {
                    let (func, params, results) = self.callees[self.random.below(self.callees.len())];
                    let args: Vec<Value> = (0..params)
                        .map(|_| {
                            let value = self.pick(values);
                            self.word(cursor, value)
                        })
                        .collect();
                    for result in cursor.call(func, &args, &vec![Type::WORD; results]) {
                        self.keep(values, result);
                    }
                }
                _ => {
                    let value = self.value(cursor, values);
                    self.keep(values, value);
                }
            }
        }
    }

    /// Values to pass on, all words.
    fn some(&mut self, cursor: &mut Cursor<'_>, values: &[Value], count: usize) -> Vec<Value> {
        (0..count)
            .map(|_| {
                let value = self.pick(values);
                self.word(cursor, value)
            })
            .collect()
    }

    fn branch(&mut self, cursor: &mut Cursor<'_>, values: &mut Vec<Value>, depth: usize) {
        let (join, then) = (cursor.func.create_block(), cursor.func.create_block());
        let count = self.random.below(5);
        let condition = self.condition(cursor, values);
        let one_sided = self.random.below(3) == 0;
        let direct = self.some(cursor, values, count);
        let otherwise = if one_sided { join } else { cursor.func.create_block() };
        let args = if one_sided { direct } else { vec![] };
        cursor.brif(condition, BlockCall { block: then, args: vec![] }, BlockCall { block: otherwise, args });
        let params: Vec<Value> = (0..count).map(|_| cursor.func.append_param(join, Type::WORD)).collect();
        for side in [Some(then), Some(otherwise).filter(|_| !one_sided)].into_iter().flatten() {
            cursor.switch_to(side);
            let mut inner = values.clone();
            self.region(cursor, &mut inner, depth - 1);
            let args = self.some(cursor, &inner, count);
            cursor.jump(join, &args);
        }
        cursor.switch_to(join);
        for param in params {
            self.keep(values, param);
        }
    }

    /// A loop of one to four rounds whose parameters move about.
    fn cycle(&mut self, cursor: &mut Cursor<'_>, values: &mut Vec<Value>, depth: usize) {
        let (head, body, exit) = (cursor.func.create_block(), cursor.func.create_block(), cursor.func.create_block());
        let count = self.random.below(6);
        let mut args = self.some(cursor, values, count);
        args.push(cursor.iconst(Type::WORD, Word::from(1 + self.random.below(4) as u64)));
        cursor.jump(head, &args);
        let params: Vec<Value> = (0..=count).map(|_| cursor.func.append_param(head, Type::WORD)).collect();
        cursor.switch_to(head);
        let mut inner = values.clone();
        for &param in &params[..count] {
            self.keep(&mut inner, param);
        }
        let done = cursor.ins(Opcode::Iszero, &[params[count]]).unwrap();
        let call = |block: Block| BlockCall { block, args: vec![] };
        cursor.brif(done, call(exit), call(body));
        cursor.switch_to(body);
        let mut within = inner.clone();
        self.region(cursor, &mut within, depth - 1);
        let mut next = if self.random.below(2) == 0 {
            let mut permuted = params[..count].to_vec();
            permuted.rotate_left(count.min(1));
            permuted
        } else {
            self.some(cursor, &within, count)
        };
        let one = cursor.iconst(Type::BOOL, Word::from(1));
        next.push(cursor.ins(Opcode::Wsub, &[params[count], one]).unwrap());
        cursor.jump(head, &next);
        cursor.switch_to(exit);
        *values = inner;
    }
}

fn generate(random: &mut Random, shape: Shape) -> Module {
    let mut module = Module::new();
    let signatures: Vec<(Func, usize, usize)> =
        (1..=shape.functions as u32).map(|at| (Func::from_u32(at), random.below(5), random.below(4))).collect();
    for at in 0..=shape.functions {
        let callees = signatures[at..].to_vec();
        let (params, results) = if at == 0 { (0, 0) } else { (signatures[at - 1].1, signatures[at - 1].2) };
        let mut function = Function::new(if at == 0 { "main".to_owned() } else { format!("f{at}") });
        function.results = vec![Type::WORD; results];
        let entry = function.create_block();
        let mut values: Vec<Value> = (0..params).map(|_| function.append_param(entry, Type::WORD)).collect();
        let cursor = &mut Cursor::new(&mut function, entry);
        let mut generator = Generator { random, shape, callees };
        let input = cursor.ins(Opcode::Calldatasize, &[]).unwrap();
        values.push(input);
        for word in 0..shape.live as u64 / 2 {
            let offset = cursor.iconst(Type::LENGTH, Word::from(32 * (word % 6)));
            let loaded = cursor.ins(Opcode::Calldataload, &[offset]).unwrap();
            let salt = cursor.iconst(Type::WORD, Word::from(word + 2));
            values.push(cursor.ins(Opcode::Wmul, &[loaded, salt]).unwrap());
        }
        generator.region(cursor, &mut values, shape.depth);
        if at == 0 {
            let len = Imm::Len(32 * values.len() as u32);
            cursor.effect_imm(Opcode::ReturnWords, len, &values);
        } else if results > 0 || generator.random.below(4) > 0 {
            let results = generator.some(cursor, &values, results);
            cursor.effect(Opcode::Ret, &results);
        } else {
            generator.halt(cursor, &values);
        }
        module.funcs.push(function);
    }
    module.entry = Some(Func::from_u32(0));
    module
}

fn inputs(random: &mut Random) -> Vec<Vec<u8>> {
    (0..4).map(|_| words(&(0..6).map(|_| random.word()).collect::<Vec<_>>())).chain([vec![]]).collect()
}

fn run(seed: u64, modules: usize, shape: impl Fn(&mut Random) -> Shape) {
    let mut random = Random(seed);
    let mut refused = 0;
    for at in 0..modules {
        let shape = shape(&mut random);
        let module = generate(&mut random, shape);
        let forks = [Fork::London, Fork::Shanghai, Fork::Osaka, Fork::Amsterdam];
        let optimize = [Optimize::None, Optimize::Gas, Optimize::Size];
        let options: Vec<Options> = (0..3)
            .map(|k| Options { fork: forks[(at + k) % 4], optimize: optimize[k], ..Options::default() })
            .filter(|options| match lower(&module, options) {
                Ok(_) => true,
                // Only a program that reads MSIZE may be refused.
                Err(LowerError::TooDeep { .. } | LowerError::ScratchSeen { .. }) if shape.memory == 3 => {
                    refused += 1;
                    false
                }
                Err(error) => panic!("{error}\n{module}"),
            })
            .collect();
        agree(&module, &options, &inputs(&mut random));
    }
    assert!(refused < 3 * modules, "some module is lowered");
}

#[test]
fn small_modules() {
    run(0x1111_2222_3333_4444, 150, |random| Shape {
        live: 3 + random.below(5),
        depth: 2,
        statements: 6,
        functions: random.below(3),
        memory: random.below(3),
    });
}

#[test]
fn modules_with_many_live_values() {
    run(0x5555_6666_7777_8888, 60, |random| Shape {
        live: 14 + random.below(20),
        depth: 2,
        statements: 16,
        functions: random.below(4),
        memory: random.below(3),
    });
}

#[test]
fn modules_with_many_live_values_and_a_free_pointer() {
    run(0x7777_1234_4321_aaaa, 60, |random| Shape {
        live: 14 + random.below(20),
        depth: 2,
        statements: 16,
        functions: random.below(4),
        memory: 4,
    });
}

#[test]
fn modules_that_read_msize() {
    run(0x9999_aaaa_bbbb_cccc, 60, |random| Shape {
        live: 3 + random.below(12),
        depth: 1,
        statements: 8,
        functions: random.below(2),
        memory: 3,
    });
}
