//! From an instruction of the IR to its gadget.

use bellpepper_core::ConstraintSystem;
use ff::PrimeField;
use zvm_ir::{Imm, Opcode, Type, eval};

use super::word::Word;
use super::{arith, bitwise, bytes, compare, div, exp, keccak, select, shift};
use crate::error::CircuitError;

/// The result of a pure instruction, constrained. `result` is the type written at the instruction. Constants fold, by the
/// reference semantics, and cost nothing.
///
/// # Errors
/// `NotProvable` for an instruction without a gadget (those with effects), `Malformed` if operands, immediate or result type
/// do not fit the instruction's row, `Synthesis` if a gadget could not be synthesised.
pub fn lower_pure<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    opcode: Opcode,
    imm: Imm,
    args: &[Word<F>],
    result: Type,
) -> Result<Word<F>, CircuitError> {
    let width = u32::from(result.bits());
    let malformed = || CircuitError::Malformed(opcode);
    let unary = || match args {
        [a] => Ok(a),
        _ => Err(malformed()),
    };
    let binary = || match args {
        [a, b] => Ok((a, b)),
        _ => Err(malformed()),
    };
    let ternary = || match args {
        [a, b, c] => Ok((a, b, c)),
        _ => Err(malformed()),
    };
    let constants: Option<Vec<_>> = args.iter().map(Word::as_constant).collect();
    if let Some(constants) = constants
        && let Ok(value) = eval(opcode, imm, &constants, Some(result))
        && result.holds(&value)
    {
        return Ok(Word::constant(width, value));
    }
    let word = match opcode {
        Opcode::Iconst => match imm {
            Imm::Word(value) if result.holds(&value) => Word::constant(width, value),
            _ => return Err(malformed()),
        },
        Opcode::Zext => unary()?.clone(),
        Opcode::Trunc => unary()?.trunc(cs, width)?,
        Opcode::Narrow => unary()?.narrow(width),
        Opcode::Add => {
            let (a, b) = binary()?;
            arith::add(cs, a, b)?
        }
        Opcode::Sub => {
            let (a, b) = binary()?;
            arith::sub(cs, a, b)?
        }
        Opcode::Mul => {
            let (a, b) = binary()?;
            if a.width() + b.width() > 256 {
                return Err(malformed());
            }
            arith::mul(cs, a, b)?
        }
        Opcode::Wadd => {
            let (a, b) = binary()?;
            arith::wadd(cs, a, b)?
        }
        Opcode::Wsub => {
            let (a, b) = binary()?;
            arith::wsub(cs, a, b)?
        }
        Opcode::Wmul => {
            let (a, b) = binary()?;
            arith::wmul(cs, a, b)?
        }
        Opcode::Udiv => {
            let (a, b) = binary()?;
            div::udiv(cs, a, b)?
        }
        Opcode::Urem => {
            let (a, b) = binary()?;
            div::urem(cs, a, b)?
        }
        Opcode::Sdiv => {
            let (a, b) = binary()?;
            div::sdiv(cs, a, b)?
        }
        Opcode::Srem => {
            let (a, b) = binary()?;
            div::srem(cs, a, b)?
        }
        Opcode::Addmod => {
            let (a, b, n) = ternary()?;
            div::addmod(cs, a, b, n)?
        }
        Opcode::Mulmod => {
            let (a, b, n) = ternary()?;
            div::mulmod(cs, a, b, n)?
        }
        Opcode::Exp => {
            let (a, b) = binary()?;
            exp::exp(cs, a, b)?
        }
        Opcode::Signextend => {
            let (k, a) = binary()?;
            bytes::signextend(cs, k, a)?
        }
        Opcode::Iszero => compare::iszero(cs, unary()?)?,
        Opcode::Eq => {
            let (a, b) = binary()?;
            compare::eq(cs, a, b)?
        }
        Opcode::Ult => {
            let (a, b) = binary()?;
            compare::ult(cs, a, b)?
        }
        Opcode::Slt => {
            let (a, b) = binary()?;
            compare::slt(cs, a, b)?
        }
        Opcode::Select => {
            let (c, a, b) = ternary()?;
            select::select(cs, c.as_boolean()?, a, b)?
        }
        Opcode::And => {
            let (a, b) = binary()?;
            bitwise::and(cs, a, b)?
        }
        Opcode::Or => {
            let (a, b) = binary()?;
            bitwise::or(cs, a, b)?
        }
        Opcode::Xor => {
            let (a, b) = binary()?;
            bitwise::xor(cs, a, b)?
        }
        Opcode::Not => arith::not(cs, unary()?)?,
        Opcode::Shl => {
            let (n, a) = binary()?;
            shift::shl(cs, n, a)?
        }
        Opcode::Shr => {
            let (n, a) = binary()?;
            shift::shr(cs, n, a)?
        }
        Opcode::Sar => {
            let (n, a) = binary()?;
            shift::sar(cs, n, a)?
        }
        Opcode::Byte => {
            let (i, a) = binary()?;
            bytes::byte(cs, i, a)?
        }
        Opcode::Clz => bitwise::clz(cs, unary()?)?,
        Opcode::KeccakWords => match imm {
            Imm::Len(len) => keccak::keccak_first_bytes(cs, args, len as usize)?,
            _ => return Err(malformed()),
        },
        Opcode::KeccakF => match imm {
            Imm::Word(index) => {
                let words = keccak::keccak_f_words(cs, args)?;
                words.get(index.saturating_to::<usize>()).cloned().ok_or_else(malformed)?
            }
            _ => return Err(malformed()),
        },
        Opcode::Keccak256
        | Opcode::Mload
        | Opcode::Mstore
        | Opcode::Mstore8
        | Opcode::Mcopy
        | Opcode::Msize
        | Opcode::Calldataload
        | Opcode::Calldatasize
        | Opcode::Calldatacopy
        | Opcode::Datacopy
        | Opcode::Immutable
        | Opcode::Address
        | Opcode::Caller
        | Opcode::Origin
        | Opcode::Callvalue
        | Opcode::Gasprice
        | Opcode::Coinbase
        | Opcode::Timestamp
        | Opcode::Number
        | Opcode::Prevrandao
        | Opcode::Gaslimit
        | Opcode::Chainid
        | Opcode::Basefee
        | Opcode::Blobbasefee
        | Opcode::Blockhash
        | Opcode::Blobhash
        | Opcode::Selfbalance
        | Opcode::Balance
        | Opcode::Extcodesize
        | Opcode::Extcodehash
        | Opcode::Extcodecopy
        | Opcode::Gas
        | Opcode::Sload
        | Opcode::Sstore
        | Opcode::Tload
        | Opcode::Tstore
        | Opcode::FrameLoad
        | Opcode::FrameStore
        | Opcode::Bound
        | Opcode::Log
        | Opcode::LogWords
        | Opcode::Note
        | Opcode::Returndatasize
        | Opcode::Returndatacopy
        | Opcode::EvmCall
        | Opcode::EvmCallcode
        | Opcode::EvmDelegatecall
        | Opcode::EvmStaticcall
        | Opcode::EvmCreate
        | Opcode::EvmCreate2
        | Opcode::Call
        | Opcode::Jump
        | Opcode::Brif
        | Opcode::Ret
        | Opcode::Stop
        | Opcode::Return
        | Opcode::ReturnWords
        | Opcode::Revert
        | Opcode::RevertWords
        | Opcode::Trap
        | Opcode::Selfdestruct => return Err(CircuitError::NotProvable(opcode)),
    };
    if word.bound() > width {
        return Err(malformed());
    }
    Ok(word.zext(width))
}
