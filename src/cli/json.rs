//! The JSON shapes that several commands share. Numbers that may pass 2^53 are decimal strings, bytes 0x-hex.

use serde_json::{Map, Value, json};
use zvm::executors::{Kind, Results, Run};
use zvm::{Error, Place};
use zvm_ir::outcome::Outcome;

/// Bytes as 0x-hex.
pub(super) fn bytes(bytes: &[u8]) -> Value {
    Value::from(format!("0x{}", hex::encode(bytes)))
}

/// A number, as a string once JavaScript would round it.
pub(super) fn number(number: u64) -> Value {
    if number < 1 << 53 { Value::from(number) } else { Value::from(number.to_string()) }
}

/// An outcome.
pub(super) fn outcome(outcome: &Outcome) -> Map<String, Value> {
    let slots = |slots: &std::collections::BTreeMap<_, _>| -> Value {
        let slot = |((address, slot), value): (&([u8; 20], zvm_ir::Word), &zvm_ir::Word)| json!({"address": bytes(address), "slot": format!("{slot:#066x}"), "value": format!("{value:#066x}")});
        slots.iter().map(slot).collect()
    };
    let logs = outcome.logs.iter().map(|log| {
        let topics: Vec<_> = log.topics.iter().map(|topic| format!("{topic:#066x}")).collect();
        json!({"address": bytes(&log.address), "topics": topics, "data": bytes(&log.data)})
    });
    let mut fields = Map::new();
    fields.insert("halt".to_owned(), outcome.halt.name().into());
    fields.insert("data".to_owned(), bytes(&outcome.data));
    fields.insert("logs".to_owned(), logs.collect());
    fields.insert("storage".to_owned(), slots(&outcome.storage));
    fields.insert("transient".to_owned(), slots(&outcome.transient));
    fields
}

/// What an executor made of a call.
fn run(run: &Run) -> Value {
    let mut fields = outcome(&run.outcome);
    if let Some(gas) = run.gas {
        fields.insert("gas".to_owned(), number(gas));
    }
    if let Some(rows) = run.rows {
        fields.insert("rows".to_owned(), number(rows));
    }
    Value::Object(fields)
}

/// What all executors made of a call, and whether they agree.
pub(super) fn results(results: &Results, agree: bool) -> Value {
    let entry = |(kind, result): &(Kind, Result<Run, Error>)| {
        let value = match result {
            Ok(result) => run(result),
            Err(failure) => error(failure),
        };
        (kind.name().to_owned(), value)
    };
    let executors: Map<_, _> = results.iter().map(entry).collect();
    json!({"agree": agree, "executors": executors})
}

/// An error: its code, message, help, and place where it has one.
pub(super) fn error(error: &Error) -> Value {
    let mut fields = Map::new();
    fields.insert("code".to_owned(), error.code().into());
    fields.insert("message".to_owned(), error.to_string().into());
    if let Some(help) = error.help() {
        fields.insert("help".to_owned(), help.into());
    }
    match error.place() {
        Some(Place::Pc(pc)) => fields.insert("pc".to_owned(), pc.into()),
        Some(Place::Line(line)) => fields.insert("line".to_owned(), line.into()),
        None => None,
    };
    json!({ "error": fields })
}
