//! The functions that the bytecode calls, as its author would count them: also those that have one caller, which stage 4 makes
//! part of it.
//!
//! A call is a JUMP to a block that leaves through an item of the stack, where that item is an address that nobody was
//! given as a return address yet. Such an address waits on the stack from where it is pushed (while arguments are
//! computed) until some block is entered by a JUMP that leaves through it. From there on, and until control comes
//! back to it, it is *taken*: jumps within the function are no calls. A block that control also falls or branches into is not the
//! start of a function.
//!
//! Who never returns is often given no address. A block that never leaves through the stack, takes nothing from it and is
//! only entered by jumps from elsewhere counts as a function as well.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use zvm_ir::{Pc, Word};

use crate::arrivals::{Arrival, Way};
use crate::decode::Code;
use crate::expr::{Arena, Expr, MEMORY, Node};
use crate::plan::NodeId;
use crate::summaries::Leave;

/// A function as its callers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Called {
    /// How many items lie above the return address when it is entered; 0 if it is given none.
    pub params: u32,
    /// How many items it leaves in place of those and the return address; `None` if it never returns.
    pub results: Option<u32>,
}

/// What is known of a block.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    pub(crate) pc: Pc,
    pub(crate) leaves: &'a [Leave],
    /// What its items are that addresses depend on.
    pub(crate) classes: &'a BTreeMap<u32, Expr>,
    /// How many items of the stack it needs itself.
    pub(crate) needs: u32,
    /// Whether stage 4 made it the start of a function.
    pub(crate) is_function: bool,
}

/// The functions among the blocks, by their first instruction.
pub(crate) fn functions(
    code: &Code,
    arena: &mut Arena,
    places: &BTreeMap<NodeId, Place<'_>>,
    arrivals: &[&Arrival],
) -> BTreeMap<Pc, Called> {
    let alive = |arrival: &&&Arrival| places.contains_key(&arrival.from) && places.contains_key(&arrival.to);
    let arrivals: Vec<&Arrival> = arrivals.iter().filter(alive).copied().collect();
    let mut passed: BTreeSet<Pc> = BTreeSet::new();
    let mut leaving: BTreeMap<NodeId, Vec<Waiting<'_>>> = BTreeMap::new();
    for arrival in arrivals {
        let addresses = addresses(arena, places, arrival);
        let pc = places[&arrival.to].pc;
        let starts = match arrival.way {
            Way::Jump => arrival.pc + 1 != pc,
            // Optimisers remove jumps to what comes next.
            Way::Fall => addresses.iter().any(|address| address.is_new),
            Way::Branch | Way::Return => false,
        };
        if !starts {
            passed.insert(pc);
        }
        leaving.entry(arrival.from).or_default().push(Waiting { arrival, addresses, starts });
    }
    for waiting in leaving.values_mut().flatten() {
        waiting.starts &= !passed.contains(&places[&waiting.arrival.to].pc);
    }
    // The addresses that were taken on some way to a node.
    let mut taken: BTreeMap<NodeId, BTreeSet<Expr>> = places.keys().map(|&node| (node, BTreeSet::new())).collect();
    let mut queue: VecDeque<NodeId> = places.keys().copied().collect();
    while let Some(node) = queue.pop_front() {
        for waiting in leaving.get(&node).into_iter().flatten() {
            let to = waiting.arrival.to;
            let Place { pc, is_function, .. } = places[&to];
            // What stage 4 makes a function has names of its own for the addresses that its callers give.
            let mut new = if is_function { BTreeSet::new() } else { taken[&node].clone() };
            for address in &waiting.addresses {
                if waiting.starts || (!address.is_new && taken[&node].contains(&address.class)) {
                    new.insert(if is_function { arena.param(to, address.slot) } else { address.class });
                }
            }
            new.remove(&arena.constant(Word::from(pc)));
            let old = taken.entry(to).or_default();
            let before = old.len();
            old.extend(new);
            if old.len() > before {
                queue.push_back(to);
            }
        }
    }
    let mut called = BTreeMap::new();
    for waiting in leaving.values().flatten().filter(|waiting| waiting.starts) {
        let Waiting { arrival, addresses, .. } = waiting;
        let Place { pc, leaves, needs, .. } = &places[&arrival.to];
        let waits = |address: &&Address<'_>| address.is_new || !taken[&arrival.from].contains(&address.class);
        if let Some(address) = addresses.iter().find(waits) {
            let results = address.leave.stack.delta() + i64::from(address.slot) + 1;
            called.insert(*pc, Called { params: address.slot, results: u32::try_from(results).ok() });
        } else if leaves.is_empty() {
            // An address to come back to may be given all the same.
            let back = arena.constant(Word::from(arrival.pc + 1));
            let given = arrival.stack.top_down().position(|item| item == back);
            let given = given.filter(|_| code.is_jumpdest(arrival.pc + 1)).map(|params| params as u32);
            if let Some(params) = given.or((*needs == 0).then_some(0)) {
                called.entry(*pc).or_insert(Called { params, results: None });
            }
        }
    }
    called
}

/// An edge with the addresses that the block it enters leaves through.
struct Waiting<'a> {
    arrival: &'a Arrival,
    addresses: Vec<Address<'a>>,
    starts: bool,
}

struct Address<'a> {
    /// What it is: a constant, or what a function was given.
    class: Expr,
    /// Whether the block before pushed it.
    is_new: bool,
    slot: u32,
    leave: &'a Leave,
}

fn addresses<'a>(arena: &mut Arena, places: &BTreeMap<NodeId, Place<'a>>, arrival: &Arrival) -> Vec<Address<'a>> {
    let mut addresses = Vec::new();
    for leave in places[&arrival.to].leaves.iter().filter(|leave| !leave.pointer) {
        let Node::Entry(slot) = arena.node(leave.target) else { continue };
        if slot >= MEMORY {
            continue;
        }
        let item = arrival.stack.get(arena, slot);
        let class = match arena.node(item) {
            Node::Entry(slot) => places[&arrival.from].classes.get(&slot).copied(),
            _ => Some(item),
        };
        if let Some(class) = class.filter(|&class| !arena.is_opaque(class)) {
            addresses.push(Address { class, is_new: class == item, slot, leave });
        }
    }
    addresses.sort_by_key(|address| address.slot);
    addresses
}
