//! `interp(f) = interp(pass(f))`, for each pass alone and for the pipeline, on generated programs.
//!
//! Programs are structured: arithmetic on corner constants, diamonds, bounded loops, memory at constant offsets that
//! overlap, at pointers kept in memory and at unknown addresses, storage, logs, calls of other functions, early exits.

use zvm_ir::EmptyState;
use zvm_ir::interp::{Call, InterpError, run};
use zvm_ir::passes::{BESIDE, Goal, Options, PIPELINE, all, apply, optimize};
use zvm_ir::{
    Block, BlockCall, Cursor, Env, Func, Function, Imm, Module, Opcode, Outcome, TrapCode, Type, Value, Word, verify,
};

/// A small generator of pseudo-random numbers (xorshift64*), so that failures repeat.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 11) % n
    }

    fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len() as u64) as usize]
    }

    fn word(&mut self) -> Word {
        let power = Word::from(1) << self.below(256) as usize;
        match self.below(7) {
            0 => Word::from(self.below(5)),
            1 => Word::MAX - Word::from(self.below(3)),
            2 => power,
            3 => power.wrapping_sub(Word::from(1)),
            4 => power.wrapping_neg(),
            5 => Word::from(self.below(300)),
            _ => Word::from_limbs([self.next(), self.next(), self.next(), self.next()]),
        }
    }
}

const OFFSETS: [u64; 12] = [0, 1, 4, 0x1f, 0x20, 0x24, 0x40, 0x44, 0x60, 0x80, 0x84, 0xa0];

struct Builder<'a> {
    random: &'a mut Random,
    func: &'a mut Function,
    block: Block,
    scope: Vec<Value>,
    callees: &'a [(Func, Vec<Type>, Vec<Type>)],
    budget: u32,
}

