//! `zvm run`: one or several calls in one or all executors.

use std::fmt::Write;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::json;
use zvm::call::Call;
use zvm::evm::Evm;
use zvm::evm::preimages::Preimages;
use zvm::executors::{Executors, Kind, Results, Run as Ran, agree, difference};
use zvm::places::{Places, Programs};
use zvm::state::Changes;
use zvm::{Contract, Error, Exit, Input, Program as Loaded};
use zvm_backend_evm::Options as LowerOptions;
use zvm_ir::outcome::Address;

use super::output::{Output, check_writable, grouped};
use super::{Answer, Calls, Failure, Given, Program, contract, json as shapes};

/// Arguments of `run`.
#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    program: Program,
    #[command(flatten)]
    calls: Calls,
    /// Which executor.
    #[arg(long, value_enum, default_value_t = Which::All)]
    executor: Which,
    /// The state before: JSON in the shape of the `prestateTracer`, or a state file (`zvm state import`).
    #[arg(long, value_name = "FILE")]
    state: Option<String>,
    /// Write the state after the calls here, in the shape of the state before.
    #[arg(long, value_name = "FILE")]
    state_out: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Which {
    /// The original bytecode in revm.
    Evm,
    /// The interpreter of the IR.
    Ir,
    /// The lowered bytecode in revm.
    Lowered,
    /// The step circuit, without a proof.
    Circuit,
    /// All of them, compared.
    All,
}

impl Which {
    fn kinds(self, input: &Input) -> Vec<Kind> {
        match self {
            Self::Evm => vec![Kind::Evm],
            Self::Ir => vec![Kind::Ir],
            Self::Lowered => vec![Kind::Lowered],
            Self::Circuit => vec![Kind::Circuit],
            // IR has no original to compare with.
            Self::All if contract(input).is_none() => vec![Kind::Ir, Kind::Lowered, Kind::Circuit],
            Self::All => Kind::ALL.to_vec(),
        }
    }
}

impl Run {
    pub(super) fn run(&self, output: &Output) -> Result<Answer, Failure> {
        let input = self.program.read()?;
        let calls = self.calls.read(&input)?;
        let given = Given::read(self.state.as_deref())?;
        let mut state = given.start().whole()?.into_owned();
        let kinds = self.executor.kinds(&input);
        let executors = prepare(&input, &kinds).map_err(|error| Failure::about(error, &input))?;

        if let Some(path) = &self.state_out {
            check_writable(path)?;
        }
        // Slots that are new to a state file need the place that they have.
        let watched = match (&given, &self.state_out) {
            (Given::File(_), Some(_)) => Some(code(&input)?),
            _ => None,
        };
        let (mut all, mut hashed) = (Changes::default(), Preimages::new());

        let (mut documents, mut text, mut all_agree) = (Vec::new(), String::new(), true);
        for (index, call) in calls.iter().enumerate() {
            let mut results: Results = kinds.iter().map(|&kind| (kind, executors.run(kind, call, &state))).collect();
            let agrees = agree(&results);
            all_agree &= agrees;
            if calls.len() > 1 {
                let _ = writeln!(text, "call {}", index + 1);
            }
            text += &describe(&results, agrees, call, contract(&input));
            documents.push(shapes::results(&results, agrees));
            if agrees && !results.iter().any(|(_, result)| result.is_ok()) {
                // Nobody gave an outcome: the first error says why.
                let Some((_, Err(error))) = results.drain(..).next() else { continue };
                return Err(Failure::about(error, &input));
            }
            if let Some(error) = limit(&mut results) {
                return Err(Failure::about(error, &input));
            }
            if let Some(code) = &watched {
                hashed.extend(Evm::new(code).preimages(&call.calldata, &call.env_in(&state), &state)?.1);
            }
            if let Some(changes) = changes(&results) {
                state.apply(&changes);
                all.extend(&changes);
            }
        }
        match &self.state_out {
            Some(path) if all_agree => {
                let mut programs = Programs::default();
                let mut known = |address: &Address| {
                    let mut places = Places::default();
                    hashed.iter().for_each(|bytes| places.add_preimage(bytes));
                    let own = watched.as_deref().filter(|_| calls.iter().any(|call| call.env.address == *address));
                    let held = state.accounts.get(address).map(|account| account.code.as_slice());
                    let code = own.or(held).unwrap_or_default();
                    places.add_code(code);
                    programs.add_to(&mut places, code);
                    places
                };
                given.write_after(path, &all, &mut known, None)?;
            }
            Some(path) => output.warn(&format!("the executors differ, so {} is not written", path.display())),
            None => {}
        }
        output.either(&text, || match &documents[..] {
            [one] => one.clone(),
            several => json!({"agree": all_agree, "calls": several}),
        })?;
        Ok(if all_agree { Answer::Yes } else { Answer::Not(Exit::No) })
    }
}

