//! What functions do to memory, from the point of view of their callers.
//!
//! Compilers keep a *free memory pointer* in one word of memory and write only where it points or above. Nothing makes
//! that so; but where it is so for the pointer's value at the start of a function, it can be checked, and then the
//! function leaves what lies below alone. A summary therefore says two things: what a function does in any case, and what
//! it does when the pointer is in bounds as it is called.

use crate::Word;
use crate::function::{Function, Imm};
use crate::opcode::Opcode;
use crate::passes::Context;
use crate::passes::facts::Fact;
use crate::passes::facts::flow::Flow;
use crate::passes::memory::access::{Access, Span, access};
use crate::passes::memory::known::Known;

/// Where Solidity keeps the free memory pointer.
pub(crate) const POINTER: Span = Span { from: 0x40, to: 0x60, exact: true };

/// What the pointer is assumed to be: above what Solidity reserves, and too small for sums of such values to wrap.
pub(crate) fn pointer_fact() -> Fact {
    Fact::range(Word::from(0x80), Word::from(u64::MAX)).unwrap_or(Fact::ANY)
}

/// Whether the pointer is known to be so.
pub(crate) fn is_pointer(memory: &Known) -> bool {
    let bounds = pointer_fact();
    memory.word(POINTER).is_some_and(|fact| bounds.lo <= fact.lo && fact.hi <= bounds.hi)
}

/// What a function does to memory. The state that callers leave is read only through `reads`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Whether it can return at all.
    pub returns: bool,
    /// What it does in any case.
    pub anyhow: Access,
    /// What it does where [`is_pointer`] holds as it is called.
    pub pointed: Option<Pointed>,
}

/// What a function does where the free memory pointer is in bounds as it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pointed {
    /// The bytes it may read, and may have written when it returns.
    pub access: Access,
    /// What is known of the pointer when it returns.
    pub after: Option<Fact>,
}

impl Summary {
    /// Nothing is known.
    pub(crate) fn unknown() -> Self {
        Self { returns: true, anyhow: Access::all(), pointed: None }
    }

    /// The summary of a function whose callees have theirs in `cx`; with `memory`, memory is followed through it.
    pub(crate) fn of(func: &Function, cx: &Context, memory: bool) -> Self {
        let mut anyhow = Access::default();
        let mut returns = false;
        for (_, inst) in func.insts_in_order() {
            let data = &func.insts[inst];
            if data.opcode == Opcode::Ret {
                returns = true;
                continue;
            }
            let operand = |at: usize| {
                let value = data.args[at];
                func.constant(value).map_or_else(|| Fact::of_type(func.ty(value)), Fact::exact)
            };
            let access = access(data, cx, operand);
            anyhow.reads.extend(access.reads);
            anyhow.writes.extend(access.writes);
        }
        let touches = !anyhow.reads.is_empty() || !anyhow.writes.is_empty();
        let pointed = (memory && touches).then(|| Pointed::of(func, cx));
        Self { returns, anyhow: finished(anyhow, returns), pointed }
    }
}

impl Pointed {
    fn of(func: &Function, cx: &Context) -> Self {
        let mut start = Known::nothing();
        start.note(POINTER, pointer_fact());
        let flow = Flow::new(func, cx, Some(start));
        let mut access = Access::default();
        let mut after: Option<Option<Fact>> = None;
        let mut returns = false;
        for &block in flow.cfg.reverse_postorder().iter().filter(|&&block| flow.is_reached(block)) {
            for &inst in &func.blocks[block].insts {
                if func.insts[inst].opcode == Opcode::Ret {
                    returns = true;
                    let here = flow.memory_after(block).and_then(|memory| memory.word(POINTER));
                    after = Some(match after {
                        None => here,
                        Some(before) => before.zip(here).map(|(before, here)| before.join(&here)),
                    });
                    continue;
                }
                let of_inst = flow.access(func, cx, inst);
                access.reads.extend(of_inst.reads);
                access.writes.extend(of_inst.writes);
            }
        }
        Self { access: finished(access, returns), after: after.flatten() }
    }
}

/// Few spans; what a function wrote that never returns is nobody's concern.
fn finished(access: Access, returns: bool) -> Access {
    Access { reads: merged(access.reads), writes: if returns { merged(access.writes) } else { Vec::new() } }
}

/// What a call does to memory as it is known, and what is known of the pointer afterwards.
pub(crate) fn called(imm: Imm, cx: &Context, memory: Option<&Known>) -> (Access, Option<Fact>) {
    let Imm::Func(callee) = imm else { return (Access::all(), None) };
    let summary = cx.summary(callee);
    match &summary.pointed {
        Some(pointed) if memory.is_some_and(is_pointer) => (pointed.access.clone(), pointed.after),
        _ => (summary.anyhow.clone(), None),
    }
}

/// The same bytes as few, ordered, inexact spans.
fn merged(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort();
    let mut out: Vec<Span> = Vec::new();
    for span in spans {
        match out.last_mut() {
            Some(last) if span.from <= last.to => last.to = last.to.max(span.to),
            _ => out.push(Span { exact: false, ..span }),
        }
    }
    out
}
