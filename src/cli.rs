//! The commands and what they share: options, reading of programs and calls, output.

mod check;
mod circuit;
mod compile;
mod deploy;
mod interrupt;
mod ir;
mod json;
mod output;
mod profile;
mod progress;
mod prove;
mod run;
mod setup;
mod size;
mod state;
mod stats;
mod verifier;
mod verify;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use serde_json::Value;
use zvm::call::{self, Call};
use zvm::input::read_file;
use zvm::places::Places;
use zvm::start::{Left, Start};
use zvm::state::Changes;
use zvm::{Contract, Error, Exit, Input, Source, State, state_file};
use zvm_backend_circuit::state::file::is_state_file;
use zvm_ir::outcome::Address;
use zvm_ir::{Env, Word};

use crate::diagnostics;
use output::{Output, replace_file, write_file};

/// EVM bytecode as IR: checked, compiled, run and proved.
#[derive(Debug, Parser)]
#[command(name = "zvm", version, max_term_width = 110)]
pub(crate) struct Arguments {
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    json: bool,
    /// No progress and no warnings.
    #[arg(long, short, global = true)]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say what of a program can be compiled and proved, and why not.
    Check(check::Check),
    /// Compile a program for the EVM and for the circuit.
    Compile(compile::Compile),
    /// Print the IR of a program, or check a file of ZVM text and print it back.
    Ir(ir::Ir),
    /// Say what the optimiser achieved on a program.
    Stats(stats::Statistics),
    /// Run the constructor of a contract, for its runtime code and its state.
    Deploy(deploy::Deploy),
    /// State trees in files: made from states, given back, looked at, proved.
    State(state::State),
    /// Run a call in one executor, or in all and compare.
    Run(run::Run),
    /// Say where the rows of calls go: by region, instruction and position.
    Profile(profile::ProfileCommand),
    /// Prove that a call has the outcome that running it gives.
    Prove(prove::Prove),
    /// Verify a proof and print what it says.
    Verify(verify::Verify),
    /// Make or import the keys of a program for short proofs.
    Setup(Box<setup::Setup>),
    /// Write contracts that verify a program's short proofs on L1.
    Verifier(verifier::Verifier),
    /// What circuits cost, and circuits for other tools.
    Circuit(circuit::Circuit),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Where the program is.
#[derive(Debug, Args)]
pub(crate) struct Program {
    /// Bytecode (hex or binary), a compiler's JSON output, ZVM text, or a compiled program; `-` reads standard input.
    input: String,
    /// Which contract of the file: `Name` or `file.sol:Name`.
    #[arg(long, value_name = "NAME")]
    contract: Option<String>,
}

impl Program {
    fn read(&self) -> Result<Input, Failure> {
        Ok(Input::read(&self.input, self.contract.as_deref())?)
    }
}

/// Where public parameters are kept.
#[derive(Debug, Args)]
pub(crate) struct Cache {
    /// Keep public parameters in this folder [default: `zvm` in the user's cache folder].
    #[arg(long, value_name = "DIR", conflicts_with = "no_cache")]
    cache: Option<PathBuf>,
    /// Make public parameters anew and do not keep them.
    #[arg(long)]
    no_cache: bool,
}

impl Cache {
    fn folder(&self) -> Option<PathBuf> {
        (!self.no_cache).then(|| self.cache.clone().unwrap_or_else(zvm::artifact::default_cache))
    }
}

/// What to call, and from where.
#[derive(Debug, Args)]
pub(crate) struct Calls {
    /// The arguments of the function given with `--sig`.
    #[arg(value_name = "ARGS", allow_negative_numbers = true, requires = "sig")]
    args: Vec<String>,
    /// The calldata in hex.
    #[arg(long, value_name = "HEX", conflicts_with_all = ["sig", "calls"])]
    calldata: Option<String>,
    /// The function to call: `transfer(address,uint256)`, or its name where the interface is known.
    #[arg(long, value_name = "SIGNATURE", conflicts_with = "calls")]
    sig: Option<String>,
    /// A JSON list of calls; state is carried from each to the next.
    #[arg(long, value_name = "FILE")]
    calls: Option<String>,
    #[command(flatten)]
    environment: Environment,
}

/// Fields of the environment.
#[derive(Debug, Args)]
pub(crate) struct Environment {
    /// Who calls.
    #[arg(long, value_name = "ADDRESS")]
    caller: Option<String>,
    /// Who signed the transaction [default: the caller; when verifying: anybody].
    #[arg(long, value_name = "ADDRESS")]
    origin: Option<String>,
    /// The account that holds the program.
    #[arg(long, value_name = "ADDRESS")]
    address: Option<String>,
    /// Wei sent with the call.
    #[arg(long, value_name = "WEI")]
    value: Option<String>,
    /// Wei per gas.
    #[arg(long, value_name = "WEI")]
    gas_price: Option<String>,
    /// A field of the block: coinbase, timestamp, number, prevrandao, gaslimit, chainid, basefee or blobbasefee.
    #[arg(long, value_name = "FIELD=VALUE", value_delimiter = ',')]
    block: Vec<String>,
}

impl Environment {
    /// Sets the fields that were given.
    fn apply(&self, env: &mut Env) -> Result<(), Error> {
        if let Some(caller) = &self.caller {
            env.caller = call::address("--caller", caller)?;
            env.origin = env.caller;
        }
        if let Some(origin) = &self.origin {
            env.origin = call::address("--origin", origin)?;
        }
        if let Some(address) = &self.address {
            env.address = call::address("--address", address)?;
        }
        if let Some(value) = &self.value {
            env.callvalue = call::word("--value", value)?;
        }
        if let Some(price) = &self.gas_price {
            env.gasprice = call::word("--gas-price", price)?;
        }
        for field in &self.block {
            let (name, value) = field.split_once('=').ok_or_else(|| Error::Value {
                what: "--block".to_owned(),
                value: field.clone(),
                expected: "FIELD=VALUE",
            })?;
            call::set_block_field(env, name.trim(), value)?;
        }
        Ok(())
    }
}

impl Calls {
    /// The calls, encoded for the program.
    fn read(&self, input: &Input) -> Result<Vec<Call>, Error> {
        let abi = contract(input).and_then(|contract| contract.abi.as_ref());
        let mut env = Env::default();
        self.environment.apply(&mut env)?;
        if let Some(path) = &self.calls {
            return call::parse_list(path, &read_file(path)?, &env, abi);
        }
        let Some(calldata) = self.calldata(input)? else {
            return Err(Error::NoCall { place: "the command line".to_owned() });
        };
        Ok(vec![Call { calldata, env }])
    }

