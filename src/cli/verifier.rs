//! `zvm verifier`: contracts that verify a program's Groth16 proofs on L1.
//!
//! | file | what |
//! |---|---|
//! | `ZvmVerifier.sol`, `ZvmAnchor.sol` | the contracts in Solidity |
//! | `….abi` | their interfaces |
//! | `….bin` | what a transaction that creates them sends, in hex |
//! | `….bin-runtime` | their code, in hex |

use std::fmt::Write;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use zvm::artifact::Origin;
use zvm::l1::{self, Contract};
use zvm::{Error, Program as Loaded, artifact};
use zvm_backend_circuit::short::source;

use super::output::{Output, grouped, write_file};
use super::setup::{INSECURE, origin_text};
use super::{Answer, Failure, Program};

/// Arguments of `verifier`.
#[derive(Debug, Args)]
pub(crate) struct Verifier {
    #[command(flatten)]
    program: Program,
    /// The machine that verifies.
    #[arg(long, value_enum, default_value_t = Target::Evm)]
    target: Target,
    /// The folder to write; made if it does not exist.
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,
    /// The keys [default: the only ones of the program in the folder of keys].
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// The folder of keys [default: `zvm` in the user's cache folder].
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Target {
    /// The EVM with the precompiles of EIP-2537: Prague and later.
    Evm,
}

impl Verifier {
    pub(super) fn run(&self, output: &Output) -> Result<Answer, Failure> {
        let Target::Evm = self.target;
        let input = self.program.read()?;
        let about = |error: Error| Failure::about(error, &input);
        let program = Loaded::load(&input).map_err(about)?;
        let folder = self.cache.clone().unwrap_or_else(artifact::default_cache);
        let keys = artifact::keys(&program, source(self.keys.as_deref(), &folder)).map_err(about)?;
        let contracts = l1::contracts(&keys).map_err(about)?;
        let to = &self.output;
        std::fs::create_dir_all(to).map_err(|source| Error::Io { path: to.display().to_string(), source })?;
        let header = &keys.header;
        if header.origin == Origin::InsecureLocal {
            output.warn(INSECURE);
        }
        let mut text = String::new();
        let _ = writeln!(text, "program   {:#066x}", header.program);
        let _ = writeln!(text, "circuit   {:#066x}", header.circuit);
        let _ = writeln!(text, "origin    {}", origin_text(header.origin));
        for contract in [&contracts.verifier, &contracts.anchor] {
            let Contract { name, solidity, abi, creation, runtime } = contract;
            write_file(&to.join(format!("{name}.sol")), solidity.as_bytes())?;
            write_file(&to.join(format!("{name}.abi")), format!("{abi:#}\n").as_bytes())?;
            write_file(&to.join(format!("{name}.bin")), format!("{}\n", hex::encode(creation)).as_bytes())?;
            write_file(&to.join(format!("{name}.bin-runtime")), format!("{}\n", hex::encode(runtime)).as_bytes())?;
            let _ = writeln!(text, "contract  {name}, {} bytes", grouped(runtime.len() as u64));
        }
        let _ = writeln!(text, "written   {}", to.display());
        output.either(&text, || {
            let contract = |contract: &Contract| {
                json!({"name": contract.name, "creation_bytes": contract.creation.len(), "runtime_bytes": contract.runtime.len()})
            };
            json!({
                "program": format!("{:#066x}", header.program),
                "circuit": format!("{:#066x}", header.circuit),
                "origin": header.origin.name(),
                "contracts": Value::from_iter([contract(&contracts.verifier), contract(&contracts.anchor)]),
            })
        })?;
        Ok(Answer::Yes)
    }
}
