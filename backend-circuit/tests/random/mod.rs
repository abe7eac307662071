//! Random programs of a fixed shape: straight lines, branches, bounded loops, early exits, calls, promises that hold only on
//! their path, and exits without a circuit.

use zvm_ir::{Block, BlockCall, Cursor, Func, Function, Imm, Module, Opcode, TrapCode, Type, Value, Word};

/// A small deterministic generator (xorshift64*).
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 33) as usize % bound
    }

    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// A word that is often at a corner.
    pub(crate) fn word(&mut self) -> Word {
        let random = Word::from_limbs([self.next(), self.next(), self.next(), self.next()]);
        match self.below(6) {
            0 => Word::from(self.below(4)),
            1 => Word::MAX - Word::from(self.below(3)),
            2 => Word::from(1) << self.below(256),
            3 => (Word::from(1) << self.below(256)) - Word::from(1),
            4 => random >> self.below(256),
            _ => random,
        }
    }
}

const OPS: &[Opcode] = &[
    Opcode::Wadd,
    Opcode::Wsub,
    Opcode::Wmul,
    Opcode::Add,
    Opcode::Mul,
    Opcode::Udiv,
    Opcode::Urem,
    Opcode::Iszero,
    Opcode::Eq,
    Opcode::Ult,
    Opcode::Slt,
    Opcode::And,
    Opcode::Or,
    Opcode::Xor,
    Opcode::Not,
    Opcode::Shl,
    Opcode::Shr,
    Opcode::Sar,
    Opcode::Byte,
    Opcode::Signextend,
    Opcode::Clz,
    Opcode::Select,
];

/// Makes programs from a seed.
pub(crate) struct Generator {
    pub(crate) rng: Rng,
    helper: Option<Func>,
    budget: usize,
}

impl Generator {
    pub(crate) fn new(seed: u64) -> Self {
        Self { rng: Rng::new(seed), helper: None, budget: 40 }
    }

    /// A verified module with one or two functions.
    pub(crate) fn module(&mut self) -> Module {
        let mut module = Module::new();
        if self.rng.chance(60) {
            let mut helper = Function::new("helper");
            helper.results = vec![Type::WORD, Type::BOOL];
            let entry = helper.create_block();
            let mut vars =
                vec![helper.append_param(entry, Type::WORD), helper.append_param(entry, Type::new(8).unwrap())];
            self.budget = 10;
            let end = self.statements(&mut helper, entry, &mut vars, 1);
            let word = self.of_type(&mut helper, end, &vars, Type::WORD);
            let flag = self.condition(&mut helper, end, &vars);
            Cursor::new(&mut helper, end).effect(Opcode::Ret, &[word, flag]);
            self.helper = Some(module.funcs.push(helper));
        }
        let mut main = Function::new("main");
        let entry = main.create_block();
        let mut vars = Vec::new();
        for at in 0..3u64 {
            let mut cursor = Cursor::new(&mut main, entry);
            let offset = cursor.iconst(Type::BOOL, Word::from(4 + 32 * at));
            vars.push(cursor.ins(Opcode::Calldataload, &[offset]).unwrap());
        }
        let mut cursor = Cursor::new(&mut main, entry);
        let caller = if self.rng.chance(50) { Opcode::Calldatasize } else { Opcode::Caller };
        vars.push(cursor.ins(caller, &[]).unwrap());
        let byte = cursor.iconst(Type::BOOL, Word::from(255));
        let last = vars[2];
        vars.push(cursor.ins(Opcode::And, &[last, byte]).unwrap());
        self.budget = 25;
        let end = self.statements(&mut main, entry, &mut vars, 0);
        self.exit(&mut main, end, &vars);
        module.entry = Some(module.funcs.push(main));
        let module = module.compact();
        assert_eq!(zvm_ir::verify(&module), Ok(()), "{module}");
        module
    }

    /// Calldata for the program.
    pub(crate) fn calldata(&mut self) -> Vec<u8> {
        let mut bytes = vec![0xab; 4];
        for _ in 0..3 {
            bytes.extend(self.rng.word().to_be_bytes::<32>());
        }
        if self.rng.chance(20) {
            bytes.truncate(self.rng.below(101));
        }
        bytes
    }

