//! Deployment: the creation code of a contract is run in `revm`, as a transaction would run it; what it leaves is a state
//! for the executors, with the runtime code whose immutables are filled in.

use alloy_json_abi::{Function, JsonAbi, StateMutability};
use revm::MainBuilder;
use revm::inspector::InspectorHandler;
use revm::interpreter::{CreateInputs, CreateScheme, FrameInput};
use serde_json::Value;
use zvm_ir::Env;
use zvm_ir::outcome::Halt;

use crate::call;
use crate::error::Error;
use crate::evm::preimages::{Hashes, Preimages};
use crate::evm::{Evm, Mainnet, first_frame};
use crate::state::State;

/// A contract that was deployed.
#[derive(Clone, Debug)]
pub struct Deployment {
    /// Its runtime code.
    pub runtime: Vec<u8>,
    /// The state after its constructor, the account itself included.
    pub state: State,
    /// Execution gas of the constructor, with that of storing the code.
    pub gas: u64,
    /// What was hashed meanwhile: see [`Evm::preimages`].
    pub preimages: Preimages,
}

/// The arguments of a constructor, encoded: what follows the creation code. The types come from `signature`,
/// `constructor(address,uint256)`, or else from the interface; a contract without either takes none.
///
/// # Errors
/// When the signature cannot be read, or an argument is missing, too many, or not of its type.
pub fn arguments(signature: Option<&str>, args: &[Value], abi: Option<&JsonAbi>) -> Result<Vec<u8>, Error> {
    let function = match signature.filter(|signature| signature.contains('(')) {
        Some(signature) => call::function(signature, None)?,
        None => {
            let known = abi.and_then(|abi| abi.constructor.as_ref());
            Function {
                name: "constructor".to_owned(),
                inputs: known.map(|constructor| constructor.inputs.clone()).unwrap_or_default(),
                outputs: Vec::new(),
                state_mutability: StateMutability::NonPayable,
            }
        }
    };
    // A constructor has no selector.
    call::encode(&function, args).map(|calldata| calldata[4..].to_vec())
}

/// Deploys `creation` (code, then encoded arguments) at [`Env::address`], from [`Env::caller`] with [`Env::callvalue`].
///
/// # Errors
/// `ConstructorFailed` when it reverts or traps; as [`Evm::run`] otherwise.
pub fn deploy(creation: &[u8], env: &Env, pre: &State) -> Result<Deployment, Error> {
    let mut funded = pre.clone();
    let payer = funded.accounts.entry(env.caller).or_default();
    // What it sends is what it has: the balance of the caller is nobody's concern here.
    payer.balance = payer.balance.saturating_add(env.callvalue);
    let before = pre.accounts.get(&env.address).map_or(zvm_ir::Word::ZERO, |account| account.balance);
    let env = Env { selfbalance: before, ..env.clone() };

    let evm_code = Evm::new(&[]);
    let mut evm = evm_code.context(&env, &funded)?.build_mainnet_with_inspector(Hashes::default());
    let scheme = CreateScheme::Custom { address: env.address.into() };
    let gas_limit = evm_code.gas_limit();
    let inputs = CreateInputs::new(env.caller.into(), scheme, env.callvalue, creation.to_vec().into(), gas_limit, 0);
    let frame = first_frame(&mut evm, &env, env.caller, FrameInput::Create(Box::new(inputs)))?;
    let result = Mainnet::default().inspect_run_exec_loop(&mut evm, frame);
    let execution = evm_code.finish(result, &mut evm)?;
    if execution.outcome.halt != Halt::Return {
        return Err(Error::ConstructorFailed { halt: execution.outcome.halt, data: execution.outcome.data });
    }
    let preimages = evm.inspector.0;
    let mut state = funded;
    state.apply(&execution.changes);
    let account = state.accounts.entry(env.address).or_default();
    account.code.clone_from(&execution.outcome.data);
    Ok(Deployment { runtime: execution.outcome.data, state, gas: execution.gas, preimages })
}
