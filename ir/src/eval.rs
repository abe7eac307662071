//! The reference semantics of pure instructions: one function from operands to result.
//!
//! The interpreter, the constant folder and every test of a backend go through [`eval`]; a second implementation of an
//! instruction's meaning anywhere is a bug. Source: the Yellow Paper, appendix H.2, and the EIPs named in the table.

use ruint::Uint;
use tiny_keccak::{Hasher, Keccak, keccakf};

use crate::Word;
use crate::function::Imm;
use crate::opcode::Opcode;
use crate::types::Type;

/// Why an instruction has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// The instruction is not pure: the interpreter executes it.
    #[error("`{0}` is not a pure instruction")]
    NotPure(Opcode),
    /// Operands or immediate do not fit the row. The verifier rules this out.
    #[error("`{0}` has the wrong operands")]
    Malformed(Opcode),
    /// `narrow`, or an exact `sub`, whose proof was wrong: an error of the compiler.
    #[error("`{opcode}` was promised a result below 2^{bits}, which its operands do not give")]
    BrokenPromise {
        /// The instruction.
        opcode: Opcode,
        /// The width promised.
        bits: u16,
    },
}

/// The words that hold the state of the permutation Keccak-f.
pub const STATE_WORDS: usize = 7;

/// The words of a state after the permutation Keccak-f.
fn permuted(words: &[Word]) -> [Word; STATE_WORDS] {
    let mut bytes = [0; 32 * STATE_WORDS];
    for (chunk, word) in bytes.chunks_mut(32).zip(words) {
        chunk.copy_from_slice(&word.to_be_bytes::<32>());
    }
    let (state, rest) = bytes.split_at_mut(200);
    let mut lanes = [0; 25];
    for (lane, chunk) in lanes.iter_mut().zip(state.chunks(8)) {
        *lane = chunk.iter().rev().fold(0u64, |lane, &byte| lane << 8 | u64::from(byte));
    }
    keccakf(&mut lanes);
    for (chunk, lane) in state.chunks_mut(8).zip(lanes) {
        chunk.copy_from_slice(&lane.to_le_bytes());
    }
    rest.fill(0);
    let mut out = [Word::ZERO; STATE_WORDS];
    for (word, chunk) in out.iter_mut().zip(bytes.chunks(32)) {
        *word = Word::try_from_be_slice(chunk).unwrap_or_default();
    }
    out
}

/// The data of `keccak_words`, `return_words`, `revert_words` and `log_words`: the first bytes of the words. `None` if they are too few.
pub fn words_data(imm: Imm, words: &[Word]) -> Option<Vec<u8>> {
    let Imm::Len(len) = imm else { return None };
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes::<32>()).collect();
    let len = usize::try_from(len).ok().filter(|&len| len <= bytes.len())?;
    bytes.truncate(len);
    Some(bytes)
}

