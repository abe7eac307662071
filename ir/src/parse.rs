//! Reads the text form of IR. Whatever the input, the result is a module or an error with its line.
//!
//! The parser checks shape only (names, numbers, types, brackets); the meaning is checked by [`crate::verify()`]. Blocks and
//! values may be used before the line that defines them.

use std::collections::BTreeMap;

use crate::Word;
use crate::entities::{Block, Data, Func, Value};
use crate::function::{BlockCall, Function, Imm, InstData, Module, StackUse, ValueDef};
use crate::opcode::{ImmKind, Opcode, TrapCode};
use crate::print::HEADER;
use crate::types::Type;

/// Why a text is not IR.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {kind}")]
pub struct ParseError {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong there.
    pub kind: ParseErrorKind,
}

/// What can be wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseErrorKind {
    /// The text does not start with the header.
    #[error("expected the header `{HEADER}`")]
    Header,
    /// Something else was expected.
    #[error("expected {expected}, found `{found}`")]
    Expected {
        /// What the grammar asks for.
        expected: &'static str,
        /// The rest of the line.
        found: String,
    },
    /// No instruction has this name.
    #[error("there is no instruction `{0}`")]
    UnknownInstruction(String),
    /// A name is used that nothing defines.
    #[error("`{0}` is not defined")]
    Undefined(String),
    /// A name is defined twice.
    #[error("`{0}` is defined twice")]
    Redefined(String),
    /// The types in the header of a function are not those of its entry block.
    #[error("the parameters of the function differ from those of its first block")]
    Signature,
    /// The text ends inside a function.
    #[error("the function is not closed by a `}}`")]
    Unclosed,
}

type Result<T> = core::result::Result<T, ParseErrorKind>;

/// Reads a module.
///
/// # Errors
/// The first line that is not as it should be.
pub fn parse(text: &str) -> core::result::Result<Module, ParseError> {
    let lines: Vec<(usize, &str)> = text
        .lines()
        .enumerate()
        .map(|(at, line)| (at + 1, line.split(';').next().unwrap_or_default().trim()))
        .filter(|(_, line)| !line.is_empty())
        .collect();
    let at = |line: usize| move |kind| ParseError { line, kind };
    match lines.first() {
        Some(&(_, HEADER)) => {}
        first => return Err(at(first.map_or(1, |l| l.0))(ParseErrorKind::Header)),
    }

    let mut module = Module::new();
    let mut names: BTreeMap<&str, Func> = BTreeMap::new();
    for &(line, text) in &lines {
        if text.starts_with("func") {
            let header = Scanner::new(text).func_header().map_err(at(line))?;
            let mut function = Function::new(header.name);
            (function.results, function.stack) = (header.results, header.stack);
            let func = module.funcs.push(function);
            if names.insert(header.name, func).is_some() {
                return Err(at(line)(ParseErrorKind::Redefined(format!("@{}", header.name))));
            }
        }
    }

    let mut rest = lines[1..].iter().copied().peekable();
    let mut next_func = module.funcs.keys();
    while let Some((line, text)) = rest.next() {
        let mut scan = Scanner::new(text);
        if scan.eat_word("entry") {
            let name = scan.func_name().map_err(at(line))?;
            let func = names.get(name).copied();
            module.entry = Some(func.ok_or_else(|| at(line)(ParseErrorKind::Undefined(format!("@{name}"))))?);
            scan.end().map_err(at(line))?;
        } else if text.starts_with("data") {
            let (number, bytes) = scan.data_line().map_err(at(line))?;
            let data = module.data.push(bytes);
            if data.as_u32() != number {
                return Err(at(line)(ParseErrorKind::Undefined(format!("data{}", data.as_u32()))));
            }
        } else if let (true, Some(func)) =
            (text.starts_with("func"), text.starts_with("func").then(|| next_func.next()).flatten())
        {
            let mut body = Vec::new();
            loop {
                match rest.next() {
                    Some((_, "}")) => break,
                    Some(inner) => body.push(inner),
                    None => return Err(at(line)(ParseErrorKind::Unclosed)),
                }
            }
            let params = Scanner::new(text).func_header().map_err(at(line))?.params;
            parse_body(&mut module.funcs[func], &body, &names)?;
            if module.funcs[func].param_types() != params {
                return Err(at(line)(ParseErrorKind::Signature));
            }
        } else {
            return Err(at(line)(scan.expected("`func`, `entry` or `data`")));
        }
    }
    Ok(module)
}