impl Builder<'_> {
    fn cursor(&mut self) -> Cursor<'_> {
        Cursor::new(self.func, self.block)
    }

    fn constant(&mut self, word: Word) -> Value {
        self.cursor().iconst(Type::BOOL, word)
    }

    fn value(&mut self) -> Value {
        if self.scope.is_empty() || self.random.below(4) == 0 {
            let word = self.random.word();
            return self.constant(word);
        }
        // Recent values more often, so that expressions get deep.
        let len = self.scope.len() as u64;
        let back = self.random.below(len).min(self.random.below(len));
        self.scope[(len - 1 - back) as usize]
    }

    fn typed(&mut self, ty: Type) -> Value {
        let value = self.value();
        let from = self.func.ty(value);
        if from == ty {
            value
        } else if from < ty {
            self.cursor().zext(ty, value)
        } else {
            self.cursor().convert(Opcode::Trunc, ty, value)
        }
    }

    fn condition(&mut self) -> Value {
        let op = self.random.pick(&[Opcode::Iszero, Opcode::Eq, Opcode::Ult, Opcode::Slt, Opcode::Ult]);
        let args: Vec<Value> = (0..op.info().operands.len()).map(|_| self.value()).collect();
        let condition = self.cursor().ins(op, &args).unwrap();
        match self.random.below(5) {
            0 => self.cursor().ins(Opcode::Iszero, &[condition]).unwrap(),
            1 => {
                let other = self.value();
                let other = self.cursor().ins(Opcode::Iszero, &[other]).unwrap();
                let op = self.random.pick(&[Opcode::And, Opcode::Or, Opcode::Xor]);
                self.cursor().ins(op, &[condition, other]).unwrap()
            }
            _ => condition,
        }
    }

    fn pure(&mut self) {
        let ops: Vec<Opcode> = Opcode::ALL
            .iter()
            .copied()
            .filter(|op| {
                op.is_pure()
                    && !matches!(
                        op,
                        Opcode::Iconst | Opcode::Zext | Opcode::Trunc | Opcode::Narrow | Opcode::Sub | Opcode::KeccakF
                    )
            })
            .collect();
        let op = self.random.pick(&ops);
        let mut args: Vec<Value> = match op {
            Opcode::KeccakWords => (0..self.random.below(3)).map(|_| self.value()).collect(),
            _ => (0..op.info().operands.len()).map(|_| self.value()).collect(),
        };
        if op == Opcode::Select {
            args[0] = self.condition();
        }
        if matches!(op, Opcode::Exp) {
            args[1] = self.typed(Type::new(6).unwrap());
        }
        if matches!(op, Opcode::Shl | Opcode::Shr | Opcode::Sar) && self.random.below(2) == 0 {
            let amount = self.random.below(260);
            args[0] = self.constant(Word::from(amount));
        }
        if matches!(op, Opcode::Signextend | Opcode::Byte) && self.random.below(2) == 0 {
            let k = self.random.below(33);
            args[0] = self.constant(Word::from(k));
        }
        if op == Opcode::KeccakWords {
            let len =
                (32 * args.len() as u32).saturating_sub(self.random.below(2) as u32 * self.random.below(32) as u32);
            let value = self.cursor().keccak_words(len, &args);
            self.scope.push(value);
            return;
        }
        // Exact instructions whose result would be too wide are left out.
        if let Ok(value) = self.cursor().ins(op, &args) {
            self.scope.push(value);
        }
    }

    fn address(&mut self) -> Value {
        let offset = self.random.pick(&OFFSETS);
        let constant = self.constant(Word::from(offset));
        match self.random.below(8) {
            // Through a pointer kept in memory, as solc does.
            0 | 1 => {
                let slot = self.constant(Word::from(0x40));
                let pointer = self.cursor().ins(Opcode::Mload, &[slot]).unwrap();
                let mask = self.constant(Word::from(0x1ff));
                let pointer = self.cursor().ins(Opcode::And, &[pointer, mask]).unwrap();
                self.cursor().ins(Opcode::Wadd, &[pointer, constant]).unwrap()
            }
            // Most of these are beyond the limit of memory.
            2 if self.random.below(6) == 0 => self.value(),
            2 => {
                let value = self.value();
                let mask = self.random.pick(&[0x3f, 0xff]);
                let mask = self.constant(Word::from(mask));
                self.cursor().ins(Opcode::And, &[value, mask]).unwrap()
            }
            _ => constant,
        }
    }

    fn memory(&mut self) {
        let address = self.address();
        match self.random.below(12) {
            0..=3 => {
                let value = self.value();
                self.cursor().effect(Opcode::Mstore, &[address, value]);
            }
            4 => {
                let value = self.value();
                self.cursor().effect(Opcode::Mstore8, &[address, value]);
            }
            5..=8 => {
                let value = self.cursor().ins(Opcode::Mload, &[address]).unwrap();
                self.scope.push(value);
            }
            9 => {
                let len = self.random.pick(&[0, 32, 64, 36]);
                let len = self.constant(Word::from(len));
                let value = self.cursor().ins(Opcode::Keccak256, &[address, len]).unwrap();
                self.scope.push(value);
            }
            10 => {
                let from = self.random.pick(&[0, 4, 33, 200]);
                let len = self.random.pick(&[0, 4, 32, 70]);
                let from = self.constant(Word::from(from));
                let len = self.constant(Word::from(len));
                match self.random.below(3) {
                    0 => self.cursor().effect(Opcode::Calldatacopy, &[address, from, len]),
                    1 => self.cursor().effect(Opcode::Mcopy, &[address, from, len]),
                    _ => {
                        let data = zvm_ir::Data::from_u32(0);
                        self.cursor().datacopy(data, &[address, from, len])
                    }
                };
            }
            _ => {
                let slot = self.constant(Word::from(0x40));
                let pointer = self.random.pick(&[0x80, 0xa0]);
                let pointer = self.constant(Word::from(pointer));
                self.cursor().effect(Opcode::Mstore, &[slot, pointer]);
            }
        }
    }

    fn world(&mut self) {
        let key = self.random.below(3);
        let key = self.constant(Word::from(key));
        match self.random.below(4) {
            0 => {
                let value = self.cursor().ins(Opcode::Sload, &[key]).unwrap();
                self.scope.push(value);
            }
            1 => {
                let value = self.value();
                self.cursor().effect(Opcode::Sstore, &[key, value]);
            }
            2 => {
                let (offset, topic) = (self.address(), self.value());
                let len = self.constant(Word::from(33));
                self.cursor().effect(Opcode::Log, &[offset, len, topic]);
            }
            _ => {
                let offset = self.value();
                let value = self.cursor().ins(Opcode::Calldataload, &[offset]).unwrap();
                self.scope.push(value);
            }
        }
    }

    fn call(&mut self) {
        if self.callees.is_empty() {
            return;
        }
        let at = self.random.below(self.callees.len() as u64) as usize;
        let (func, params, results) = self.callees[at].clone();
        let args: Vec<Value> = params.iter().map(|&ty| self.typed(ty)).collect();
        let values = self.cursor().call(func, &args, &results);
        self.scope.extend(values);
    }

    fn diamond(&mut self, depth: u32) {
        let condition = self.condition();
        let then = self.func.create_block();
        let otherwise = self.func.create_block();
        let join = self.func.create_block();
        let types: Vec<Type> = (0..self.random.below(3)).map(|_| self.random_type()).collect();
        let call = |block| BlockCall { block, args: vec![] };
        self.cursor().brif(condition, call(then), call(otherwise));
        let scope = self.scope.len();
        for side in [then, otherwise] {
            self.block = side;
            self.statements(depth - 1);
            let args: Vec<Value> = types.iter().map(|&ty| self.typed(ty)).collect();
            self.cursor().jump(join, &args);
            self.scope.truncate(scope);
        }
        self.block = join;
        for ty in types {
            let param = self.func.append_param(join, ty);
            self.scope.push(param);
        }
    }

    fn looped(&mut self, depth: u32) {
        let bound = if self.random.below(2) == 0 {
            let bound = self.random.below(5);
            self.constant(Word::from(bound))
        } else {
            self.typed(Type::new(2).unwrap())
        };
        let zero = self.cursor().iconst(Type::WORD, Word::ZERO);
        let ty = self.random_type();
        let start = self.typed(ty);
        let header = self.func.create_block();
        let body = self.func.create_block();
        let exit = self.func.create_block();
        self.cursor().jump(header, &[zero, start]);
        let counter = self.func.append_param(header, Type::WORD);
        let carried = self.func.append_param(header, ty);
        self.block = header;
        let condition = self.cursor().ins(Opcode::Ult, &[counter, bound]).unwrap();
        let call = |block| BlockCall { block, args: vec![] };
        self.cursor().brif(condition, call(body), call(exit));
        let scope = self.scope.len();
        self.scope.extend([counter, carried]);
        self.block = body;
        self.statements(depth - 1);
        let one = self.constant(Word::from(1));
        let next = self.cursor().ins(Opcode::Wadd, &[counter, one]).unwrap();
        let carry = self.typed(ty);
        self.cursor().jump(header, &[next, carry]);
        self.scope.truncate(scope);
        self.scope.extend([counter, carried]);
        self.block = exit;
    }

    fn exit_early(&mut self) {
        let condition = self.condition();
        let out = self.func.create_block();
        let on = self.func.create_block();
        let call = |block| BlockCall { block, args: vec![] };
        self.cursor().brif(condition, call(out), call(on));
        self.block = out;
        self.halt();
        self.block = on;
    }

    fn halt(&mut self) {
        match self.random.below(5) {
            0 => drop(self.cursor().trap(TrapCode::Invalid)),
            1 => {
                // A panic that stands in many places, or a message.
                let words = match self.random.below(2) {
                    0 => [Word::from(0x4e48_7b71) << 224, Word::from(0x11) << 224].map(|word| self.constant(word)),
                    _ => [self.value(), self.value()],
                };
                self.cursor().effect_imm(Opcode::RevertWords, Imm::Len(36), &words);
            }
            kind => {
                let offset = self.address();
                let len = self.random.pick(&[0, 32, 36, 64]);
                let len = self.constant(Word::from(len));
                let op = if kind == 2 { Opcode::Revert } else { Opcode::Return };
                self.cursor().effect(op, &[offset, len]);
            }
        }
    }

    fn random_type(&mut self) -> Type {
        let bits = self.random.pick(&[1, 8, 64, 160, 256, 256]);
        Type::new(bits).unwrap()
    }

    fn statements(&mut self, depth: u32) {
        for _ in 0..1 + self.random.below(5) {
            if self.budget == 0 {
                return;
            }
            self.budget -= 1;
            match self.random.below(20) {
                0..=7 => self.pure(),
                8..=12 => self.memory(),
                13 | 14 => self.world(),
                15 => self.call(),
                16 | 17 if depth > 0 => self.diamond(depth),
                18 if depth > 0 => self.looped(depth),
                19 if depth > 0 => self.exit_early(),
                _ => self.pure(),
            }
        }
    }
}

