//! Bytecode as text, one instruction a line, for messages. Nothing is decided from it.

use revm::bytecode::opcode::OpCode;
use zvm_ir::Pc;

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Where it starts.
    pub pc: Pc,
    /// Its mnemonic and immediate.
    pub text: String,
}

/// The instructions of the code in order; bytes that are no instruction have the mnemonic `INVALID`.
pub fn lines(code: &[u8]) -> impl Iterator<Item = Line> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let byte = *code.get(at)?;
        let pc = at as Pc;
        let opcode = OpCode::new(byte);
        let size = opcode.map_or(0, |opcode| usize::from(opcode.info().immediate_size()));
        let end = (at + 1 + size).min(code.len());
        let immediate = &code[at + 1..end];
        at = end;
        let name = opcode.map_or_else(|| format!("INVALID (0x{byte:02x})"), |opcode| opcode.as_str().to_owned());
        let text = if immediate.is_empty() { name } else { format!("{name} 0x{}", hex::encode(immediate)) };
        Some(Line { pc, text })
    })
}

/// The instruction that covers `pc`, with up to `context` instructions before and after it; the second part is its place
/// in the list. `None` when `pc` is past the end.
pub fn around(code: &[u8], pc: Pc, context: usize) -> Option<(Vec<Line>, usize)> {
    if pc as usize >= code.len() {
        return None;
    }
    let mut window = Vec::new();
    let mut found = None;
    for line in lines(code) {
        match found {
            Some(at) if window.len() > at + context => break,
            None if line.pc > pc => {
                // The line before covers `pc`: an immediate was meant.
                found = Some(window.len().saturating_sub(1));
            }
            None if line.pc == pc => found = Some(window.len()),
            _ => {}
        }
        window.push(line);
        if found.is_none() && window.len() > context + 1 {
            window.remove(0);
        }
    }
    let at = found.unwrap_or(window.len().saturating_sub(1));
    window.truncate(at + context + 1);
    let skip = at.saturating_sub(context);
    Some((window.split_off(skip), at - skip))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(code: &[u8], pc: Pc, context: usize) -> (Vec<String>, usize) {
        let (lines, at) = around(code, pc, context).expect("inside");
        (lines.into_iter().map(|line| format!("{:x} {}", line.pc, line.text)).collect(), at)
    }

    #[test]
    fn the_window_is_around_the_instruction() {
        // push2 0x5b01; jumpdest; push0; push0; revert; 0x0c; push32 (cut short)
        let code = [0x61, 0x5b, 0x01, 0x5b, 0x5f, 0x5f, 0xfd, 0x0c, 0x7f, 0xaa];
        assert_eq!(texts(&code, 4, 1), (vec!["3 JUMPDEST".into(), "4 PUSH0".into(), "5 PUSH0".into()], 1));
        assert_eq!(texts(&code, 0, 1), (vec!["0 PUSH2 0x5b01".into(), "3 JUMPDEST".into()], 0));
        assert_eq!(texts(&code, 1, 1).1, 0, "a byte of an immediate belongs to its instruction");
        assert_eq!(texts(&code, 8, 1), (vec!["7 INVALID (0x0c)".into(), "8 PUSH32 0xaa".into()], 1));
        assert_eq!(texts(&code, 9, 0), (vec!["8 PUSH32 0xaa".into()], 0));
        assert_eq!(around(&code, 10, 1), None);
    }
}