/// The names of one function, filled by a first walk over its lines.
#[derive(Default)]
struct Names {
    blocks: BTreeMap<u32, Block>,
    values: BTreeMap<u32, Value>,
}

fn parse_body(
    function: &mut Function,
    lines: &[(usize, &str)],
    funcs: &BTreeMap<&str, Func>,
) -> core::result::Result<(), ParseError> {
    let mut names = Names::default();
    let mut current = None;
    // First walk: blocks, parameters and results get their entities, in the order of the text.
    for &(line, text) in lines {
        let fail = |kind| ParseError { line, kind };
        if text.ends_with(':') {
            current = Some(declare_block(function, &mut names, text).map_err(fail)?);
        } else {
            let block = current.ok_or_else(|| fail(Scanner::new(text).expected("a block header")))?;
            declare_inst(function, &mut names, block, text).map_err(fail)?;
        }
    }
    // Second walk: operands, now that every name is known.
    let mut insts = function.insts.keys();
    for &(line, text) in lines {
        if !text.ends_with(':')
            && let Some(inst) = insts.next()
        {
            let parsed = parse_inst(text, &names, funcs).map_err(|kind| ParseError { line, kind })?;
            let results = core::mem::take(&mut function.insts[inst].results);
            function.insts[inst] = InstData { results, ..parsed };
        }
    }
    Ok(())
}

fn declare_block(function: &mut Function, names: &mut Names, text: &str) -> Result<Block> {
    let mut scan = Scanner::new(text);
    let number = scan.entity("block")?;
    let block = function.create_block();
    if names.blocks.insert(number, block).is_some() {
        return Err(ParseErrorKind::Redefined(format!("block{number}")));
    }
    if scan.eat("(") {
        loop {
            let (value_number, ty) = scan.typed_value()?;
            let value = function.append_param(block, ty);
            define(names, value_number, value)?;
            if !scan.eat(",") {
                break;
            }
        }
        scan.expect(")", "`)`")?;
    }
    scan.expect(":", "`:`")?;
    scan.end()?;
    Ok(block)
}

fn declare_inst(function: &mut Function, names: &mut Names, block: Block, text: &str) -> Result<()> {
    let mut scan = Scanner::new(text);
    let mut results = Vec::new();
    if scan.at_entity("v") {
        loop {
            results.push(scan.typed_value()?);
            if !scan.eat(",") {
                break;
            }
        }
        scan.expect("=", "`=`")?;
    }
    let types: Vec<Type> = results.iter().map(|&(_, ty)| ty).collect();
    let opcode = scan.opcode()?;
    let data = InstData { opcode, imm: Imm::None, args: vec![], targets: vec![], results: vec![], pc: None };
    let inst = function.create_inst(data, &types);
    function.blocks[block].insts.push(inst);
    for (at, &(number, _)) in results.iter().enumerate() {
        let value = function.insts[inst].results[at];
        debug_assert_eq!(function.values[value].def, ValueDef::Result(inst, at));
        define(names, number, value)?;
    }
    Ok(())
}

fn define(names: &mut Names, number: u32, value: Value) -> Result<()> {
    match names.values.insert(number, value) {
        None => Ok(()),
        Some(_) => Err(ParseErrorKind::Redefined(format!("v{number}"))),
    }
}

