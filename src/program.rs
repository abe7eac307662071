//! A program: from an [`Input`] to IR, and from IR to what each backend makes of it.

use std::ops::Range;

use zvm_backend_circuit::artifact::ProgramFile;
use zvm_backend_circuit::program::Program as CircuitProgram;
use zvm_backend_evm::{Lowered, Options as LowerOptions, lower};
use zvm_frontend::{LiftOptions, Lifted, Problem, Report, Ring, lift};
use zvm_ir::passes::{self, Goal};
use zvm_ir::{Module, Pc};

use crate::disassembly;
use crate::error::Error;
use crate::input::{Contract, Input, Source};
use crate::names::Names;

/// The longest runtime bytecode that an account can hold, in bytes (EIP-170).
pub const CODE_SIZE_LIMIT: usize = 0x6000;

/// A program in IR, with the bytecode it came from.
#[derive(Clone, Debug)]
pub struct Program {
    /// The contract; `None` when the program was given as IR.
    pub contract: Option<Contract>,
    /// The IR as it was lifted or read; it passes the verifier.
    pub module: Module,
    /// What the frontend found out; `None` when the program was given as IR.
    pub lifted: Option<LiftFacts>,
    /// Whether `module` is the result of the circuit pipeline already: that of a compiled program.
    compiled: Option<ProgramFile>,
}

/// What a lift says besides the IR.
#[derive(Clone, Debug)]
pub struct LiftFacts {
    /// The subset report.
    pub report: Report,
    /// Every jump edge that an execution may take.
    pub edges: std::collections::BTreeSet<(Pc, Pc)>,
    /// Where the compiler's metadata starts, if the code ends with it.
    pub metadata: Option<Pc>,
}

impl Program {
    /// Lifts, parses or unpacks the program.
    ///
    /// # Errors
    /// When it is outside the subset of the L1 ring, is not valid IR, or no account could hold it.
    pub fn load(input: &Input) -> Result<Self, Error> {
        Self::load_with(input, false)
    }

    /// As [`Program::load`], for code whose immutables are not filled in: they stay instructions, and the program can be
    /// emitted for its constructor to fill in, not executed.
    ///
    /// # Errors
    /// As [`Program::load`]; other placeholders are still refused.
    pub fn load_template(input: &Input) -> Result<Self, Error> {
        Self::load_with(input, true)
    }

    fn load_with(input: &Input, immutables: bool) -> Result<Self, Error> {
        match &input.source {
            Source::Contract(contract) => {
                check_size(&contract.runtime)?;
                let options = LiftOptions { immutables, ..lift_options(contract) };
                let Lifted { module, report, edges, metadata, .. } = lift(&contract.runtime, &options)?;
                let lifted = Some(LiftFacts { report, edges, metadata });
                Ok(Self { contract: Some((**contract).clone()), module, lifted, compiled: None })
            }
            Source::Text(text) => {
                let module = parse(&input.origin, text)?;
                Ok(Self { contract: None, module, lifted: None, compiled: None })
            }
            Source::Compiled(bytes) => {
                let file = ProgramFile::decode(bytes)
                    .map_err(|source| Error::Unreadable { path: input.origin.clone(), source })?;
                let module = parse(&input.origin, &file.text)?;
                Ok(Self { contract: None, module, lifted: None, compiled: Some(file) })
            }
        }
    }

    /// A program that is only a module.
    pub(crate) const fn of_module(module: Module) -> Self {
        Self { contract: None, module, lifted: None, compiled: None }
    }

    /// The file that a compiled program was read from.
    pub fn compiled(&self) -> Option<&ProgramFile> {
        self.compiled.as_ref()
    }

    /// The bytecode that the program was lifted from.
    pub fn code(&self) -> Option<&[u8]> {
        self.contract.as_ref().map(|contract| contract.runtime.as_slice())
    }

    /// The metadata that the bytecode ends with.
    pub fn metadata(&self) -> Option<&[u8]> {
        let start = self.lifted.as_ref()?.metadata?;
        self.code()?.get(start as usize..)
    }

    /// The module after the pipeline.
    ///
    /// # Errors
    /// When a pass breaks the module, which is a bug.
    pub fn optimized(&self, goal: Goal) -> Result<Module, Error> {
        // The commitment of a compiled program is to its text: nothing may change it.
        if goal == Goal::Circuit && self.compiled.is_some() {
            return Ok(self.module.clone());
        }
        self.optimized_with(&passes::Options { goal, ..passes::Options::default() })
    }

