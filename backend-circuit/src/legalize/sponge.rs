//! `hash-blocks`: a hash of bytes of any number is a call of a function that absorbs them block by block.
//!
//! Does: replaces each `keccak256` of a number of bytes that is not constant, or too large to be words, by a call of one function
//! ([`FUNCTION`]). Requires: a verified module. Ensures: what is left of `keccak256` takes words.
//! Preserves: equality of `Outcome`, where no byte is beyond the limit of memory.
//!
//! ```text
//! v2: u256 = keccak256 v0, v1     ⟶       v2: u256 = call @keccak256(v0, v1)
//! ```
//!
//! The function is large, so that the calls share its body ([`super::inline`]): a program has one region with a permutation of 92,160 rows for all
//! of them. Of each block of 136 bytes it reads the six aligned words around it, and shifts them into five.

use std::borrow::Cow;

use zvm_ir::{Func, Function, Imm, InstData, Module, Opcode};

use super::emit::Emit;
use super::memory;
use crate::error::CircuitError;

/// The hash of `v1` bytes from `v0` on, as FIPS 202 has the sponge, with the padding of Keccak.
///
/// The loop is at the block 3, which has place and number of bytes left, and the state. Block 4 absorbs a whole block, block 5 the last one, with
/// its padding; block 6 permutes. Where the words begin within aligned ones, is told by `v22`, in bits.
const FUNCTION: &str = "\
zvm 1
func @keccak256(u256, u256) -> u256 {
block0(v0: u256, v1: u256):
    v2: u1 = iszero v1
    brif v2, block1, block2
block1:
    v3: u256 = iconst 0xc5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470
    ret v3
block2:
    v4: u27 = bound 0, v0
    v5: u27 = bound 0, v1
    v6: u28 = add v4, v5
    v7: u27 = bound 0, v6
    v8: u256 = iconst 0
    jump block3(v4, v5, v8, v8, v8, v8, v8, v8, v8)
block3(v10: u27, v11: u27, v12: u256, v13: u256, v14: u256, v15: u256, v16: u256, v17: u256, v18: u256):
    v20: u5 = iconst 31
    v21: u5 = and v10, v20
    v90: u4 = iconst 8
    v91: u9 = mul v21, v90
    v22: u8 = narrow v91
    v92: u9 = iconst 256
    v23: u9 = sub v92, v22
    v24: u27 = iconst 0x7ffffe0
    v25: u27 = and v10, v24
    v93: u6 = iconst 32
    v94: u28 = add v25, v93
    v26: u27 = narrow v94
    v95: u28 = add v26, v93
    v27: u27 = narrow v95
    v96: u28 = add v27, v93
    v28: u27 = narrow v96
    v97: u28 = add v28, v93
    v29: u27 = narrow v97
    v98: u28 = add v29, v93
    v30: u27 = narrow v98
    v31: u256 = mload v25
    v32: u256 = mload v26
    v33: u256 = mload v27
    v34: u256 = mload v28
    v35: u256 = mload v29
    v36: u256 = mload v30
    v37: u256 = shl v22, v31
    v38: u256 = shr v23, v32
    v39: u256 = or v37, v38
    v40: u256 = shl v22, v32
    v41: u256 = shr v23, v33
    v42: u256 = or v40, v41
    v43: u256 = shl v22, v33
    v44: u256 = shr v23, v34
    v45: u256 = or v43, v44
    v46: u256 = shl v22, v34
    v47: u256 = shr v23, v35
    v48: u256 = or v46, v47
    v49: u256 = shl v22, v35
    v50: u256 = shr v23, v36
    v51: u256 = or v49, v50
    v52: u8 = iconst 135
    v53: u1 = ult v52, v11
    brif v53, block4, block5
block4:
    v54: u256 = iconst 0xffffffffffffffff000000000000000000000000000000000000000000000000
    v55: u256 = and v51, v54
    v56: u256 = xor v12, v39
    v57: u256 = xor v13, v42
    v58: u256 = xor v14, v45
    v59: u256 = xor v15, v48
    v60: u256 = xor v16, v55
    v61: u8 = iconst 136
    v99: u28 = add v10, v61
    v62: u27 = narrow v99
    v63: u27 = sub v11, v61
    v64: u1 = iconst 1
    jump block6(v62, v63, v64, v56, v57, v58, v59, v60)
block5:
    v65: u8 = narrow v11
    v66: u3 = iconst 5
    v100: u8 = shr v66, v65
    v67: u3 = narrow v100
    v68: u5 = and v65, v20
    v101: u9 = mul v68, v90
    v69: u8 = narrow v101
    v70: u256 = iconst 0xffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff
    v71: u256 = shr v69, v70
    v72: u256 = not v71
    v73: u249 = iconst 0x100000000000000000000000000000000000000000000000000000000000000
    v74: u249 = shr v69, v73
    v75: u1 = iconst 1
    v76: u2 = iconst 2
    v77: u2 = iconst 3
    v78: u3 = iconst 4
    v102: u1 = iconst 0
    v103: u1 = iszero v67
    v104: u1 = eq v67, v75
    v105: u1 = eq v67, v76
    v106: u1 = eq v67, v77
    v107: u1 = eq v67, v78
    v108: u256 = select v104, v42, v39
    v109: u256 = select v105, v45, v108
    v110: u256 = select v106, v48, v109
    v111: u256 = select v107, v51, v110
    v112: u256 = and v111, v72
    v113: u256 = or v112, v74
    v114: u1 = ult v67, v76
    v115: u1 = ult v67, v77
    v116: u1 = ult v67, v78
    v117: u256 = select v103, v102, v42
    v118: u256 = select v114, v102, v45
    v119: u256 = select v115, v102, v48
    v120: u256 = select v103, v113, v39
    v121: u256 = select v104, v113, v117
    v122: u256 = select v105, v113, v118
    v123: u256 = select v106, v113, v119
    v124: u256 = select v107, v113, v102
    v125: u256 = xor v12, v120
    v126: u256 = xor v13, v121
    v127: u256 = xor v14, v122
    v128: u256 = xor v15, v123
    v129: u256 = xor v16, v124
    v130: u200 = iconst 0x80000000000000000000000000000000000000000000000000
    v131: u256 = xor v129, v130
    jump block6(v10, v11, v102, v125, v126, v127, v128, v131)
block6(v140: u27, v141: u27, v142: u1, v143: u256, v144: u256, v145: u256, v146: u256, v147: u256):
    v150: u256 = keccak_f 0, v143, v144, v145, v146, v147, v17, v18
    v151: u256 = keccak_f 1, v143, v144, v145, v146, v147, v17, v18
    v152: u256 = keccak_f 2, v143, v144, v145, v146, v147, v17, v18
    v153: u256 = keccak_f 3, v143, v144, v145, v146, v147, v17, v18
    v154: u256 = keccak_f 4, v143, v144, v145, v146, v147, v17, v18
    v155: u256 = keccak_f 5, v143, v144, v145, v146, v147, v17, v18
    v156: u256 = keccak_f 6, v143, v144, v145, v146, v147, v17, v18
    jump block7
block7:
    brif v142, block3(v140, v141, v150, v151, v152, v153, v154, v155, v156), block8
block8:
    ret v150
}
";

