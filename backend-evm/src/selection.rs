//! Which EVM instruction does what an IR instruction does.

use zvm_ir::Opcode;

use crate::opcodes as evm;

/// How an instruction of legalized IR is lowered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Selection {
    /// One EVM instruction that takes the operands in order, the first on top.
    Evm(u8),
    /// A constant or an input that costs no more than a DUP: made where it is used.
    Remade,
    /// The result is the operand.
    Alias,
    /// CODECOPY from the relocated segment.
    Datacopy,
    /// Code of this module, called with the return address below the arguments.
    Call,
    /// Control flow inside the function.
    Jump,
    /// Control flow inside the function.
    Brif,
    /// A jump to the return address.
    Ret,
    /// The legalizer has replaced it.
    Expanded,
}

/// The lowering of an instruction with `operands` operands.
pub(crate) fn select(opcode: Opcode, operands: usize) -> Selection {
    use Selection::{Alias, Evm, Expanded, Remade};
    match opcode {
        Opcode::Iconst | Opcode::Immutable => Remade,
        Opcode::Zext | Opcode::Narrow => Alias,
        Opcode::Trunc
        | Opcode::Select
        | Opcode::KeccakWords
        | Opcode::KeccakF
        | Opcode::FrameLoad
        | Opcode::FrameStore
        | Opcode::LogWords
        | Opcode::Note
        | Opcode::Bound
        | Opcode::ReturnWords
        | Opcode::RevertWords => Expanded,
        Opcode::Add | Opcode::Wadd => Evm(evm::ADD),
        Opcode::Sub | Opcode::Wsub => Evm(evm::SUB),
        Opcode::Mul | Opcode::Wmul => Evm(evm::MUL),
        Opcode::Udiv => Evm(evm::DIV),
        Opcode::Urem => Evm(evm::MOD),
        Opcode::Sdiv => Evm(evm::SDIV),
        Opcode::Srem => Evm(evm::SMOD),
        Opcode::Addmod => Evm(evm::ADDMOD),
        Opcode::Mulmod => Evm(evm::MULMOD),
        Opcode::Exp => Evm(evm::EXP),
        Opcode::Signextend => Evm(evm::SIGNEXTEND),
        Opcode::Iszero => Evm(evm::ISZERO),
        Opcode::Eq => Evm(evm::EQ),
        Opcode::Ult => Evm(evm::LT),
        Opcode::Slt => Evm(evm::SLT),
        Opcode::And => Evm(evm::AND),
        Opcode::Or => Evm(evm::OR),
        Opcode::Xor => Evm(evm::XOR),
        Opcode::Not => Evm(evm::NOT),
        Opcode::Shl => Evm(evm::SHL),
        Opcode::Shr => Evm(evm::SHR),
        Opcode::Sar => Evm(evm::SAR),
        Opcode::Byte => Evm(evm::BYTE),
        Opcode::Clz => Evm(evm::CLZ),
        Opcode::Keccak256 => Evm(evm::KECCAK256),
        Opcode::Mload => Evm(evm::MLOAD),
        Opcode::Mstore => Evm(evm::MSTORE),
        Opcode::Mstore8 => Evm(evm::MSTORE8),
        Opcode::Mcopy => Evm(evm::MCOPY),
        Opcode::Msize => Evm(evm::MSIZE),
        Opcode::Calldataload => Evm(evm::CALLDATALOAD),
        Opcode::Calldatacopy => Evm(evm::CALLDATACOPY),
        Opcode::Datacopy => Selection::Datacopy,
        Opcode::Calldatasize
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
        | Opcode::Blobbasefee => Remade,
        Opcode::Blockhash => Evm(evm::BLOCKHASH),
        Opcode::Blobhash => Evm(evm::BLOBHASH),
        Opcode::Selfbalance => Evm(evm::SELFBALANCE),
        Opcode::Balance => Evm(evm::BALANCE),
        Opcode::Extcodesize => Evm(evm::EXTCODESIZE),
        Opcode::Extcodehash => Evm(evm::EXTCODEHASH),
        Opcode::Extcodecopy => Evm(evm::EXTCODECOPY),
        Opcode::Gas => Evm(evm::GAS),
        Opcode::Sload => Evm(evm::SLOAD),
        Opcode::Sstore => Evm(evm::SSTORE),
        Opcode::Tload => Evm(evm::TLOAD),
        Opcode::Tstore => Evm(evm::TSTORE),
        Opcode::Log => Evm(evm::LOG0 + operands.saturating_sub(2).min(4) as u8),
        Opcode::Returndatasize => Evm(evm::RETURNDATASIZE),
        Opcode::Returndatacopy => Evm(evm::RETURNDATACOPY),
        Opcode::EvmCall => Evm(evm::CALL),
        Opcode::EvmCallcode => Evm(evm::CALLCODE),
        Opcode::EvmDelegatecall => Evm(evm::DELEGATECALL),
        Opcode::EvmStaticcall => Evm(evm::STATICCALL),
        Opcode::EvmCreate => Evm(evm::CREATE),
        Opcode::EvmCreate2 => Evm(evm::CREATE2),
        Opcode::Call => Selection::Call,
        Opcode::Jump => Selection::Jump,
        Opcode::Brif => Selection::Brif,
        Opcode::Ret => Selection::Ret,
        Opcode::Stop => Evm(evm::STOP),
        Opcode::Return => Evm(evm::RETURN),
        Opcode::Revert => Evm(evm::REVERT),
        Opcode::Trap => Evm(evm::INVALID),
        Opcode::Selfdestruct => Evm(evm::SELFDESTRUCT),
    }
}

/// The instruction that reads a fixed input, for the inputs that are remade where they are used (2 gas, one byte).
pub(crate) fn input_byte(opcode: Opcode) -> Option<u8> {
    Some(match opcode {
        Opcode::Calldatasize => evm::CALLDATASIZE,
        Opcode::Address => evm::ADDRESS,
        Opcode::Caller => evm::CALLER,
        Opcode::Origin => evm::ORIGIN,
        Opcode::Callvalue => evm::CALLVALUE,
        Opcode::Gasprice => evm::GASPRICE,
        Opcode::Coinbase => evm::COINBASE,
        Opcode::Timestamp => evm::TIMESTAMP,
        Opcode::Number => evm::NUMBER,
        Opcode::Prevrandao => evm::PREVRANDAO,
        Opcode::Gaslimit => evm::GASLIMIT,
        Opcode::Chainid => evm::CHAINID,
        Opcode::Basefee => evm::BASEFEE,
        Opcode::Blobbasefee => evm::BLOBBASEFEE,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use zvm_ir::cost::Gas;

    use super::*;

    /// What the optimiser takes an instruction to cost is what the EVM instruction for it costs.
    #[test]
    fn the_cost_model_of_the_optimiser_has_the_gas_of_the_table() {
        let mut compared = 0;
        for &opcode in Opcode::ALL.iter().filter(|&&opcode| opcode != Opcode::Log) {
            let emitted = match select(opcode, opcode.info().operands.len()) {
                Selection::Evm(byte) => Some(byte),
                Selection::Datacopy => Some(evm::CODECOPY),
                Selection::Remade => input_byte(opcode),
                Selection::Alias
                | Selection::Call
                | Selection::Jump
                | Selection::Brif
                | Selection::Ret
                | Selection::Expanded => None,
            };
            assert_eq!(Gas::of(opcode), emitted.map(|byte| u64::from(evm::gas(byte))), "{opcode}");
            compared += usize::from(emitted.is_some());
        }
        assert!(compared > 60, "{compared}");
    }
}
