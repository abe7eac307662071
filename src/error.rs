//! Everything that can go wrong, with a stable code, a place and advice.
//!
//! Codes: ZV01xx frontend, ZV02xx IR, ZV05xx EVM backend, ZV06xx circuit backend, ZV07xx input files, ZV08xx calls and
//! states, ZV09xx executors.

use std::io;

use zvm_backend_circuit::artifact::FileError;
use zvm_backend_circuit::checkpoint::CheckpointError;
use zvm_backend_circuit::error::CircuitError;
use zvm_backend_circuit::groth16::Groth16Error;
use zvm_backend_circuit::keys::KeyError;
use zvm_backend_circuit::prover;
use zvm_backend_circuit::state::storage::StorageError;
use zvm_backend_circuit::state::store::StoreError;
use zvm_backend_evm::LowerError;
use zvm_frontend::LiftError;
use zvm_ir::outcome::{Address, Halt};
use zvm_ir::passes::BrokenModule;
use zvm_ir::{InterpError, ParseError, Pc, VerifyError, Word};

use crate::creation::CreationError;
use crate::state_file::Problem;

/// An error of the public API.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// The reason.
        source: io::Error,
    },
    /// A file is larger than is read.
    #[error("{path}: {len} bytes, more than the limit of {limit}")]
    TooLarge {
        /// The file.
        path: String,
        /// Its length in bytes.
        len: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A file is empty.
    #[error("{path}: the file is empty")]
    Empty {
        /// The file.
        path: String,
    },
    /// A file that begins like JSON is not JSON.
    #[error("{path}: not valid JSON: {source}")]
    Json {
        /// The file.
        path: String,
        /// Line, column and reason.
        source: serde_json::Error,
    },
    /// A JSON file has something else at a place than expected.
    #[error("{path}: `{at}` should be {expected}")]
    Field {
        /// The file.
        path: String,
        /// The place, as a path of keys: `contracts.a.sol.A.abi`.
        at: String,
        /// What should be there.
        expected: &'static str,
    },
    /// A JSON file is no known kind of artifact.
    #[error("{path}: no kind of compiler output that is known (its fields are: {fields})")]
    UnknownJson {
        /// The file.
        path: String,
        /// The names of its first fields.
        fields: String,
    },
    /// A text file is neither hex nor anything else that is read.
    #[error("{path}: not bytecode in hex: {found} at byte {offset}")]
    NotHex {
        /// The file, or the place in a JSON file.
        path: String,
        /// The position of the first wrong character.
        offset: usize,
        /// What is wrong there.
        found: String,
    },
    /// The compiler that wrote the file reported an error instead of contracts.
    #[error("{path}: the compiler failed: {message}")]
    CompilerFailed {
        /// The file.
        path: String,
        /// Its first message.
        message: String,
    },
    /// The file has several contracts and none was selected.
    #[error("{path}: several contracts: {}", names.join(", "))]
    Ambiguous {
        /// The file.
        path: String,
        /// The contracts that have code.
        names: Vec<String>,
    },
    /// The contract that was selected is not in the file.
    #[error("{path}: no contract `{name}`; there are: {}", names.join(", "))]
    UnknownContract {
        /// The file.
        path: String,
        /// What was asked for.
        name: String,
        /// The contracts that have code.
        names: Vec<String>,
    },
    /// There is no runtime bytecode.
    #[error("{path}: no runtime bytecode{}", name.as_ref().map(|name| format!(" for `{name}`")).unwrap_or_default())]
    NoRuntime {
        /// The file.
        path: String,
        /// The contract.
        name: Option<String>,
    },
    /// Library addresses are not filled in.
    #[error("{path}: not linked: byte {offset} of the code should be the address of library {library}")]
    Unlinked {
        /// The file.
        path: String,
        /// The library.
        library: String,
        /// The byte of the code.
        offset: usize,
    },

    /// A state file cannot be made or used.
    #[error("{path}: {source}")]
    StateFile {
        /// The file.
        path: String,
        /// The reason.
        source: Box<Problem>,
    },
    /// A compiled program or a proof cannot be read.
    #[error("{path}: {source}")]
    Unreadable {
        /// The file.
        path: String,
        /// The reason.
        source: FileError,
    },
    /// A proof is not valid, or no proof at all.
    #[error("{source}")]
    Proof {
        /// The file.
        path: String,
        /// The reason.
        source: Box<prover::VerifyError>,
    },
    /// ZVM text cannot be parsed.
    #[error("{path}: {source}")]
    Parse {
        /// The file.
        path: String,
        /// Line and reason.
        source: ParseError,
    },
    /// ZVM text breaks the rules of the IR.
    #[error("{path}: not valid IR: {}", lines(errors))]
    Verify {
        /// The file.
        path: String,
        /// Every violation.
        errors: Vec<VerifyError>,
    },
    /// The bytecode is longer than any account's code.
    #[error("the bytecode has {len} bytes; an account's code has at most {limit} (EIP-170)")]
    CodeSize {
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The program cannot be lifted.
    #[error(transparent)]
    Lift(#[from] LiftError),
    /// A pass of the optimiser broke the program: a bug.
    #[error(transparent)]
    Broken(#[from] BrokenModule),
    /// The program cannot be lowered to EVM bytecode.
    #[error(transparent)]
    Lower(#[from] LowerError),
    /// The program or the execution cannot be proved.
    #[error(transparent)]
    Circuit(#[from] CircuitError),

    /// A function signature cannot be read.
    #[error("`{signature}` is not a function signature: {reason}")]
    Signature {
        /// The signature.
        signature: String,
        /// Why not.
        reason: String,
    },
    /// The contract has no such function.
    #[error("the contract has no function `{signature}`; it has: {}", functions.join(", "))]
    UnknownFunction {
        /// What was asked for.
        signature: String,
        /// The signatures of its functions.
        functions: Vec<String>,
    },
    /// A call has too few or too many arguments.
    #[error("`{signature}` takes {expected} arguments, {found} were given")]
    ArgumentCount {
        /// The function.
        signature: String,
        /// What it takes.
        expected: usize,
        /// What there is.
        found: usize,
    },
    /// An argument of a call is not of its type.
    #[error("argument {index} of `{signature}` is not a `{ty}`: `{value}` ({reason})")]
    Argument {
        /// The function.
        signature: String,
        /// Counted from 1.
        index: usize,
        /// The type in the signature.
        ty: String,
        /// What was given.
        value: String,
        /// Why not.
        reason: String,
    },
    /// A number, address or byte string on the command line or in a call list is malformed.
    #[error("{what}: `{value}` is not {expected}")]
    Value {
        /// The option or field.
        what: String,
        /// What was given.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// The emitted code does not do what the IR says: an error of the compiler.
    #[error("the emitted code differs from the IR: {0}")]
    Emitted(Box<zvm_backend_evm::CheckError>),
    /// The constructor cannot be compiled anew.
    #[error(transparent)]
    Creation(#[from] CreationError),
    /// There is no creation code to deploy.
    #[error("{path}: no creation code")]
    NoCreation {
        /// The file.
        path: String,
    },
    /// The functions of a program are not known.
    #[error("{path}: no interface (ABI) that lists functions")]
    NoInterface {
        /// The file.
        path: String,
    },
    /// A constructor did not return.
    #[error("the constructor {}", failure(*halt, data))]
    ConstructorFailed {
        /// How it halted.
        halt: Halt,
        /// What it reverted with.
        data: Vec<u8>,
    },
    /// A step was asked for that the execution does not have.
    #[error("there is no step {step}: the execution takes {steps}, counted from 0")]
    NoStep {
        /// What was asked for.
        step: u64,
        /// How many steps there are.
        steps: u64,
    },
    /// A call names neither calldata nor a function.
    #[error("{place}: no call: give calldata or a function signature")]
    NoCall {
        /// The command line, or the element of a call list.
        place: String,
    },
    /// A call names both calldata and a function.
    #[error("{place}: both calldata and a function signature")]
    TwoCalls {
        /// The command line, or the element of a call list.
        place: String,
    },

    /// The gas limit was reached: the program runs too long, or asks for more memory than the limit buys.
    #[error("the execution needs more than {limit} gas ({reason})")]
    OutOfGas {
        /// The limit.
        limit: u64,
        /// Which of revm's out-of-gas reasons.
        reason: &'static str,
    },
    /// An environment field is larger than any block can hold.
    #[error("the environment's {field} is {value}, which does not fit {bits} bits")]
    EnvRange {
        /// The field.
        field: &'static str,
        /// Its value.
        value: Word,
        /// The width it must fit.
        bits: u32,
    },
    /// The executing account's address is that of a precompiled contract.
    #[error("the executing account has the address of a precompiled contract, 0x{}", hex::encode(.0))]
    Precompile(Address),
    /// `revm` could not run the frame at all.
    #[error("revm: {0}")]
    Revm(String),
    /// The interpreter gave no outcome.
    #[error(transparent)]
    Interp(#[from] InterpError),
    /// The program was given as IR, so that there is no original bytecode to run.
    #[error("the program was given as IR: there is no original bytecode to run")]
    NoBytecode,
    /// There is no pass of that name.
    #[error("there is no pass `{name}`; there are: {}", names.join(", "))]
    UnknownPass {
        /// What was asked for.
        name: String,
        /// All passes.
        names: Vec<&'static str>,
    },
    /// A function has more blocks than a picture of it can show.
    #[error("@{function} has {blocks} blocks; at most {limit} are drawn")]
    PictureTooLarge {
        /// The function.
        function: String,
        /// Its blocks.
        blocks: usize,
        /// The limit.
        limit: usize,
    },
    /// An executor was asked for that was not prepared. A fault of the caller.
    #[error("the executor `{0}` was not prepared")]
    NotPrepared(&'static str),
    /// The IR means something else after a stage of the optimiser: a bug.
    #[error("the IR {stage} differs from the IR as lifted in {difference}")]
    StagesDiffer {
        /// The stage.
        stage: &'static str,
        /// The first part of the outcome that differs.
        difference: &'static str,
    },
}

/// What kept a verifier from its work: nothing is said of the proof then.
fn own_fault(error: &prover::VerifyError) -> Option<&CircuitError> {
    match error {
        prover::VerifyError::Proof(error @ CircuitError::Cache { .. }) => Some(error),
        _ => None,
    }
}

fn failure(halt: Halt, data: &[u8]) -> String {
    if halt == Halt::Revert { format!("reverts with 0x{}", hex::encode(data)) } else { "traps".to_owned() }
}

fn lines(errors: &[VerifyError]) -> String {
    errors.iter().take(20).map(|error| format!("\n  {error}")).collect()
}

/// What an error points at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// An instruction of the bytecode.
    Pc(Pc),
    /// A line of a text file, counted from 1.
    Line(usize),
}

/// What the exit code tells a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The answer is no: a proof is invalid, executors differ.
    No = 1,
    /// Wrong usage or unreadable input.
    Usage = 2,
    /// The program, or the path that the call takes, is outside the subset.
    Subset = 3,
    /// A limit was reached.
    Limit = 4,
}

impl Error {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "ZV0701",
            Self::TooLarge { .. } => "ZV0702",
            Self::Empty { .. } => "ZV0703",
            Self::Json { .. } => "ZV0704",
            Self::Field { .. } => "ZV0705",
            Self::UnknownJson { .. } => "ZV0706",
            Self::NotHex { .. } => "ZV0707",
            Self::CompilerFailed { .. } => "ZV0708",
            Self::Ambiguous { .. } => "ZV0709",
            Self::UnknownContract { .. } => "ZV0710",
            Self::NoRuntime { .. } => "ZV0711",
            Self::Unlinked { .. } => "ZV0712",
            Self::Unreadable { .. } => "ZV0713",
            Self::Proof { source, .. } if source.is_unreadable() => "ZV0714",
            Self::Proof { source, .. } if source.keys().is_some() => "ZV0609",
            Self::Proof { source, .. } => own_fault(source).map_or("ZV0605", circuit_code),
            Self::StateFile { source, .. } if matches!(**source, Problem::UnknownPlace { .. }) => "ZV0717",
            Self::StateFile { .. } => "ZV0716",
            Self::Parse { .. } => "ZV0201",
            Self::Verify { .. } => "ZV0202",
            Self::CodeSize { .. } => "ZV0100",
            Self::Lift(error) => error.code(),
            Self::Broken(_) => "ZV0299",
            Self::Lower(error) => error.code(),
            Self::Circuit(error) => circuit_code(error),
            Self::Signature { .. } => "ZV0801",
            Self::UnknownFunction { .. } => "ZV0802",
            Self::ArgumentCount { .. } => "ZV0803",
            Self::Argument { .. } => "ZV0804",
            Self::Value { .. } => "ZV0805",
            Self::NoCall { .. } => "ZV0806",
            Self::TwoCalls { .. } => "ZV0807",
            Self::NoStep { .. } => "ZV0809",
            Self::NoCreation { .. } => "ZV0715",
            Self::NoInterface { .. } => "ZV0718",
            Self::Emitted(_) => "ZV0506",
            Self::Creation(_) => "ZV0507",
            Self::ConstructorFailed { .. } => "ZV0911",
            Self::OutOfGas { .. } => "ZV0901",
            Self::EnvRange { .. } => "ZV0902",
            Self::Precompile(_) => "ZV0903",
            Self::Revm(_) => "ZV0904",
            Self::Interp(InterpError::StepLimit { .. }) => "ZV0905",
            Self::Interp(InterpError::MemoryLimit { .. }) => "ZV0906",
            Self::Interp(InterpError::CallDepth { .. }) => "ZV0907",
            Self::Interp(InterpError::Foreign { .. }) => "ZV0908",
            Self::Interp(InterpError::Unfilled { .. }) => "ZV0912",
            Self::Interp(InterpError::Eval { .. } | InterpError::Malformed { .. }) => "ZV0998",
            Self::NoBytecode => "ZV0909",
            Self::NotPrepared(_) => "ZV0910",
            Self::UnknownPass { .. } => "ZV0203",
            Self::PictureTooLarge { .. } => "ZV0204",
            Self::StagesDiffer { .. } => "ZV0999",
        }
    }

    /// The exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Self::OutOfGas { .. }
            | Self::TooLarge { .. }
            | Self::PictureTooLarge { .. }
            | Self::Interp(
                InterpError::StepLimit { .. } | InterpError::MemoryLimit { .. } | InterpError::CallDepth { .. },
            ) => Exit::Limit,
            Self::CodeSize { .. }
            | Self::Lift(_)
            | Self::Lower(_)
            | Self::Creation(_)
            | Self::Interp(InterpError::Foreign { .. } | InterpError::Unfilled { .. }) => Exit::Subset,
            Self::Circuit(error) => circuit_exit(error),
            Self::StateFile { source, .. } if matches!(**source, Problem::Proof(_) | Problem::OtherRoot { .. }) => {
                Exit::No
            }
            Self::StateFile { source, .. } if matches!(**source, Problem::TooManyHashes(_)) => Exit::Limit,
            Self::StateFile { .. } => Exit::Usage,
            Self::Proof { source, .. } if source.is_unreadable() || source.keys().is_some() => Exit::Usage,
            Self::Proof { source, .. } => own_fault(source).map_or(Exit::No, circuit_exit),
            // The constructor says no, or the compiler contradicts itself.
            Self::ConstructorFailed { .. }
            | Self::Emitted(_)
            | Self::Broken(_)
            | Self::StagesDiffer { .. }
            | Self::Interp(InterpError::Eval { .. } | InterpError::Malformed { .. }) => Exit::No,
            Self::Io { .. }
            | Self::Empty { .. }
            | Self::Json { .. }
            | Self::Field { .. }
            | Self::UnknownJson { .. }
            | Self::NotHex { .. }
            | Self::CompilerFailed { .. }
            | Self::Ambiguous { .. }
            | Self::UnknownContract { .. }
            | Self::NoRuntime { .. }
            | Self::Unlinked { .. }
            | Self::Unreadable { .. }
            | Self::Parse { .. }
            | Self::Verify { .. }
            | Self::NoBytecode
            | Self::NotPrepared(_)
            | Self::UnknownPass { .. }
            | Self::Signature { .. }
            | Self::UnknownFunction { .. }
            | Self::ArgumentCount { .. }
            | Self::Argument { .. }
            | Self::Value { .. }
            | Self::NoCall { .. }
            | Self::TwoCalls { .. }
            | Self::NoStep { .. }
            | Self::NoCreation { .. }
            | Self::NoInterface { .. }
            | Self::EnvRange { .. }
            | Self::Precompile(_)
            | Self::Revm(_) => Exit::Usage,
        }
    }

    /// What a user can do about it.
    pub fn help(&self) -> Option<String> {
        let text = match self {
            Self::Empty { .. } => "give runtime bytecode (hex or binary), a compiler's JSON output, or ZVM text",
            Self::UnknownJson { .. } => {
                "known are solc's combined and standard JSON output, and the artifacts of Foundry, Hardhat and Truffle"
            }
            Self::PictureTooLarge { .. } => "use `--cfg dot`, and Graphviz or a viewer of its files",
            Self::StateFile { source, .. } => match **source {
                Problem::UnknownPlace { .. } => {
                    "say what is hashed for it: `--calls` with calls that read it, `--preimages`, `--places`, or `--layout` with \
                     `--keys`"
                }
                Problem::OtherPlace { .. } => {
                    "import the state anew, with the program as the code of its account: proofs find a slot by their own place of it"
                }
                Problem::Moved { .. } => "prove again, from the file as it is now",
                Problem::OtherRoot { .. } => "this is a bug of zvm: please report it with the program and the calls",
                Problem::Storage(StorageError::Store(StoreError::Field { .. })) => {
                    "`zvm state import --field` makes a file over the other field: bn254 is for folded proofs, bls12-381 for \
                     `--system groth16`"
                }
                Problem::Place(_) => "a place is a number, or looks like `keccak(0x…, 5)+1`",
                _ => return None,
            },
            Self::NotHex { .. } => "give runtime bytecode as hex digits, or as raw bytes",
            Self::Json { .. } => {
                "where a program is expected, a file that begins with `{` is read as a compiler's JSON output"
            }
            Self::CompilerFailed { .. } => "compile again, with `evm.deployedBytecode` among the selected outputs",
            Self::Ambiguous { .. } => "select one with `--contract NAME`",
            Self::UnknownContract { .. } => "`--contract` takes `Name` or `file.sol:Name`",
            Self::NoRuntime { .. } => {
                "interfaces and abstract contracts have none; otherwise select `evm.deployedBytecode` (solc: \
                 `--bin-runtime`) and compile again"
            }
            Self::Unlinked { .. } => "link the code with the addresses of its libraries first",
            Self::Signature { .. } => "a signature looks like `transfer(address,uint256)`",
            Self::Argument { .. } => "numbers are decimal or 0x-hex, bytes and addresses 0x-hex, lists `[1,2]`",
            Self::NoCall { .. } => "for example `--calldata 0x…`, or `--sig 'transfer(address,uint256)' 0x… 1000`",
            Self::TwoCalls { .. } => "give one of them",
            Self::NoCreation { .. } => "give a compiler's output that has it, or `--creation 0x…`",
            Self::NoInterface { .. } => "give a compiler's JSON output, with the ABI selected",
            Self::ConstructorFailed { .. } => "its arguments follow INPUT; `--value` and `--caller` say who pays what",
            Self::OutOfGas { .. } => {
                "the program may not halt on this input, or uses a memory offset that no execution can pay for"
            }
            Self::Precompile(_) => "choose another `--address`",
            Self::CodeSize { .. } => "give the runtime bytecode of one contract",
            Self::Lift(error) => error.help(),
            Self::Interp(InterpError::Foreign { .. }) => {
                "calls that stay in this account can be run; `--executor evm` runs the others too"
            }
            Self::Broken(_) | Self::StagesDiffer { .. } => "this is a bug of zvm: please report it with the program",
            Self::NoBytecode => "choose another executor, for example `--executor ir`",
            Self::Circuit(CircuitError::Keys(error)) => return keys_help(error),
            Self::Proof { source, .. } => return source.keys().and_then(keys_help),
            Self::Circuit(CircuitError::Unprovable(_)) => {
                "calls that do not reach this instruction can be proved; `zvm check` lists all such instructions"
            }
            Self::Circuit(CircuitError::UnknownSlot(_)) => {
                "give a state file, which keeps the place of each slot: `zvm state import` makes one"
            }
            Self::Circuit(CircuitError::Interrupted) => {
                "with `--checkpoint DIR` the steps that are folded are kept, and `--resume` goes on with them"
            }
            Self::Circuit(CircuitError::Checkpoint { source: CheckpointError::Unfinished, .. }) => {
                "`--resume` goes on with it; remove the folder to begin anew"
            }
            Self::Circuit(CircuitError::Checkpoint {
                source: CheckpointError::Damaged | CheckpointError::File(_),
                ..
            }) => "remove the folder to begin anew",
            Self::Circuit(CircuitError::Memory { .. }) => "`--max-memory` allows more",
            Self::Io { .. }
            | Self::TooLarge { .. }
            | Self::Unreadable { .. }
            | Self::NoStep { .. }
            | Self::Parse { .. }
            | Self::Verify { .. }
            | Self::Lower(_)
            | Self::Emitted(_)
            | Self::Creation(_)
            | Self::Circuit(_)
            | Self::Interp(_)
            | Self::NotPrepared(_)
            | Self::UnknownPass { .. }
            | Self::Field { .. }
            | Self::UnknownFunction { .. }
            | Self::ArgumentCount { .. }
            | Self::Value { .. }
            | Self::EnvRange { .. }
            | Self::Revm(_) => return None,
        };
        Some(text.to_owned())
    }

    /// What it points at.
    pub fn place(&self) -> Option<Place> {
        let pc = match self {
            Self::Parse { source, .. } => return Some(Place::Line(source.line)),
            Self::CodeSize { limit, .. } => Some(*limit as Pc),
            Self::Lift(error) => error.pc(),
            Self::Lower(error) => error.pc(),
            Self::Circuit(error) => circuit_pc(error),
            Self::Interp(error) => interp_pc(error),
            _ => None,
        };
        pc.map(Place::Pc)
    }
}

fn keys_help(error: &KeyError) -> Option<String> {
    let text = match error {
        KeyError::None => "`zvm setup INPUT` with a call makes keys for it, and for others that take the same way",
        KeyError::NoRoom => "`zvm setup INPUT` with this call makes keys with room for it",
        KeyError::NoneOf(_) => "give them with `--keys`, or import them with `zvm setup`",
        KeyError::Several(_) => "say which with `--keys FILE`",
        KeyError::OtherProgram { .. } | KeyError::OtherCircuit { .. } => "`zvm setup` makes keys of this program",
        KeyError::Io { .. } | KeyError::NotKeys { .. } | KeyError::Damaged { .. } | KeyError::Key { .. } => {
            return None;
        }
    };
    Some(text.to_owned())
}

fn interp_pc(error: &InterpError) -> Option<Pc> {
    match error {
        InterpError::StepLimit { pc, .. }
        | InterpError::MemoryLimit { pc }
        | InterpError::CallDepth { pc }
        | InterpError::Foreign { pc, .. }
        | InterpError::Unfilled { pc }
        | InterpError::Eval { pc, .. }
        | InterpError::Malformed { pc } => *pc,
    }
}

fn circuit_pc(error: &CircuitError) -> Option<Pc> {
    match error {
        CircuitError::Unprovable(unprovable) => unprovable.pc,
        CircuitError::Execution(error) => interp_pc(error),
        _ => None,
    }
}

fn circuit_code(error: &CircuitError) -> &'static str {
    match error {
        CircuitError::NoEntry | CircuitError::Invalid(_) | CircuitError::Malformed(_) => "ZV0601",
        CircuitError::Unprovable(_) | CircuitError::NotProvable(_) => "ZV0602",
        CircuitError::Execution(_) => "ZV0603",
        CircuitError::PlanLacks(_)
        | CircuitError::TooManySteps(_)
        | CircuitError::StepSize(_)
        | CircuitError::Memory { .. }
        | CircuitError::TooManySegments(_)
        | CircuitError::NoSteps => "ZV0604",
        CircuitError::Batch(_)
        | CircuitError::UnknownSlot(_)
        | CircuitError::StateValue(_)
        | CircuitError::StateTree(_) => "ZV0612",
        CircuitError::Rejected(_) | CircuitError::MalformedProof => "ZV0605",
        CircuitError::UnreadableProof(_) | CircuitError::WrongSystem => "ZV0606",
        CircuitError::Groth16(Groth16Error::Rejected | Groth16Error::NoProof(_)) => "ZV0605",
        CircuitError::Keys(_) => "ZV0609",
        CircuitError::Groth16(_) => "ZV0610",
        CircuitError::Cache { .. } => "ZV0607",
        CircuitError::Interrupted => "ZV0608",
        CircuitError::Checkpoint { .. } => "ZV0611",
        CircuitError::Synthesis(_)
        | CircuitError::Unsatisfied(_)
        | CircuitError::Disagreement(_)
        | CircuitError::Outcome(_)
        | CircuitError::Proving(_)
        | CircuitError::Encoding(_) => "ZV0699",
    }
}

fn circuit_exit(error: &CircuitError) -> Exit {
    match error {
        CircuitError::NoEntry
        | CircuitError::Invalid(_)
        | CircuitError::Malformed(_)
        | CircuitError::NoSteps
        | CircuitError::UnreadableProof(_)
        | CircuitError::Batch(_)
        | CircuitError::UnknownSlot(_)
        | CircuitError::StateValue(_)
        | CircuitError::StateTree(_)
        | CircuitError::WrongSystem
        | CircuitError::Groth16(
            Groth16Error::Unreadable(_)
            | Groth16Error::Degenerate(_)
            | Groth16Error::Shape { .. }
            | Groth16Error::Useless,
        )
        | CircuitError::Checkpoint { .. }
        | CircuitError::Cache { .. } => Exit::Usage,
        CircuitError::Keys(KeyError::NoRoom) => Exit::Limit,
        CircuitError::Keys(_) => Exit::Usage,
        CircuitError::Unprovable(_) | CircuitError::NotProvable(_) => Exit::Subset,
        CircuitError::Execution(_)
        | CircuitError::PlanLacks(_)
        | CircuitError::TooManySteps(_)
        | CircuitError::StepSize(_)
        | CircuitError::Memory { .. }
        | CircuitError::TooManySegments(_)
        | CircuitError::Interrupted => Exit::Limit,
        CircuitError::Rejected(_)
        | CircuitError::Groth16(Groth16Error::Rejected | Groth16Error::NoProof(_) | Groth16Error::Library(_))
        | CircuitError::MalformedProof
        | CircuitError::Synthesis(_)
        | CircuitError::Unsatisfied(_)
        | CircuitError::Disagreement(_)
        | CircuitError::Outcome(_)
        | CircuitError::Proving(_)
        | CircuitError::Encoding(_) => Exit::No,
    }
}