/// Runs the pass.
///
/// # Errors
/// None: that the function cannot be read would be an error of the compiler.
pub(super) fn lower(module: &Module) -> Result<Cow<'_, Module>, CircuitError> {
    let is_hash =
        |func: &Function, data: &InstData| data.opcode == Opcode::Keccak256 && memory::taken(func, data).is_none();
    let hashes = |func: &Function| func.insts_in_order().any(|(_, inst)| is_hash(func, &func.insts[inst]));
    if !module.funcs.values().any(hashes) {
        return Ok(Cow::Borrowed(module));
    }
    let mut module = module.clone();
    let callers: Vec<Func> = module.funcs.keys().collect();
    let read =
        zvm_ir::parse(FUNCTION).map_err(|_| CircuitError::Disagreement("the function that hashes is no function"))?;
    let function = read.funcs.values().next().ok_or(CircuitError::NoEntry)?.clone();
    let callee = module.funcs.push(function);
    for caller in callers {
        let func = &mut module.funcs[caller];
        for block in func.layout.clone() {
            for inst in core::mem::take(&mut func.blocks[block].insts) {
                if is_hash(func, &func.insts[inst]) {
                    let InstData { args, pc, .. } = func.insts[inst].clone();
                    let mut emit = Emit { func, block, pc };
                    let args = args.into_iter().map(|value| emit.word(value)).collect();
                    let data = &mut func.insts[inst];
                    (data.opcode, data.imm, data.args) = (Opcode::Call, Imm::Func(callee), args);
                }
                func.blocks[block].insts.push(inst);
            }
        }
    }
    Ok(Cow::Owned(module))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_function_is_well_formed() {
        let main = "func @main() {\nblock0:\n v0: u256 = caller\n v1: u256 = call @keccak256(v0, v0)\n stop\n}\n";
        let text = format!("{FUNCTION}{main}").replacen("zvm 1\n", "zvm 1\nentry @main\n", 1);
        let text = text.replace("v0: u256 = caller", "v2: u160 = caller\n v0: u256 = zext v2");
        assert_eq!(zvm_ir::verify(&zvm_ir::parse(&text).unwrap()), Ok(()));
    }
}
