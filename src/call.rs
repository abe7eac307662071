//! CALL: what a user gives as the execution to run.
//!
//! Calldata is given as bytes, or as a function with arguments that are encoded here. Environment fields that are not
//! given have the defaults of [`Env`].

use alloy_dyn_abi::{DynSolType, DynSolValue, FunctionExt, JsonAbiExt, Specifier};
use alloy_json_abi::{Function, JsonAbi};
use serde_json::{Map, Value};
use zvm_ir::outcome::{Address, Halt, Outcome};
use zvm_ir::{Env, Word};

use crate::error::Error;

/// The longest function signature that is read, in bytes; types nest, and the parser recurses.
const SIGNATURE_LIMIT: usize = 4096;

/// One execution to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// The calldata.
    pub calldata: Vec<u8>,
    /// The environment. [`Env::selfbalance`] is set when the state is known: see [`Call::env_in`].
    pub env: Env,
}

impl Call {
    /// The environment in a state: the executing account owns what it owned before, and the value of the call.
    pub fn env_in(&self, state: &crate::state::State) -> Env {
        let before = state.accounts.get(&self.env.address).map_or(Word::ZERO, |account| account.balance);
        Env { selfbalance: before.saturating_add(self.env.callvalue), ..self.env.clone() }
    }
}

/// The function that a user means by `transfer(address,uint256)`, or by its name alone where the interface is known.
///
/// # Errors
/// When the signature cannot be read, or the interface rules it out.
pub fn function(signature: &str, abi: Option<&JsonAbi>) -> Result<Function, Error> {
    let unreadable = |reason: String| Error::Signature { signature: shorten(signature), reason };
    if signature.len() > SIGNATURE_LIMIT {
        return Err(unreadable(format!("it is longer than {SIGNATURE_LIMIT} bytes")));
    }
    let unknown = |abi: &JsonAbi| Error::UnknownFunction {
        signature: signature.to_owned(),
        functions: abi.functions().map(Function::signature).collect(),
    };
    if !signature.contains('(') {
        let abi = abi.ok_or_else(|| unreadable("without an interface (ABI), the types are needed".to_owned()))?;
        return match abi.function(signature.trim()).map(Vec::as_slice) {
            Some([one]) => Ok(one.clone()),
            Some(several) if !several.is_empty() => {
                let overloads: Vec<_> = several.iter().map(Function::signature).collect();
                Err(unreadable(format!("it is overloaded: {}", overloads.join(", "))))
            }
            _ => Err(unknown(abi)),
        };
    }
    let mut function = Function::parse(signature).map_err(|error| unreadable(error.to_string()))?;
    // `uint` means `uint256`: the selector is that of the canonical name.
    for input in &mut function.inputs {
        let ty = input.resolve().map_err(|error| unreadable(error.to_string()))?;
        if input.components.is_empty() && !input.ty.contains('(') {
            input.ty = ty.sol_type_name().into_owned();
        }
    }
    if let Some(abi) = abi {
        let known = abi.function_by_selector(function.selector());
        match known {
            Some(known) => return Ok(known.clone()),
            None if abi.fallback.is_none() => return Err(unknown(abi)),
            None => {}
        }
    }
    Ok(function)
}

/// The calldata of a call of a function. Arguments are text (`1000`, `0x…`, `[1,2]`) or JSON (lists for arrays and tuples).
///
/// # Errors
/// When an argument is missing, too many, or not of its type.
pub fn encode(function: &Function, args: &[Value]) -> Result<Vec<u8>, Error> {
    let signature = function.signature();
    if args.len() != function.inputs.len() {
        let (expected, found) = (function.inputs.len(), args.len());
        return Err(Error::ArgumentCount { signature, expected, found });
    }
    let mut values = Vec::with_capacity(args.len());
    for (index, (input, arg)) in function.inputs.iter().zip(args).enumerate() {
        let wrong = |reason: String| Error::Argument {
            signature: signature.clone(),
            index: index + 1,
            ty: input.selector_type().into_owned(),
            value: shorten(&scalar(arg).unwrap_or_else(|| arg.to_string())),
            reason,
        };
        let ty: DynSolType = input.resolve().map_err(|error| wrong(error.to_string()))?;
        values.push(coerce(&ty, arg).map_err(wrong)?);
    }
    function.abi_encode_input(&values).map_err(|error| Error::Signature { signature, reason: error.to_string() })
}

