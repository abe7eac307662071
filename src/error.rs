//! Everything that can go wrong, with a stable code, a place and advice.
//!
//! Codes: ZV01xx frontend, ZV05xx EVM backend, ZV07xx input files, ZV08xx calls and states, ZV09xx executors.

use std::io;

use zvm_ir::Word;
use zvm_ir::outcome::Address;

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
            Self::Signature { .. } => "ZV0801",
            Self::UnknownFunction { .. } => "ZV0802",
            Self::ArgumentCount { .. } => "ZV0803",
            Self::Argument { .. } => "ZV0804",
            Self::Value { .. } => "ZV0805",
            Self::NoCall { .. } => "ZV0806",
            Self::TwoCalls { .. } => "ZV0807",
            Self::OutOfGas { .. } => "ZV0901",
            Self::EnvRange { .. } => "ZV0902",
            Self::Precompile(_) => "ZV0903",
            Self::Revm(_) => "ZV0904",
        }
    }

    /// The exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Self::OutOfGas { .. } | Self::TooLarge { .. } => Exit::Limit,
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
            | Self::Signature { .. }
            | Self::UnknownFunction { .. }
            | Self::ArgumentCount { .. }
            | Self::Argument { .. }
            | Self::Value { .. }
            | Self::NoCall { .. }
            | Self::TwoCalls { .. }
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
            Self::NotHex { .. } => "give runtime bytecode as hex digits, or as raw bytes",
            Self::Json { .. } => "a file that begins with `{` is read as a compiler's JSON output",
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
            Self::OutOfGas { .. } => {
                "the program may not halt on this input, or uses a memory offset that no execution can pay for"
            }
            Self::Precompile(_) => "choose another `--address`",
            Self::Io { .. }
            | Self::TooLarge { .. }
            | Self::Field { .. }
            | Self::UnknownFunction { .. }
            | Self::ArgumentCount { .. }
            | Self::Value { .. }
            | Self::EnvRange { .. }
            | Self::Revm(_) => return None,
        };
        Some(text.to_owned())
    }
}