fn parse_inst(text: &str, names: &Names, funcs: &BTreeMap<&str, Func>) -> Result<InstData> {
    let mut scan = Scanner::new(text.split_once('=').map_or(text, |(_, rest)| rest));
    let opcode = scan.opcode()?;
    let row = opcode.info();
    let (mut args, mut targets) = (Vec::new(), Vec::new());
    let imm = match row.imm {
        ImmKind::None => Imm::None,
        ImmKind::Word => Imm::Word(scan.number()?),
        ImmKind::Data => Imm::Data(Data::from_u32(scan.entity("data")?)),
        ImmKind::Func => {
            let name = scan.func_name()?;
            let func = funcs.get(name).ok_or_else(|| ParseErrorKind::Undefined(format!("@{name}")))?;
            Imm::Func(*func)
        }
        ImmKind::Len => {
            let found = scan.expected("a length below 2^32");
            Imm::Len(u32::try_from(scan.number()?).map_err(|_| found)?)
        }
        ImmKind::Place => {
            let found = scan.expected("a position below 2^32");
            Imm::Place(u32::try_from(scan.number()?).map_err(|_| found)?)
        }
        ImmKind::Trap => {
            let word = scan.word();
            let code = TrapCode::ALL.iter().find(|(_, name)| *name == word);
            Imm::Trap(code.ok_or_else(|| scan.expected("why it traps"))?.0)
        }
    };
    let value = |scan: &mut Scanner<'_>| -> Result<Value> {
        let number = scan.entity("v")?;
        names.values.get(&number).copied().ok_or_else(|| ParseErrorKind::Undefined(format!("v{number}")))
    };
    let values = |scan: &mut Scanner<'_>, close: &str| -> Result<Vec<Value>> {
        let mut list = Vec::new();
        while !scan.eat(close) {
            if !list.is_empty() {
                scan.expect(",", "`,`")?;
            }
            list.push(value(scan)?);
        }
        Ok(list)
    };
    if opcode == Opcode::Call {
        scan.expect("(", "`(`")?;
        args = values(&mut scan, ")")?;
    } else {
        let mut first = imm == Imm::None;
        while !scan.at_end() && !scan.at("@") {
            if !core::mem::replace(&mut first, false) {
                scan.expect(",", "`,`")?;
            }
            if scan.at_entity("block") {
                let number = scan.entity("block")?;
                let block = names.blocks.get(&number);
                let block = *block.ok_or_else(|| ParseErrorKind::Undefined(format!("block{number}")))?;
                let args = if scan.eat("(") { values(&mut scan, ")")? } else { Vec::new() };
                targets.push(BlockCall { block, args });
            } else {
                args.push(value(&mut scan)?);
            }
        }
    }
    let pc = scan.pc()?;
    scan.end()?;
    Ok(InstData { opcode, imm, args, targets, results: Vec::new(), pc })
}

struct FuncHeader<'t> {
    name: &'t str,
    params: Vec<Type>,
    results: Vec<Type>,
    stack: StackUse,
}

/// Walks over one line.
struct Scanner<'t> {
    rest: &'t str,
}

impl<'t> Scanner<'t> {
    fn new(text: &'t str) -> Self {
        Self { rest: text.trim_start() }
    }

    fn expected(&self, expected: &'static str) -> ParseErrorKind {
        ParseErrorKind::Expected { expected, found: self.rest.chars().take(40).collect() }
    }

    fn at(&self, token: &str) -> bool {
        self.rest.starts_with(token)
    }

    fn at_end(&self) -> bool {
        self.rest.is_empty()
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest[bytes..].trim_start();
    }

    fn eat(&mut self, token: &str) -> bool {
        let found = self.at(token);
        if found {
            self.skip(token.len());
        }
        found
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let found = self.at(word) && !self.rest[word.len()..].starts_with(is_name);
        if found {
            self.skip(word.len());
        }
        found
    }

    fn expect(&mut self, token: &str, expected: &'static str) -> Result<()> {
        if self.eat(token) { Ok(()) } else { Err(self.expected(expected)) }
    }

