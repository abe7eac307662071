//! Code that stands in several places is emitted once, where that pays.
//!
//! Does: of blocks that end alike, all but one jump to the end of that one (*tails*). Other straight code becomes a routine:
//! it is jumped to with the address to come back to on top of the stack, and puts that below the words that it takes
//! (*routines*). Both are told by the instructions alone, whatever the words on the stack mean, so the blocks that
//! share code need have nothing else in common.
//! Requires: code as it will be emitted, but for addresses. Ensures: each piece does to the stack, to memory and to the world
//! what it did; a routine needs one word more of the stack. No call that can come back to its function a second time is
//! put into a routine, so a recursion needs no more words for each level.
//! Preserves: equality of `Outcome`.
//! After: Fraser, Myers and Wendt, "Analyzing and compressing assembly code" (repeats by suffixes).

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use crate::constant;
use crate::emit::Straight;
use crate::machine::{Label, MachineInst, MachineOp, gas};
use crate::{Optimize, Options, opcodes};

/// The longest code that becomes a routine, in instructions.
const LONGEST: usize = 400;
/// How many words a routine takes or leaves at most: each costs an instruction to bring the address past it.
const WORDS: usize = 8;
/// How often the whole is searched for repeats, in case there are repeats of what has become alike.
const ROUNDS: usize = 6;
/// How many instructions at most are executed for one that stands in a routine: that routine may be all of one of the next
/// round, and so on.
pub(crate) const SLOWEST: usize = 1 + ROUNDS * (6 + 2 * WORDS);
/// Bytes and gas of going to a shared tail: PUSH2, JUMP, JUMPDEST.
const TAIL: (i64, i64) = (4, 12);
/// Bytes and gas of calling a routine and coming back: twice PUSH2, JUMP and JUMPDEST, of which one pair stands in the routine.
const CALL: (i64, i64) = (8, 24);

/// What a function or routine does to the stack when it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Callable {
    /// The words it takes, the address to come back to among them.
    pub pops: usize,
    /// The words it leaves.
    pub pushes: usize,
    /// How many words it can tell from others, from the top on: a routine may copy words that it does not take.
    pub sees: usize,
}

/// What may be called in a routine.
pub(crate) type Callables = BTreeMap<Label, Callable>;

/// An instruction, told apart from others that do the same only where that matters: the label that a call comes back to is
/// told by the place of its mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Token {
    /// An instruction as it is.
    Op(MachineOp),
    /// The push of a label that is marked so many instructions further on, and pushed nowhere else.
    Back(usize),
    /// The mark of a label that is pushed so many instructions before.
    Here(usize),
}

/// The tokens of some code.
pub(crate) fn tokens(code: &[MachineInst]) -> Vec<Token> {
    let mut tokens: Vec<Token> = code.iter().map(|inst| Token::Op(inst.op)).collect();
    let mut pushed: BTreeMap<Label, usize> = BTreeMap::new();
    for (at, inst) in code.iter().enumerate() {
        match inst.op {
            MachineOp::PushLabel(label) => drop(pushed.insert(label, at)),
            MachineOp::Mark(label) => {
                if let Some(&push) = pushed.get(&label) {
                    (tokens[push], tokens[at]) = (Token::Back(at - push), Token::Here(at - push));
                }
            }
            _ => {}
        }
    }
    tokens
}

/// Shares code among pieces; adds the routines behind them. `callables` are the functions that may be called in a routine.
pub(crate) fn outline(pieces: &mut Vec<Straight>, mut callables: Callables, options: &Options) {
    if options.optimize == Optimize::None {
        return;
    }
    let marks = pieces.iter().flat_map(|piece| &piece.code).filter_map(|inst| match inst.op {
        MachineOp::Mark(label) | MachineOp::PushLabel(label) => Some(label.0),
        _ => None,
    });
    let mut next = marks.chain(pieces.iter().map(|piece| piece.label.0)).max().map_or(0, |label| label + 1);
    let mut names = Names { options, known: HashMap::new(), len: Vec::new() };
    for _ in 0..ROUNDS {
        if !share_tails(pieces, &mut names, &mut next) {
            break;
        }
    }
    for _ in 0..ROUNDS {
        if !make_routines(pieces, &mut names, &mut callables, &mut next) {
            break;
        }
    }
}

