//! `zvm verify`: whether a proof is valid for a program, and what it says.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use zvm::artifact::{self, Expected, Kind, Origin, ProofFile};
use zvm::call;
use zvm::input::read_file;
use zvm::{Error, Exit, Input, Program as Loaded};
use zvm_backend_circuit::execute::Call as CircuitCall;
use zvm_backend_circuit::short::source;
use zvm_ir::{Halt, Word};

use super::output::Output;
use super::prove::{outcomes_text, statement_json, statement_text};
use super::setup::{INSECURE, origin_text};
use super::{Answer, Cache, Calls, Failure, contract, json as shapes};

/// Arguments of `verify`.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The proof.
    proof: PathBuf,
    /// The program: the same input as for `prove`, or a compiled program.
    #[arg(long, value_name = "INPUT")]
    program: String,
    /// Which contract of the program's file.
    #[arg(long, value_name = "NAME")]
    contract: Option<String>,
    /// What is expected of the calls; fields that are not given may be anything, the origin where only the caller is given too.
    #[command(flatten)]
    expected: Calls,
    /// The expected kind of halt.
    #[arg(long, value_enum)]
    halt: Option<Halted>,
    /// The expected return or revert data in hex.
    #[arg(long, value_name = "HEX")]
    data: Option<String>,
    /// The expected root of the state before.
    #[arg(long, value_name = "ROOT")]
    pre_root: Option<Word>,
    /// The expected root of the state after.
    #[arg(long, value_name = "ROOT")]
    post_root: Option<Word>,
    /// The expected number of steps.
    #[arg(long, value_name = "COUNT")]
    steps: Option<u64>,
    /// The keys of a Groth16 proof [default: those of its circuit in the folder of keys].
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    #[command(flatten)]
    cache: Cache,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Halted {
    /// Success.
    Return,
    /// A revert.
    Revert,
    /// An exceptional halt.
    Trap,
}

impl Verify {
    pub(super) fn run(&self, output: &Output) -> Result<Answer, Failure> {
        let path = self.proof.display().to_string();
        let bytes = read_file(&path)?;
        let input = Input::read(&self.program, self.contract.as_deref())?;
        let program = Loaded::load(&input).map_err(|error| Failure::about(error, &input))?;
        let claimed = artifact::read_proof(&path, &bytes)?;
        let expected = self.expected(&input, &claimed)?;
        let folder = self.cache.folder();
        let verified = if claimed.kind == Kind::Groth16 {
            let folder = folder.unwrap_or_else(artifact::default_cache);
            let keys = source(self.keys.as_deref(), &folder);
            artifact::verify_short(&path, &bytes, &program, &expected, keys).map(|verified| {
                if verified.origin == Origin::InsecureLocal {
                    output.warn(INSECURE);
                }
                let more = json!({
                    "keys": verified.origin.name(),
                    "l1": {
                        "verify": shapes::bytes(&verified.verify_calldata),
                        "advance": shapes::bytes(&verified.advance_calldata),
                    },
                });
                let keys = format!("keys      {}\n", origin_text(verified.origin));
                (verified.statement, verified.file, keys, more)
            })
        } else {
            artifact::verify(&path, &bytes, &program, &expected, folder.as_deref())
                .map(|(statement, file)| (statement, file, String::new(), json!({})))
        };
        match verified {
            Ok((statement, file, keys, more)) => {
                let text = format!("valid\n{}{}{keys}", outcomes_text(&file, &input), statement_text(&statement));
                output.either(&text, || {
                    let mut document = json!({"valid": true, "reason": Value::Null,
                        "statement": statement_json(&statement),
                        "calldata": file.calls.last().map(|call| shapes::bytes(&call.calldata)),
                        "outcome": file.outcomes.last().map(shapes::outcome),
                        "outcomes": file.outcomes.iter().map(shapes::outcome).collect::<Vec<_>>()});
                    if let (Value::Object(document), Value::Object(more)) = (&mut document, more) {
                        document.extend(more);
                    }
                    document
                })?;
                Ok(Answer::Yes)
            }
            Err(error) if error.exit() == Exit::No => {
                let reason = error.to_string();
                output.either(
                    &format!("NOT valid: {reason}\n"),
                    || json!({"valid": false, "reason": reason, "statement": Value::Null}),
                )?;
                Ok(Answer::Not(Exit::No))
            }
            Err(error) => Err(Failure::about(error, &input)),
        }
    }

    /// What the options say. Environments are those of the proof, with the fields that were given: by options for every call, in a
    /// list for each.
    fn expected(&self, input: &Input, claimed: &ProofFile) -> Result<Expected, Error> {
        let mut expected = Expected {
            halt: self.halt.map(|halt| match halt {
                Halted::Return => Halt::Return,
                Halted::Revert => Halt::Revert,
                Halted::Trap => Halt::Trap,
            }),
            data: self.data.as_ref().map(|data| call::bytes("--data", data)).transpose()?,
            pre_root: self.pre_root,
            post_root: self.post_root,
            steps: self.steps,
            calldata: self.expected.calldata(input)?,
            ..Expected::default()
        };
        let mut calls = claimed.calls.clone();
        for call in &mut calls {
            let (environment, origin) = (&self.expected.environment, call.env.origin);
            environment.apply(&mut call.env)?;
            // Where calls are made whoever calls has signed unless another is named. What is expected is only what was given.
            if environment.origin.is_none() {
                call.env.origin = origin;
            }
        }
        if let Some(path) = &self.expected.calls {
            let abi = contract(input).and_then(|contract| contract.abi.as_ref());
            let base = |at: usize| calls.get(at).map(|call| call.env.clone()).unwrap_or_default();
            let list = call::parse_list_over(path, &read_file(path)?, &base, abi)?;
            let call = |call::Call { calldata, env }| CircuitCall { calldata, env };
            expected.calls = Some(list.into_iter().map(call).collect());
        } else if let [only] = calls.as_slice() {
            expected.env = Some(only.env.clone());
        } else {
            expected.calls = Some(calls);
        }
        Ok(expected)
    }
}