    fn end(&self) -> Result<()> {
        if self.at_end() { Ok(()) } else { Err(self.expected("the end of the line")) }
    }

    fn word(&mut self) -> &'t str {
        let end = self.rest.find(|c| !is_name(c)).unwrap_or(self.rest.len());
        let word = &self.rest[..end];
        self.skip(end);
        word
    }

    fn opcode(&mut self) -> Result<Opcode> {
        let word = self.word();
        Opcode::from_mnemonic(word).ok_or_else(|| ParseErrorKind::UnknownInstruction(word.to_owned()))
    }

    fn at_entity(&self, prefix: &str) -> bool {
        self.rest.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    }

    fn entity(&mut self, prefix: &'static str) -> Result<u32> {
        let error = self.expected(match prefix {
            "block" => "a block",
            "data" => "a data segment",
            _ => "a value",
        });
        let digits = self.rest.strip_prefix(prefix).ok_or_else(|| error.clone())?;
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        // The largest numbers are reserved by the entity type.
        let number = digits[..end].parse().ok().filter(|&n: &u32| n < u32::MAX).ok_or(error)?;
        self.skip(prefix.len() + end);
        Ok(number)
    }

    fn ty(&mut self) -> Result<Type> {
        let error = self.expected("a type from u1 to u256");
        let bits = self.word().strip_prefix('u').and_then(|bits| bits.parse().ok());
        bits.and_then(Type::new).ok_or(error)
    }

    fn typed_value(&mut self) -> Result<(u32, Type)> {
        let number = self.entity("v")?;
        self.expect(":", "`:` and a type")?;
        Ok((number, self.ty()?))
    }

    fn number(&mut self) -> Result<Word> {
        let error = self.expected("a number below 2^256");
        let word = self.word();
        let parsed = match word.strip_prefix("0x") {
            Some(digits) if !digits.is_empty() => Word::from_str_radix(digits, 16),
            None if !word.is_empty() => Word::from_str_radix(word, 10),
            _ => return Err(error),
        };
        parsed.map_err(|_| error)
    }

    fn func_name(&mut self) -> Result<&'t str> {
        self.expect("@", "a function's name, `@name`")?;
        let word = self.word();
        if word.is_empty() { Err(self.expected("a function's name")) } else { Ok(word) }
    }

    /// Types up to any of `close`.
    fn types(&mut self, close: &[&str]) -> Result<Vec<Type>> {
        let mut types = Vec::new();
        while !close.iter().any(|close| self.at(close)) {
            if !types.is_empty() {
                self.expect(",", "`,`")?;
            }
            types.push(self.ty()?);
        }
        Ok(types)
    }

    fn func_header(&mut self) -> Result<FuncHeader<'t>> {
        self.expect("func", "`func`")?;
        let name = self.func_name()?;
        self.expect("(", "`(`")?;
        let params = self.types(&[")"])?;
        self.expect(")", "`)`")?;
        let results = if self.eat("->") { self.types(&["stack", "{"])? } else { Vec::new() };
        let mut stack = StackUse::default();
        if self.eat_word("stack") {
            for words in [&mut stack.below, &mut stack.peak] {
                let error = self.expected("a number of words below 2^32");
                *words = u32::try_from(self.number()?).map_err(|_| error)?;
            }
        }
        self.expect("{", "`{`")?;
        self.end()?;
        Ok(FuncHeader { name, params, results, stack })
    }

    fn data_line(&mut self) -> Result<(u32, Vec<u8>)> {
        let number = self.entity("data")?;
        self.expect("=", "`=`")?;
        let error = self.expected("bytes, `0x…`");
        let digits = self.rest.strip_prefix("0x").filter(|d| d.is_ascii() && d.len() % 2 == 0).ok_or(error.clone())?;
        let bytes = (0..digits.len() / 2).map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16));
        // `from_str_radix` takes a sign, which is not a digit here.
        match bytes.collect::<core::result::Result<Vec<u8>, _>>() {
            Ok(bytes) if !digits.contains('+') => Ok((number, bytes)),
            _ => Err(error),
        }
    }

    fn pc(&mut self) -> Result<Option<u32>> {
        if !self.eat("@") {
            return Ok(None);
        }
        let error = self.expected("a pc, `@0042`");
        let word = self.word();
        u32::from_str_radix(word, 16).map(Some).map_err(|_| error)
    }
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '$')
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "\
zvm 1
data0 = 0x6080ff
entry @main