/// Numbers for tokens, in the order in which they are met, and the length of each in bytes.
struct Names<'a> {
    options: &'a Options,
    known: HashMap<Token, u32>,
    len: Vec<u32>,
}

impl Names<'_> {
    fn of(&mut self, code: &[MachineInst]) -> Vec<u32> {
        tokens(code)
            .into_iter()
            .zip(code)
            .map(|(token, inst)| {
                *self.known.entry(token).or_insert_with(|| {
                    self.len.push(constant::len(inst.op, self.options) as u32);
                    self.len.len() as u32 - 1
                })
            })
            .collect()
    }

    fn bytes(&self, names: &[u32]) -> i64 {
        names.iter().map(|&name| i64::from(self.len[name as usize])).sum()
    }

    /// What saving so many bytes is worth where it costs gas, each gas counted four times per run of its function. For size,
    /// a byte is worth four gas; for gas, a gas eight bytes.
    fn worth(&self, bytes: i64, gas: i64) -> i64 {
        match self.options.optimize {
            Optimize::Size => 16 * bytes - gas,
            Optimize::Gas | Optimize::None => bytes - 2 * gas,
        }
    }

    /// Whether the code of a piece may be shared.
    fn may_share(&self, piece: &Straight) -> bool {
        piece.cold || self.options.optimize == Optimize::Size
    }
}

/// How many names two lists begin with alike.
fn common(a: impl Iterator<Item = u32>, b: impl Iterator<Item = u32>) -> usize {
    a.zip(b).take_while(|(a, b)| a == b).count()
}

/// The runs of neighbours in a sorted list that begin alike: how much they have in common, how much with more of their
/// neighbours, and which they are. `alike` has what each but the first has in common with the one before it.
fn runs(alike: &[usize]) -> Vec<(usize, usize, Range<usize>)> {
    let mut found = Vec::new();
    let mut open: Vec<(usize, usize)> = Vec::new();
    for at in 1..=alike.len() {
        let len = alike.get(at).copied().unwrap_or_default();
        let mut start = at - 1;
        while let Some(&(deeper, from)) = open.last()
            && deeper > len
        {
            open.pop();
            start = from;
            let outer = open.last().map_or(0, |&(outer, _)| outer).max(len);
            found.push((deeper, outer, from..at));
        }
        if len > open.last().map_or(0, |&(known, _)| known) {
            open.push((len, start));
        }
    }
    found
}