/// A value of a type from JSON; the reason when it is none.
fn coerce(ty: &DynSolType, value: &Value) -> Result<DynSolValue, String> {
    let each = |ty: &DynSolType, list: &[Value]| list.iter().map(|value| coerce(ty, value)).collect::<Result<_, _>>();
    let length = |expected: usize, found: usize| {
        if expected == found { Ok(()) } else { Err(format!("{expected} elements expected, found {found}")) }
    };
    match (ty, value) {
        // Text is taken as it is: quotes in it are part of it.
        (DynSolType::String, Value::String(text)) => Ok(DynSolValue::String(text.clone())),
        (DynSolType::Array(inner), Value::Array(list)) => Ok(DynSolValue::Array(each(inner, list)?)),
        (DynSolType::FixedArray(inner, size), Value::Array(list)) => {
            length(*size, list.len())?;
            Ok(DynSolValue::FixedArray(each(inner, list)?))
        }
        (DynSolType::Tuple(types), Value::Array(list)) => {
            length(types.len(), list.len())?;
            let values = types.iter().zip(list).map(|(ty, value)| coerce(ty, value)).collect::<Result<_, _>>()?;
            Ok(DynSolValue::Tuple(values))
        }
        (_, Value::Bool(value)) => ty.coerce_str(&value.to_string()).map_err(reason),
        (_, other) => {
            let text = scalar(other).ok_or("a number, a string or a list is expected")?;
            ty.coerce_str(text.trim()).map_err(reason)
        }
    }
}

/// One line of what the encoder says; it draws the place below the text otherwise.
fn reason(error: alloy_dyn_abi::Error) -> String {
    let text = error.to_string();
    text.lines().last().unwrap_or_default().trim().to_owned()
}

/// The values that a function returned, as text; `None` when the data is not an encoding of its outputs.
pub fn decode_output(function: &Function, data: &[u8]) -> Option<Vec<String>> {
    let values = function.abi_decode_output(data).ok()?;
    Some(values.iter().map(show).collect())
}

