//! A compiled program: what stays fixed while calls of it are proved.

use cranelift_entity::PrimaryMap;
use ff::PrimeField;
use zvm_ir::cfg::Cfg;
use zvm_ir::eval::keccak256;
use zvm_ir::{Module, VerifyError, Word};

use crate::costs::Costs;
use crate::cs::CountCs;
use crate::error::CircuitError;
use crate::execute::{self, Call, Execution};
use crate::gadgets::Lc;
use crate::legalize::{Legalized, SHARED_ROWS, Unprovable, legalize_sharing};
use crate::lower::{self, STATE_HEAD, State};
use crate::nova::Fr;
use crate::plan::Plan;
use crate::region::{self, Region, Regions};
use crate::registers::{self, Registers};

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
    text: String,
    rows: PrimaryMap<Region, u64>,
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
        let costs = Costs::default().of_blocks(&legalized.func)?;
        let regions = region::form(&legalized, &cfg, &costs);
        debug_assert_eq!(region::check(&legalized, &cfg, &regions), []);
        let registers = registers::allocate(&legalized, &regions);
        debug_assert_eq!(registers::check(&legalized, &regions, &registers), []);
        let mut program =
            Self { legalized, regions, registers, shell, text: module.to_string(), rows: PrimaryMap::new() };
        for region in program.regions.regions.keys() {
            let rows = program.count::<Fr>(region)?;
            program.rows.push(rows);
        }
        Ok(program)
    }

    /// The rows of one slot of a region over some field. They are the same over every field: [`Program::rows`].
    ///
    /// # Errors
    /// Whatever keeps the slot from being synthesised.
    pub fn count<F: PrimeField>(&self, region: Region) -> Result<u64, CircuitError> {
        let mut cs = CountCs::<F>::default();
        let mut elements = Vec::with_capacity(self.arity());
        for index in 0..self.arity() {
            elements.push(Lc::alloc(&mut cs, || format!("z {index}"), None)?);
        }
        let state = State::from_elements(elements).ok_or(CircuitError::Disagreement("the state's size"))?;
        lower::slot(&mut cs, self, region, &state, None)?;
        Ok(cs.rows() as u64)
    }

    /// The number of field elements of the state between steps.
    pub fn arity(&self) -> usize {
        STATE_HEAD + self.registers.count()
    }

    /// The rows of one slot of each region.
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

    /// The exits that no proof can take, in the order of their position.
    pub fn unprovable(&self) -> Vec<Unprovable> {
        let mut exits: Vec<Unprovable> = self.legalized.unprovable.values().copied().collect();
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

    /// The digest of the circuit that program and plan make.
    pub fn circuit_digest(&self, plan: &Plan) -> Word {
        let mut bytes = b"circuit\n".to_vec();
        bytes.extend(self.commitment().to_be_bytes::<32>());
        for (region, count) in plan.to_numbers() {
            bytes.extend(region.to_be_bytes());
            bytes.extend(count.to_be_bytes());
        }
        keccak256(&bytes)
    }

    /// Executes the program natively.
    ///
    /// # Errors
    /// `Unprovable` with the instruction to blame when the execution cannot be proved, `Execution` when a limit is
    /// reached.
    pub fn execute(&self, call: &Call) -> Result<Execution, CircuitError> {
        execute::execute(self, call, MAX_INSTRUCTIONS)
    }
}