fn program(seed: u64) -> Module {
    let mut random = Random::new(seed);
    let mut module = Module::new();
    module.data.push((0..50).map(|at| at * 5 + 1).collect());
    let mut callees: Vec<(Func, Vec<Type>, Vec<Type>)> = Vec::new();
    for number in 0..random.below(4) {
        let mut func = Function::new(format!("f{number}"));
        let types = [1, 8, 256].map(|bits| Type::new(bits).unwrap());
        let params: Vec<Type> = (0..random.below(4)).map(|_| random.pick(&types)).collect();
        let results: Vec<Type> = (0..random.below(3)).map(|_| random.pick(&types)).collect();
        let block = func.create_block();
        let scope = params.iter().map(|&ty| func.append_param(block, ty)).collect();
        let never_returns = random.below(6) == 0;
        let mut builder = Builder { random: &mut random, func: &mut func, block, scope, callees: &callees, budget: 20 };
        builder.statements(2);
        if never_returns {
            builder.halt();
        } else {
            let values: Vec<Value> = results.iter().map(|&ty| builder.typed(ty)).collect();
            builder.cursor().effect(Opcode::Ret, &values);
        }
        func.results.clone_from(&results);
        callees.push((module.funcs.push(func), params, results));
    }
    let mut func = Function::new("main");
    let block = func.create_block();
    let mut builder =
        Builder { random: &mut random, func: &mut func, block, scope: vec![], callees: &callees, budget: 60 };
    for word in 0..3 {
        let offset = builder.constant(Word::from(32 * word));
        let value = builder.cursor().ins(Opcode::Calldataload, &[offset]).unwrap();
        builder.scope.push(value);
    }
    if builder.random.below(2) == 0 {
        let (slot, pointer) = (builder.constant(Word::from(0x40)), builder.constant(Word::from(0x80)));
        builder.cursor().effect(Opcode::Mstore, &[slot, pointer]);
    }
    builder.statements(3);
    builder.statements(3);
    if builder.random.below(3) == 0 {
        let words: Vec<Value> = (0..3).map(|_| builder.value()).collect();
        builder.cursor().effect_imm(Opcode::ReturnWords, Imm::Len(96), &words);
    } else {
        let (offset, len) = (builder.address(), builder.constant(Word::from(0x60)));
        builder.cursor().effect(Opcode::Return, &[offset, len]);
    }
    module.entry = Some(module.funcs.push(func));
    module
}

