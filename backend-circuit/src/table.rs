//! What a compiled program looks like, for people and for `circuit.json`.

use core::fmt;
use std::collections::BTreeSet;

use zvm_ir::{Pc, Word};

use crate::plan::Plan;
use crate::program::Program;
use crate::region::Region;

/// A region of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionRow {
    /// The region.
    pub region: Region,
    /// The lowest and highest position in the bytecode that it comes from.
    pub pcs: Option<(Pc, Pc)>,
    /// How many blocks it has.
    pub blocks: usize,
    /// How deep in loops its root is.
    pub depth: u32,
    /// How many field elements are live at its root.
    pub live: usize,
    /// The regions that may run after it.
    pub next: Vec<Region>,
    /// The rows of one slot.
    pub rows: u64,
}

/// A group of equal slots of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotRow {
    /// What they are called: [`Program::slot_name`].
    pub name: String,
    /// How many slots in a row.
    pub count: u32,
    /// The rows of all of them.
    pub rows: u64,
}

/// A program with a plan: the table behind `zvm compile`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The regions in order.
    pub regions: Vec<RegionRow>,
    /// The slots of a step in order.
    pub slots: Vec<SlotRow>,
    /// The rows of a step, Nova's own apart.
    pub rows_per_step: u64,
    /// The number of field elements of the state.
    pub arity: usize,
    /// The digest of the circuit.
    pub digest: Word,
}

impl Table {
    /// The table of `program` with `plan`.
    pub fn new(program: &Program, plan: &Plan) -> Self {
        let func = &program.legalized.func;
        let rows = program.rows();
        let region_row = |region: Region| {
            let data = &program.regions.regions[region];
            let insts = data.blocks.iter().flat_map(|&block| &func.blocks[block].insts);
            let pcs: BTreeSet<Pc> = insts.filter_map(|&inst| func.insts[inst].pc).collect();
            let branches = program.regions.branches(func, region);
            let next: BTreeSet<Region> =
                branches.filter_map(|(_, _, call)| program.regions.rooted_at(call.block)).collect();
            RegionRow {
                region,
                pcs: pcs.first().copied().zip(pcs.last().copied()),
                blocks: data.blocks.len(),
                depth: data.depth,
                live: program.registers.live(region).iter().map(|&value| program.registers.of(value).len()).sum(),
                next: next.into_iter().collect(),
                rows: rows[region],
            }
        };
        let slot_row = |slots: &crate::plan::Slots| SlotRow {
            name: program.slot_name(slots.region),
            count: slots.count,
            rows: rows[slots.region] * u64::from(slots.count),
        };
        Self {
            regions: program.regions.regions.keys().map(region_row).collect(),
            slots: plan.slots().iter().map(slot_row).collect(),
            rows_per_step: plan.rows(rows),
            arity: program.arity(),
            digest: program.circuit_digest(plan),
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "region      rows  blocks  depth  live  pcs            next")?;
        for row in &self.regions {
            let pcs = row.pcs.map_or_else(|| "-".into(), |(low, high)| format!("{low:04x}..{high:04x}"));
            let next: Vec<String> = row.next.iter().map(ToString::to_string).collect();
            let line = format!(
                "{:<10}{:>6}{:>8}{:>7}{:>6}  {:<15}{}",
                row.region.to_string(),
                row.rows,
                row.blocks,
                row.depth,
                row.live,
                pcs,
                next.join(" ")
            );
            writeln!(f, "{}", line.trim_end())?;
        }
        writeln!(f, "\nslots of a step")?;
        for slot in &self.slots {
            writeln!(f, "{:<10}{:>6} rows  × {}", slot.name, slot.rows, slot.count)?;
        }
        writeln!(f, "\n{} rows per step, {} field elements of state", self.rows_per_step, self.arity)
    }
}
