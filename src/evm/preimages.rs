//! What a program hashes, seen while it runs: so that the places of its storage slots are known.

use std::collections::BTreeSet;

use revm::Inspector;
use revm::MainBuilder;
use revm::bytecode::opcode;
use revm::inspector::InspectorHandler;
use revm::interpreter::Interpreter;
use revm::interpreter::interpreter::EthInterpreter;
use revm::interpreter::interpreter_types::{Jumps, MemoryTr};
use zvm_backend_circuit::state::place::MAX_WORDS;
use zvm_ir::Env;

use crate::error::Error;
use crate::evm::{Evm, Execution, Mainnet};
use crate::state::State;

/// Bytes that were hashed.
pub type Preimages = BTreeSet<Vec<u8>>;

impl Evm {
    /// Runs a call and gives what was hashed meanwhile, by the program and by all accounts that it calls, of at
    /// most [`MAX_WORDS`] words.
    ///
    /// # Errors
    /// As [`Evm::run`].
    pub fn preimages(&self, calldata: &[u8], env: &Env, pre: &State) -> Result<(Execution, Preimages), Error> {
        let mut evm = self.context(env, pre)?.build_mainnet_with_inspector(Hashes::default());
        let frame = self.prepare(&mut evm, calldata, env)?;
        let result = Mainnet::default().inspect_run_exec_loop(&mut evm, frame);
        let execution = self.finish(result, &mut evm)?;
        Ok((execution, evm.inspector.0))
    }
}

/// Records what is hashed.
#[derive(Debug, Default)]
pub(super) struct Hashes(pub(super) Preimages);

impl<CTX> Inspector<CTX, EthInterpreter> for Hashes {
    fn step(&mut self, interp: &mut Interpreter<EthInterpreter>, _: &mut CTX) {
        if interp.bytecode.opcode() != opcode::KECCAK256 {
            return;
        }
        let operand = |at| interp.stack.peek(at).ok().and_then(|word| usize::try_from(word).ok());
        let (Some(offset), Some(length)) = (operand(0), operand(1)) else { return };
        if length == 0 || length > 32 * MAX_WORDS {
            return;
        }
        // Memory beyond its end is zero; the instruction itself has not run yet.
        let mut bytes = vec![0; length];
        let held = interp.memory.size().saturating_sub(offset).min(length);
        if held > 0 {
            bytes[..held].copy_from_slice(&interp.memory.slice(offset..offset + held));
        }
        self.0.insert(bytes);
    }
}