/// The value of a pure instruction.
///
/// `result` is the type written at the instruction; only `trunc`, `narrow` and `sub` look at it.
///
/// # Errors
/// See [`EvalError`]; none of them happens to verified IR with correct proofs.
pub fn eval(opcode: Opcode, imm: Imm, args: &[Word], result: Option<Type>) -> Result<Word, EvalError> {
    let malformed = || EvalError::Malformed(opcode);
    let unary = || args.first().copied().ok_or_else(malformed);
    let binary = || match args {
        [a, b] => Ok((*a, *b)),
        _ => Err(malformed()),
    };
    let ternary = || match args {
        [a, b, c] => Ok((*a, *b, *c)),
        _ => Err(malformed()),
    };
    let broken = || EvalError::BrokenPromise { opcode, bits: result.map_or(256, Type::bits) };

    Ok(match opcode {
        Opcode::Iconst => match imm {
            Imm::Word(word) => word,
            _ => return Err(malformed()),
        },
        Opcode::Zext => unary()?,
        Opcode::Trunc => unary()? & result.ok_or_else(malformed)?.max_value(),
        Opcode::Narrow => {
            let a = unary()?;
            if !result.ok_or_else(malformed)?.holds(&a) {
                return Err(broken());
            }
            a
        }
        Opcode::Add => {
            let (a, b) = binary()?;
            a.checked_add(b).ok_or_else(broken)?
        }
        Opcode::Sub => {
            let (a, b) = binary()?;
            a.checked_sub(b).ok_or_else(broken)?
        }
        Opcode::Mul => {
            let (a, b) = binary()?;
            a.checked_mul(b).ok_or_else(broken)?
        }
        Opcode::Wadd => {
            let (a, b) = binary()?;
            a.wrapping_add(b)
        }
        Opcode::Wsub => {
            let (a, b) = binary()?;
            a.wrapping_sub(b)
        }
        Opcode::Wmul => {
            let (a, b) = binary()?;
            a.wrapping_mul(b)
        }
        Opcode::Udiv => {
            let (a, b) = binary()?;
            a.checked_div(b).unwrap_or_default()
        }
        Opcode::Urem => {
            let (a, b) = binary()?;
            a.checked_rem(b).unwrap_or_default()
        }
        Opcode::Sdiv => {
            let (a, b) = binary()?;
            let quotient = magnitude(a).checked_div(magnitude(b)).unwrap_or_default();
            if is_negative(a) == is_negative(b) { quotient } else { quotient.wrapping_neg() }
        }
        Opcode::Srem => {
            let (a, b) = binary()?;
            let remainder = magnitude(a).checked_rem(magnitude(b)).unwrap_or_default();
            if is_negative(a) { remainder.wrapping_neg() } else { remainder }
        }
        Opcode::Addmod => {
            let (a, b, n) = ternary()?;
            if n.is_zero() {
                Word::ZERO
            } else {
                let sum: Uint<512, 8> = Uint::<512, 8>::from(a) + Uint::<512, 8>::from(b);
                (sum % Uint::<512, 8>::from(n)).to::<Word>()
            }
        }
        Opcode::Mulmod => {
            let (a, b, n) = ternary()?;
            if n.is_zero() {
                Word::ZERO
            } else {
                let product: Uint<512, 8> = a.widening_mul(b);
                (product % Uint::<512, 8>::from(n)).to::<Word>()
            }
        }
        Opcode::Exp => {
            let (a, b) = binary()?;
            a.wrapping_pow(b)
        }
        Opcode::Signextend => {
            let (k, a) = binary()?;
            match u8::try_from(k) {
                Ok(k) if k < 31 => {
                    let sign_bit = 8 * usize::from(k) + 7;
                    let low = (Word::from(1) << (sign_bit + 1)) - Word::from(1);
                    if a.bit(sign_bit) { a | !low } else { a & low }
                }
                _ => a,
            }
        }
        Opcode::Iszero => flag(unary()?.is_zero()),
        Opcode::Eq => {
            let (a, b) = binary()?;
            flag(a == b)
        }
        Opcode::Ult => {
            let (a, b) = binary()?;
            flag(a < b)
        }
        Opcode::Slt => {
            let (a, b) = binary()?;
            flag((!is_negative(a), a) < (!is_negative(b), b))
        }
        Opcode::Select => {
            let (c, a, b) = ternary()?;
            if c.is_zero() { b } else { a }
        }
        Opcode::And => {
            let (a, b) = binary()?;
            a & b
        }
        Opcode::Or => {
            let (a, b) = binary()?;
            a | b
        }
        Opcode::Xor => {
            let (a, b) = binary()?;
            a ^ b
        }
        Opcode::Not => !unary()?,
        Opcode::Shl => {
            let (n, a) = binary()?;
            shift_amount(n).map_or(Word::ZERO, |n| a << n)
        }
        Opcode::Shr => {
            let (n, a) = binary()?;
            shift_amount(n).map_or(Word::ZERO, |n| a >> n)
        }
        Opcode::Sar => {
            let (n, a) = binary()?;
            a.arithmetic_shr(shift_amount(n).unwrap_or(256))
        }
        Opcode::Byte => {
            let (i, a) = binary()?;
            match usize::try_from(i) {
                Ok(i) if i < 32 => Word::from(a.byte(31 - i)),
                _ => Word::ZERO,
            }
        }
        Opcode::Clz => Word::from(unary()?.leading_zeros()),
        Opcode::KeccakWords => keccak256(&words_data(imm, args).ok_or_else(malformed)?),
        Opcode::KeccakF => match (imm, args.len()) {
            (Imm::Word(index), STATE_WORDS) if index < Word::from(STATE_WORDS) => {
                permuted(args)[index.saturating_to::<usize>()]
            }
            _ => return Err(malformed()),
        },
        Opcode::Keccak256
        | Opcode::Bound
        | Opcode::Mload
        | Opcode::Mstore
        | Opcode::Mstore8
        | Opcode::Mcopy
        | Opcode::Msize
        | Opcode::FrameLoad
        | Opcode::FrameStore
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
        | Opcode::Selfdestruct => return Err(EvalError::NotPure(opcode)),
    })
}

