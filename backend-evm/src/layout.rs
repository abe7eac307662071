//! Block layout: jumps to empty blocks go to where those go, blocks with the same code are one, hot paths fall through, cold
//! blocks come last.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use zvm_ir::Func;

use crate::machine::{End, Label, MachineOp, Piece, Table};
use crate::outline::{self, Token};
use crate::stackify::{FunctionCode, Program};
use crate::{Optimize, opcodes};

/// A piece in its place.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    /// The function; the code that starts the program has none.
    pub func: Option<Func>,
    /// Its index in the function's pieces.
    pub index: usize,
    /// Its code.
    pub piece: Piece,
    /// How often it is expected to run, relative to its function.
    pub weight: u32,
    /// Other blocks that this is the code of, by function and index.
    pub twins: Vec<(Func, usize)>,
}

/// Orders the pieces of a program. Pieces that only go elsewhere disappear. Gives the jump tables too, as they are then.
pub(crate) fn layout(program: &Program, optimize: Optimize) -> (Vec<Placed>, BTreeMap<Table, Vec<Label>>) {
    let entries: BTreeSet<Label> =
        program.functions.iter().filter_map(|code| code.pieces.first()).map(|piece| piece.label).collect();
    let mut threads = threads(&program.functions, &entries);
    let twins = if optimize == Optimize::None {
        BTreeMap::new()
    } else {
        merge(&program.functions, &entries, &mut threads, optimize)
    };
    let follow = |label: Label| threads.get(&label).copied().unwrap_or(label);
    let mut hot = Vec::new();
    let mut cold = Vec::new();
    for code in &program.functions {
        let mut pieces = code.pieces.clone();
        for piece in &mut pieces {
            piece.end = match piece.end {
                End::Closed => End::Closed,
                End::Goto(to) => End::Goto(follow(to)),
                End::Branch { nonzero, zero } => End::Branch { nonzero: follow(nonzero), zero: follow(zero) },
                End::Table(table) => End::Table(table),
            };
        }
        let keep: Vec<bool> = pieces.iter().map(|piece| !threads.contains_key(&piece.label)).collect();
        for index in order(&pieces, &keep, &code.weights) {
            let twins = twins.get(&pieces[index].label).cloned().unwrap_or_default();
            let weight = weight(&code.weights, index);
            let placed = Placed { func: code.func, index, piece: pieces[index].clone(), weight, twins };
            // A cold piece that follows the piece it belongs to stays there.
            let falls = |previous: &Placed| match previous.piece.end {
                End::Closed | End::Table(_) => false,
                End::Goto(to) => to == placed.piece.label,
                End::Branch { nonzero, zero } => nonzero == placed.piece.label || zero == placed.piece.label,
            };
            if placed.piece.cold && index != 0 && !hot.last().is_some_and(falls) {
                cold.push(placed);
            } else {
                hot.push(placed);
            }
        }
    }
    hot.extend(cold);
    let tables = program.functions.iter().flat_map(|code| &code.tables);
    let tables = tables.map(|(&table, labels)| (table, labels.iter().map(|&label| follow(label)).collect())).collect();
    (hot, tables)
}

/// Where each empty piece leads, function entries excepted.
fn threads(functions: &[FunctionCode], entries: &BTreeSet<Label>) -> BTreeMap<Label, Label> {
    let mut next: BTreeMap<Label, Label> = BTreeMap::new();
    for piece in functions.iter().flat_map(|code| &code.pieces) {
        if let End::Goto(to) = piece.end
            && piece.code.is_empty()
            && !entries.contains(&piece.label)
        {
            next.insert(piece.label, to);
        }
    }
    let mut ends = BTreeMap::new();
    for &start in next.keys() {
        let mut at = start;
        let mut seen = BTreeSet::new();
        while let Some(&to) = next.get(&at)
            && seen.insert(at)
        {
            at = to;
        }
        // An empty endless loop has no end: it stays as it is.
        if !next.contains_key(&at) {
            ends.insert(start, at);
        }
    }
    ends
}