/// Lets blocks that end alike jump to the end of one of them; whether there were any.
fn share_tails(pieces: &mut [Straight], names: &mut Names<'_>, next: &mut u32) -> bool {
    let ends = |piece: &Straight| {
        let last = piece.code.last().map(|inst| inst.op);
        matches!(last, Some(MachineOp::Plain(byte)) if byte == opcodes::JUMP || is_halt(byte))
    };
    let named: Vec<Vec<u32>> = pieces.iter().map(|piece| names.of(&piece.code)).collect();
    let mut order: Vec<usize> =
        (0..pieces.len()).filter(|&at| ends(&pieces[at]) && names.may_share(&pieces[at])).collect();
    order.sort_by(|&a, &b| named[a].iter().rev().cmp(named[b].iter().rev()).then(a.cmp(&b)));
    let backwards = |at: usize| named[order[at]].iter().rev().copied();
    let alike: Vec<usize> =
        (0..order.len()).map(|at| if at == 0 { 0 } else { common(backwards(at - 1), backwards(at)) }).collect();
    // For each run of blocks that end alike: what it is worth, the length of the end, the host, and the others.
    let mut found: Vec<(i64, usize, usize, Vec<usize>)> = Vec::new();
    for (len, _, run) in runs(&alike) {
        let sample = order[run.start];
        let len = whole_calls(&pieces[sample].code, len);
        let bytes = names.bytes(&named[sample][named[sample].len() - len..]);
        let mut members: Vec<usize> = order[run].to_vec();
        members.sort_by_key(|&at| (core::cmp::Reverse(pieces[at].weight), at));
        // The host keeps its start: a block is told from its tail.
        let Some(place) = members.iter().position(|&at| named[at].len() > len) else { continue };
        let host = members.remove(place);
        let saved = |at: usize| names.worth(bytes - TAIL.0, TAIL.1 * i64::from(pieces[at].weight));
        members.retain(|&at| saved(at) > 0);
        let worth = members.iter().map(|&at| saved(at)).sum::<i64>() + names.worth(-1, i64::from(pieces[host].weight));
        if worth > 0 {
            members.sort_unstable();
            found.push((worth, len, host, members));
        }
    }
    found.sort_by(|a, b| b.cmp(a));
    let mut changed = vec![false; pieces.len()];
    let mut any = false;
    for (_, len, host, members) in found {
        if changed[host] || members.iter().any(|&at| changed[at]) {
            continue;
        }
        let cut = pieces[host].code.len() - len;
        let before = pieces[host].code[cut - 1].op;
        let tail = match before {
            // An end that others share already.
            MachineOp::Mark(label) if !is_back(&pieces[host].code[..cut], label) => label,
            _ => {
                let label = Label(*next);
                *next += 1;
                let pc = pieces[host].code[cut].pc;
                pieces[host].code.insert(cut, MachineInst { op: MachineOp::Mark(label), pc });
                label
            }
        };
        for &at in members.iter().chain([&host]) {
            changed[at] = true;
        }
        for at in members {
            pieces[host].weight = pieces[host].weight.saturating_add(pieces[at].weight);
            let code = &mut pieces[at].code;
            let pc = code[code.len() - len].pc;
            code.truncate(code.len() - len);
            code.push(MachineInst { op: MachineOp::PushLabel(tail), pc });
            code.push(MachineInst { op: MachineOp::Plain(opcodes::JUMP), pc });
        }
        any = true;
    }
    any
}

/// Whether a label is pushed in the code that it is marked in.
fn is_back(code: &[MachineInst], label: Label) -> bool {
    code.iter().any(|inst| inst.op == MachineOp::PushLabel(label))
}

fn is_halt(byte: u8) -> bool {
    matches!(byte, opcodes::STOP | opcodes::RETURN | opcodes::REVERT | opcodes::INVALID | opcodes::SELFDESTRUCT)
}

/// The most of the last `len` instructions that has the push of each label that is marked in it.
fn whole_calls(code: &[MachineInst], len: usize) -> usize {
    let tokens = tokens(code);
    let mut start = code.len() - len;
    for (at, token) in tokens.iter().enumerate().skip(start) {
        if matches!(token, Token::Here(back) if at - back < start) {
            start = at + 1;
        }
    }
    code.len() - start
}

/// Whether the label of each call in a range of some code is pushed and marked in it.
fn has_whole_calls(tokens: &[Token], range: Range<usize>) -> bool {
    range.clone().all(|at| match tokens[at] {
        Token::Back(on) => at + on < range.end,
        Token::Here(back) => at >= range.start + back,
        Token::Op(_) => true,
    })
}

/// What some code does to the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    /// How many words it takes or moves.
    takes: usize,
    /// How many words are in their place in the end.
    leaves: usize,
    /// How many words it can tell from others.
    sees: usize,
}

