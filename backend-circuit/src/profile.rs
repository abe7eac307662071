//! Where the rows of an execution go: by region, by instruction and its position in the bytecode.
//!
//! A slot has all rows of its region, whichever way its branches go, so each instruction of a region costs its rows as often as the
//! region runs. Rows that belong to no instruction are named after what they do.

use core::fmt;
use std::collections::BTreeMap;

use zvm_ir::{Block, Pc};

use crate::cs::TallyCs;
use crate::error::CircuitError;
use crate::execute::Trace;
use crate::gadgets::Lc;
use crate::lower::{self, State};
use crate::nova::Fr;
use crate::program::Program;
use crate::region::Region;
use crate::trace::Chosen;

/// What some rows of a slot are for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// An instruction; its mnemonic, and its position in the bytecode if it came from there.
    Instruction {
        /// The position.
        pc: Option<Pc>,
        /// The mnemonic of the IR.
        mnemonic: String,
    },
    /// Merging the parameters of blocks where branches meet.
    Merge,
    /// Opening the digests of calldata and environment.
    Input,
    /// The digest of the outcome.
    Outcome,
    /// Whether the slot runs, and what it leaves in label and registers.
    Transfer,
    /// The share in hashing what the prover chose.
    Advice,
    /// Something else, by the name of its rows.
    Other(String),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instruction { pc: Some(pc), mnemonic } => write!(f, "@{pc:04x} {mnemonic}"),
            Self::Instruction { pc: None, mnemonic } => f.write_str(mnemonic),
            Self::Merge => f.write_str("merges"),
            Self::Input => f.write_str("input"),
            Self::Outcome => f.write_str("outcome"),
            Self::Transfer => f.write_str("transfer"),
            Self::Advice => f.write_str("advice"),
            Self::Other(name) => f.write_str(name),
        }
    }
}

impl Part {
    /// From the name of a namespace of [`lower::slot`].
    fn of(name: &str) -> Self {
        if let Some((place, mnemonic)) = name.strip_prefix('@').and_then(|rest| rest.split_once(' ')) {
            return Self::Instruction { pc: Pc::from_str_radix(place, 16).ok(), mnemonic: mnemonic.to_owned() };
        }
        match name {
            "" => Self::Transfer,
            "input" => Self::Input,
            "outcome" => Self::Outcome,
            name if name.starts_with("block") => Self::Merge,
            name if name.starts_with("exit ") || name.starts_with("out ") => Self::Transfer,
            name if name.starts_with('v') && name[1..].starts_with(|c: char| c.is_ascii_digit()) => Self::Transfer,
            name => Self::Other(name.to_owned()),
        }
    }
}

/// The rows of a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionRows {
    /// The region, or slots of the system.
    pub region: Region,
    /// Its name: [`Program::slot_name`].
    pub name: String,
    /// The lowest and highest position in the bytecode that it comes from.
    pub pcs: Option<(Pc, Pc)>,
    /// The rows of one slot.
    pub rows: u64,
    /// How often it runs.
    pub executions: u64,
    /// What the rows of one slot are for.
    pub parts: BTreeMap<Part, u64>,
}

impl RegionRows {
    /// The rows of all its runs.
    pub fn total(&self) -> u64 {
        self.rows.saturating_mul(self.executions)
    }
}

/// The rows of each region that an execution runs.
///
/// # Errors
/// Whatever synthesis gives.
pub fn by_region(program: &Program, trace: &Trace) -> Result<Vec<RegionRows>, CircuitError> {
    let mut executions: BTreeMap<Region, u64> = BTreeMap::new();
    for &(region, count) in trace.runs() {
        *executions.entry(region).or_insert(0) += count;
    }
    executions
        .into_iter()
        .map(|(region, executions)| {
            let parts = parts(program, region)?;
            let rows = parts.values().sum();
            let name = program.slot_name(region);
            Ok(RegionRows { region, name, pcs: pcs(program, region), rows, executions, parts })
        })
        .collect()
}

/// What the rows of a slot of `region` are for.
///
/// # Errors
/// Whatever synthesis gives.
pub fn parts(program: &Program, region: Region) -> Result<BTreeMap<Part, u64>, CircuitError> {
    let mut cs = TallyCs::<Fr>::default();
    let mut elements = Vec::with_capacity(program.arity());
    for index in 0..program.arity() {
        elements.push(Lc::alloc(&mut cs, || format!("z {index}"), None)?);
    }
    let state = State::from_elements(*program.layout(), elements);
    let state = state.ok_or(CircuitError::Disagreement("the state's size"))?;
    lower::slot(&mut cs, program, region, &state, None, &mut Chosen::default())?;
    let mut parts = BTreeMap::new();
    for (name, rows) in cs.counts() {
        *parts.entry(Part::of(name)).or_insert(0) += rows;
    }
    let own: u64 = parts.values().sum();
    if program.rows()[region] > own {
        parts.insert(Part::Advice, program.rows()[region] - own);
    }
    Ok(parts)
}

/// The lowest and highest position in the bytecode of a region's instructions.
fn pcs(program: &Program, region: Region) -> Option<(Pc, Pc)> {
    let func = &program.legalized.func;
    // Slots of the system have none.
    let blocks = &program.regions.regions.get(region)?.blocks;
    let pcs = || blocks.iter().flat_map(|&block| &func.blocks[block].insts).filter_map(|&inst| func.insts[inst].pc);
    pcs().min().zip(pcs().max())
}

/// The rows of each block over an execution: of its instructions, times how often the block's region runs. Rows that belong to no
/// instruction count for the root.
pub fn by_block(program: &Program, regions: &[RegionRows]) -> BTreeMap<Block, u64> {
    let func = &program.legalized.func;
    let mut heat = BTreeMap::new();
    for used in regions {
        let Some(data) = program.regions.regions.get(used.region) else { continue };
        let mut left = used.parts.clone();
        for &block in &data.blocks {
            let mut rows = 0;
            for &inst in &func.blocks[block].insts {
                let (pc, mnemonic) = (func.insts[inst].pc, func.insts[inst].opcode.mnemonic().to_owned());
                // Several instructions of one position and name share an entry; the first block has it.
                rows += left.remove(&Part::Instruction { pc, mnemonic }).unwrap_or(0);
            }
            *heat.entry(block).or_insert(0) += rows.saturating_mul(used.executions);
        }
        let rest: u64 = left.values().sum();
        *heat.entry(data.root).or_insert(0) += rest.saturating_mul(used.executions);
    }
    heat
}