/// A value as a person writes it.
pub fn show(value: &DynSolValue) -> String {
    use DynSolValue as V;
    let list = |values: &[V], open: &str, close: &str| {
        format!("{open}{}{close}", values.iter().map(show).collect::<Vec<_>>().join(", "))
    };
    match value {
        V::Bool(value) => value.to_string(),
        V::Int(value, _) => value.to_string(),
        V::Uint(value, _) => value.to_string(),
        V::FixedBytes(word, size) => format!("0x{}", hex::encode(&word[..*size])),
        V::Address(address) => address.to_string(),
        V::Function(function) => format!("0x{}", hex::encode(function.as_slice())),
        V::Bytes(bytes) => format!("0x{}", hex::encode(bytes)),
        V::String(text) => format!("{text:?}"),
        V::Array(values) | V::FixedArray(values) => list(values, "[", "]"),
        V::Tuple(values) => list(values, "(", ")"),
    }
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// A number: decimal, or hex after `0x`. `what` names the option or field in errors.
///
/// # Errors
/// When it is neither, or does not fit 256 bits.
pub fn word(what: &str, text: &str) -> Result<Word, Error> {
    let text = text.trim();
    let parsed = match text.strip_prefix("0x") {
        Some(digits) if !digits.is_empty() => Word::from_str_radix(digits, 16).ok(),
        Some(_) => None,
        None if text.is_empty() => None,
        None => Word::from_str_radix(text, 10).ok(),
    };
    parsed.ok_or_else(|| value_error(what, text, "a number (decimal, or hex after 0x) below 2^256"))
}

/// An account address: 20 bytes in hex. Checksums of mixed case are not checked.
///
/// # Errors
/// When it is anything else.
pub fn address(what: &str, text: &str) -> Result<Address, Error> {
    let digits = text.trim().strip_prefix("0x").unwrap_or(text.trim());
    let mut address = [0; 20];
    hex::decode_to_slice(digits, &mut address).map_err(|_| value_error(what, text, "an address (40 hex digits)"))?;
    Ok(address)
}

/// A byte string in hex, with or without `0x`.
///
/// # Errors
/// When it is anything else.
pub fn bytes(what: &str, text: &str) -> Result<Vec<u8>, Error> {
    let digits = text.trim().strip_prefix("0x").unwrap_or(text.trim());
    hex::decode(digits).map_err(|_| value_error(what, text, "bytes in hex"))
}

fn value_error(what: &str, value: &str, expected: &'static str) -> Error {
    Error::Value { what: what.to_owned(), value: shorten(value), expected }
}

/// Sets one block field by name.
///
/// # Errors
/// When there is no such field or the value is malformed.
pub fn set_block_field(env: &mut Env, name: &str, value: &str) -> Result<(), Error> {
    let what = format!("block field {name}");
    match name {
        "coinbase" => env.coinbase = address(&what, value)?,
        "timestamp" => env.timestamp = word(&what, value)?,
        "number" => env.number = word(&what, value)?,
        "prevrandao" => env.prevrandao = word(&what, value)?,
        "gaslimit" => env.gaslimit = word(&what, value)?,
        "chainid" => env.chainid = word(&what, value)?,
        "basefee" => env.basefee = word(&what, value)?,
        "blobbasefee" => env.blobbasefee = word(&what, value)?,
        _ => return Err(value_error("--block", name, BLOCK_FIELDS)),
    }
    Ok(())
}

const BLOCK_FIELDS: &str =
    "a block field: coinbase, timestamp, number, prevrandao, gaslimit, chainid, basefee, blobbasefee";

/// Reads a call list: a JSON list of objects with `sig` and `args`, or `calldata`, and any of `caller`, `origin`, `value`,
/// `address`, `gasprice`, `block`. Fields that are absent are taken from `base`.
///
/// # Errors
/// Naming the element and field that is wrong; when the list is empty.
pub fn parse_list(path: &str, json: &[u8], base: &Env, abi: Option<&JsonAbi>) -> Result<Vec<Call>, Error> {
    parse_list_over(path, json, &|_| base.clone(), abi)
}

/// As [`parse_list`], where each element has a base of its own, by its place in the list.
///
/// # Errors
/// As [`parse_list`].
pub fn parse_list_over(
    path: &str,
    json: &[u8],
    base: &dyn Fn(usize) -> Env,
    abi: Option<&JsonAbi>,
) -> Result<Vec<Call>, Error> {
    let document: Value =
        serde_json::from_slice(json).map_err(|source| Error::Json { path: path.to_owned(), source })?;
    let field = |at: String, expected| Error::Field { path: path.to_owned(), at, expected };
    let list = document.as_array().ok_or_else(|| field("the document".to_owned(), "a list of calls"))?;
    if list.is_empty() {
        return Err(field("the document".to_owned(), "at least one call"));
    }
    let mut calls = Vec::with_capacity(list.len());
    for (index, element) in list.iter().enumerate() {
        let at = format!("[{index}]");
        let object = element.as_object().ok_or_else(|| field(at.clone(), "an object"))?;
        calls.push(Entry { path, at, object }.read(base(index), abi)?);
    }
    Ok(calls)
}

/// An element of a call list.
struct Entry<'a> {
    path: &'a str,
    at: String,
    object: &'a Map<String, Value>,
}