    fn statements(&mut self, func: &mut Function, mut block: Block, vars: &mut Vec<Value>, depth: usize) -> Block {
        let count = 2 + self.rng.below(5);
        for _ in 0..count {
            if self.budget == 0 {
                break;
            }
            self.budget -= 1;
            block = match self.rng.below(if depth >= 3 { 10 } else { 20 }) {
                0..=9 => self.operation(func, block, vars),
                10..=12 => self.diamond(func, block, vars, depth),
                13..=14 => self.repeat(func, block, vars, depth),
                15..=16 => self.promise(func, block, vars),
                17 => self.call(func, block, vars),
                _ => self.early_exit(func, block, vars),
            };
        }
        block
    }

    fn operation(&mut self, func: &mut Function, block: Block, vars: &mut Vec<Value>) -> Block {
        let opcode = self.rng.pick(OPS);
        let mut args = Vec::new();
        for at in 0..opcode.info().operands.len() {
            args.push(if opcode == Opcode::Select && at == 0 {
                self.condition(func, block, vars)
            } else if self.rng.chance(20) {
                let word = self.rng.word();
                Cursor::new(func, block).iconst(Type::BOOL, word)
            } else {
                self.rng.pick(vars)
            });
        }
        // Sums and products that would not fit a word are left out.
        if let Ok(value) = Cursor::new(func, block).ins(opcode, &args) {
            vars.push(value);
        }
        block
    }

    fn condition(&mut self, func: &mut Function, block: Block, vars: &[Value]) -> Value {
        let (a, b) = (self.rng.pick(vars), self.rng.pick(vars));
        let mut cursor = Cursor::new(func, block);
        let test = match self.rng.below(4) {
            0 => cursor.ins(Opcode::Iszero, &[a]),
            1 => cursor.ins(Opcode::Eq, &[a, b]),
            2 => cursor.ins(Opcode::Ult, &[a, b]),
            _ => {
                let one = cursor.iconst(Type::BOOL, Word::from(1));
                cursor.ins(Opcode::And, &[a, one])
            }
        };
        test.unwrap()
    }

    fn of_type(&mut self, func: &mut Function, block: Block, vars: &[Value], ty: Type) -> Value {
        let value = self.rng.pick(vars);
        let mut cursor = Cursor::new(func, block);
        match func_ty(cursor.func, value) {
            given if given > ty => cursor.convert(Opcode::Trunc, ty, value),
            _ => cursor.zext(ty, value),
        }
    }

    fn diamond(&mut self, func: &mut Function, block: Block, vars: &mut Vec<Value>, depth: usize) -> Block {
        let condition = self.condition(func, block, vars);
        let (then, otherwise, merge) = (func.create_block(), func.create_block(), func.create_block());
        let types: Vec<Type> =
            (0..1 + self.rng.below(2)).map(|_| Type::new(self.rng.pick(&[1, 8, 64, 160, 200, 256])).unwrap()).collect();
        for &ty in &types {
            func.append_param(merge, ty);
        }
        let call = |block| BlockCall { block, args: vec![] };
        Cursor::new(func, block).brif(condition, call(then), call(otherwise));
        for arm in [then, otherwise] {
            let mut inner = vars.clone();
            let end = self.statements(func, arm, &mut inner, depth + 1);
            let args: Vec<Value> = types.iter().map(|&ty| self.of_type(func, end, &inner, ty)).collect();
            Cursor::new(func, end).jump(merge, &args);
        }
        vars.extend(func.blocks[merge].params.clone());
        merge
    }

    fn repeat(&mut self, func: &mut Function, block: Block, vars: &mut Vec<Value>, depth: usize) -> Block {
        let count = self.rng.pick(vars);
        let three = Cursor::new(func, block).iconst(Type::BOOL, Word::from(3));
        let count = Cursor::new(func, block).ins(Opcode::And, &[count, three]).unwrap();
        let start = self.of_type(func, block, vars, Type::WORD);
        let (header, body, after) = (func.create_block(), func.create_block(), func.create_block());
        let count_type = func.ty(count);
        let left = func.append_param(header, count_type);
        let sum = func.append_param(header, Type::WORD);
        Cursor::new(func, block).jump(header, &[count, start]);
        let mut cursor = Cursor::new(func, header);
        let done = cursor.ins(Opcode::Iszero, &[left]).unwrap();
        let call = |block| BlockCall { block, args: vec![] };
        cursor.brif(done, call(after), call(body));
        let mut inner = vars.clone();
        inner.extend([left, sum]);
        let end = self.statements(func, body, &mut inner, depth + 1);
        let next = self.of_type(func, end, &inner, Type::WORD);
        let mut cursor = Cursor::new(func, end);
        let one = cursor.iconst(Type::BOOL, Word::from(1));
        let left = cursor.ins(Opcode::Sub, &[left, one]).unwrap();
        cursor.jump(header, &[left, next]);
        vars.push(sum);
        after
    }

