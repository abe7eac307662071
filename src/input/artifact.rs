//! The JSON files that compilers and build tools write.
//!
//! | kind | recognised by | runtime bytecode at |
//! |---|---|---|
//! | solc standard JSON output, Hardhat build-info | `contracts.FILE.NAME.evm`, `output.contracts` | `evm.deployedBytecode.object` |
//! | solc `--combined-json` | `contracts.FILE:NAME.bin-runtime` | `bin-runtime` |
//! | vyper `-f combined_json` | `FILE.bytecode_runtime` | `bytecode_runtime` |
//! | Foundry | `deployedBytecode.object` | there |
//! | Hardhat, Truffle | `deployedBytecode` is a string | there |
//! | record of a bytecode collection | `runtime` | there |

use std::ops::Range;

use alloy_json_abi::{AbiItem, JsonAbi};
use serde_json::{Map, Value};

use super::{Contract, Immutables, Source};
use crate::error::Error;

/// A place in a JSON document: the file, the path of keys, the value.
#[derive(Clone)]
struct Place<'a> {
    path: &'a str,
    at: String,
    value: &'a Value,
}

impl<'a> Place<'a> {
    fn get(&self, key: &str) -> Option<Self> {
        let value = self.value.get(key).filter(|value| !value.is_null())?;
        let at = if self.at.is_empty() { key.to_owned() } else { format!("{}.{key}", self.at) };
        Some(Self { path: self.path, at, value })
    }

    fn expected(&self, expected: &'static str) -> Error {
        let at = if self.at.is_empty() { "the document".to_owned() } else { self.at.clone() };
        Error::Field { path: self.path.to_owned(), at, expected }
    }

    fn object(&self) -> Result<&'a Map<String, Value>, Error> {
        self.value.as_object().ok_or_else(|| self.expected("an object"))
    }

    fn string(&self) -> Result<&'a str, Error> {
        self.value.as_str().ok_or_else(|| self.expected("a string"))
    }

    fn children(&self) -> Result<Vec<(&'a str, Self)>, Error> {
        Ok(self.object()?.keys().filter_map(|key| Some((key.as_str(), self.get(key)?))).collect())
    }

    fn bytecode(&self) -> Result<Vec<u8>, Error> {
        bytecode(self.path, self.string()?, Some(&self.at))
    }
}

/// A contract of a file that has several, not parsed yet.
struct Candidate<'a> {
    file: Option<&'a str>,
    name: String,
    place: Place<'a>,
    kind: Layout,
}

/// Where the fields of a contract are.
#[derive(Clone, Copy)]
enum Layout {
    /// `evm.deployedBytecode.object`.
    Standard,
    /// `bin-runtime`.
    Combined,
    /// `bytecode_runtime`.
    Vyper,
    /// `deployedBytecode.object`.
    Foundry,
    /// `deployedBytecode`.
    Flat,
    /// `runtime`.
    Record,
}

/// Parses a JSON document.
pub(super) fn parse(path: &str, bytes: &[u8], contract: Option<&str>) -> Result<Source, Error> {
    let document: Value =
        serde_json::from_slice(bytes).map_err(|source| Error::Json { path: path.to_owned(), source })?;
    let root = Place { path, at: String::new(), value: &document };
    let candidates = candidates(&root)?;
    let found = select(path, candidates, contract)?;
    Ok(Source::Contract(Box::new(found)))
}

fn candidates<'a>(root: &Place<'a>) -> Result<Vec<Candidate<'a>>, Error> {
    let object = root.object()?;
    let single = |kind, name: Option<Place<'a>>| -> Result<_, Error> {
        let name = name.map(|name| name.string()).transpose()?.unwrap_or_default().to_owned();
        Ok(vec![Candidate { file: None, name, place: root.clone(), kind }])
    };
    if let Some(deployed) = root.get("deployedBytecode") {
        let kind = if deployed.value.is_string() { Layout::Flat } else { Layout::Foundry };
        return single(kind, root.get("contractName"));
    }
    if root.get("runtime").is_some() || root.get("creation").is_some() {
        return single(Layout::Record, root.get("name"));
    }
    let contracts = root.get("contracts").or_else(|| root.get("output")?.get("contracts"));
    if let Some(contracts) = contracts {
        let mut found = Vec::new();
        for (key, place) in contracts.children()? {
            if place.get("bin-runtime").is_some() || place.get("bin").is_some() {
                let (file, name) = key.rsplit_once(':').map_or((None, key), |(file, name)| (Some(file), name));
                found.push(Candidate { file, name: name.to_owned(), place, kind: Layout::Combined });
                continue;
            }
            for (name, place) in place.children()? {
                found.push(Candidate { file: Some(key), name: name.to_owned(), place, kind: Layout::Standard });
            }
        }
        if !found.is_empty() {
            return Ok(found);
        }
    }
    if let Some(message) = first_error(root) {
        return Err(Error::CompilerFailed { path: root.path.to_owned(), message });
    }
    let vyper: Vec<_> = (object.keys())
        .filter_map(|key| Some((key, root.get(key)?)))
        .filter(|(_, place)| place.get("bytecode_runtime").is_some())
        .map(|(key, place)| Candidate { file: None, name: key.clone(), place, kind: Layout::Vyper })
        .collect();
    if !vyper.is_empty() {
        return Ok(vyper);
    }
    let fields: Vec<_> = object.keys().take(8).map(String::as_str).collect();
    Err(Error::UnknownJson { path: root.path.to_owned(), fields: fields.join(", ") })
}

