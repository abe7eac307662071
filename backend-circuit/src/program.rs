//! A compiled program: what stays fixed while calls of it are proved.

use std::collections::BTreeMap;
use std::sync::Arc;

use cranelift_entity::{EntityRef, PrimaryMap};
use ff::PrimeField;
use zvm_ir::cfg::Cfg;
use zvm_ir::eval::keccak256;
use zvm_ir::{EmptyState, Inst, Module, PreState, VerifyError, Word};

use crate::costs::Costs;
use crate::cs::CountCs;
use crate::digest::{ADVICE_BLOCK, ADVICE_ROWS};
use crate::error::CircuitError;
use crate::execute::{self, Call, Execution};
use crate::gadgets::Lc;
use crate::legalize::{Legalized, SHARED_ROWS, Support, Unprovable, legalize_sharing, support_of};
use crate::lower::{self, Features, Layout, State};
use crate::nova::Fr;
use crate::plan::Plan;
use crate::region::{self, DONE, Region, Regions};
use crate::registers::{self, Registers};
use crate::replay::Prepared;
use crate::system::System;
use crate::trace::{ACCESS_ELEMENTS, AGES, Chosen};

/// The compiler's name and version, part of every commitment: another compiler may make another circuit.
pub const COMPILER: &str = concat!("zvm ", env!("CARGO_PKG_VERSION"));

/// The instructions that a native execution may take unless the caller says otherwise.
pub const MAX_INSTRUCTIONS: u64 = 1_000_000_000;

/// A program in regions, ready to be executed, checked and proved. Compiling is deterministic.
#[derive(Clone, Debug)]
pub struct Program {
    pub(crate) legalized: Legalized,
    pub(crate) regions: Regions,
    pub(crate) registers: Registers,
    /// The legalised function as a module, for the interpreter.
    pub(crate) shell: Module,
    pub(crate) features: Features,
    pub(crate) advice: Advice,
    layout: Layout,
    system: Vec<System>,
    text: String,
    rows: PrimaryMap<Region, u64>,
}

/// The share of one slot in the rows that hash advice, at most.
fn advice_rows<T>(chosen: &Chosen<T>) -> u64 {
    // A sum of ages becomes a variable of its own.
    let (elements, ages) = (chosen.elements.len() as u64, chosen.ages.len() as u64);
    let all = elements * AGES as u64 + ages;
    (all * ADVICE_ROWS).div_ceil((ADVICE_BLOCK * AGES) as u64) + ages.div_ceil(AGES as u64)
}

/// What the prover chooses in the slots of each kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Advice {
    accesses: BTreeMap<Inst, AdviceAt>,
    widths: PrimaryMap<Region, AdviceWidth>,
}

/// Where in the advice of its region the choices of an access or a lookup stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdviceAt {
    /// Its limbs among the elements.
    pub element: usize,
    /// How many limbs those are.
    pub limbs: usize,
    /// Its age among the ages, for an access.
    pub age: usize,
}

impl AdviceAt {
    /// Where the choices of the only access of a slot stand.
    pub(crate) const ONLY: Self = Self { element: 0, limbs: ACCESS_ELEMENTS, age: 0 };
}

/// How much the prover chooses in a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct AdviceWidth {
    /// Elements of accesses and lookups.
    limbs: usize,
    ages: usize,
    /// Elements besides.
    others: usize,
}

impl Advice {
    fn new(legalized: &Legalized, regions: &Regions, system: &[System]) -> Self {
        let mut advice = Self::default();
        let opens = system.contains(&System::Open);
        for data in regions.regions.values() {
            let is_entry = Some(data.root) == legalized.func.entry();
            let others = if opens && is_entry { System::Open.elements() } else { 0 };
            let mut width = AdviceWidth { others, ..AdviceWidth::default() };
            for &inst in data.blocks.iter().flat_map(|&block| &legalized.func.blocks[block].insts) {
                let support = support_of(&legalized.func, &legalized.func.insts[inst]);
                if matches!(support, Support::Access | Support::Lookup) {
                    let limbs = legalized.limbs_found(inst);
                    advice.accesses.insert(inst, AdviceAt { element: width.limbs, limbs, age: width.ages });
                    width.limbs += limbs;
                    width.ages += usize::from(support == Support::Access);
                }
            }
            advice.widths.push(width);
        }
        for system in system {
            let ages = system.accesses();
            advice.widths.push(AdviceWidth { limbs: ages * ACCESS_ELEMENTS, ages, others: system.elements() });
        }
        advice
    }

