//! `zvm deploy`: creation code is run, and leaves runtime code and a state.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};
use zvm::evm::deploy::{arguments, deploy};
use zvm::{Error, call};
use zvm_ir::Env;

use super::output::{Output, grouped, write_file};
use super::{Answer, Environment, Failure, Given, Program, contract};

/// Arguments of `deploy`.
#[derive(Debug, Args)]
pub(crate) struct Deploy {
    #[command(flatten)]
    program: Program,
    /// The arguments of the constructor.
    #[arg(value_name = "ARGS", allow_negative_numbers = true)]
    args: Vec<String>,
    /// The constructor, `constructor(address,uint256)`, where the interface is not known.
    #[arg(long, value_name = "SIGNATURE")]
    sig: Option<String>,
    /// The creation code in hex, where the program is runtime code or has another.
    #[arg(long, value_name = "HEX")]
    creation: Option<String>,
    #[command(flatten)]
    environment: Environment,
    /// The state before: JSON in the shape of the `prestateTracer`, or a state file (`zvm state import`).
    #[arg(long, value_name = "FILE")]
    state: Option<String>,
    /// Write the state here, in a folder that is made if it does not exist; beside it the runtime code as `runtime.hex`, and as `preimages.json` what was hashed, for
    /// `zvm state import --preimages`.
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
}

impl Deploy {
    pub(super) fn run(&self, output: &Output) -> Result<Answer, Failure> {
        let input = self.program.read()?;
        let known = contract(&input);
        let given = self.creation.as_deref().map(|text| call::bytes("--creation", text)).transpose()?;
        let creation = given.or_else(|| known.and_then(|contract| contract.creation.clone()));
        let mut creation = creation.ok_or_else(|| Error::NoCreation { path: input.origin.clone() })?;
        let args: Vec<Value> = self.args.iter().map(|text| Value::from(text.as_str())).collect();
        let abi = known.and_then(|contract| contract.abi.as_ref());
        creation.extend(arguments(self.sig.as_deref(), &args, abi)?);

        let mut env = Env::default();
        self.environment.apply(&mut env)?;
        let given = Given::read(self.state.as_deref())?;
        let before = given.start().whole()?;
        let deployed = deploy(&creation, &env, &before)?;
        let runtime = self.output.with_file_name("runtime.hex");
        if let Some(folder) = self.output.parent() {
            std::fs::create_dir_all(folder)
                .map_err(|source| Error::Io { path: folder.display().to_string(), source })?;
        }
        write_file(&self.output, format!("{:#}\n", deployed.state.to_json()).as_bytes())?;
        write_file(&runtime, format!("0x{}\n", hex::encode(&deployed.runtime)).as_bytes())?;

        let preimages = self.output.with_file_name("preimages.json");
        let hashed = |bytes: &Vec<u8>| Value::from(format!("0x{}", hex::encode(bytes)));
        let hashed: Value = deployed.preimages.iter().map(hashed).collect();
        write_file(&preimages, format!("{hashed:#}\n").as_bytes())?;

        let (bytes, gas) = (deployed.runtime.len() as u64, deployed.gas);
        let address = format!("0x{}", hex::encode(env.address));
        let text = format!(
            "deployed  {} bytes at {address}, {} gas\nwritten   {}\nwritten   {}\nwritten   {}\n",
            grouped(bytes),
            grouped(gas),
            self.output.display(),
            runtime.display(),
            preimages.display()
        );
        output.either(&text, || {
            json!({
                "address": address,
                "gas": gas,
                "runtime_bytes": bytes,
                "state": self.output.display().to_string(),
                "runtime": runtime.display().to_string(),
                "preimages": preimages.display().to_string(),
            })
        })?;
        Ok(Answer::Yes)
    }
}
