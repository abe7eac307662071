//! Terms: symbolic words, each stored once.

use std::collections::BTreeMap;

use zvm_ir::{Effects, Imm, Opcode, Type, Value, Word};

use crate::opcodes;
use crate::selection::{Selection, input_byte, select};

/// A term, by its place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Term(u32);

/// What a term is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum TermData {
    Constant(Word),
    /// A value of the IR that is defined before the block, or a parameter of it.
    Value(Value),
    /// The address in the caller.
    Return,
    /// The word that the constructor puts at this position of the original code.
    Immutable(u32),
    /// A word that nothing is known of.
    Unknown(u32),
    /// The result of an instruction without effects. The number counts the writes before it to what it reads.
    Op(u8, Vec<Term>, u32),
    /// A result of an effect.
    Result(u32, u32),
    /// MSIZE in this era of memory, after this many words were put aside.
    Aside(u32, u32),
}

/// The table of terms.
#[derive(Debug, Default)]
pub(super) struct Terms {
    data: Vec<TermData>,
    known: BTreeMap<TermData, Term>,
    unknowns: u32,
}

impl Terms {
    pub(super) fn term(&mut self, data: TermData) -> Term {
        if let Some(&term) = self.known.get(&data) {
            return term;
        }
        let term = Term(self.data.len() as u32);
        self.data.push(data.clone());
        self.known.insert(data, term);
        term
    }

    pub(super) fn data(&self, term: Term) -> &TermData {
        &self.data[term.0 as usize]
    }

    pub(super) fn constant(&mut self, word: Word) -> Term {
        self.term(TermData::Constant(word))
    }

    pub(super) fn unknown(&mut self) -> Term {
        self.unknowns += 1;
        self.term(TermData::Unknown(self.unknowns))
    }

    pub(super) fn word(&self, term: Term) -> Option<Word> {
        match self.data(term) {
            TermData::Constant(word) => Some(*word),
            _ => None,
        }
    }

    /// The result of an instruction, in a form that is the same for exchanged operands. Constants are folded by the
    /// reference semantics.
    pub(super) fn op(&mut self, byte: u8, mut args: Vec<Term>, epoch: u32) -> Term {
        let byte = match byte {
            opcodes::GT => {
                args.reverse();
                opcodes::LT
            }
            opcodes::SGT => {
                args.reverse();
                opcodes::SLT
            }
            byte => byte,
        };
        let words: Option<Vec<Word>> = args.iter().map(|&arg| self.word(arg)).collect();
        if let (Some(words), Some(opcode)) = (words, pure_opcode(byte))
            && !words.is_empty()
            && let Ok(word) = zvm_ir::eval(opcode, Imm::None, &words, Some(Type::WORD))
        {
            return self.constant(word);
        }
        if pure_opcode(byte).is_some_and(Opcode::is_commutative) {
            args.sort_unstable();
        }
        if matches!(byte, opcodes::ADDMOD | opcodes::MULMOD)
            && let Some(summands) = args.get_mut(..2)
        {
            summands.sort_unstable();
        }
        self.term(TermData::Op(byte, args, epoch))
    }

    /// A condition as a term and whether it is negated: JUMPI asks only whether its operand is zero.
    pub(super) fn truth(&mut self, mut term: Term) -> (Term, bool) {
        let mut negated = false;
        loop {
            match self.data(term).clone() {
                TermData::Op(opcodes::ISZERO, args, _) => {
                    term = args[0];
                    negated = !negated;
                }
                // a − b and a ⊕ b are zero exactly when a = b.
                TermData::Op(opcodes::SUB | opcodes::XOR, args, _) => {
                    term = self.op(opcodes::EQ, args, 0);
                    negated = !negated;
                }
                TermData::Constant(word) => return (self.constant(Word::from(1)), negated != word.is_zero()),
                _ => return (term, negated),
            }
        }
    }

    /// A term as text, to a limited depth.
    pub(super) fn text(&self, term: Term) -> String {
        self.text_to(term, 4)
    }

    fn text_to(&self, term: Term, depth: u32) -> String {
        match self.data(term) {
            TermData::Constant(word) => format!("{word:#x}"),
            TermData::Value(value) => value.to_string(),
            TermData::Return => "ret".to_owned(),
            TermData::Immutable(place) => format!("immutable {place}"),
            TermData::Unknown(_) => "?".to_owned(),
            TermData::Result(effect, at) => format!("effect{effect}.{at}"),
            TermData::Aside(_, words) => format!("msize+{words}"),
            TermData::Op(byte, ..) if depth == 0 => format!("{}(…)", opcodes::name(*byte)),
            TermData::Op(byte, args, _) => {
                let args: Vec<String> = args.iter().map(|&arg| self.text_to(arg, depth - 1)).collect();
                format!("{}({})", opcodes::name(*byte), args.join(", "))
            }
        }
    }
}

/// The pure IR instruction that an EVM instruction is.
fn pure_opcode(byte: u8) -> Option<Opcode> {
    // The wrapping forms: the exact ones are the same instruction under a promise.
    const EXACT: [Opcode; 3] = [Opcode::Add, Opcode::Sub, Opcode::Mul];
    let same = |op: &Opcode| op.is_pure() && select(*op, op.info().operands.len()) == Selection::Evm(byte);
    Opcode::ALL.iter().copied().filter(|op| !EXACT.contains(op)).find(same)
}

/// What an EVM instruction other than stack and control instructions does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meaning {
    /// Its effects, those of the IR instruction that it implements.
    pub effects: Effects,
    /// Whether it halts.
    pub halts: bool,
    pub pops: usize,
    pub pushes: usize,
}

/// Everything about the bytes that the backend emits.
#[derive(Debug)]
pub(super) struct Meanings(Vec<Option<Meaning>>);

impl Meanings {
    pub(super) fn new() -> Self {
        let mut table: Vec<Option<Meaning>> = vec![None; 256];
        let mut set = |byte: u8, opcode: Opcode| {
            if let Some(row) = opcodes::info(byte) {
                table[usize::from(byte)] = Some(Meaning {
                    effects: opcode.effects(),
                    halts: opcode.is_terminator(),
                    pops: usize::from(row.pops),
                    pushes: usize::from(row.pushes),
                });
            }
        };
        for &opcode in Opcode::ALL {
            if let Some(byte) = input_byte(opcode) {
                set(byte, opcode);
            }
            let operands = opcode.info().operands.len();
            let counts = if opcode == Opcode::Log { 2..=6 } else { operands..=operands };
            for count in counts {
                match select(opcode, count) {
                    Selection::Evm(byte) => set(byte, opcode),
                    Selection::Datacopy => set(opcodes::CODECOPY, opcode),
                    Selection::Remade
                    | Selection::Alias
                    | Selection::Call
                    | Selection::Jump
                    | Selection::Brif
                    | Selection::Ret
                    | Selection::Expanded => {}
                }
            }
        }
        set(opcodes::GT, Opcode::Ult);
        set(opcodes::SGT, Opcode::Slt);
        Self(table)
    }

    pub(super) fn get(&self, byte: u8) -> Option<Meaning> {
        self.0.get(usize::from(byte)).copied().flatten()
    }
}