    /// Where the choices of an access or a lookup stand.
    pub(crate) fn access(&self, inst: Inst) -> Option<AdviceAt> {
        self.accesses.get(&inst).copied()
    }

    /// What an idle slot of `region` chooses, zeros, and how many of the elements are of accesses and lookups.
    pub(crate) fn idle<F: PrimeField>(&self, region: Region) -> (Chosen<F>, usize) {
        let AdviceWidth { limbs, ages, others } = self.widths.get(region).copied().unwrap_or_default();
        (Chosen { elements: vec![F::ZERO; limbs + others], ages: vec![F::ZERO; ages] }, limbs)
    }
}

impl Program {
    /// Compiles an optimised module.
    ///
    /// # Errors
    /// `Invalid` if the module breaks the IR's rules, `NoEntry` if it has no entry.
    pub fn compile(module: &Module) -> Result<Self, CircuitError> {
        Self::compile_sharing(module, SHARED_ROWS)
    }

    /// As [`Program::compile`], where functions of at least `shared_rows` rows are shared by their calls. What programs are known by
    /// does not say this number: provers and verifiers compile with the same.
    ///
    /// # Errors
    /// As [`Program::compile`].
    pub fn compile_sharing(module: &Module, shared_rows: u64) -> Result<Self, CircuitError> {
        zvm_ir::verify(module).map_err(CircuitError::Invalid)?;
        let legalized = legalize_sharing(module, shared_rows)?;
        let mut shell = Module::new();
        shell.entry = Some(shell.funcs.push(legalized.func.clone()));
        debug_assert_eq!(zvm_ir::verify(&shell), Ok::<(), Vec<VerifyError>>(()));
        let cfg = Cfg::new(&legalized.func);
        let costs = Costs::default().of_blocks(&legalized)?;
        let regions = region::form(&legalized, &cfg, &costs);
        debug_assert_eq!(region::check(&legalized, &cfg, &regions), []);
        let registers = registers::allocate(&legalized, &regions);
        debug_assert_eq!(registers::check(&legalized, &regions, &registers), []);
        let features = legalized.features();
        let system = System::of(&features);
        let mut program = Self {
            advice: Advice::new(&legalized, &regions, &system),
            layout: Layout::new(&features),
            legalized,
            regions,
            registers,
            shell,
            features,
            system,
            text: module.to_string(),
            rows: PrimaryMap::new(),
        };
        for index in 0..program.slot_kinds() {
            let rows = program.count::<Fr>(Region::new(index))?;
            program.rows.push(rows);
        }
        Ok(program)
    }

    /// The rows of one slot over some field. They are the same over every field ([`Program::rows`], over BN254's), but for slots that split
    /// a key of the state tree, which take a row for each bit of the modulus.
    ///
    /// # Errors
    /// Whatever keeps the slot from being synthesised.
    pub fn count<F: PrimeField>(&self, region: Region) -> Result<u64, CircuitError> {
        let mut cs = CountCs::<F>::default();
        let mut elements = Vec::with_capacity(self.arity());
        for index in 0..self.arity() {
            elements.push(Lc::alloc(&mut cs, || format!("z {index}"), None)?);
        }
        let state = State::from_elements(self.layout, elements);
        let state = state.ok_or(CircuitError::Disagreement("the state's size"))?;
        let mut chosen = Chosen::default();
        lower::slot(&mut cs, self, region, &state, None, &mut chosen)?;
        Ok(cs.rows() as u64 + advice_rows(&chosen))
    }

    /// How many kinds of slots there are: one for each region, and those of the system.
    pub fn slot_kinds(&self) -> usize {
        self.regions.regions.len() + self.system.len()
    }

    /// What a slot of the system does; `None` if `region` is part of the program.
    pub fn system(&self, region: Region) -> Option<System> {
        self.system.get(region.index().checked_sub(self.regions.regions.len())?).copied()
    }