    fn optimized_with(&self, options: &passes::Options) -> Result<Module, Error> {
        let mut module = self.module.clone();
        passes::optimize(&mut module, options)?;
        Ok(module)
    }

    /// The program as EVM bytecode again.
    ///
    /// # Errors
    /// As [`zvm_backend_evm::lower`].
    pub fn lowered(&self, options: &LowerOptions) -> Result<Lowered, Error> {
        let passes = passes::Options { goal: Goal::Evm, gas: options.fork.costs(), ..passes::Options::default() };
        Ok(lower(&self.optimized_with(&passes)?, options)?)
    }

    /// The program in regions, ready to be proved.
    ///
    /// # Errors
    /// As [`CircuitProgram::compile`].
    pub fn circuit(&self) -> Result<CircuitProgram, Error> {
        Ok(CircuitProgram::compile(&self.optimized(Goal::Circuit)?)?)
    }
}

/// Lifts a contract's runtime bytecode.
///
/// # Errors
/// When it is outside the subset of the L1 ring, or longer than any account's code.
pub fn lift_contract(contract: &Contract) -> Result<Lifted, Error> {
    check_size(&contract.runtime)?;
    Ok(lift(&contract.runtime, &lift_options(contract))?)
}

/// The subset report of a contract's runtime bytecode: what the frontend says of the L1 ring, and what the circuit refuses
/// after optimisation of the proof ring.
///
/// # Errors
/// When the bytecode is longer than any account's code, or a backend contradicts itself.
pub fn check_contract(contract: &Contract) -> Result<Report, Error> {
    check_size(&contract.runtime)?;
    let options = lift_options(contract);
    let Ok(Lifted { module, mut report, .. }) = lift(&contract.runtime, &options) else {
        return Ok(zvm_frontend::check(&contract.runtime, &options));
    };
    let program = Program::of_module(module);
    let names = Names::of(&program.module, contract.abi.as_ref());
    let unprovable = program.circuit()?.unprovable();
    report.problems.retain(|problem| problem.ring != Ring::Proof);
    report.problems.extend(unprovable.into_iter().map(|exit| Problem {
        ring: Ring::Proof,
        pc: exit.pc,
        opcode: exit.pc.map_or_else(|| exit.opcode.mnemonic().to_owned(), |pc| mnemonic(&contract.runtime, pc)),
        reason: match exit.pc.and_then(|pc| names.function_at(pc)) {
            Some(function) => format!("the circuit has no {} (in {function})", exit.reason),
            None => format!("the circuit has no {}", exit.reason),
        },
        help: "calls that do not reach this instruction can be proved".to_owned(),
    }));
    report.proof_ring = report.problems.is_empty();
    Ok(report)
}

/// The name of the EVM instruction at `pc`.
fn mnemonic(code: &[u8], pc: Pc) -> String {
    let text = disassembly::around(code, pc, 0).and_then(|(lines, at)| Some(lines.get(at)?.text.clone()));
    text.unwrap_or_default().split(' ').next().unwrap_or_default().to_owned()
}

/// No more is lifted of creation code than twice what the mainnet takes (EIP-3860).
pub(crate) fn check_creation_size(code: &[u8]) -> Result<(), Error> {
    let limit = 4 * CODE_SIZE_LIMIT;
    if code.len() > limit {
        return Err(Error::CodeSize { len: code.len(), limit });
    }
    Ok(())
}

fn check_size(code: &[u8]) -> Result<(), Error> {
    if code.len() > CODE_SIZE_LIMIT {
        return Err(Error::CodeSize { len: code.len(), limit: CODE_SIZE_LIMIT });
    }
    Ok(())
}

fn lift_options(contract: &Contract) -> LiftOptions {
    let place = |range: &Range<usize>| (range.start as Pc, range.len() as u32);
    let placeholders = contract.placeholders().iter().map(place).collect();
    LiftOptions { placeholders, ..LiftOptions::default() }
}

fn parse(path: &str, text: &str) -> Result<Module, Error> {
    let path = || path.to_owned();
    let module = zvm_ir::parse(text).map_err(|source| Error::Parse { path: path(), source })?;
    zvm_ir::verify(&module).map_err(|errors| Error::Verify { path: path(), errors })?;
    Ok(module)
}
