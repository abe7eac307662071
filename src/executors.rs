//! The four executors behind one interface, and their comparison.
//!
//! | | executor | runs |
//! |---|---|---|
//! | E0 | [`Kind::Evm`] | the original bytecode in `revm` |
//! | E1 | [`Kind::Ir`] | the interpreter: the IR as lifted, and after the pipeline for each backend |
//! | E2 | [`Kind::Lowered`] | the lowered bytecode in `revm` |
//! | E3 | [`Kind::Circuit`] | the step circuit: every constraint checked, no proof made |

use zvm_backend_circuit::execute::Call as CircuitCall;
use zvm_backend_circuit::program::Program as CircuitProgram;
use zvm_backend_evm::Options as LowerOptions;
use zvm_ir::outcome::Outcome;
use zvm_ir::passes::Goal;
use zvm_ir::{Call as IrCall, Env, InterpError, Module, run};

use crate::call::Call;
use crate::error::Error;
use crate::evm::{Evm, GAS_LIMIT};
use crate::program::Program;
use crate::state::{Changes, State, World};

/// The bytecode of an account whose program is given as IR.
const INVALID: u8 = 0xfe;

/// An executor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// E0.
    Evm,
    /// E1.
    Ir,
    /// E2.
    Lowered,
    /// E3.
    Circuit,
}

impl Kind {
    /// All of them, in order.
    pub const ALL: [Self; 4] = [Self::Evm, Self::Ir, Self::Lowered, Self::Circuit];

    /// The name in text and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Evm => "evm",
            Self::Ir => "ir",
            Self::Lowered => "lowered",
            Self::Circuit => "circuit",
        }
    }
}

/// What an executor made of a call.
#[derive(Clone, Debug)]
pub struct Run {
    /// What is observable.
    pub outcome: Outcome,
    /// What changed in the state, where the executor knows it.
    pub changes: Option<Changes>,
    /// Execution gas, of an executor that has gas.
    pub gas: Option<u64>,
    /// Rows of the circuit that were checked.
    pub rows: Option<u64>,
}

impl Run {
    fn pure(outcome: Outcome) -> Self {
        Self { outcome, changes: None, gas: None, rows: None }
    }
}

/// What an execution may use before it is given up without an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Gas in `revm`.
    pub gas: u64,
    /// Instructions in the interpreter.
    pub instructions: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { gas: GAS_LIMIT, instructions: 1_000_000_000 }
    }
}

/// A program made ready for some of the executors.
#[derive(Debug)]
pub struct Executors {
    limits: Limits,
    code: Vec<u8>,
    evm: Option<Evm>,
    /// The IR at each stage that E1 runs, with its name.
    modules: Vec<(&'static str, Module)>,
    lowered: Option<(Evm, Vec<u8>)>,
    circuit: Option<CircuitProgram>,
}

impl Executors {
    /// Prepares executors of a program.
    ///
    /// # Errors
    /// When a backend refuses the program, or E0 is asked for and there is no bytecode.
    pub fn new(program: &Program, kinds: &[Kind]) -> Result<Self, Error> {
        let mut executors = Self {
            limits: Limits::default(),
            code: program.code().unwrap_or_default().to_vec(),
            evm: None,
            modules: Vec::new(),
            lowered: None,
            circuit: None,
        };
        for kind in kinds {
            match kind {
                Kind::Evm => executors.evm = Some(Evm::new(program.code().ok_or(Error::NoBytecode)?)),
                Kind::Ir => {
                    executors.modules = vec![
                        ("as lifted", program.module.clone()),
                        ("optimised for the EVM", program.optimized(Goal::Evm)?),
                        ("optimised for the circuit", program.optimized(Goal::Circuit)?),
                    ];
                }
                Kind::Lowered => {
                    let lowered = program.lowered(&LowerOptions::default())?;
                    executors.lowered = Some((Evm::new(&lowered.code), lowered.code));
                }
                Kind::Circuit => executors.circuit = Some(program.circuit()?),
            }
        }
        Ok(executors)
    }

    /// An executor of bytecode alone, which needs no lift.
    pub fn evm_only(code: &[u8]) -> Self {
        let limits = Limits::default();
        Self {
            limits,
            code: code.to_vec(),
            evm: Some(Evm::new(code)),
            modules: Vec::new(),
            lowered: None,
            circuit: None,
        }
    }

    /// The same executors with other limits. The lowered code may use as much gas as the original is given.
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self.evm = self.evm.map(|evm| evm.with_gas_limit(limits.gas));
        self.lowered = self.lowered.map(|(evm, code)| (evm.with_gas_limit(limits.gas), code));
        self
    }