/// The first error among a compiler's messages.
fn first_error(root: &Place<'_>) -> Option<String> {
    let errors = root.get("errors").or_else(|| root.get("output")?.get("errors"))?;
    let list = errors.value.as_array()?;
    let error = list.iter().find(|error| error.get("severity").and_then(Value::as_str) == Some("error"))?;
    let text = error.get("formattedMessage").or_else(|| error.get("message"))?.as_str()?;
    Some(text.trim().to_owned())
}

fn select(path: &str, candidates: Vec<Candidate<'_>>, wanted: Option<&str>) -> Result<Contract, Error> {
    let full = |candidate: &Candidate<'_>| match candidate.file {
        Some(file) => format!("{file}:{}", candidate.name),
        None => candidate.name.clone(),
    };
    let with_code: Vec<_> = candidates.iter().filter(|candidate| candidate.has_code()).collect();
    let names = || with_code.iter().map(|candidate| full(candidate)).collect::<Vec<_>>();
    let path = path.to_owned();
    let chosen = match wanted {
        None if with_code.len() > 1 => return Err(Error::Ambiguous { path, names: names() }),
        None => with_code.first().copied().or_else(|| candidates.first()),
        Some(name) => {
            let matches: Vec<_> =
                candidates.iter().filter(|candidate| candidate.name == name || full(candidate) == name).collect();
            match matches[..] {
                [] => return Err(Error::UnknownContract { path, name: name.to_owned(), names: names() }),
                [one] => Some(one),
                // The same name in several files: only the full name is unique.
                _ => {
                    let names = matches.iter().map(|candidate| full(candidate)).collect();
                    return Err(Error::Ambiguous { path, names });
                }
            }
        }
    };
    chosen.ok_or(Error::NoRuntime { path, name: None })?.read()
}

impl Candidate<'_> {
    fn runtime(&self) -> Option<Place<'_>> {
        match self.kind {
            Layout::Standard => self.place.get("evm")?.get("deployedBytecode")?.get("object"),
            Layout::Combined => self.place.get("bin-runtime"),
            Layout::Vyper => self.place.get("bytecode_runtime"),
            Layout::Foundry => self.place.get("deployedBytecode")?.get("object"),
            Layout::Flat => self.place.get("deployedBytecode"),
            Layout::Record => self.place.get("runtime"),
        }
    }

    fn creation(&self) -> Option<Place<'_>> {
        match self.kind {
            Layout::Standard => self.place.get("evm")?.get("bytecode")?.get("object"),
            Layout::Combined => self.place.get("bin"),
            Layout::Foundry => self.place.get("bytecode")?.get("object"),
            Layout::Vyper | Layout::Flat => self.place.get("bytecode"),
            Layout::Record => self.place.get("creation"),
        }
    }

    fn has_code(&self) -> bool {
        let text = self.runtime().and_then(|place| place.value.as_str()).unwrap_or_default();
        !text.trim_start_matches("0x").is_empty()
    }

    fn read(&self) -> Result<Contract, Error> {
        let name = Some(self.name.clone()).filter(|name| !name.is_empty());
        let runtime = match self.runtime() {
            Some(place) if self.has_code() => {
                self.check_linked(&place)?;
                place.bytecode()?
            }
            Some(place) if !place.value.is_string() => return Err(place.expected("a string")),
            _ => return Err(Error::NoRuntime { path: self.place.path.to_owned(), name }),
        };
        // Creation code that is not linked is of no use, and no reason to refuse the runtime code.
        let creation = self.creation().and_then(|place| place.bytecode().ok()).filter(|code| !code.is_empty());
        let abi = self.place.get("abi").map(|place| abi(&place)).transpose()?;
        let immutables = self.immutables(runtime.len())?;
        Ok(Contract { name, runtime, creation, abi, immutables })
    }

    /// Names the library behind the first placeholder in the code.
    fn check_linked(&self, code: &Place<'_>) -> Result<(), Error> {
        let text = code.string()?;
        let Some(at) = text.find("__") else { return Ok(()) };
        let offset = at.saturating_sub(if text.starts_with("0x") { 2 } else { 0 }) / 2;
        let references = match self.kind {
            Layout::Standard => {
                self.place.get("evm").and_then(|evm| evm.get("deployedBytecode")?.get("linkReferences"))
            }
            Layout::Foundry => self.place.get("deployedBytecode").and_then(|code| code.get("linkReferences")),
            Layout::Flat => self.place.get("deployedLinkReferences"),
            Layout::Combined | Layout::Vyper | Layout::Record => None,
        };
        let named = references.and_then(|references| library_at(references.value, offset));
        // Before 0.5 the placeholder was the name itself, padded with underscores; now it is a hash between dollars.
        let placeholder = text.get(at..at + 40).unwrap_or(&text[at..]).trim_matches('_').to_owned();
        let library = named.unwrap_or(placeholder);
        Err(Error::Unlinked { path: code.path.to_owned(), library, offset })
    }

    fn immutables(&self, len: usize) -> Result<Immutables, Error> {
        let references = match self.kind {
            Layout::Standard => {
                self.place.get("evm").and_then(|evm| evm.get("deployedBytecode")?.get("immutableReferences"))
            }
            Layout::Foundry => self.place.get("deployedBytecode").and_then(|code| code.get("immutableReferences")),
            Layout::Flat => self.place.get("immutableReferences"),
            Layout::Record => self.place.get("immutables"),
            Layout::Combined | Layout::Vyper => None,
        };
        let Some(references) = references else {
            return Ok(match self.kind {
                // A record lists them when there are any; vyper keeps immutables behind the code.
                Layout::Record | Layout::Vyper => Immutables::Listed(Vec::new()),
                Layout::Standard | Layout::Combined | Layout::Foundry | Layout::Flat => Immutables::Unlisted,
            });
        };
        let mut ranges = Vec::new();
        match references.value {
            Value::Object(by_variable) => {
                for (id, list) in by_variable {
                    let place = Place { path: references.path, at: format!("{}.{id}", references.at), value: list };
                    let list = list.as_array().ok_or_else(|| place.expected("a list"))?;
                    for reference in list {
                        ranges.push(range(&place, reference.get("start"), reference.get("length"), len)?);
                    }
                }
            }
            Value::Array(list) => {
                for reference in list {
                    ranges.push(range(&references, reference.get(0), reference.get(1), len)?);
                }
            }
            _ => return Err(references.expected("an object")),
        }
        ranges.sort_by_key(|range| range.start);
        Ok(Immutables::Listed(ranges))
    }
}