fn inputs(seed: u64) -> Vec<Vec<u8>> {
    let mut random = Random::new(seed ^ 0xabcd);
    (0..4)
        .map(|_| (0..3).flat_map(|_| random.word().to_be_bytes::<32>()).collect::<Vec<u8>>())
        .chain([Vec::new()])
        .collect()
}

fn outcomes(module: &Module, inputs: &[Vec<u8>]) -> Vec<Result<Outcome, InterpError>> {
    let env = Env::default();
    inputs
        .iter()
        .map(|calldata| {
            let call = Call { step_limit: 20_000, ..Call::new(calldata, &env) };
            run(module, call, &EmptyState)
        })
        .collect()
}

/// A run that reached a limit has no outcome to compare. Every other error would be a promise that a pass broke.
fn check(what: &str, seed: u64, original: &Module, changed: &Module) {
    if let Err(errors) = verify(changed) {
        panic!("seed {seed}, {what}: {errors:#?}\nbefore:\n{original}\nafter:\n{changed}");
    }
    let inputs = inputs(seed);
    let pairs = outcomes(original, &inputs).into_iter().zip(outcomes(changed, &inputs));
    for ((before, after), input) in pairs.zip(&inputs) {
        if before.is_ok() {
            assert_eq!(
                before, after,
                "seed {seed}, {what}, calldata {input:02x?}\nbefore:\n{original}\nafter:\n{changed}"
            );
        }
    }
}