    /// The lowered bytecode, if E2 was prepared.
    pub fn lowered_code(&self) -> Option<&[u8]> {
        self.lowered.as_ref().map(|(_, code)| code.as_slice())
    }

    /// The circuit program, if E3 was prepared.
    pub fn circuit_program(&self) -> Option<&CircuitProgram> {
        self.circuit.as_ref()
    }

    /// Runs a call in one executor. The environment's balance is taken from the state: see [`Call::env_in`].
    ///
    /// # Errors
    /// When there is no outcome: a limit, an instruction outside the executor's ring, or an executor that was not prepared.
    pub fn run(&self, kind: Kind, call: &Call, state: &State) -> Result<Run, Error> {
        let env = call.env_in(state);
        let missing = Error::NotPrepared(kind.name());
        match kind {
            Kind::Evm => {
                let run = self.evm.as_ref().ok_or(missing)?.run(&call.calldata, &env, state)?;
                Ok(Run { changes: Some(run.changes), gas: Some(run.gas), ..Run::pure(run.outcome) })
            }
            Kind::Ir => {
                let world = World { state, env: &env, code: &self.code };
                let ir_call = IrCall { step_limit: self.limits.instructions, ..IrCall::new(&call.calldata, &env) };
                let mut first: Option<Run> = None;
                for (stage, module) in &self.modules {
                    let run = match run(module, ir_call.clone(), &world) {
                        Err(InterpError::Foreign { .. }) => self.among_others(module, call, &env, state)?,
                        outcome => Run::pure(outcome?),
                    };
                    let Some(first) = &first else {
                        first = Some(run);
                        continue;
                    };
                    if let Some(difference) = difference(first, &run) {
                        return Err(Error::StagesDiffer { stage, difference });
                    }
                }
                first.ok_or(missing)
            }
            Kind::Lowered => {
                let (evm, _) = self.lowered.as_ref().ok_or(missing)?;
                let run = evm.run(&call.calldata, &env, state)?;
                Ok(Run { changes: Some(run.changes), gas: Some(run.gas), ..Run::pure(run.outcome) })
            }
            Kind::Circuit => {
                let circuit = self.circuit.as_ref().ok_or(missing)?;
                let world = World { state, env: &env, code: &self.code };
                let call = CircuitCall { calldata: call.calldata.clone(), env: env.clone() };
                let (execution, checked) = circuit.check_all(&[call], &world)?;
                Ok(Run { rows: Some(checked.rows), ..Run::pure(execution.outcome().clone()) })
            }
        }
    }
}

impl Executors {
    /// E1 of a call that runs other accounts' code.
    fn among_others(&self, module: &Module, call: &Call, env: &Env, state: &State) -> Result<Run, Error> {
        // Without bytecode the account is still not empty, or a call of it would do nothing.
        let code = if self.code.is_empty() { &[INVALID] } else { self.code.as_slice() };
        let evm = Evm::new(code).with_gas_limit(self.limits.gas);
        let run = evm.run_module(module, &call.calldata, env, state, self.limits.instructions)?;
        Ok(Run { changes: Some(run.changes), ..Run::pure(run.outcome) })
    }
}

/// What executors made of one call, in the order of [`Kind::ALL`].
pub type Results = Vec<(Kind, Result<Run, Error>)>;

/// Whether all that gave an outcome gave the same, and none contradicted itself.
pub fn agree(results: &Results) -> bool {
    let mut runs = results.iter().filter_map(|(_, result)| result.as_ref().ok());
    let first = runs.next();
    let same = runs.all(|run| first.is_some_and(|first| difference(first, run).is_none()));
    let broken = |error: &Error| error.exit() == crate::Exit::No;
    same && !results.iter().any(|(_, result)| result.as_ref().is_err_and(broken))
}

/// The first part in which two runs differ. What both say of the state counts too: balances, nonces, accounts created.
pub fn difference(a: &Run, b: &Run) -> Option<&'static str> {
    outcome_difference(&a.outcome, &b.outcome).or_else(|| match (&a.changes, &b.changes) {
        (Some(a), Some(b)) if a != b => Some("the accounts"),
        _ => None,
    })
}

fn outcome_difference(a: &Outcome, b: &Outcome) -> Option<&'static str> {
    let Outcome { halt, data, logs, storage, transient } = a;
    if *halt != b.halt {
        Some("the kind of halt")
    } else if *data != b.data {
        Some("the data")
    } else if *logs != b.logs {
        Some("the logs")
    } else if *storage != b.storage {
        Some("storage")
    } else if *transient != b.transient {
        Some("transient storage")
    } else {
        None
    }
}