/// What code does to the stack, if it is straight and can be a routine.
fn shape(code: &[MachineInst], callables: &Callables, reach: usize) -> Option<Shape> {
    let tokens = tokens(code);
    let (mut height, mut low) = (0i64, 0i64);
    let mut deepest = 0i64;
    for (at, inst) in code.iter().enumerate() {
        let (pops, pushes) = match (inst.op, tokens[at]) {
            (MachineOp::Plain(opcodes::JUMP), _) => {
                // A call: the function's label on top, and behind the jump the place where it comes back.
                let callee = at.checked_sub(1).map(|before| code[before].op);
                let Some(MachineOp::PushLabel(callee)) = callee else { return None };
                if !matches!(tokens.get(at + 1), Some(Token::Here(_))) {
                    return None;
                }
                let callable = callables.get(&callee)?;
                low = low.min(height - 1 - callable.sees as i64);
                (callable.pops + 1, callable.pushes)
            }
            (MachineOp::Plain(byte), _) => {
                let row = opcodes::info(byte)?;
                if is_halt(byte) || matches!(byte, opcodes::JUMPI | opcodes::JUMPDEST) {
                    return None;
                }
                (usize::from(row.pops), usize::from(row.pushes))
            }
            (MachineOp::Mark(_), Token::Here(_)) => (0, 0),
            (MachineOp::Mark(_), _) => return None,
            (MachineOp::Dup(depth), _) => {
                deepest = deepest.min(height - i64::from(depth));
                (0, 1)
            }
            (MachineOp::Swap(below), _) => {
                low = low.min(height - 1 - i64::from(below));
                (0, 0)
            }
            (MachineOp::Exchange(immediate), _) => {
                let (_, far) = opcodes::exchange_depths(immediate)?;
                low = low.min(height - 1 - far as i64);
                (0, 0)
            }
            (
                MachineOp::Push(_)
                | MachineOp::PushImmutable(_)
                | MachineOp::PushLabel(_)
                | MachineOp::PushData(..)
                | MachineOp::PushTable(_),
                _,
            ) => (0, 1),
        };
        low = low.min(height - pops as i64);
        height += pushes as i64 - pops as i64;
    }
    let shape = Shape {
        takes: usize::try_from(-low).ok()?,
        leaves: usize::try_from(height - low).ok()?,
        sees: usize::try_from(-low.min(deepest)).ok()?,
    };
    let fits = shape.takes <= WORDS.min(reach) && shape.leaves <= WORDS.min(reach);
    // What a DUP finds below the address to come back to is one word deeper.
    let reached = deepest >= low
        || adjusted(code, callables, shape)?.iter().all(|inst| match inst.op {
            MachineOp::Dup(depth) => usize::from(depth) <= reach,
            _ => true,
        });
    (fits && reached).then_some(shape)
}

/// The code with the address to come back to below the words that it takes.
fn adjusted(code: &[MachineInst], callables: &Callables, shape: Shape) -> Option<Vec<MachineInst>> {
    let low = -(shape.takes as i64);
    let mut height = 0i64;
    let mut out = Vec::with_capacity(code.len());
    for (at, inst) in code.iter().enumerate() {
        let mut inst = *inst;
        match inst.op {
            MachineOp::Plain(opcodes::JUMP) => {
                let Some(MachineOp::PushLabel(callee)) = at.checked_sub(1).map(|before| code[before].op) else {
                    return None;
                };
                let callable = callables.get(&callee)?;
                height += callable.pushes as i64 - callable.pops as i64 - 1;
            }
            MachineOp::Plain(byte) => {
                let row = opcodes::info(byte)?;
                height += i64::from(row.pushes) - i64::from(row.pops);
            }
            MachineOp::Dup(depth) => {
                if height - i64::from(depth) < low {
                    inst.op = MachineOp::Dup(depth.checked_add(1)?);
                }
                height += 1;
            }
            MachineOp::Swap(_) | MachineOp::Exchange(_) | MachineOp::Mark(_) => {}
            MachineOp::Push(_)
            | MachineOp::PushImmutable(_)
            | MachineOp::PushLabel(_)
            | MachineOp::PushData(..)
            | MachineOp::PushTable(_) => height += 1,
        }
        out.push(inst);
    }
    Some(out)
}