fn range(place: &Place<'_>, start: Option<&Value>, length: Option<&Value>, len: usize) -> Result<Range<usize>, Error> {
    let number = |value: Option<&Value>| value.and_then(Value::as_u64).and_then(|value| usize::try_from(value).ok());
    let inside = |start: usize, length: usize| start.checked_add(length).filter(|end| *end <= len);
    match (number(start), number(length)) {
        (Some(start), Some(length)) if inside(start, length).is_some() => Ok(start..start + length),
        _ => Err(place.expected("a list of start and length inside the code")),
    }
}

/// The library whose reference covers a byte: `{file: {library: [{start, length}]}}`.
fn library_at(references: &Value, offset: usize) -> Option<String> {
    for (file, libraries) in references.as_object()? {
        for (library, places) in libraries.as_object()? {
            let starts = places.as_array()?.iter().filter_map(|place| place.get("start")?.as_u64());
            if starts.into_iter().any(|start| start == offset as u64) {
                return Some(format!("{file}:{library}"));
            }
        }
    }
    None
}

/// An interface, which old compilers write as a string that holds JSON. Items that are not understood are left out: what
/// can be done with the code does not depend on them.
fn abi(place: &Place<'_>) -> Result<JsonAbi, Error> {
    let wrong = || place.expected("a contract interface (ABI)");
    let inner = place.value.as_str().map(serde_json::from_str::<Value>).transpose().map_err(|_| wrong())?;
    let items = inner.as_ref().unwrap_or(place.value).as_array().ok_or_else(wrong)?;
    let item = |item: &Value| serde_json::from_value::<AbiItem<'static>>(item.clone()).ok();
    Ok(items.iter().filter_map(item).collect())
}

/// Bytecode from hex digits, with or without `0x`; white space between bytes is skipped.
pub(super) fn bytecode(path: &str, text: &str, at: Option<&str>) -> Result<Vec<u8>, Error> {
    let path = at.map_or_else(|| path.to_owned(), |at| format!("{path}: {at}"));
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let skipped = text.len() - digits.len();
    if let Some(start) = digits.find("__") {
        let library = digits.get(start..start + 40).unwrap_or(&digits[start..]).trim_matches('_').to_owned();
        return Err(Error::Unlinked { path, library, offset: start / 2 });
    }
    let mut bytes = Vec::with_capacity(digits.len() / 2);
    let mut high = None;
    for (offset, character) in digits.char_indices() {
        if character.is_ascii_whitespace() {
            continue;
        }
        let Some(digit) = character.to_digit(16) else {
            return Err(Error::NotHex { path, offset: skipped + offset, found: format!("`{character}`") });
        };
        match high.take() {
            None => high = Some(digit as u8),
            Some(first) => bytes.push(first << 4 | digit as u8),
        }
    }
    if high.is_some() {
        return Err(Error::NotHex { path, offset: text.len(), found: "an odd number of digits".to_owned() });
    }
    Ok(bytes)
}
