//! What the checker says about words: terms, hash-consed, so that equal terms are equal numbers; and what a path knows of
//! them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use zvm_ir::{Block, Imm, Inst, Opcode, Pc, Word, eval};

/// A handle of a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Term(u32);

/// What a term is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Node {
    Const(Word),
    /// The item of the stack that the function was entered with; from [`crate::expr::MEMORY`] on, the word of memory.
    Entry(u32),
    /// The item of the stack at the start of this block, where it depends on the way there.
    Slot(Block, u32),
    /// The result of the instruction at this place, in this run of the block.
    Result(Pc),
    /// A result of a call.
    Returned(Inst, usize),
    /// Something that nothing is known of, not even that it is equal to itself elsewhere.
    Unknown(u32),
    /// A pure instruction.
    Pure(Opcode, Vec<Term>),
}

/// Larger terms are not looked into.
const SIZE_LIMIT: u32 = 1000;
/// Larger terms are not kept from one block to the next.
const KEPT_LIMIT: u32 = 64;
/// What is known is put into a term at most this often.
const NORM_LIMIT: usize = 8;
/// A set of values with more members is not enumerated.
const VALUES_LIMIT: usize = 2048;

/// All terms of one check.
#[derive(Debug, Default)]
pub(super) struct Terms {
    nodes: Vec<Node>,
    /// How large each is.
    sizes: Vec<u32>,
    /// Whether it consists of constants and of what the function was entered with.
    stable: Vec<bool>,
    index: HashMap<Node, Term>,
    unknown: u32,
}

impl Terms {
    pub(super) fn add(&mut self, node: Node) -> Term {
        if let Some(&term) = self.index.get(&node) {
            return term;
        }
        let term = Term(self.nodes.len() as u32);
        let (size, stable) = match &node {
            Node::Const(_) | Node::Entry(_) => (1, true),
            Node::Pure(_, args) => (
                args.iter().fold(1, |size: u32, arg| size.saturating_add(self.sizes[arg.0 as usize])),
                args.iter().all(|arg| self.stable[arg.0 as usize]),
            ),
            Node::Slot(..) | Node::Result(_) | Node::Returned(..) | Node::Unknown(_) => (1, false),
        };
        self.sizes.push(size);
        self.stable.push(stable);
        self.nodes.push(node.clone());
        self.index.insert(node, term);
        term
    }

    pub(super) fn node(&self, term: Term) -> &Node {
        &self.nodes[term.0 as usize]
    }

    fn is_large(&self, term: Term) -> bool {
        self.sizes[term.0 as usize] > SIZE_LIMIT
    }

    /// Whether a term means the same in every block of the function.
    pub(super) fn is_stable(&self, term: Term) -> bool {
        self.stable[term.0 as usize] && self.sizes[term.0 as usize] <= KEPT_LIMIT
    }

    pub(super) fn constant(&mut self, word: Word) -> Term {
        self.add(Node::Const(word))
    }

    pub(super) fn unknown(&mut self) -> Term {
        self.unknown += 1;
        self.add(Node::Unknown(self.unknown))
    }

    /// A pure instruction, computed if its operands are constants.
    pub(super) fn pure(&mut self, opcode: Opcode, args: Vec<Term>) -> Term {
        let words: Vec<Word> = args.iter().filter_map(|&arg| self.as_const(arg)).collect();
        if words.len() == args.len()
            && let Ok(word) = eval(opcode, Imm::None, &words, None)
        {
            return self.constant(word);
        }
        if opcode == Opcode::And {
            for (a, b) in [(args[0], args[1]), (args[1], args[0])] {
                if self.as_const(a) == Some(Word::ZERO) {
                    return a;
                }
                // Masked twice.
                if matches!(self.node(b), Node::Pure(Opcode::And, inner) if inner.contains(&a)) {
                    return b;
                }
            }
        }
        self.add(Node::Pure(opcode, args))
    }

    pub(super) fn as_const(&self, term: Term) -> Option<Word> {
        match self.node(term) {
            Node::Const(word) => Some(*word),
            _ => None,
        }
    }

    /// `term` with every part for which `with` gives something replaced.
    pub(super) fn replace(&mut self, term: Term, with: &dyn Fn(Term) -> Option<Term>) -> Term {
        if let Some(new) = with(term) {
            return new;
        }
        if self.is_large(term) {
            return term;
        }
        let Node::Pure(opcode, args) = self.node(term) else { return term };
        let (opcode, args) = (*opcode, args.clone());
        let new: Vec<Term> = args.iter().map(|&arg| self.replace(arg, with)).collect();
        if new == args { term } else { self.pure(opcode, new) }
    }