/// Keccak-256 of a byte string, as a word.
pub fn keccak256(bytes: &[u8]) -> Word {
    let mut digest = [0; 32];
    let mut hasher = Keccak::v256();
    hasher.update(bytes);
    hasher.finalize(&mut digest);
    Word::from_be_bytes(digest)
}

fn flag(condition: bool) -> Word {
    Word::from(u8::from(condition))
}

fn is_negative(a: Word) -> bool {
    a.bit(255)
}

fn magnitude(a: Word) -> Word {
    if is_negative(a) { a.wrapping_neg() } else { a }
}

/// The amount of a shift, if it is below 256.
fn shift_amount(n: Word) -> Option<usize> {
    usize::try_from(n).ok().filter(|&n| n < 256)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Word = Word::from_limbs([0, 0, 0, 1 << 63]);
    const MINUS_ONE: Word = Word::MAX;

    fn word(opcode: Opcode, args: &[Word]) -> Word {
        eval(opcode, Imm::None, args, Some(Type::WORD)).unwrap()
    }

    fn n(value: u64) -> Word {
        Word::from(value)
    }

    #[test]
    fn division_corners() {
        assert_eq!(word(Opcode::Udiv, &[n(7), n(0)]), n(0));
        assert_eq!(word(Opcode::Urem, &[n(7), n(0)]), n(0));
        assert_eq!(word(Opcode::Sdiv, &[MIN, MINUS_ONE]), MIN);
        assert_eq!(word(Opcode::Sdiv, &[n(7).wrapping_neg(), n(2)]), n(3).wrapping_neg());
        assert_eq!(word(Opcode::Sdiv, &[n(7), n(0)]), n(0));
        assert_eq!(word(Opcode::Srem, &[n(7).wrapping_neg(), n(2)]), MINUS_ONE);
        assert_eq!(word(Opcode::Srem, &[n(7), n(2).wrapping_neg()]), n(1));
        assert_eq!(word(Opcode::Srem, &[MIN, MINUS_ONE]), n(0));
    }

    #[test]
    fn modular_corners() {
        assert_eq!(word(Opcode::Addmod, &[Word::MAX, Word::MAX, n(10)]), n(0));
        assert_eq!(word(Opcode::Addmod, &[Word::MAX, n(1), n(0)]), n(0));
        assert_eq!(word(Opcode::Mulmod, &[Word::MAX, Word::MAX, n(12)]), n(9));
        assert_eq!(word(Opcode::Mulmod, &[n(5), n(5), n(0)]), n(0));
        assert_eq!(word(Opcode::Exp, &[n(0), n(0)]), n(1));
        assert_eq!(word(Opcode::Exp, &[n(2), n(256)]), n(0));
    }

    #[test]
    fn shift_corners() {
        for opcode in [Opcode::Shl, Opcode::Shr] {
            assert_eq!(word(opcode, &[n(256), Word::MAX]), n(0));
            assert_eq!(word(opcode, &[Word::MAX, Word::MAX]), n(0));
            assert_eq!(word(opcode, &[n(0), n(9)]), n(9));
        }
        assert_eq!(word(Opcode::Sar, &[n(256), MIN]), MINUS_ONE);
        assert_eq!(word(Opcode::Sar, &[n(255), MIN]), MINUS_ONE);
        assert_eq!(word(Opcode::Sar, &[Word::MAX, n(5)]), n(0));
        assert_eq!(word(Opcode::Sar, &[n(1), MINUS_ONE]), MINUS_ONE);
    }

    #[test]
    fn byte_corners() {
        assert_eq!(word(Opcode::Byte, &[n(31), n(0x1234)]), n(0x34));
        assert_eq!(word(Opcode::Byte, &[n(32), Word::MAX]), n(0));
        assert_eq!(word(Opcode::Signextend, &[n(0), n(0xff)]), MINUS_ONE);
        assert_eq!(word(Opcode::Signextend, &[n(0), n(0x17f)]), n(0x7f));
        assert_eq!(word(Opcode::Signextend, &[n(31), MIN]), MIN);
        assert_eq!(word(Opcode::Signextend, &[n(30), Word::MAX >> 8]), MINUS_ONE);
        assert_eq!(word(Opcode::Signextend, &[Word::MAX, n(0x80)]), n(0x80));
        assert_eq!(word(Opcode::Clz, &[n(0)]), n(256));
        assert_eq!(word(Opcode::Clz, &[MIN]), n(0));
    }

    #[test]
    fn signed_comparison() {
        assert_eq!(word(Opcode::Slt, &[MINUS_ONE, n(0)]), n(1));
        assert_eq!(word(Opcode::Slt, &[MIN, MINUS_ONE]), n(1));
        assert_eq!(word(Opcode::Slt, &[n(0), MINUS_ONE]), n(0));
        assert_eq!(word(Opcode::Slt, &[n(3), n(3)]), n(0));
    }

    #[test]
    fn broken_promises_are_errors() {
        assert!(eval(Opcode::Narrow, Imm::None, &[n(256)], Type::new(8)).is_err());
        assert!(eval(Opcode::Sub, Imm::None, &[n(1), n(2)], Type::new(8)).is_err());
        assert_eq!(eval(Opcode::Trunc, Imm::None, &[n(257)], Type::new(8)), Ok(n(1)));
    }

    #[test]
    fn keccak_of_nothing_and_of_words() {
        let empty = "0xc5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470";
        let hash = |len, words: &[Word]| eval(Opcode::KeccakWords, Imm::Len(len), words, Some(Type::WORD));
        assert_eq!(hash(0, &[]), Ok(empty.parse::<Word>().unwrap()));
        assert_eq!(hash(32, &[n(0)]), Ok(keccak256(&[0; 32])));
        // What stands behind the last byte does not count.
        assert_eq!(hash(33, &[n(1), Word::MAX]), hash(33, &[n(1), n(0xff) << 248]));
        assert_ne!(hash(33, &[n(1), n(0)]), hash(34, &[n(1), n(0)]));
        assert!(hash(33, &[n(0)]).is_err());
    }

    /// A sponge of a permutation is the hash.
    #[test]
    fn keccak_f_of_one_block() {
        let state = |index: u64, words: &[Word]| eval(Opcode::KeccakF, Imm::Word(n(index)), words, Some(Type::WORD));
        let message = [n(7), Word::MAX, n(9) << 8usize];
        let mut words = [message[0], message[1], message[2], n(1) << 248usize, n(0x80) << 192usize, n(0), n(0)];
        let hash = eval(Opcode::KeccakWords, Imm::Len(96), &message, Some(Type::WORD));
        assert_eq!(state(0, &words), hash);
        // What stands behind the 200 bytes neither counts nor is there afterwards.
        let last = state(6, &words).unwrap();
        assert_eq!(last << 64, n(0));
        words[6] = Word::MAX >> 64;
        assert_eq!(state(0, &words), hash);
        assert!(state(7, &words).is_err() && state(0, &words[..6]).is_err());
    }

    #[test]
    fn exactly_the_pure_rows_have_a_value() {
        for &opcode in Opcode::ALL {
            let count = opcode.info().operands.len();
            let imm = match opcode {
                Opcode::Iconst | Opcode::KeccakF => Imm::Word(n(1)),
                Opcode::KeccakWords => Imm::Len(0),
                _ => Imm::None,
            };
            let result = eval(opcode, imm, &vec![n(1); count], Some(Type::WORD));
            assert_eq!(result.is_ok(), opcode.is_pure(), "{opcode}: {result:?}");
        }
    }
}