/// Where memory beyond the limit is accessed there is no outcome afterwards either, whatever became of the access.
fn check_limits(what: &str, seed: u64, original: &Module, changed: &Module) {
    let inputs = inputs(seed);
    let pairs = outcomes(original, &inputs).into_iter().zip(outcomes(changed, &inputs));
    for ((before, after), input) in pairs.zip(&inputs) {
        if let Err(InterpError::MemoryLimit { .. }) = before {
            assert!(
                matches!(after, Err(InterpError::MemoryLimit { .. })),
                "seed {seed}, {what}, calldata {input:02x?}: {after:?}\nbefore:\n{original}\nafter:\n{changed}"
            );
        }
    }
}

fn seeds() -> std::ops::Range<u64> {
    let count = std::env::var("ZVM_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(150);
    0..count
}

#[test]
fn each_pass_keeps_the_outcome() {
    for seed in seeds() {
        let original = program(seed);
        verify(&original).unwrap_or_else(|errors| panic!("seed {seed}: {errors:#?}\n{original}"));
        for pass in all() {
            let mut changed = original.clone();
            apply(pass, &mut changed, Goal::Circuit);
            check(pass.name, seed, &original, &changed);
        }
    }
}

#[test]
fn the_pipeline_keeps_the_outcome_at_every_step() {
    for seed in seeds() {
        let original = program(seed);
        for goal in [Goal::Evm, Goal::Circuit] {
            let mut stage = original.clone();
            for (number, pass) in PIPELINE.iter().enumerate() {
                let before = stage.clone();
                if apply(pass, &mut stage, goal) {
                    check(&format!("{} (number {number}, {goal:?})", pass.name), seed, &before, &stage);
                }
            }
            check(&format!("pipeline ({goal:?})"), seed, &original, &stage);
            check_limits(&format!("pipeline ({goal:?})"), seed, &original, &stage);
        }
    }
}

/// The passes that are not in the pipeline, one after the other, on what was generated and on what the pipeline left.
#[test]
fn passes_beside_the_pipeline_keep_the_outcome() {
    let mut changes = std::collections::BTreeMap::new();
    for seed in seeds() {
        let original = program(seed);
        for goal in [Goal::Evm, Goal::Circuit] {
            let mut optimised = original.clone();
            optimize(&mut optimised, &Options { goal, ..Options::default() }).unwrap();
            for first in [original.clone(), optimised] {
                let mut stage = first.clone();
                for pass in BESIDE {
                    if apply(pass, &mut stage, goal) {
                        *changes.entry(pass.name).or_insert(0) += 1;
                        check(&format!("{} beside the pipeline ({goal:?})", pass.name), seed, &first, &stage);
                    }
                }
                check_limits(&format!("beside the pipeline ({goal:?})"), seed, &first, &stage);
            }
        }
    }
    assert!(changes.len() == BESIDE.len(), "a pass was never at work: {changes:?}");
}

#[test]
fn optimising_is_deterministic_and_can_stop_anywhere() {
    for seed in seeds().step_by(10) {
        let original = program(seed);
        let all = Options { goal: Goal::Circuit, verify: true, ..Options::default() };
        let (mut a, mut b) = (original.clone(), original.clone());
        optimize(&mut a, &all).unwrap();
        optimize(&mut b, &all).unwrap();
        assert_eq!(a.to_string(), b.to_string(), "seed {seed}");
        for applications in [0, 1, 7, 30] {
            let mut part = original.clone();
            optimize(&mut part, &Options { applications, ..all }).unwrap();
            check(&format!("{applications} applications"), seed, &original, &part);
        }
        let mut none = original.clone();
        optimize(&mut none, &Options { passes: 0, ..all }).unwrap();
        assert!(none == original, "seed {seed}: no pass ran, but the module changed");
    }
}

#[test]
fn generated_programs_return_revert_and_trap() {
    use zvm_ir::Halt;
    let mut seen = std::collections::BTreeSet::new();
    for seed in seeds() {
        seen.extend(outcomes(&program(seed), &inputs(seed)).into_iter().filter_map(|run| run.ok()).map(|run| run.halt));
    }
    assert_eq!(seen.len(), 3, "{seen:?}");
    assert!(seen.contains(&Halt::Return));
}