    pub(super) fn show(&self, term: Term) -> String {
        if self.is_large(term) {
            return "…".to_owned();
        }
        match self.node(term) {
            Node::Const(word) => format!("{word:#x}"),
            Node::Entry(slot) => format!("entry{slot}"),
            Node::Slot(block, slot) => format!("{block}.{slot}"),
            Node::Result(pc) => format!("@{pc:04x}"),
            Node::Returned(inst, at) => format!("{inst}.{at}"),
            Node::Unknown(_) => "?".to_owned(),
            Node::Pure(opcode, args) => {
                let args: Vec<String> = args.iter().map(|&arg| self.show(arg)).collect();
                format!("({opcode} {})", args.join(" "))
            }
        }
    }

    /// Every value that a term can have; `tables` gives the values of what was read from tables in the code, by the
    /// place they were read from. `None` if they are not known or too many.
    pub(super) fn values(&mut self, term: Term, tables: &Tables<'_>, budget: &mut usize) -> Option<BTreeSet<Word>> {
        *budget = budget.checked_sub(1).filter(|_| !self.is_large(term))?;
        if let Some(word) = self.as_const(term) {
            return Some(BTreeSet::from([word]));
        }
        // What was read from a table is the same everywhere in the term: one case for each of its values.
        if let Some(leaf) = self.leaf(term, tables) {
            let members = match &tables.map[&leaf] {
                Source::Code(table) => {
                    self.values(table.from, tables, budget)?.into_iter().map(|from| tables.read(table, from)).collect()
                }
                Source::Known(values) => values.clone(),
            };
            let mut all = BTreeSet::new();
            for member in members {
                let member = self.constant(member);
                let one = self.replace(term, &|part| (part == leaf).then_some(member));
                all.extend(self.values(one, tables, budget)?);
            }
            return (all.len() <= VALUES_LIMIT).then_some(all);
        }
        let Node::Pure(opcode, args) = self.node(term) else { return None };
        let (opcode, args) = (*opcode, args.clone());
        let known: Vec<Option<BTreeSet<Word>>> = args.iter().map(|&arg| self.values(arg, tables, budget)).collect();
        // A remainder and a mask bound what is not known.
        let bound = |word: Word| usize::try_from(word).ok().filter(|bound| *bound <= VALUES_LIMIT);
        let single = |at: usize| self.as_const(args[at]).and_then(bound);
        match (opcode, &known[..]) {
            (Opcode::Urem, [None, Some(_)]) => {
                return single(1).map(|modulus| (0..modulus.max(1)).map(Word::from).collect());
            }
            (Opcode::And, [None, Some(_)]) => return single(1).map(submasks),
            (Opcode::And, [Some(_), None]) => return single(0).map(submasks),
            _ => {}
        }
        let mut rows: Vec<Vec<Term>> = vec![Vec::new()];
        for values in known {
            let values: Vec<Term> = values?.into_iter().map(|word| self.constant(word)).collect();
            if rows.len() * values.len() > VALUES_LIMIT {
                return None;
            }
            rows = rows
                .iter()
                .flat_map(|row| values.iter().map(move |&value| row.iter().copied().chain([value]).collect()))
                .collect();
        }
        *budget = budget.checked_sub(rows.len())?;
        rows.into_iter()
            .map(|row| {
                let term = self.pure(opcode, row);
                self.as_const(term)
            })
            .collect()
    }

    /// Whether a term depends on what was read from a table.
    pub(super) fn reads(&self, term: Term, tables: &Tables<'_>) -> bool {
        self.leaf(term, tables).is_some()
    }

    fn leaf(&self, term: Term, tables: &Tables<'_>) -> Option<Term> {
        if tables.map.contains_key(&term) {
            return Some(term);
        }
        match self.node(term) {
            Node::Pure(_, args) if !self.is_large(term) => args.iter().find_map(|&arg| self.leaf(arg, tables)),
            _ => None,
        }
    }
}

fn submasks(mask: usize) -> BTreeSet<Word> {
    (0..=mask).filter(|word| word & !mask == 0).map(Word::from).collect()
}

