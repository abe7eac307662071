//! Where calls start, and what they leave: a state that is known as a whole, or a state file, of which no more is read than the calls
//! touch.
//!
//! The tree of a state that is known as a whole has one leaf for each slot of the account that is called, in the order of their keys. A state file
//! has a tree of its own, with leaves in the order in which they were made, so that the root after one proof is the root before the next.

use std::borrow::Cow;
use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;

use ff::PrimeField;
use zvm_backend_circuit::error::CircuitError;
use zvm_backend_circuit::execute::{Call as CircuitCall, Execution};
use zvm_backend_circuit::field::to_u256;
use zvm_backend_circuit::legalize::stands_alone;
use zvm_backend_circuit::program::Program as CircuitProgram;
use zvm_backend_circuit::replay::Prepared;
use zvm_backend_circuit::state::file::File;
use zvm_backend_circuit::state::place::Place;
use zvm_backend_circuit::state::storage::{Storage, StorageError};
use zvm_ir::outcome::{Address, Halt};
use zvm_ir::{PreState, Word};

use crate::call::Call;
use crate::error::Error;
use crate::places::Places;
use crate::state::{Changes, State, World};
use crate::state_file::{self, Problem};

/// The state before calls.
#[derive(Clone, Copy, Debug)]
pub enum Start<'a> {
    /// Known as a whole.
    State(&'a State),
    /// In a state file.
    File(&'a Path),
}

impl<'a> From<&'a State> for Start<'a> {
    fn from(state: &'a State) -> Self {
        Self::State(state)
    }
}

impl<'a> Start<'a> {
    /// The whole state.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn whole(self) -> Result<Cow<'a, State>, Error> {
        match self {
            Self::State(state) => Ok(Cow::Borrowed(state)),
            Self::File(path) => {
                let storage = state_file::open(path)?;
                Ok(Cow::Owned(state_file::export(storage.as_ref()).map_err(|problem| problem.of(path))?))
            }
        }
    }

    /// Executes calls one after the other, ready to be proved over `F`. A file stays as it is.
    ///
    /// # Errors
    /// When the execution cannot be proved, or the file is over another field or has other places than the program.
    pub fn prepare<F: PrimeField>(
        self,
        circuit: &CircuitProgram,
        code: &[u8],
        calls: &[Call],
    ) -> Result<Prepared<F>, Error> {
        let env = calls.first().map(|call| call.env.clone()).unwrap_or_default();
        match self {
            Self::State(state) => {
                let world = World { state, env: &env, code };
                let mut execution = circuit.execute_all(&circuit_calls(calls, state), &world)?;
                let account = state.accounts.get(&execution.record.account);
                let slots = account.into_iter().flat_map(|account| &account.storage);
                // The tree holds slots as well that no call touches.
                let touched = &execution.record.preimages;
                execution.record.preimages =
                    Places::of_state(circuit, code, touched, slots.clone().map(|(slot, _)| slot));
                let execution = Arc::new(execution);
                Ok(Prepared::from_slots(circuit, &execution, slots.map(|(&slot, &value)| (slot, value)))?)
            }
            Self::File(path) => {
                let failed = |problem: Problem| problem.of(path);
                let mut tree = File::<F>::open(path).map_err(|error| failed(StorageError::from(error).into()))?;
                let accounts = state_file::accounts(&tree).map_err(failed)?;
                let world = World { state: &accounts, env: &env, code };
                let file = InFile { world, storage: &tree, failure: RefCell::new(None) };
                let executed = circuit.execute_all(&circuit_calls(calls, &accounts), &file);
                if let Some(error) = file.failure.into_inner() {
                    return Err(failed(error.into()));
                }
                let execution = Arc::new(executed?);
                check_places::<F>(&execution, &tree).map_err(failed)?;
                Ok(Prepared::new(circuit, &execution, &mut tree)?)
            }
        }
    }
}

fn circuit_calls(calls: &[Call], state: &State) -> Vec<CircuitCall> {
    calls.iter().map(|call| CircuitCall { calldata: call.calldata.clone(), env: call.env_in(state) }).collect()
}