/// Leads from each piece to one before it that does the same, function entries excepted: where gas matters only among those
/// that end badly. Gives for each piece that stands for others which those are.
fn merge(
    functions: &[FunctionCode],
    entries: &BTreeSet<Label>,
    threads: &mut BTreeMap<Label, Label>,
    optimize: Optimize,
) -> BTreeMap<Label, Vec<(Func, usize)>> {
    let mut merged: BTreeMap<Label, (Func, usize)> = BTreeMap::new();
    loop {
        let follow = |label: Label| threads.get(&label).copied().unwrap_or(label);
        let mut known: HashMap<(Vec<Token>, End), Label> = HashMap::new();
        let mut found: Vec<(Label, Label, Func, usize)> = Vec::new();
        for code in functions {
            let Some(func) = code.func else { continue };
            for (index, piece) in code.pieces.iter().enumerate() {
                if entries.contains(&piece.label)
                    || threads.contains_key(&piece.label)
                    || !(piece.cold || optimize == Optimize::Size)
                {
                    continue;
                }
                let end = match piece.end {
                    End::Goto(to) => End::Goto(follow(to)),
                    End::Branch { nonzero, zero } => End::Branch { nonzero: follow(nonzero), zero: follow(zero) },
                    end @ (End::Closed | End::Table(_)) => end,
                };
                let mut ops = outline::tokens(&piece.code);
                for token in &mut ops {
                    if let Token::Op(MachineOp::PushLabel(label)) = token {
                        *label = follow(*label);
                    }
                }
                match known.entry((ops, end)) {
                    Entry::Occupied(first) => found.push((piece.label, *first.get(), func, index)),
                    Entry::Vacant(first) => drop(first.insert(piece.label)),
                }
            }
        }
        if found.is_empty() {
            break;
        }
        for (label, first, func, index) in found {
            threads.values_mut().filter(|to| **to == label).for_each(|to| *to = first);
            threads.insert(label, first);
            merged.insert(label, (func, index));
        }
    }
    let mut twins: BTreeMap<Label, Vec<(Func, usize)>> = BTreeMap::new();
    for (label, place) in merged {
        if let Some(&first) = threads.get(&label) {
            twins.entry(first).or_default().push(place);
        }
    }
    twins
}

/// Whether a branch at the end of the code can be turned around for nothing.
fn is_turned(piece: &Piece) -> bool {
    let last = piece.code.last().map(|inst| inst.op);
    matches!(last, Some(MachineOp::Plain(opcodes::EQ | opcodes::SUB | opcodes::XOR | opcodes::ISZERO)))
}

/// The order of a function's pieces: chains along the likelier successor; cold pieces only where nothing else can follow.
fn order(pieces: &[Piece], keep: &[bool], weights: &[u32]) -> Vec<usize> {
    let by_label: BTreeMap<Label, usize> = pieces.iter().enumerate().map(|(at, piece)| (piece.label, at)).collect();
    let mut incoming = vec![0u32; pieces.len()];
    for (piece, _) in pieces.iter().zip(keep).filter(|&(_, &keep)| keep) {
        for target in targets(piece.end) {
            if let Some(&at) = by_label.get(&target) {
                incoming[at] += 1;
            }
        }
    }
    let mut placed = vec![false; pieces.len()];
    let mut out = Vec::with_capacity(pieces.len());
    // Starts of chains: the entry, everything likely, then the cold pieces.
    let of = |cold: bool| (1..pieces.len()).filter(move |&at| pieces[at].cold == cold);
    let starts = (0..pieces.len().min(1)).chain(of(false)).chain(of(true));
    for start in starts {
        let mut next = Some(start);
        while let Some(at) = next {
            if placed[at] || !keep[at] {
                break;
            }
            placed[at] = true;
            out.push(at);
            let free = |label: Label| by_label.get(&label).copied().filter(|&at| !placed[at] && keep[at]);
            next = match pieces[at].end {
                End::Closed | End::Table(_) => None,
                End::Goto(to) => free(to).filter(|&to| !pieces[to].cold || incoming[to] == 1),
                End::Branch { nonzero, zero } => {
                    let (taken, fallen) = (free(nonzero), free(zero));
                    let likely = |at: Option<usize>| at.filter(|&at| !pieces[at].cold);
                    match (likely(taken), likely(fallen)) {
                        // Falling through where the condition holds takes an ISZERO, jumping there a JUMPDEST, which
                        // costs less.
                        (Some(a), Some(b)) if weight(weights, a) > weight(weights, b) && is_turned(&pieces[at]) => {
                            Some(a)
                        }
                        (_, Some(b)) => Some(b),
                        (Some(a), None) => Some(a),
                        (None, None) => fallen.or(taken).filter(|&at| incoming[at] == 1),
                    }
                }
            };
        }
    }
    out
}

fn weight(weights: &[u32], at: usize) -> u32 {
    weights.get(at).copied().unwrap_or(1)
}

fn targets(end: End) -> Vec<Label> {
    match end {
        End::Closed | End::Table(_) => vec![],
        End::Goto(to) => vec![to],
        End::Branch { nonzero, zero } => vec![nonzero, zero],
    }
}