func @main() {
block0:
    v0: u1 = iconst 0                                        @0000
    v1: u256 = calldataload v0                               @0002
    v2: u1 = iszero v1
    brif v2, block1, block2(v1)
block1:
    trap invalid
block2(v3: u256):
    v4: u256, v5: u8 = call @f.1(v3, v2)
    datacopy data0, v3, v5, v5
    log_words 40, v4, v5, v5
    return_words 36, v4, v3
}

func @f.1(u256, u1) -> u256, u8 {
block0(v0: u256, v1: u1):
    v2: u256 = iconst 0x461bcd00000000
    v3: u8 = byte v1, v2
    ret v2, v3
}
";

    #[test]
    fn round_trips() {
        let module = parse(EXAMPLE).unwrap();
        assert_eq!(module.to_string(), EXAMPLE);
        assert_eq!(parse(&module.to_string()).unwrap(), module);
    }

    #[test]
    fn numbers_need_not_be_in_order() {
        let shuffled = EXAMPLE.replace("block2", "block17").replace("v3: u256):", "v99: u256):");
        let shuffled = shuffled.replace("@f.1(v3,", "@f.1(v99,").replace("data0, v3", "data0, v99");
        let shuffled = shuffled.replace("v4, v3", "v4, v99");
        assert_eq!(parse(&shuffled).unwrap(), parse(EXAMPLE).unwrap());
    }

    #[test]
    fn errors_name_the_line() {
        let cases = [
            ("", 1, "expected the header"),
            ("zvm 1\nfunk", 2, "expected `func`"),
            ("zvm 1\nfunc @f() {\nblock0:\n    stop", 2, "not closed"),
            ("zvm 1\nfunc @f() {\nblock0:\n    halt\n}", 4, "no instruction `halt`"),
            ("zvm 1\nfunc @f() {\nblock0:\n    jump block7\n}", 4, "`block7` is not defined"),
            ("zvm 1\nfunc @f() {\nblock0:\n    ret v7\n}", 4, "`v7` is not defined"),
            ("zvm 1\nfunc @f() {\n    stop\n}", 3, "a block header"),
            ("zvm 1\nfunc @f(u8) {\nblock0:\n    stop\n}", 2, "differ"),
            ("zvm 1\nfunc @f() {\nblock0(v0: u257):\n    stop\n}", 3, "u1 to u256"),
            ("zvm 1\nentry @g", 2, "`@g` is not defined"),
            ("zvm 1\ndata0 = 0x+1", 2, "bytes"),
            ("zvm 1\nfunc @f() {\nblock0:\n    v0: u8 = iconst 0x\n}", 4, "a number"),
            ("zvm 1\nfunc @f() {\nblock0:\nblock0:\n    stop\n}", 4, "defined twice"),
        ];
        for (text, line, message) in cases {
            let error = parse(text).unwrap_err();
            assert_eq!(error.line, line, "{text}: {error}");
            assert!(error.to_string().contains(message), "{text}: {error}");
        }
    }

    #[test]
    fn cut_or_damaged_text_never_panics() {
        for at in 0..EXAMPLE.len() {
            let _ = parse(&EXAMPLE[..at]);
            for replacement in ["\u{fffd}", "}", "v", "9999999999", ":"] {
                let mut damaged = String::from(&EXAMPLE[..at]);
                damaged.push_str(replacement);
                damaged.push_str(&EXAMPLE[at + 1..]);
                let _ = parse(&damaged);
            }
        }
    }
}