    /// A `narrow` or `sub` whose promise holds because of the branch before it.
    fn promise(&mut self, func: &mut Function, block: Block, vars: &mut Vec<Value>) -> Block {
        let (a, b) = (self.rng.pick(vars), self.rng.pick(vars));
        let bits = self.rng.pick(&[4u16, 64, 128, 140, 200]);
        let (fits, otherwise, merge) = (func.create_block(), func.create_block(), func.create_block());
        let call = |block| BlockCall { block, args: vec![] };
        let result = func.append_param(merge, Type::WORD);
        let narrows = self.rng.chance(50);
        let mut cursor = Cursor::new(func, block);
        if narrows {
            let limit = cursor.iconst(Type::BOOL, Word::from(1) << usize::from(bits));
            let small = cursor.ins(Opcode::Ult, &[a, limit]).unwrap();
            cursor.brif(small, call(fits), call(otherwise));
        } else {
            let less = cursor.ins(Opcode::Ult, &[a, b]).unwrap();
            cursor.brif(less, call(otherwise), call(fits));
        }
        let mut cursor = Cursor::new(func, fits);
        let kept = if narrows {
            let ty = Type::new(bits).unwrap().min(func_ty(cursor.func, a));
            let narrow = cursor.convert(Opcode::Narrow, ty, a);
            if self.rng.chance(50) { cursor.ins(Opcode::Not, &[narrow]).unwrap() } else { narrow }
        } else {
            let difference = cursor.ins(Opcode::Sub, &[a, b]).unwrap();
            if self.rng.chance(50) { cursor.ins(Opcode::Xor, &[difference, a]).unwrap() } else { difference }
        };
        let kept = cursor.zext(Type::WORD, kept);
        cursor.jump(merge, &[kept]);
        let other = self.of_type(func, otherwise, vars, Type::WORD);
        Cursor::new(func, otherwise).jump(merge, &[other]);
        vars.push(result);
        merge
    }

    fn call(&mut self, func: &mut Function, block: Block, vars: &mut Vec<Value>) -> Block {
        if let Some(helper) = self.helper {
            let word = self.of_type(func, block, vars, Type::WORD);
            let byte = self.of_type(func, block, vars, Type::new(8).unwrap());
            vars.extend(Cursor::new(func, block).call(helper, &[word, byte], &[Type::WORD, Type::BOOL]));
        }
        block
    }

    fn early_exit(&mut self, func: &mut Function, block: Block, vars: &mut [Value]) -> Block {
        let condition = self.condition(func, block, vars);
        let (leave, stay) = (func.create_block(), func.create_block());
        let call = |block| BlockCall { block, args: vec![] };
        let (then, otherwise) = if self.rng.chance(50) { (leave, stay) } else { (stay, leave) };
        Cursor::new(func, block).brif(condition, call(then), call(otherwise));
        self.exit(func, leave, vars);
        stay
    }

    fn exit(&mut self, func: &mut Function, block: Block, vars: &[Value]) {
        match self.rng.below(8) {
            0 => drop(Cursor::new(func, block).trap(TrapCode::Invalid)),
            1 => drop(Cursor::new(func, block).effect(Opcode::Stop, &[])),
            2 => {
                let key = self.rng.pick(vars);
                let mut cursor = Cursor::new(func, block);
                cursor.set_pc(Some(0x99));
                let loaded = cursor.ins(Opcode::Sload, &[key]).unwrap();
                cursor.effect_imm(Opcode::ReturnWords, Imm::Len(32), &[loaded]);
            }
            kind => {
                let words: Vec<Value> = (0..1 + self.rng.below(3)).map(|_| self.rng.pick(vars)).collect();
                let cut = if self.rng.chance(30) { self.rng.below(32) } else { 0 };
                let opcode = if kind == 3 { Opcode::RevertWords } else { Opcode::ReturnWords };
                let len = Imm::Len((32 * words.len() - cut) as u32);
                Cursor::new(func, block).effect_imm(opcode, len, &words);
            }
        }
    }
}

fn func_ty(func: &Function, value: Value) -> Type {
    func.ty(value)
}
