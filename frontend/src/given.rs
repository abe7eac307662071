//! The functions that can be seen without following calls, for programs in which one comes to light only after the other.
//!
//! An address that a block pushes for the next one is *given*; what that block leaves in its place is *passed on*. A block that is
//! given one address and gets another on another way merges them, so a function starts there. Nothing is followed through returns, so
//! not all functions are seen; and an edge that no execution takes counts, so more may be seen than stage 4 would find.

use std::collections::{BTreeMap, BTreeSet};

use zvm_ir::Pc;

use crate::decode::Code;
use crate::effects::Facts;
use crate::expr::{Arena, Expr, Node as Leaf};
use crate::summaries::{Resolved, Summaries, resolve};

/// What the slot of an address is given, as far as blocks that lead to one another say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Given {
    One(Expr),
    Several,
}

/// The blocks that are entered with different addresses, one of which the block before pushes: functions, whatever else is
/// found.
pub(crate) fn functions(code: &Code, arena: &mut Arena, table: &Summaries) -> BTreeSet<Pc> {
    let mut given: BTreeMap<(Pc, u32), Given> = BTreeMap::new();
    // Where a slot of a block is passed on to, as which slot.
    let mut passed: BTreeMap<(Pc, u32), Vec<(Pc, u32)>> = BTreeMap::new();
    let mut pushed: BTreeSet<(Pc, u32)> = BTreeSet::new();
    let mut pending = Vec::new();
    for &pc in table.blocks.keys() {
        for edge in table.effect(pc).map_or(&[][..], |effect| effect.end.edges()) {
            let Resolved::Block(to) = resolve(code, arena, edge.target) else { continue };
            for leave in table.leaves(to, &Facts::new()) {
                let Leaf::Entry(slot) = arena.node(leave.target) else { continue };
                let item = edge.stack.get(arena, slot);
                match arena.node(item) {
                    Leaf::Const(_) => {
                        pushed.insert((to, slot));
                        pending.push(((to, slot), Given::One(item)));
                    }
                    Leaf::Entry(from) => passed.entry((pc, from)).or_default().push((to, slot)),
                    Leaf::Top | Leaf::Param(..) | Leaf::Local(..) | Leaf::Set(_) | Leaf::Op(..) => {}
                }
            }
        }
    }
    while let Some((at, new)) = pending.pop() {
        let joined = given.get(&at).map_or(new, |&old| if old == new { old } else { Given::Several });
        if given.insert(at, joined) != Some(joined) {
            pending.extend(passed.get(&at).into_iter().flatten().map(|&to| (to, joined)));
        }
    }
    pushed.into_iter().filter(|at| given.get(at) == Some(&Given::Several)).map(|(pc, _)| pc).collect()
}