/// The program as bytecode: as it was given, or lowered.
fn code(input: &Input) -> Result<Vec<u8>, Error> {
    match contract(input) {
        Some(contract) => Ok(contract.runtime.clone()),
        None => Ok(Loaded::load(input)?.lowered(&LowerOptions::default())?.code),
    }
}

fn prepare(input: &Input, kinds: &[Kind]) -> Result<Executors, Error> {
    // The original bytecode needs no lift, so that it runs whatever else is true of it.
    match (kinds, contract(input)) {
        ([Kind::Evm], Some(contract)) => Ok(Executors::evm_only(&contract.runtime)),
        _ => Executors::new(&Loaded::load(input)?, kinds),
    }
}

/// The limit that kept the original from an outcome: then there is nothing to compare with.
fn limit(results: &mut Results) -> Option<Error> {
    let at = results.iter().position(|(_, result)| result.as_ref().is_err_and(|error| error.exit() == Exit::Limit))?;
    results.swap_remove(at).1.err()
}

/// What the call changed, from the executor that knows most.
fn changes(results: &Results) -> Option<Changes> {
    let runs = || results.iter().filter_map(|(_, result)| result.as_ref().ok());
    if let Some(changes) = runs().find_map(|run| run.changes.clone()) {
        return Some(changes);
    }
    let outcome = &runs().next()?.outcome;
    let mut changes = Changes::default();
    for ((address, key), value) in &outcome.storage {
        changes.accounts.entry(*address).or_default().storage.insert(*key, *value);
    }
    Some(changes)
}

fn describe(results: &Results, agrees: bool, call: &Call, contract: Option<&Contract>) -> String {
    let mut out = String::new();
    let mut first: Option<&Ran> = None;
    for (kind, result) in results {
        let _ = write!(out, "{:<9}", kind.name());
        match result {
            Err(error) => {
                let _ = writeln!(out, "no outcome: {error}");
            }
            Ok(run) => {
                let verdict = match first {
                    None => run.outcome.halt.name().to_owned(),
                    Some(first) => match difference(first, run) {
                        None => "the same".to_owned(),
                        Some(part) => format!("DIFFERS in {part}"),
                    },
                };
                let gas = run.gas.map(|gas| format!("{} gas", grouped(gas)));
                let rows = run.rows.map(|rows| format!("{} rows hold", grouped(rows)));
                let cost = gas.or(rows).unwrap_or_default();
                let _ = writeln!(out, "{}", format!("{verdict:<12} {cost}").trim_end());
                first = first.or(Some(run));
            }
        }
    }
    if let Some(run) = first {
        out += &details(run, call, contract);
    }
    if !agrees {
        for (kind, result) in results {
            if let Ok(run) = result {
                let _ =
                    writeln!(out, "\n{}: {}\n  data {}", kind.name(), run.outcome.halt.name(), hex(&run.outcome.data));
            }
        }
    }
    out
}

fn details(run: &Ran, call: &Call, contract: Option<&Contract>) -> String {
    let mut out = String::new();
    let outcome = &run.outcome;
    if !outcome.data.is_empty() {
        let _ = writeln!(out, "data     {}", hex(&outcome.data));
    }
    if let Some(meaning) =
        zvm::call::explain(outcome, &call.calldata, contract.and_then(|contract| contract.abi.as_ref()))
    {
        let _ = writeln!(out, "         {meaning}");
    }
    for log in &outcome.logs {
        let topics: Vec<_> = log.topics.iter().map(|topic| format!("{topic:#066x}")).collect();
        let _ = writeln!(out, "log      {} [{}] {}", hex(&log.address), topics.join(", "), hex(&log.data));
    }
    for (name, slots) in [("storage", &outcome.storage), ("transient", &outcome.transient)] {
        for ((address, key), value) in slots {
            let _ = writeln!(out, "{name:<9}{} {key:#066x} = {value:#066x}", hex(address));
        }
    }
    out
}

fn hex(bytes: &[u8]) -> String {
    format!("0x{}", hex::encode(bytes))
}