    /// What slots of one kind are called in tables: `region3`, or what a slot of the system does.
    pub fn slot_name(&self, region: Region) -> String {
        self.system(region).map_or_else(|| region.to_string(), |system| system.name().to_owned())
    }

    /// The slots of the system of one kind, if the program has them.
    pub fn system_region(&self, system: System) -> Option<Region> {
        let place = self.system.iter().position(|&other| other == system)?;
        Some(Region::new(self.regions.regions.len() + place))
    }

    /// The label that says that a slot of `region` may run.
    pub fn label(&self, region: Region) -> u64 {
        match self.system(region) {
            Some(system) if system.walks() => self.walk_label(),
            _ => region.label(),
        }
    }

    /// The label that slots which walk through the state tree share.
    pub fn walk_label(&self) -> u64 {
        self.system_region(System::Write).map_or(DONE, Region::label)
    }

    /// Whether calls begin in `region`.
    pub fn is_entry(&self, region: Region) -> bool {
        self.regions.regions.get(region).is_some_and(|data| Some(data.root) == self.legalized.func.entry())
    }

    /// What the program does besides computing.
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// Where the elements of the state before the registers stand.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The number of field elements of the state between steps.
    pub fn arity(&self) -> usize {
        self.layout.len() + self.registers.count()
    }

    /// The rows of one slot of each kind, those of regions first, with its share of hashing advice.
    pub fn rows(&self) -> &PrimaryMap<Region, u64> {
        &self.rows
    }

    /// The regions.
    pub fn regions(&self) -> &Regions {
        &self.regions
    }

    /// The legalised function and its special blocks.
    pub fn legalized(&self) -> &Legalized {
        &self.legalized
    }

    /// The exits that no proof can take, in the order of their position: those that an execution could reach
    /// ([`crate::legalize::Reason::is_limit`]).
    pub fn unprovable(&self) -> Vec<Unprovable> {
        let exits = self.legalized.unprovable.values().copied();
        let mut exits: Vec<Unprovable> = exits.filter(|exit| !exit.reason.is_limit()).collect();
        exits.sort();
        exits.dedup();
        exits
    }

    /// The legalised function as a module of its own.
    pub fn module(&self) -> &Module {
        &self.shell
    }

    /// The canonical text of the module that was compiled.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What a statement names the program by: the Keccak hash of the compiler's version and the canonical text.
    pub fn commitment(&self) -> Word {
        keccak256(format!("{COMPILER}\n{}", self.text).as_bytes())
    }

    /// The digest of the circuit that program and plan make. It names how many rows each slot has, so that keys which were kept are not
    /// taken for those of a circuit that the same version of the compiler made otherwise before it was changed.
    pub fn circuit_digest(&self, plan: &Plan) -> Word {
        let mut bytes = b"circuit\n".to_vec();
        bytes.extend(self.commitment().to_be_bytes::<32>());
        for slots in plan.slots() {
            bytes.extend((slots.region.index() as u32).to_be_bytes());
            bytes.extend(slots.count.to_be_bytes());
            bytes.extend(self.rows[slots.region].to_be_bytes());
        }
        keccak256(&bytes)
    }

    /// Executes one call natively, from the empty state.
    ///
    /// # Errors
    /// As [`Program::execute_all`].
    pub fn execute(&self, call: &Call) -> Result<Execution, CircuitError> {
        self.execute_all(core::slice::from_ref(call), &EmptyState)
    }

    /// Executes calls natively, one after the other, from the state `pre`.
    ///
    /// # Errors
    /// `Unprovable` with the instruction to blame when an execution cannot be proved, `Execution` when a limit is
    /// reached, `Batch` when there is no call or calls of several accounts.
    pub fn execute_all(&self, calls: &[Call], pre: &dyn PreState) -> Result<Execution, CircuitError> {
        execute::execute(self, calls, pre, MAX_INSTRUCTIONS)
    }

    /// Executes calls as [`Program::execute_all`] does, ready to be checked: the state tree is that of the storage which they touch.
    ///
    /// # Errors
    /// As [`Program::execute_all`].
    pub fn prepare<F: PrimeField>(&self, calls: &[Call], pre: &dyn PreState) -> Result<Prepared<F>, CircuitError> {
        Prepared::alone(self, &Arc::new(self.execute_all(calls, pre)?))
    }
}
