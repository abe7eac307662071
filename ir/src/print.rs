//! The text form of IR: [`core::fmt::Display`] for modules and functions. [`crate::parse()`] reads it back.
//!
//! Numbers are printed as they are in memory; a compacted module prints with its numbers in order. A `pc` annotation
//! (`@0042`, hexadecimal) follows an instruction that came from bytecode.

use core::fmt::{self, Display, Formatter, Write};

use crate::entities::{Block, Inst, Value};
use crate::function::{BlockCall, BlockData, Function, Imm, Module};
use crate::{Opcode, Word};

/// The first line of a module in text form.
pub const HEADER: &str = "zvm 1";

/// Where the `pc` annotation starts, in characters from the start of the line.
const PC_COLUMN: usize = 60;

impl Display for Module {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        for (data, bytes) in &self.data {
            write!(f, "{data} = 0x")?;
            for byte in bytes {
                write!(f, "{byte:02x}")?;
            }
            writeln!(f)?;
        }
        if let Some(entry) = self.entry
            && let Some(function) = self.funcs.get(entry)
        {
            writeln!(f, "entry @{}", function.name)?;
        }
        for function in self.funcs.values() {
            writeln!(f)?;
            write_function(f, function, Some(self))?;
        }
        Ok(())
    }
}

/// Without its module, a function prints its callees by number (`@fn3`).
impl Display for Function {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_function(f, self, None)
    }
}

fn write_function(f: &mut Formatter<'_>, function: &Function, module: Option<&Module>) -> fmt::Result {
    write!(f, "func @{}(", function.name)?;
    write_list(f, function.param_types())?;
    f.write_str(")")?;
    if !function.results.is_empty() {
        f.write_str(" -> ")?;
        write_list(f, &function.results)?;
    }
    writeln!(f, " {{")?;
    for &block in &function.layout {
        for line in block_lines(function, block, module)? {
            writeln!(f, "{line}")?;
        }
    }
    writeln!(f, "}}")
}

/// The lines of a block: its header, then its instructions.
pub(crate) fn block_lines(
    function: &Function,
    block: Block,
    module: Option<&Module>,
) -> Result<Vec<String>, fmt::Error> {
    let BlockData { params, insts } = &function.blocks[block];
    let mut header = block.to_string();
    if !params.is_empty() {
        header.push('(');
        write_list(&mut header, params.iter().map(|&value| Typed { function, value }))?;
        header.push(')');
    }
    header.push(':');
    let mut lines = vec![header];
    for &inst in insts {
        let mut line = inst_text(function, inst, module)?;
        if let Some(pc) = function.insts[inst].pc {
            write!(line, "{:1$} @{pc:04x}", "", PC_COLUMN.saturating_sub(line.chars().count()))?;
        }
        lines.push(line);
    }
    Ok(lines)
}

/// One instruction without its annotation, indented.
fn inst_text(function: &Function, inst: Inst, module: Option<&Module>) -> Result<String, fmt::Error> {
    let data = &function.insts[inst];
    let mut line = String::from("    ");
    for (at, &value) in data.results.iter().enumerate() {
        write!(line, "{}{}", if at > 0 { ", " } else { "" }, Typed { function, value })?;
    }
    if !data.results.is_empty() {
        line.push_str(" = ");
    }
    line.push_str(data.opcode.mnemonic());
    if data.opcode == Opcode::Call {
        match (data.imm, module) {
            (Imm::Func(callee), Some(module)) if module.funcs.is_valid(callee) => {
                write!(line, " @{}", module.funcs[callee].name)?;
            }
            (Imm::Func(callee), _) => write!(line, " @{callee}")?,
            _ => line.push_str(" @?"),
        }
        line.push('(');
        for (at, value) in data.args.iter().enumerate() {
            write!(line, "{}{value}", if at > 0 { ", " } else { "" })?;
        }
        line.push(')');
        return Ok(line);
    }
    let mut separator = " ";
    match data.imm {
        Imm::None => {}
        Imm::Word(word) => write!(line, " {}", Number(word))?,
        Imm::Data(segment) => write!(line, " {segment}")?,
        Imm::Func(callee) => write!(line, " @{callee}")?,
        Imm::Len(len) => write!(line, " {len}")?,
        Imm::Trap(code) => write!(line, " {}", code.name())?,
    }
    if data.imm != Imm::None {
        separator = ", ";
    }
    for value in &data.args {
        write!(line, "{separator}{value}")?;
        separator = ", ";
    }
    for target in &data.targets {
        write!(line, "{separator}")?;
        write_target(&mut line, target)?;
        separator = ", ";
    }
    Ok(line)
}

fn write_target(line: &mut String, target: &BlockCall) -> fmt::Result {
    write!(line, "{}", target.block)?;
    if !target.args.is_empty() {
        line.push('(');
        for (at, value) in target.args.iter().enumerate() {
            write!(line, "{}{value}", if at > 0 { ", " } else { "" })?;
        }
        line.push(')');
    }
    Ok(())
}

fn write_list(f: &mut impl Write, items: impl IntoIterator<Item = impl Display>) -> fmt::Result {
    for (at, item) in items.into_iter().enumerate() {
        if at > 0 {
            f.write_str(", ")?;
        }
        write!(f, "{item}")?;
    }
    Ok(())
}

struct Typed<'f> {
    function: &'f Function,
    value: Value,
}

impl Display for Typed<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.value, self.function.ty(self.value))
    }
}

/// A constant: decimal below 1024, hexadecimal from there on.
struct Number(Word);

impl Display for Number {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.0 < Word::from(1024) { write!(f, "{}", self.0) } else { write!(f, "{:#x}", self.0) }
    }
}
