//! The listing: emitted code as text, one instruction a line, for people and snapshots.

use core::fmt::Write;

use crate::emit::Lowered;
use crate::opcodes;
use crate::stackify::TemplateSlot;

impl Lowered {
    /// The emitted code as text. Each line has the position, the instruction with its immediate, and the position in the
    /// original bytecode where it changes; blocks are headed by their name and entry template.
    pub fn listing(&self) -> String {
        let mut out = String::new();
        let end = self.code_len();
        let _ = writeln!(out, "; {} bytes of code, {} of data, {}", end, self.code.len() - end, self.fork);
        let mut blocks = self.blocks.iter().peekable();
        let mut sources = self.source_map.iter().peekable();
        let mut at = 0;
        while at < end {
            while let Some(block) = blocks.next_if(|block| block.start as usize <= at) {
                let _ = writeln!(out, "\n@{} {}: [{}]", block.function, block.block, template(&block.template));
            }
            let mut source = None;
            while let Some(&(_, pc)) = sources.next_if(|&&(from, _)| from as usize <= at) {
                source = Some(pc);
            }
            let byte = self.code[at];
            let immediate = match byte {
                opcodes::PUSH1..=opcodes::PUSH32 => usize::from(byte - opcodes::PUSH1) + 1,
                opcodes::DUPN | opcodes::SWAPN | opcodes::EXCHANGE => 1,
                _ => 0,
            };
            let mut line = format!("{at:04x}  {}", opcodes::name(byte));
            let bytes = self.code.get(at + 1..(at + 1 + immediate).min(end)).unwrap_or_default();
            match byte {
                opcodes::DUPN | opcodes::SWAPN => {
                    let depth = bytes.first().copied().and_then(opcodes::deep_depth);
                    let _ = write!(line, " {}", depth.unwrap_or_default());
                }
                opcodes::EXCHANGE => {
                    let (near, far) = bytes.first().copied().and_then(opcodes::exchange_depths).unwrap_or_default();
                    let _ = write!(line, " {near} {far}");
                }
                _ if immediate > 0 => {
                    line.push_str(" 0x");
                    for byte in bytes {
                        let _ = write!(line, "{byte:02x}");
                    }
                }
                _ => {}
            }
            match source {
                Some(pc) => drop(writeln!(out, "{line:<40} ; @{pc:04x}")),
                None => drop(writeln!(out, "{line}")),
            }
            at += 1 + immediate;
        }
        for data in &self.data {
            let _ = write!(out, "\n{:04x}  {} = 0x", data.start, data.data);
            for byte in &self.code[data.start as usize..(data.start + data.len) as usize] {
                let _ = write!(out, "{byte:02x}");
            }
            out.push('\n');
        }
        out
    }
}

fn template(slots: &[TemplateSlot]) -> String {
    let names: Vec<String> = slots
        .iter()
        .map(|slot| match slot {
            TemplateSlot::Junk => "_".to_owned(),
            TemplateSlot::Return => "ret".to_owned(),
            TemplateSlot::Value(value) => value.to_string(),
        })
        .collect();
    names.join(" ")
}