    /// The calldata that `--calldata`, or `--sig` with its arguments, gives.
    fn calldata(&self, input: &Input) -> Result<Option<Vec<u8>>, Error> {
        if let Some(data) = &self.calldata {
            return call::bytes("--calldata", data).map(Some);
        }
        let Some(signature) = &self.sig else { return Ok(None) };
        let abi = contract(input).and_then(|contract| contract.abi.as_ref());
        let args: Vec<_> = self.args.iter().map(|text| Value::from(text.as_str())).collect();
        call::encode(&call::function(signature, abi)?, &args).map(Some)
    }
}

/// The contract, where the program was given as bytecode.
fn contract(input: &Input) -> Option<&Contract> {
    match &input.source {
        Source::Contract(contract) => Some(contract),
        Source::Text(_) | Source::Compiled(_) => None,
    }
}

/// The state that `--state` gives.
#[derive(Debug)]
enum Given {
    /// JSON, or nothing: the empty state.
    Json(State),
    /// A state file.
    File(PathBuf),
}

impl Given {
    fn read(path: Option<&str>) -> Result<Self, Error> {
        let Some(path) = path else { return Ok(Self::Json(State::default())) };
        let io = |source| Error::Io { path: path.to_owned(), source };
        if is_state_file(path.as_ref()).map_err(io)? {
            return Ok(Self::File(path.into()));
        }
        let bytes = read_file(path)?;
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            let (path, at) = (path.to_owned(), "the document".to_owned());
            return Err(Error::Field { path, at, expected: "an object of accounts in JSON, or a state file" });
        }
        Ok(Self::Json(State::from_json(path, &bytes)?))
    }

    fn start(&self) -> Start<'_> {
        match self {
            Self::Json(state) => Start::State(state),
            Self::File(path) => Start::File(path),
        }
    }

    /// Writes the state after `changes` to `path`, in the shape of the state before. `known` and `roots` are those of
    /// [`state_file::advance`].
    fn write_after(
        &self,
        path: &Path,
        changes: &Changes,
        known: &mut dyn FnMut(&Address) -> Places,
        roots: Option<[Word; 2]>,
    ) -> Result<(), Failure> {
        match self {
            Self::Json(state) => {
                let mut state = state.clone();
                state.apply(changes);
                write_file(path, format!("{:#}\n", state.to_json()).as_bytes())
            }
            Self::File(before) => replace_file(path, before, |copy| {
                state_file::advance(copy, changes, known, roots).map_err(|problem| problem.of(before))?;
                Ok(())
            }),
        }
    }

    /// As [`Given::write_after`], of what a proof leaves.
    fn write_left(&self, path: &Path, left: &Left) -> Result<(), Failure> {
        self.write_after(path, &left.changes, &mut |_| left.places.clone(), left.roots)
    }
}

/// Why a command ends without its result.
#[derive(Debug)]
pub(crate) enum Failure {
    /// An error, with the program it is about.
    Error(Box<Error>, Option<Box<Input>>),
    /// Standard output was closed: whoever read it has enough.
    Closed,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(Box::new(error), None)
    }
}

impl Failure {
    /// The same error, to be shown with the bytecode or text around its place.
    fn about(error: impl Into<Error>, input: &Input) -> Self {
        Self::Error(Box::new(error.into()), Some(Box::new(input.clone())))
    }
}

/// The answer of a command that succeeded in giving one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Exit code 0.
    Yes,
    /// Another exit code; the reason is printed already.
    Not(Exit),
}

/// Runs the command.
pub(crate) fn run(arguments: Arguments) -> ExitCode {
    let output = Output { json: arguments.json, quiet: arguments.quiet };
    let result = match &arguments.command {
        Command::Check(command) => command.run(&output),
        Command::Compile(command) => command.run(&output),
        Command::Ir(command) => command.run(&output),
        Command::Stats(command) => command.run(&output),
        Command::Deploy(command) => command.run(&output),
        Command::State(command) => command.run(&output),
        Command::Run(command) => command.run(&output),
        Command::Profile(command) => command.run(&output),
        Command::Prove(command) => command.run(&output),
        Command::Verify(command) => command.run(&output),
        Command::Setup(command) => command.run(&output),
        Command::Verifier(command) => command.run(&output),
        Command::Circuit(command) => command.run(&output),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Arguments::command(), "zvm", &mut script);
            output.bytes(&script).map(|()| Answer::Yes)
        }
    };
    match result {
        Ok(Answer::Yes) | Err(Failure::Closed) => ExitCode::SUCCESS,
        Ok(Answer::Not(exit)) => ExitCode::from(exit as u8),
        Err(Failure::Error(error, input)) => {
            let exit = error.exit();
            if output.json {
                // Scripts read one document in every case.
                let _ = output.document(&json::error(&error));
            }
            diagnostics::report(&error, input.as_deref());
            ExitCode::from(exit as u8)
        }
    }
}