/// The body of a routine: the address to come back to goes below the words that it takes, and comes up again in the end.
fn routine(code: &[MachineInst], callables: &Callables, shape: Shape) -> Option<Vec<MachineInst>> {
    let (first, last) = (code.first()?.pc, code.last()?.pc);
    let mut body: Vec<MachineInst> = Vec::with_capacity(code.len() + shape.takes + shape.leaves + 1);
    body.extend((1..=shape.takes).rev().map(|below| MachineInst { op: MachineOp::Swap(below as u8), pc: first }));
    body.extend(adjusted(code, callables, shape)?);
    body.extend((1..=shape.leaves).map(|below| MachineInst { op: MachineOp::Swap(below as u8), pc: last }));
    body.push(MachineInst { op: MachineOp::Plain(opcodes::JUMP), pc: last });
    Some(body)
}

/// Code that stands in several places.
struct Repeat {
    worth: i64,
    /// The instructions of the whole program where it starts, in order; no two overlap.
    places: Vec<usize>,
    len: usize,
    shape: Shape,
}

/// Makes routines of the code that is worth most; whether there was any.
fn make_routines(pieces: &mut Vec<Straight>, names: &mut Names<'_>, callables: &mut Callables, next: &mut u32) -> bool {
    let reach = names.options.fork.reach();
    // The whole program as one list of names, a number of its own behind each piece and in place of what is not shared.
    let mut text: Vec<u32> = Vec::new();
    let mut origin: Vec<(usize, usize)> = Vec::new();
    for (index, piece) in pieces.iter().enumerate() {
        let named = names.of(&piece.code);
        let shared = names.may_share(piece);
        for (at, name) in named.into_iter().enumerate() {
            let unique = u32::MAX - text.len() as u32;
            text.push(if shared && may_stand_inside(&piece.code, at) { name } else { unique });
            origin.push((index, at));
        }
        text.push(u32::MAX - text.len() as u32);
        origin.push((index, piece.code.len()));
    }
    let all: Vec<Vec<Token>> = pieces.iter().map(|piece| tokens(&piece.code)).collect();
    let ends: Vec<usize> = {
        let mut end = text.len();
        let mut ends = vec![0; text.len()];
        for at in (0..text.len()).rev() {
            if text[at] as usize >= names.len.len() {
                end = at;
            }
            ends[at] = end.min(at + LONGEST);
        }
        ends
    };
    let mut order: Vec<usize> = (0..text.len()).filter(|&at| ends[at] > at).collect();
    order.sort_by(|&a, &b| text[a..ends[a]].cmp(&text[b..ends[b]]).then(a.cmp(&b)));
    let suffix = |at: usize| text[order[at]..ends[order[at]]].iter().copied();
    let alike: Vec<usize> =
        (0..order.len()).map(|at| if at == 0 { 0 } else { common(suffix(at - 1), suffix(at)) }).collect();
    let weight = |place: usize| i64::from(pieces[origin[place].0].weight);
    let mut found: Vec<Repeat> = Vec::new();
    for (longest, outer, run) in runs(&alike) {
        let mut starts: Vec<usize> = order[run].to_vec();
        starts.sort_unstable();
        let start = starts[0];
        // Whatever its shape, it must save more than the calls cost.
        let most = names.bytes(&text[start..start + longest]) - CALL.0;
        if names.worth(most * starts.len() as i64 - most - CALL.0, 0) <= 0 {
            continue;
        }
        let (index, from) = origin[start];
        for len in (outer + 1..=longest).rev() {
            if !has_whole_calls(&all[index], from..from + len) {
                continue;
            }
            let code = &pieces[index].code[from..from + len];
            let Some(shape) = shape(code, callables, reach) else { continue };
            let bytes = names.bytes(&text[start..start + len]);
            let places = apart(&starts, len, |_| true);
            let worth = price(names, bytes, shape, &places, weight);
            if worth > 0 {
                found.push(Repeat { worth, places, len, shape });
            }
            break;
        }
    }
    found.sort_by(|a, b| (b.worth, &a.places, a.len).cmp(&(a.worth, &b.places, b.len)));
    let mut taken = vec![false; text.len()];
    let mut calls: BTreeMap<(usize, usize), (usize, Label)> = BTreeMap::new();
    let mut made: Vec<Straight> = Vec::new();
    for repeat in found {
        let Repeat { places, len, shape, .. } = repeat;
        let places = apart(&places, len, |place| !taken[place..place + len].contains(&true));
        let Some(&first) = places.first() else { continue };
        let bytes = names.bytes(&text[first..first + len]);
        if price(names, bytes, shape, &places, weight) <= 0 {
            continue;
        }
        let (index, from) = origin[first];
        let Some(body) = routine(&pieces[index].code[from..from + len], callables, shape) else { continue };
        let label = Label(*next);
        *next += 1;
        // What stands in a routine runs as often as all that calls it together.
        let weight = places.iter().fold(0u32, |sum, &place| sum.saturating_add(pieces[origin[place].0].weight));
        let cold = places.iter().all(|&place| pieces[origin[place].0].cold);
        made.push(Straight { label, code: body, weight, cold });
        for place in places {
            taken[place..place + len].fill(true);
            calls.insert(origin[place], (len, label));
        }
        callables.insert(label, Callable { pops: shape.takes + 1, pushes: shape.leaves, sees: shape.sees + 1 });
    }
    // From the last to the first, so that places before stay what they are.
    for (&(index, from), &(len, label)) in calls.iter().rev() {
        let back = Label(*next);
        *next += 1;
        let code = &mut pieces[index].code;
        let pc = code[from].pc;
        let call = [
            MachineOp::PushLabel(back),
            MachineOp::PushLabel(label),
            MachineOp::Plain(opcodes::JUMP),
            MachineOp::Mark(back),
        ];
        code.splice(from..from + len, call.map(|op| MachineInst { op, pc }));
    }
    pieces.append(&mut made);
    !calls.is_empty()
}

