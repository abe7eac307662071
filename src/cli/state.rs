//! `zvm state`: files of state trees, from and to the states of an EVM, and what is in them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use zvm::evm::Evm;
use zvm::input::read_file;
use zvm::places::{Order, Places, Programs};
use zvm::state_file::{self, FIELDS, Problem, SlotProof};
use zvm::storage_layout::Layout;
use zvm::{Error, Exit, State as Accounts, call};
use zvm_backend_circuit::state::place::Place;
use zvm_ir::outcome::Address;
use zvm_ir::{Env, Word};

use super::json::{bytes, number};
use super::output::{Output, grouped, write_file};
use super::{Answer, Environment, Failure, Given};

/// Arguments of `state`.
#[derive(Debug, Args)]
pub(crate) struct State {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a state file of a state in JSON (the `prestateTracer`'s shape).
    ///
    /// The tree is keyed by how a slot comes about, so what was hashed for it must be known. Slots below 2^64 are numbers, and so
    /// are those that a contract's code has as constants.
    Import(Import),
    /// Give the state back, slot by slot, as JSON.
    Export {
        /// The state file.
        file: PathBuf,
        /// Write the state here instead of printing it.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Print the root.
    Root {
        /// The state file.
        file: PathBuf,
        /// Compute every digest anew.
        #[arg(long)]
        check: bool,
    },
    /// Print the value of a slot.
    Get {
        /// The state file.
        file: PathBuf,
        /// The account.
        address: String,
        /// A slot number, or a place: `keccak(0x…, 5)+1`.
        place: String,
    },
    /// Write a proof that a slot has its value in the state of the root, or verify one.
    Prove(Prove),
}

/// Arguments of `state import`.
#[derive(Debug, Args)]
struct Import {
    /// The state, in JSON.
    state: String,
    /// The state file to make.
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// The field of the tree: bn254 for folded proofs, bls12-381 for those that L1 verifies.
    #[arg(long, default_value = FIELDS[0], value_parser = FIELDS)]
    field: String,
    /// Run these calls on the state and take what they hash.
    #[arg(long, value_name = "FILE")]
    calls: Option<String>,
    #[command(flatten)]
    environment: Environment,
    /// A JSON list of what is hashed, in hex, or an object with it by hash.
    #[arg(long, value_name = "FILE")]
    preimages: Option<String>,
    /// A JSON list of places, as `get` prints them.
    #[arg(long, value_name = "FILE")]
    places: Option<String>,
    /// solc's storage layout.
    #[arg(long, value_name = "FILE", conflicts_with = "vyper")]
    layout: Option<String>,
    /// A JSON list of keys of mappings, for `--layout`.
    #[arg(long, value_name = "FILE", requires = "layout")]
    keys: Option<String>,
    /// Mappings hash their place before the key, as Vyper does.
    #[arg(long)]
    vyper: bool,
}

/// Arguments of `state prove`.
#[derive(Debug, Args)]
struct Prove {
    /// The state file.
    #[arg(required_unless_present = "verify")]
    file: Option<PathBuf>,
    /// The account.
    #[arg(required_unless_present = "verify")]
    address: Option<String>,
    /// A slot number, or a place.
    #[arg(required_unless_present = "verify")]
    place: Option<String>,
    /// Write the proof here instead of printing it.
    #[arg(long, short, value_name = "FILE", conflicts_with = "verify")]
    output: Option<PathBuf>,
    /// Verify this proof instead of making one.
    #[arg(long, value_name = "FILE", requires = "root", conflicts_with_all = ["file", "address", "place"])]
    verify: Option<String>,
    /// The root of the state that the proof should be about.
    #[arg(long, value_name = "ROOT", requires = "verify")]
    root: Option<String>,
}

impl State {
    pub(super) fn run(&self, output: &Output) -> Result<Answer, Failure> {
        match &self.command {
            Command::Import(import) => import.run(output),
            Command::Export { file, output: to } => {
                let storage = state_file::open(file)?;
                let state = state_file::export(storage.as_ref()).map_err(|problem| problem.of(file))?;
                document(output, to.as_deref(), &state.to_json())
            }
            Command::Root { file, check } => {
                let storage = state_file::open(file)?;
                let failed = |error| Failure::from(Problem::Storage(error).of(file));
                if *check {
                    storage.check().map_err(failed)?;
                }
                let (root, leaves) = (storage.root().map_err(failed)?, storage.leaves().map_err(failed)?);
                let text = format!(
                    "root    {root:#066x}\nfield   {}\nleaves  {}{}\n",
                    storage.field(),
                    grouped(leaves),
                    if *check { "\nchecked" } else { "" }
                );
                let json = || json!({"root": hex(&root), "field": storage.field(), "leaves": number(leaves), "checked": check});
                output.either(&text, json)?;
                Ok(Answer::Yes)
            }
            Command::Get { file, address, place } => {
                let storage = state_file::open(file)?;
                let address = call::address("ADDRESS", address)?;
                let problem = |problem: Problem| Failure::from(problem.of(file));
                let place = state_file::place(storage.as_ref(), &address, place).map_err(problem)?;
                let value = storage.value(&address, &place).map_err(|error| problem(error.into()))?;
                print_value(output, &address, &place, &value)?;
                Ok(Answer::Yes)
            }
            Command::Prove(prove) => prove.run(output),
        }
    }
}

impl Import {
    fn run(&self, output: &Output) -> Result<Answer, Failure> {
        let Given::Json(state) = Given::read(Some(&self.state))? else {
            let (path, at) = (self.state.clone(), "the document".to_owned());
            return Err(Error::Field { path, at, expected: "JSON, as `zvm state export` gives it" }.into());
        };
        let order = if self.vyper { Order::PlaceFirst } else { Order::KeyFirst };
        let mut known = Places::new(order);
        if let Some(path) = &self.calls {
            self.run_calls(path, &state, &mut known)?;
        }
        if let Some(path) = &self.preimages {
            for bytes in preimages(path)? {
                known.add_preimage(&bytes);
            }
        }
        if let Some(path) = &self.places {
            for text in texts(path)? {
                let place = text.parse::<Place>().map_err(|error| Problem::Place(error).of(path.as_ref()))?;
                known.add_place(place);
            }
        }
        let layout = self.layout.as_ref().map(|path| Layout::parse(path, &read_file(path)?)).transpose()?;
        let keys: Vec<Word> = match &self.keys {
            Some(path) => texts(path)?.iter().map(|text| call::word(path, text)).collect::<Result<Vec<_>, _>>()?,
            None => Vec::new(),
        };
        // Each account has its own code, and its own lengths of arrays.
        let mut programs = Programs::default();
        let mut by_account: BTreeMap<Address, Places> = BTreeMap::new();
        for (address, account) in &state.accounts {
            let mut places = known.clone();
            places.add_code(&account.code);
            if !account.storage.is_empty() {
                programs.add_to(&mut places, &account.code);
            }
            if let Some(layout) = &layout {
                layout.add_to(&mut places, &keys, &account.storage)?;
            }
            by_account.insert(*address, places);
        }
        let places = |address: &Address| by_account.get(address).cloned().unwrap_or_default();
        let storage = state_file::import(&self.output, &self.field, &state, &places)?;
        let failed = |error| Failure::from(Problem::Storage(error).of(&self.output));
        let (root, leaves) = (storage.root().map_err(failed)?, storage.leaves().map_err(failed)?);
        let (accounts, file) = (state.accounts.len() as u64, self.output.display().to_string());
        let text = format!(
            "written   {file}\nroot      {root:#066x}\nfield     {}\nleaves    {}\naccounts  {}\n",
            self.field,
            grouped(leaves),
            grouped(accounts)
        );
        output.either(&text, || {
            json!({
                "file": file,
                "root": hex(&root),
                "field": self.field,
                "leaves": number(leaves),
                "accounts": number(accounts),
            })
        })?;
        Ok(Answer::Yes)
    }

    /// Runs calls one after the other, each on the state that the one before has left.
    fn run_calls(&self, path: &str, state: &Accounts, known: &mut Places) -> Result<(), Failure> {
        let mut base = Env::default();
        self.environment.apply(&mut base)?;
        let mut state = state.clone();
        for call in call::parse_list(path, &read_file(path)?, &base, None)? {
            let code = state.accounts.get(&call.env.address).map(|account| account.code.clone());
            let code = code.filter(|code| !code.is_empty()).ok_or_else(|| Error::NoRuntime {
                path: self.state.clone(),
                name: Some(format!("0x{}", hex::encode(call.env.address))),
            })?;
            let (execution, hashed) = Evm::new(&code).preimages(&call.calldata, &call.env_in(&state), &state)?;
            hashed.iter().for_each(|bytes| known.add_preimage(bytes));
            state.apply(&execution.changes);
        }
        Ok(())
    }
}

impl Prove {
    fn run(&self, output: &Output) -> Result<Answer, Failure> {
        if let (Some(path), Some(root)) = (&self.verify, &self.root) {
            let root = call::word("--root", root)?;
            let proof = SlotProof::from_json(path, &read_file(path)?)?;
            return match proof.verify(&root) {
                Ok(value) => {
                    let text = format!("valid\n{}", value_text(&proof.address, &proof.place, &value));
                    let json = || {
                        let mut fields = value_json(&proof.address, &proof.place, &value);
                        fields["valid"] = true.into();
                        fields
                    };
                    output.either(&text, json)?;
                    Ok(Answer::Yes)
                }
                Err(error) => {
                    let reason = error.to_string();
                    output.either(&format!("not valid: {reason}\n"), || json!({"valid": false, "reason": reason}))?;
                    Ok(Answer::Not(Exit::No))
                }
            };
        }
        let (Some(file), Some(address), Some(place)) = (&self.file, &self.address, &self.place) else {
            return Err(Error::NoCall { place: "the command line".to_owned() }.into());
        };
        let storage = state_file::open(file)?;
        let address = call::address("ADDRESS", address)?;
        let problem = |problem: Problem| Failure::from(problem.of(file));
        let place = state_file::place(storage.as_ref(), &address, place).map_err(problem)?;
        let proof = SlotProof::new(storage.as_ref(), &address, &place).map_err(problem)?;
        document(output, self.output.as_deref(), &proof.to_json())
    }
}

/// Prints a document, or writes it to a file.
fn document(output: &Output, to: Option<&std::path::Path>, document: &Value) -> Result<Answer, Failure> {
    match to {
        None => output.document(document)?,
        Some(path) => {
            write_file(path, format!("{document:#}\n").as_bytes())?;
            let file = path.display().to_string();
            output.either(&format!("written  {file}\n"), || json!({ "file": file }))?;
        }
    }
    Ok(Answer::Yes)
}

fn hex(word: &Word) -> String {
    format!("{word:#066x}")
}

fn value_json(address: &Address, place: &Place, value: &Word) -> Value {
    json!({"address": bytes(address), "place": place.to_string(), "slot": hex(&place.slot()), "value": hex(value)})
}

fn value_text(address: &Address, place: &Place, value: &Word) -> String {
    let slot = place.slot();
    format!("account  0x{}\nplace    {place}\nslot     {slot:#066x}\nvalue    {value:#066x}\n", hex::encode(address))
}

fn print_value(output: &Output, address: &Address, place: &Place, value: &Word) -> Result<(), Failure> {
    output.either(&value_text(address, place, value), || value_json(address, place, value))
}

/// A JSON list of strings or numbers.
fn texts(path: &str) -> Result<Vec<String>, Error> {
    let document = parse(path)?;
    let wrong = || Error::Field {
        path: path.to_owned(),
        at: "the document".to_owned(),
        expected: "a list of strings or numbers",
    };
    let text = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) if !number.is_f64() => Ok(number.to_string()),
        _ => Err(wrong()),
    };
    document.as_array().ok_or_else(wrong)?.iter().map(text).collect()
}

/// What is hashed: hex strings in a list, or the values of an object.
fn preimages(path: &str) -> Result<Vec<Vec<u8>>, Error> {
    let texts = match parse(path)? {
        Value::Object(entries) => entries
            .into_iter()
            .map(|(hash, value)| {
                let wrong = || Error::Field { path: path.to_owned(), at: hash.clone(), expected: "bytes in hex" };
                value.as_str().map(str::to_owned).ok_or_else(wrong)
            })
            .collect::<Result<Vec<_>, _>>()?,
        _ => texts(path)?,
    };
    texts.iter().map(|text| call::bytes(path, text)).collect()
}

fn parse(path: &str) -> Result<Value, Error> {
    serde_json::from_slice(&read_file(path)?).map_err(|source| Error::Json { path: path.to_owned(), source })
}
