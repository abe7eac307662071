//! EVM opcodes that the backend emits: number, name, stack effect, static gas.
//!
//! Gas is what the instruction costs apart from memory growth, cold accesses and amounts of data (Yellow Paper,
//! appendix G; EIP-2929): it ranks schedules, it meters nothing.

/// One EVM instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvmOpcode {
    /// The byte.
    pub byte: u8,
    /// The name.
    pub name: &'static str,
    /// Words taken from the stack.
    pub pops: u8,
    /// Words put on the stack.
    pub pushes: u8,
    /// Static gas.
    pub gas: u32,
}

macro_rules! opcodes {
    ($($byte:literal $name:ident $pops:literal $pushes:literal $gas:literal;)*) => {
        $(
            #[doc = concat!("`", stringify!($name), "`.")]
            pub const $name: u8 = $byte;
        )*

        const TABLE: [Option<EvmOpcode>; 256] = {
            let mut table = [None; 256];
            $(
                assert!(table[$byte].is_none(), "an opcode is listed twice");
                table[$byte] = Some(EvmOpcode {
                    byte: $byte, name: stringify!($name), pops: $pops, pushes: $pushes, gas: $gas,
                });
            )*
            table
        };
    };
}

opcodes! {
    0x00 STOP 0 0 0;
    0x01 ADD 2 1 3;
    0x02 MUL 2 1 5;
    0x03 SUB 2 1 3;
    0x04 DIV 2 1 5;
    0x05 SDIV 2 1 5;
    0x06 MOD 2 1 5;
    0x07 SMOD 2 1 5;
    0x08 ADDMOD 3 1 8;
    0x09 MULMOD 3 1 8;
    0x0a EXP 2 1 10;
    0x0b SIGNEXTEND 2 1 5;
    0x10 LT 2 1 3;
    0x11 GT 2 1 3;
    0x12 SLT 2 1 3;
    0x13 SGT 2 1 3;
    0x14 EQ 2 1 3;
    0x15 ISZERO 1 1 3;
    0x16 AND 2 1 3;
    0x17 OR 2 1 3;
    0x18 XOR 2 1 3;
    0x19 NOT 1 1 3;
    0x1a BYTE 2 1 3;
    0x1b SHL 2 1 3;
    0x1c SHR 2 1 3;
    0x1d SAR 2 1 3;
    0x1e CLZ 1 1 5;
    0x20 KECCAK256 2 1 30;
    0x30 ADDRESS 0 1 2;
    0x31 BALANCE 1 1 100;
    0x32 ORIGIN 0 1 2;
    0x33 CALLER 0 1 2;
    0x34 CALLVALUE 0 1 2;
    0x35 CALLDATALOAD 1 1 3;
    0x36 CALLDATASIZE 0 1 2;
    0x37 CALLDATACOPY 3 0 3;
    0x38 CODESIZE 0 1 2;
    0x39 CODECOPY 3 0 3;
    0x3a GASPRICE 0 1 2;
    0x3b EXTCODESIZE 1 1 100;
    0x3c EXTCODECOPY 4 0 100;
    0x3d RETURNDATASIZE 0 1 2;
    0x3e RETURNDATACOPY 3 0 3;
    0x3f EXTCODEHASH 1 1 100;
    0x40 BLOCKHASH 1 1 20;
    0x41 COINBASE 0 1 2;
    0x42 TIMESTAMP 0 1 2;
    0x43 NUMBER 0 1 2;
    0x44 PREVRANDAO 0 1 2;
    0x45 GASLIMIT 0 1 2;
    0x46 CHAINID 0 1 2;
    0x47 SELFBALANCE 0 1 5;
    0x48 BASEFEE 0 1 2;
    0x49 BLOBHASH 1 1 3;
    0x4a BLOBBASEFEE 0 1 2;
    0x50 POP 1 0 2;
    0x51 MLOAD 1 1 3;
    0x52 MSTORE 2 0 3;
    0x53 MSTORE8 2 0 3;
    0x54 SLOAD 1 1 100;
    0x55 SSTORE 2 0 100;
    0x56 JUMP 1 0 8;
    0x57 JUMPI 2 0 10;
    0x59 MSIZE 0 1 2;
    0x5a GAS 0 1 2;
    0x5b JUMPDEST 0 0 1;
    0x5c TLOAD 1 1 100;
    0x5d TSTORE 2 0 100;
    0x5e MCOPY 3 0 3;
    0x5f PUSH0 0 1 2;
    0xa0 LOG0 2 0 375;
    0xa1 LOG1 3 0 750;
    0xa2 LOG2 4 0 1125;
    0xa3 LOG3 5 0 1500;
    0xa4 LOG4 6 0 1875;
    0xe6 DUPN 0 1 3;
    0xe7 SWAPN 0 0 3;
    0xe8 EXCHANGE 0 0 3;
    0xf0 CREATE 3 1 32000;
    0xf1 CALL 7 1 100;
    0xf2 CALLCODE 7 1 100;
    0xf3 RETURN 2 0 0;
    0xf4 DELEGATECALL 6 1 100;
    0xf5 CREATE2 4 1 32000;
    0xfa STATICCALL 6 1 100;
    0xfd REVERT 2 0 0;
    0xfe INVALID 0 0 0;
    0xff SELFDESTRUCT 1 0 5000;
}