/// Every slot that is touched has the same key in the file, where it has a leaf, and in the proof, and can be written down in the file.
fn check_places<F: PrimeField>(execution: &Execution, storage: &dyn Storage) -> Result<(), Problem> {
    let (account, preimages) = (execution.record.account, &execution.record.preimages);
    for leaf in &execution.record.leaves {
        let slot = leaf.slot;
        let unknown = Problem::UnknownPlace { account, slot };
        let program = Place::of(&slot, preimages, stands_alone)?.ok_or(unknown)?;
        match storage.place(&account, &slot)? {
            Some(file) if file.key::<F>(&account) != program.key::<F>(&account) => {
                let (file, program) = (Box::new(file), Box::new(program));
                return Err(Problem::OtherPlace { account, slot, file, program });
            }
            Some(_) | None => {}
        }
    }
    Ok(())
}

/// A state file as the interpreter sees it.
struct InFile<'a> {
    /// The accounts, without their storage.
    world: World<'a>,
    storage: &'a dyn Storage,
    /// The first error; what was read after it counts for nothing.
    failure: RefCell<Option<StorageError>>,
}

impl InFile<'_> {
    fn slot(&self, address: &Address, slot: &Word) -> Result<Word, StorageError> {
        match self.storage.place(address, slot)? {
            Some(place) => self.storage.value(address, &place),
            None => Ok(Word::ZERO),
        }
    }
}

impl PreState for InFile<'_> {
    fn storage(&self, address: &Address, key: &Word) -> Word {
        self.slot(address, key).unwrap_or_else(|error| {
            self.failure.borrow_mut().get_or_insert(error);
            Word::ZERO
        })
    }

    fn balance(&self, address: &Address) -> Word {
        self.world.balance(address)
    }

    fn code(&self, address: &Address) -> &[u8] {
        self.world.code(address)
    }

    fn exists(&self, address: &Address) -> bool {
        self.world.exists(address)
    }

    fn block_hash(&self, number: u64) -> Option<Word> {
        self.world.block_hash(number)
    }

    fn blob_hash(&self, index: u64) -> Option<Word> {
        self.world.blob_hash(index)
    }
}

/// What the calls of a proof leave.
#[derive(Clone, Debug)]
pub struct Left {
    /// What they changed.
    pub changes: Changes,
    /// The places of the slots that they touched.
    pub places: Places,
    /// The roots of the state before and after, as numbers; `None` if the program touches no storage.
    pub roots: Option<[Word; 2]>,
}

impl Left {
    /// What an execution leaves.
    ///
    /// # Errors
    /// `Disagreement` if the proof is about another state than the outcomes give, which is a bug.
    pub fn of<F: PrimeField>(prepared: &Prepared<F>) -> Result<Self, CircuitError> {
        let Execution { calls, outcomes, record, .. } = &*prepared.execution;
        let mut changes = Changes::default();
        for (call, outcome) in calls.iter().zip(outcomes).filter(|(_, outcome)| outcome.halt == Halt::Return) {
            for ((address, slot), value) in &outcome.storage {
                changes.accounts.entry(*address).or_default().storage.insert(*slot, *value);
            }
            if !call.env.callvalue.is_zero() {
                // It has arrived already.
                changes.accounts.entry(record.account).or_default().balance = Some(call.env.selfbalance);
            }
        }
        let changed = changes.accounts.get(&record.account).map(|change| &change.storage);
        let after = |slot: &Word, before: Word| changed.and_then(|slots| slots.get(slot)).copied().unwrap_or(before);
        if record.leaves.iter().any(|leaf| after(&leaf.slot, leaf.first) != leaf.last.value) {
            return Err(CircuitError::Disagreement("the state afterwards"));
        }
        let roots = prepared.walk.as_ref().map(|_| [to_u256(&prepared.roots.pre), to_u256(&prepared.roots.post)]);
        Ok(Self { changes, places: Places::of_proofs(&record.preimages), roots })
    }
}