/// What comes from tables in the code.
#[derive(Clone, Debug)]
pub(super) struct Tables<'c> {
    pub(super) code: &'c [u8],
    pub(super) map: BTreeMap<Term, Source>,
}

/// What is known of a word that comes from a table.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Code(Table),
    /// One of these, found in a block before.
    Known(BTreeSet<Word>),
}

/// `len` bytes of the code at `from`, shifted left by `shift` bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table {
    pub(super) from: Term,
    pub(super) len: u32,
    pub(super) shift: u32,
}

impl Tables<'_> {
    fn read(&self, table: &Table, from: Word) -> Word {
        let bytes = (0..table.len).map(|at| {
            let place = from.checked_add(Word::from(at)).and_then(|place| usize::try_from(place).ok());
            place.and_then(|place| self.code.get(place)).copied().unwrap_or(0)
        });
        bytes.fold(Word::ZERO, |word, byte| (word << 8) | Word::from(byte)) << (8 * table.shift as usize)
    }
}

/// What is known on a path: terms that have a known value, and terms that are zero or not.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    equal: BTreeMap<Term, Term>,
    truths: BTreeMap<Term, bool>,
}

impl Known {
    /// `term` with what is known put in.
    pub(super) fn norm(&self, terms: &mut Terms, term: Term) -> Term {
        let mut term = term;
        // What is put in may contain something else that is known.
        for _ in 0..NORM_LIMIT {
            let next =
                if self.equal.is_empty() { term } else { terms.replace(term, &|part| self.equal.get(&part).copied()) };
            if next == term {
                break;
            }
            term = next;
        }
        term
    }

    /// Whether a term is zero (`false`) or not, if that is known.
    pub(super) fn truth(&self, terms: &mut Terms, term: Term) -> Option<bool> {
        let term = self.norm(terms, term);
        if let Some(truth) = self.truths.get(&term) {
            return Some(*truth);
        }
        match terms.node(term) {
            Node::Const(word) => Some(!word.is_zero()),
            Node::Pure(Opcode::Iszero, args) if !terms.is_large(term) => {
                let inner = args[0];
                self.truth(terms, inner).map(|truth| !truth)
            }
            _ => None,
        }
    }

    /// Takes note that `term` is zero (`truth` is false) or not.
    pub(super) fn assume(&mut self, terms: &mut Terms, term: Term, truth: bool) {
        let (mut term, mut truth) = (self.norm(terms, term), truth);
        loop {
            self.truths.insert(term, truth);
            let node = terms.node(term).clone();
            if !truth {
                self.set(terms, term, Word::ZERO);
            } else if matches!(&node, Node::Pure(opcode, _) if is_bool(*opcode)) {
                self.set(terms, term, Word::ONE);
            }
            match node {
                Node::Pure(Opcode::Iszero, args) => {
                    term = args[0];
                    truth = !truth;
                }
                Node::Pure(Opcode::Eq, args) if truth => {
                    match (terms.as_const(args[0]), terms.as_const(args[1])) {
                        (None, Some(word)) => self.set(terms, args[0], word),
                        (Some(word), None) => self.set(terms, args[1], word),
                        _ => {}
                    }
                    return;
                }
                _ => return,
            }
        }
    }

    /// Takes note that `term` is `other`.
    pub(super) fn same(&mut self, term: Term, other: Term) {
        self.equal.insert(term, other);
    }

    fn set(&mut self, terms: &mut Terms, term: Term, word: Word) {
        if terms.as_const(term).is_none() {
            let word = terms.constant(word);
            self.equal.insert(term, word);
        }
    }

    /// The items of the function's entry stack that are known to be zero or not.
    pub(super) fn entries(&self, terms: &Terms) -> BTreeMap<u32, bool> {
        let equal = self.equal.iter().filter_map(|(&term, &word)| Some((term, !terms.as_const(word)?.is_zero())));
        let truths = self.truths.iter().map(|(&term, &truth)| (term, truth));
        let slot = |(term, truth): (Term, bool)| match terms.node(term) {
            Node::Entry(slot) => Some((*slot, truth)),
            _ => None,
        };
        equal.chain(truths).filter_map(slot).collect()
    }
}

fn is_bool(opcode: Opcode) -> bool {
    matches!(opcode, Opcode::Ult | Opcode::Slt | Opcode::Eq | Opcode::Iszero)
}