/// `PUSH1`; `PUSHn` is `PUSH1 + n - 1`.
pub const PUSH1: u8 = 0x60;
/// `PUSH32`.
pub const PUSH32: u8 = 0x7f;
/// `DUP1`; `DUPn` is `DUP1 + n - 1`.
pub const DUP1: u8 = 0x80;
/// `DUP16`.
pub const DUP16: u8 = 0x8f;
/// `SWAP1`; `SWAPn` is `SWAP1 + n - 1`.
pub const SWAP1: u8 = 0x90;
/// `SWAP16`.
pub const SWAP16: u8 = 0x9f;

/// The row of an opcode other than PUSH1–PUSH32, DUP1–DUP16 and SWAP1–SWAP16; `None` if the backend never emits it.
pub const fn info(byte: u8) -> Option<EvmOpcode> {
    TABLE[byte as usize]
}

/// The byte of an instruction in the emitted code: creation code, whose calldata is the code, reads that.
pub(crate) fn reading(byte: u8, creation: bool) -> u8 {
    match byte {
        CALLDATASIZE if creation => CODESIZE,
        CALLDATACOPY if creation => CODECOPY,
        byte => byte,
    }
}

/// The instruction that a byte of the emitted code stands for: the reverse of [`reading`]. `None` for what creation code
/// must not contain.
pub(crate) fn meant(byte: u8, creation: bool) -> Option<u8> {
    match byte {
        CODESIZE if creation => Some(CALLDATASIZE),
        CODECOPY if creation => Some(CALLDATACOPY),
        CALLDATALOAD | CALLDATASIZE | CALLDATACOPY if creation => None,
        byte => Some(byte),
    }
}

/// Whether an instruction reads an input that is read again rather than kept: it costs less than a DUP.
pub(crate) fn is_input(byte: u8) -> bool {
    zvm_ir::Opcode::ALL.iter().any(|&opcode| crate::selection::input_byte(opcode) == Some(byte))
}

/// Static gas of any opcode that the backend emits.
pub fn gas(byte: u8) -> u32 {
    info(byte).map_or(3, |row| row.gas)
}

/// The name of any byte: `PUSH4`, `DUP2`, or `UNKNOWN` for what the backend never emits.
pub fn name(byte: u8) -> String {
    match byte {
        PUSH1..=PUSH32 => format!("PUSH{}", byte - PUSH1 + 1),
        DUP1..=DUP16 => format!("DUP{}", byte - DUP1 + 1),
        SWAP1..=SWAP16 => format!("SWAP{}", byte - SWAP1 + 1),
        _ => info(byte).map_or_else(|| "UNKNOWN".to_owned(), |row| row.name.to_owned()),
    }
}

/// The byte that exchanges a DUPN or SWAPN depth `n` with its immediate (EIP-8024): 17 to 235.
pub fn deep_immediate(n: usize) -> Option<u8> {
    (17..=235).contains(&n).then(|| ((n + 111) % 256) as u8)
}

/// The depth that the immediate of a DUPN or SWAPN means (EIP-8024).
pub fn deep_depth(immediate: u8) -> Option<usize> {
    (immediate <= 90 || immediate >= 128).then(|| (usize::from(immediate) + 145) % 256)
}

/// The immediate of the EXCHANGE of the items at two depths below the top, `1 ≤ n < m` (EIP-8024), if it has one.
pub fn exchange_immediate(n: usize, m: usize) -> Option<u8> {
    if n == 0 || n >= m {
        return None;
    }
    let (q, r) = if m <= 16 {
        (n - 1, m - 1)
    } else if n + m <= 30 {
        (29 - m, n - 1)
    } else {
        return None;
    };
    let immediate = ((16 * q + r) ^ 143) as u8;
    (exchange_depths(immediate) == Some((n, m))).then_some(immediate)
}

/// The depths below the top that the immediate of an EXCHANGE means (EIP-8024).
pub fn exchange_depths(immediate: u8) -> Option<(usize, usize)> {
    if (82..128).contains(&immediate) {
        return None;
    }
    let (q, r) = (usize::from(immediate ^ 143) / 16, usize::from(immediate ^ 143) % 16);
    Some(if q < r { (q + 1, r + 1) } else { (r + 1, 29 - q) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deep_immediates_round_trip() {
        for n in 17..=235 {
            assert_eq!(deep_immediate(n).and_then(deep_depth), Some(n));
        }
        for n in 1..=15 {
            for m in n + 1..=30 {
                let depths = exchange_immediate(n, m).map(exchange_depths);
                assert!(depths.is_none_or(|found| found == Some((n, m))), "{n} {m}");
                // The immediate of (15, 16) would be a JUMPDEST or PUSH.
                assert_eq!(depths.is_some(), (n, m) != (15, 16) && (m <= 16 || n + m <= 30), "{n} {m}");
            }
        }
        assert_eq!(deep_immediate(16), None);
        assert_eq!(deep_immediate(236), None);
    }
}