/// Whether an instruction may be inside a routine.
fn may_stand_inside(code: &[MachineInst], at: usize) -> bool {
    match code[at].op {
        MachineOp::Plain(opcodes::JUMP) => {
            matches!(code.get(at + 1).map(|inst| inst.op), Some(MachineOp::Mark(label)) if is_back(&code[..at], label))
        }
        MachineOp::Plain(byte) => !is_halt(byte) && byte != opcodes::JUMPI,
        MachineOp::Mark(label) => is_back(&code[..at], label),
        MachineOp::Push(_)
        | MachineOp::PushImmutable(_)
        | MachineOp::PushLabel(_)
        | MachineOp::PushData(..)
        | MachineOp::PushTable(_)
        | MachineOp::Dup(_)
        | MachineOp::Swap(_)
        | MachineOp::Exchange(_) => true,
    }
}

/// Those places that do not overlap one before them.
fn apart(places: &[usize], len: usize, free: impl Fn(usize) -> bool) -> Vec<usize> {
    let mut out: Vec<usize> = Vec::new();
    for &place in places {
        if free(place) && out.last().is_none_or(|&last| last + len <= place) {
            out.push(place);
        }
    }
    out
}

/// What making a routine of code in these places is worth.
fn price(names: &Names<'_>, bytes: i64, shape: Shape, places: &[usize], weight: impl Fn(usize) -> i64) -> i64 {
    let moves = (shape.takes + shape.leaves) as i64;
    let count = places.len() as i64;
    let saved = bytes * count - (CALL.0 * count + bytes + moves + 2);
    let swap = i64::from(gas(MachineOp::Swap(1)));
    let slower = places.iter().map(|&place| (CALL.1 + swap * moves) * weight(place)).sum();
    if count < 2 { 0 } else { names.worth(saved, slower) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Fork;
    use zvm_ir::Word;

    struct Random(u64);

    impl Random {
        fn below(&mut self, end: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end
        }
    }

    fn inst(op: MachineOp) -> MachineInst {
        MachineInst { op, pc: None }
    }

    /// Runs a piece on a stack until it stops; the words it leaves. Functions that are called are pieces too.
    fn run(pieces: &[Straight], index: usize, mut stack: Vec<Word>) -> Vec<Word> {
        let place = |label: u64| {
            pieces.iter().enumerate().find_map(|(piece, straight)| {
                let mark = straight.code.iter().position(|inst| inst.op == MachineOp::Mark(Label(label as u32)));
                let start = (u64::from(straight.label.0) == label).then_some(0);
                mark.or(start).map(|at| (piece, at))
            })
        };
        let (mut piece, mut at) = (index, 0);
        loop {
            let op = pieces[piece].code[at].op;
            at += 1;
            match op {
                MachineOp::Push(word) => stack.push(word),
                MachineOp::PushLabel(label) => stack.push(Word::from(label.0)),
                MachineOp::Dup(depth) => stack.push(stack[stack.len() - usize::from(depth)]),
                MachineOp::Swap(below) => {
                    let top = stack.len() - 1;
                    stack.swap(top, top - usize::from(below));
                }
                MachineOp::Plain(opcodes::JUMP) => {
                    (piece, at) = place(stack.pop().unwrap().to::<u64>()).expect("a jump goes to a label");
                }
                MachineOp::Plain(opcodes::STOP) => return stack,
                MachineOp::Plain(opcodes::POP) => drop(stack.pop()),
                MachineOp::Plain(opcodes::SUB) => {
                    let (a, b) = (stack.pop().unwrap(), stack.pop().unwrap());
                    stack.push(a.wrapping_sub(b));
                }
                MachineOp::Mark(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Code that leaves the stack at least as high as `low` all the time. `label` names the places that calls come back to.
    fn fragment(random: &mut Random, height: &mut usize, label: &mut u32) -> Vec<MachineInst> {
        let mut code = Vec::new();
        for _ in 0..3 + random.below(9) {
            let op = match random.below(6) {
                0 => MachineOp::Push(Word::from(random.below(3))),
                1 | 2 => MachineOp::Dup(1 + random.below((*height).min(16)) as u8),
                3 => MachineOp::Swap(1 + random.below((*height - 1).min(16)) as u8),
                4 if *height > 20 => MachineOp::Plain(opcodes::POP),
                5 if *height > 20 && random.below(3) == 0 => {
                    // A call of the function, which takes a word and leaves two.
                    code.push(inst(MachineOp::PushLabel(Label(*label))));
                    code.push(inst(MachineOp::Dup(3)));
                    code.push(inst(MachineOp::PushLabel(FUNCTION)));
                    code.push(inst(MachineOp::Plain(opcodes::JUMP)));
                    code.push(inst(MachineOp::Mark(Label(*label))));
                    *label += 1;
                    *height += 2;
                    continue;
                }
                _ if *height > 20 => MachineOp::Plain(opcodes::SUB),
                _ => MachineOp::Push(Word::from(0x1234_5678u64)),
            };
            match op {
                MachineOp::Push(_) | MachineOp::Dup(_) => *height += 1,
                MachineOp::Plain(_) => *height -= 1,
                _ => {}
            }
            code.push(inst(op));
        }
        code
    }

    const FUNCTION: Label = Label(1000);

    /// Pieces put together from a few fragments, and the function that they call.
    fn program(random: &mut Random) -> Vec<Straight> {
        let mut label = 2000;
        let mut pieces = Vec::new();
        let seeds: Vec<u64> = (0..3).map(|_| random.below(1 << 30) as u64 | 1).collect();
        for at in 0..4 {
            let mut height = 25;
            let mut code = Vec::new();
            for _ in 0..1 + random.below(5) {
                let mut same = Random(seeds[random.below(3)]);
                code.extend(fragment(&mut same, &mut height, &mut label));
            }
            code.push(inst(MachineOp::Plain(opcodes::STOP)));
            pieces.push(Straight { label: Label(at), code, weight: 1, cold: false });
        }
        let function = [
            MachineOp::Dup(1),
            MachineOp::Push(Word::from(77)),
            MachineOp::Plain(opcodes::SUB),
            MachineOp::Swap(2),
            MachineOp::Plain(opcodes::JUMP),
        ];
        pieces.push(Straight { label: FUNCTION, code: function.map(inst).to_vec(), weight: 1, cold: false });
        pieces
    }

    fn bytes(pieces: &[Straight], options: &Options) -> usize {
        pieces.iter().flat_map(|piece| &piece.code).map(|inst| constant::len(inst.op, options)).sum()
    }

    /// On random programs of a few fragments that repeat, each piece leaves the words that it left before, and the code is
    /// shorter on the whole.
    #[test]
    fn shared_code_does_the_same() {
        let mut random = Random(0x0dd_ba11);
        let (mut before, mut after, mut routines) = (0, 0, 0);
        for fork in [Fork::Osaka, Fork::Amsterdam] {
            let options = Options { fork, optimize: Optimize::Size, ..Options::default() };
            for _ in 0..400 {
                let old = program(&mut random);
                let mut new = old.clone();
                let callable = Callable { pops: 2, pushes: 2, sees: 2 };
                outline(&mut new, Callables::from([(FUNCTION, callable)]), &options);
                let stack: Vec<Word> = (0..25).map(|at| Word::from(900 + at)).collect();
                for at in 0..4 {
                    assert_eq!(run(&new, at, stack.clone()), run(&old, at, stack.clone()), "{old:#?}\n{new:#?}");
                }
                let depths = new.iter().flat_map(|piece| &piece.code).filter_map(|inst| match inst.op {
                    MachineOp::Dup(depth) | MachineOp::Swap(depth) => Some(usize::from(depth)),
                    _ => None,
                });
                assert!(depths.max() <= Some(fork.reach()));
                before += bytes(&old, &options);
                after += bytes(&new, &options);
                routines += new.len() - old.len();
            }
        }
        assert!(routines > 100 && after * 10 < before * 9, "{routines} routines, {before} → {after} bytes");
    }

    /// Nothing but what ends badly is touched where gas counts, and nothing at all with `none`.
    #[test]
    fn hot_code_stays_where_gas_counts() {
        let mut random = Random(0xbeef);
        for optimize in [Optimize::Gas, Optimize::None] {
            let options = Options { optimize, ..Options::default() };
            let old = program(&mut random);
            let mut new = old.clone();
            outline(&mut new, Callables::new(), &options);
            assert_eq!(format!("{old:?}"), format!("{new:?}"));
        }
    }

    /// A function that can be entered again before it comes back is not called from a routine.
    #[test]
    fn what_is_not_callable_stays_outside() {
        let call = |back: u32| {
            let word = MachineOp::Push(Word::MAX / Word::from(7));
            let ops = [
                MachineOp::PushLabel(Label(back)),
                word,
                MachineOp::PushLabel(FUNCTION),
                MachineOp::Plain(opcodes::JUMP),
                MachineOp::Mark(Label(back)),
                MachineOp::Plain(opcodes::STOP),
            ];
            Straight { label: Label(back + 1), code: ops.map(inst).to_vec(), weight: 4, cold: false }
        };
        let options = Options { optimize: Optimize::Size, ..Options::default() };
        // How many of the calls are left.
        let calls = |pieces: &[Straight]| {
            let ops = pieces.iter().flat_map(|piece| &piece.code).map(|inst| inst.op);
            ops.filter(|op| [10, 20, 30].map(|back| MachineOp::Mark(Label(back))).contains(op)).count()
        };
        // With ends that differ, so that the calls are in no common tail.
        let different = |at: u64, mut piece: Straight| {
            piece.code.insert(5, inst(MachineOp::Push(Word::from(at))));
            piece
        };
        let pieces = vec![different(1, call(10)), different(2, call(20)), different(3, call(30))];
        let mut open = pieces.clone();
        outline(&mut open, Callables::from([(FUNCTION, Callable { pops: 2, pushes: 0, sees: 2 })]), &options);
        assert_eq!(calls(&open), 1);
        let mut closed = pieces;
        outline(&mut closed, Callables::new(), &options);
        assert_eq!(calls(&closed), 3);
    }
}