impl Entry<'_> {
    fn read(&self, base: Env, abi: Option<&JsonAbi>) -> Result<Call, Error> {
        const KNOWN: [&str; 9] =
            ["sig", "args", "calldata", "caller", "origin", "value", "address", "gasprice", "block"];
        if let Some(unknown) = self.object.keys().find(|key| !KNOWN.contains(&key.as_str())) {
            return Err(
                self.wrong(unknown, "one of sig, args, calldata, caller, origin, value, address, gasprice, block")
            );
        }
        let place = format!("{} {}", self.path, self.at);
        let calldata = match (self.text("calldata")?, self.text("sig")?) {
            (Some(_), Some(_)) => return Err(Error::TwoCalls { place }),
            (None, None) => return Err(Error::NoCall { place }),
            (Some(data), None) => bytes(&self.name("calldata"), &data)?,
            (None, Some(signature)) => encode(&function(&signature, abi)?, self.args()?)?,
        };
        let mut env = base;
        if let Some(caller) = self.text("caller")? {
            env.caller = address(&self.name("caller"), &caller)?;
            env.origin = env.caller;
        }
        if let Some(origin) = self.text("origin")? {
            env.origin = address(&self.name("origin"), &origin)?;
        }
        if let Some(to) = self.text("address")? {
            env.address = address(&self.name("address"), &to)?;
        }
        if let Some(value) = self.text("value")? {
            env.callvalue = word(&self.name("value"), &value)?;
        }
        if let Some(price) = self.text("gasprice")? {
            env.gasprice = word(&self.name("gasprice"), &price)?;
        }
        if let Some(block) = self.object.get("block") {
            let fields = block.as_object().ok_or_else(|| self.wrong("block", "an object"))?;
            for (name, value) in fields {
                let text = scalar(value).ok_or_else(|| self.wrong(&format!("block.{name}"), "a number or a string"))?;
                set_block_field(&mut env, name, &text)?;
            }
        }
        Ok(Call { calldata, env })
    }

    fn name(&self, key: &str) -> String {
        format!("{} {}.{key}", self.path, self.at)
    }

    fn wrong(&self, key: &str, expected: &'static str) -> Error {
        Error::Field { path: self.path.to_owned(), at: format!("{}.{key}", self.at), expected }
    }

    fn text(&self, key: &str) -> Result<Option<String>, Error> {
        let Some(value) = self.object.get(key).filter(|value| !value.is_null()) else { return Ok(None) };
        scalar(value).map(Some).ok_or_else(|| self.wrong(key, "a number or a string"))
    }

    fn args(&self) -> Result<&[Value], Error> {
        let Some(value) = self.object.get("args") else { return Ok(&[]) };
        value.as_array().map(Vec::as_slice).ok_or_else(|| self.wrong("args", "a list"))
    }
}

/// A number or string of JSON as text.
pub(crate) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) if !number.is_f64() => Some(number.to_string()),
        _ => None,
    }
}

/// What a person reads in an outcome's data, where the interface or a convention tells: decoded results, a revert reason, a
/// panic, a custom error.
pub fn explain(outcome: &Outcome, calldata: &[u8], abi: Option<&JsonAbi>) -> Option<String> {
    let selector = |data: &[u8]| data.first_chunk::<4>().copied();
    match outcome.halt {
        Halt::Trap => None,
        Halt::Return => {
            let function = abi?.function_by_selector(selector(calldata)?.into())?;
            let values = decode_output(function, &outcome.data).filter(|values| !values.is_empty())?;
            Some(format!("{} = {}", function.name, values.join(", ")))
        }
        Halt::Revert => {
            let found = selector(&outcome.data)?;
            if let Some(error) = abi.and_then(|abi| abi.errors().find(|error| error.selector() == found)) {
                let values = error.abi_decode_input(&outcome.data[4..]).ok()?;
                return Some(format!("{}{}", error.name, show(&DynSolValue::Tuple(values))));
            }
            let (name, ty) = match found {
                [0x08, 0xc3, 0x79, 0xa0] => ("Error", DynSolType::String),
                [0x4e, 0x48, 0x7b, 0x71] => ("Panic", DynSolType::Uint(256)),
                _ => return None,
            };
            let value = ty.abi_decode_params(&outcome.data[4..]).ok()?;
            let meaning = match &value {
                DynSolValue::Uint(code, _) => panic_meaning(code).map(|text| format!(": {text}")).unwrap_or_default(),
                _ => String::new(),
            };
            Some(format!("{name}({}){meaning}", show(&value)))
        }
    }
}

/// Solidity's panic codes.
fn panic_meaning(code: &Word) -> Option<&'static str> {
    Some(match u8::try_from(*code).ok()? {
        0x01 => "assertion failed",
        0x11 => "arithmetic overflow",
        0x12 => "division by zero",
        0x21 => "value outside an enum",
        0x22 => "malformed storage bytes",
        0x31 => "pop of an empty array",
        0x32 => "index out of bounds",
        0x41 => "too much memory",
        0x51 => "call of an uninitialised function",
        _ => return None,
    })
}
