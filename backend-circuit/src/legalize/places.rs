//! Which values are places in storage, and which storage instructions name a place that the circuit can key.
//!
//! A storage instruction's address is one of three things: a *carried* place (a hash of words that is used as nothing else, or such
//! a hash with an offset), a constant, or a number. Carried places are field elements in the circuit ([`crate::place`]). A number
//! has to be below 2^64. A constant of 2^64 or more has to be one whose meaning is known: the hash of words that stand in the
//! program, or of a well-known name; or one that no hash lies near ([`is_far_from_hashes`]). Any other could be the hash that a mapping of
//! the program makes of some key, and would then be one slot with two keys.
//!
//! For the same reason all hashes of two words of a program have their place at the same position: the last, as Solidity
//! orders them, or the first, as Vyper does.

use std::collections::{BTreeMap, BTreeSet};

use zvm_ir::eval::keccak256;
use zvm_ir::{Func, Function, Inst, Module, Opcode, StoragePaths, Value, ValueDef, Word};

use super::support::Reason;
use crate::place::{OFFSET_BITS, Position, Preimages};

/// The most hashes that are tried for the meaning of constants.
const MAX_TRIES: usize = 1 << 17;
/// How far from a hash a constant may lie to be a part of what lies there: members of a struct.
const MAX_MEMBER: u64 = 1 << 16;

/// Names whose hash, less one, is a slot (ERC-1967 and before it), or whose hash is one.
const NAMES: [&str; 12] = [
    "eip1967.proxy.implementation",
    "eip1967.proxy.admin",
    "eip1967.proxy.beacon",
    "eip1967.proxy.rollback",
    "org.zeppelinos.proxy.implementation",
    "org.zeppelinos.proxy.admin",
    "PROXIABLE",
    "matic.network.proxy.implementation",
    "matic.network.proxy.owner",
    "aragonOS.appStorage.kernel",
    "aragonOS.appStorage.appId",
    "aragonOS.initializable.initializationBlock",
];

/// Names of namespaces (ERC-7201).
const NAMESPACES: [&str; 22] = [
    "openzeppelin.storage.AccessControl",
    "openzeppelin.storage.AccessControlDefaultAdminRules",
    "openzeppelin.storage.AccessControlEnumerable",
    "openzeppelin.storage.AccessManaged",
    "openzeppelin.storage.AccessManager",
    "openzeppelin.storage.EIP712",
    "openzeppelin.storage.ERC1155",
    "openzeppelin.storage.ERC1155Supply",
    "openzeppelin.storage.ERC20",
    "openzeppelin.storage.ERC20Capped",
    "openzeppelin.storage.ERC20Votes",
    "openzeppelin.storage.ERC4626",
    "openzeppelin.storage.ERC721",
    "openzeppelin.storage.ERC721Enumerable",
    "openzeppelin.storage.Governor",
    "openzeppelin.storage.Initializable",
    "openzeppelin.storage.Nonces",
    "openzeppelin.storage.Ownable",
    "openzeppelin.storage.Ownable2Step",
    "openzeppelin.storage.Pausable",
    "openzeppelin.storage.ReentrancyGuard",
    "openzeppelin.storage.Votes",
];

/// What a program's values mean as addresses of storage.
#[derive(Clone, Debug, Default)]
pub struct Places {
    carried: BTreeSet<Value>,
    hashes: BTreeMap<Inst, Position>,
    pairs: Option<Position>,
    known: Preimages,
    refused: BTreeMap<Inst, Reason>,
}

impl Places {
    /// Looks at every storage instruction and hash of a function without calls.
    pub fn new(func: &Function) -> Self {
        let mut module = Module::new();
        let only = module.funcs.push(func.clone());
        let paths = StoragePaths::new(&module);
        let mut places = Self::default();
        let mut structured: BTreeSet<Inst> = inner(&paths.structured, only);
        let (positions, pairs) = positions(func, &structured);
        places.pairs = pairs;
        structured.retain(|inst| positions.contains_key(inst));
        // Where one hash has no position, whatever it reaches is no place.
        places.carried = match structured.len() == paths.structured.len() {
            true => inner(&paths.places, only),
            false => reached(func, &structured),
        };
        places.hashes = positions;
        let addresses = places.addresses(func);
        let constants: Vec<Word> = addresses.iter().filter_map(|&(_, value)| large(func, value)).collect();
        if !constants.is_empty() {
            let own: BTreeSet<Word> = func.values.keys().filter_map(|value| func.constant(value)).collect();
            places.known = preimages(&own, &constants, pairs.unwrap_or(Position::Last));
        }
        for (inst, value) in addresses {
            if let Some(reason) = places.refusal(func, value) {
                places.refused.insert(inst, reason);
            }
        }
        for (_, inst) in func.insts_in_order() {
            if places.offset_is_wild(func, inst) {
                places.refused.insert(inst, Reason::Place);
            }
        }
        places
    }

    /// Where a value is an address: storage instructions with their first operand, hashes with the place among their words.
    fn addresses(&self, func: &Function) -> Vec<(Inst, Value)> {
        let address = |inst: Inst| {
            let data = &func.insts[inst];
            match (data.opcode, self.position(inst)) {
                (Opcode::Sload | Opcode::Sstore | Opcode::Tload | Opcode::Tstore, _) => data.args.first().copied(),
                (_, Some(Position::Last)) => data.args.last().copied(),
                (_, Some(Position::First)) => data.args.first().copied(),
                (_, None) => None,
            }
        };
        func.insts_in_order().filter_map(|(_, inst)| Some((inst, address(inst)?))).collect()
    }

    /// Whether a sum adds two places, or a constant that is no offset in either direction.
    fn offset_is_wild(&self, func: &Function, inst: Inst) -> bool {
        let data = &func.insts[inst];
        if !matches!(data.opcode, Opcode::Wadd | Opcode::Add)
            || !data.result().is_some_and(|value| self.is_carried(value))
        {
            return false;
        }
        let others: Vec<Value> = data.args.iter().copied().filter(|&value| !self.is_carried(value)).collect();
        match others[..] {
            [offset] => large(func, offset).is_some_and(|word| word.wrapping_neg().bit_len() as u32 > OFFSET_BITS),
            _ => true,
        }
    }

    /// Whether `value` is carried as a key.
    pub fn is_carried(&self, value: Value) -> bool {
        self.carried.contains(&value)
    }

    /// The position of the place in a hash that is only a place in storage.
    pub fn position(&self, inst: Inst) -> Option<Position> {
        self.hashes.get(&inst).copied()
    }

    /// The position of the place in the hashes of two words, if the program has any that tell.
    pub fn pairs(&self) -> Option<Position> {
        self.pairs
    }

    /// What constants of 2^64 or more are hashes of.
    pub fn known(&self) -> &Preimages {
        &self.known
    }

    /// Why the place that a storage instruction names has no key.
    pub fn refused(&self, inst: Inst) -> Option<Reason> {
        self.refused.get(&inst).copied()
    }

    fn refusal(&self, func: &Function, value: Value) -> Option<Reason> {
        if self.is_carried(value) {
            return None;
        }
        if let Some(slot) = large(func, value) {
            let is_own = self.known.is_known(&slot) || stands_alone(&slot);
            return (!is_own).then_some(Reason::ConstantSlot);
        }
        let hash = func.def_inst(value).map(|inst| func.insts[inst].opcode);
        matches!(hash, Some(Opcode::KeccakWords | Opcode::Keccak256)).then_some(Reason::Place)
    }
}

fn inner<T: Copy + Ord>(all: &BTreeSet<(Func, T)>, func: Func) -> BTreeSet<T> {
    all.iter().filter(|(of, _)| *of == func).map(|&(_, inner)| inner).collect()
}

/// The constant of 2^64 or more that `value` is.
fn large(func: &Function, value: Value) -> Option<Word> {
    func.constant(value).filter(|word| word.bit_len() as u32 > OFFSET_BITS)
}

/// The position of each structured hash; hashes that fit none are left out. And that of all hashes of two words, if there are any.
fn positions(func: &Function, structured: &BTreeSet<Inst>) -> (BTreeMap<Inst, Position>, Option<Position>) {
    let is_hash = |value: Value| match func.values[value].def {
        ValueDef::Result(inst, _) => structured.contains(&inst),
        ValueDef::Param(..) => false,
    };
    let is_slot = |value: Value| func.constant(value).is_some() || is_hash(value);
    let mut votes = [0usize; 2];
    let mut any = false;
    for &inst in structured {
        if let [first, last] = func.insts[inst].args[..] {
            any = true;
            votes[0] += usize::from(is_slot(last));
            votes[1] += usize::from(is_slot(first));
        }
    }
    let common = if votes[1] > votes[0] { Position::First } else { Position::Last };
    let mut positions = BTreeMap::new();
    for &inst in structured {
        let args = &func.insts[inst].args;
        let position = match args.len() {
            2 => common,
            _ => Position::Last,
        };
        let place = match position {
            Position::Last => args.last(),
            Position::First => args.first(),
        };
        // A hash among the other words would be data.
        let others = args.iter().filter(|&value| Some(value) != place).any(|&value| is_hash(value));
        if place.is_some() && !others {
            positions.insert(inst, position);
        }
    }
    (positions, any.then_some(common))
}

/// The values that these hashes reach by what passes a place on.
fn reached(func: &Function, structured: &BTreeSet<Inst>) -> BTreeSet<Value> {
    let mut carried: BTreeSet<Value> = structured.iter().filter_map(|&inst| func.insts[inst].result()).collect();
    loop {
        let before = carried.len();
        for (_, inst) in func.insts_in_order() {
            let data = &func.insts[inst];
            let passes = matches!(data.opcode, Opcode::Wadd | Opcode::Add | Opcode::Zext | Opcode::Select);
            if passes && data.args.iter().any(|value| carried.contains(value)) {
                carried.extend(data.result());
            }
            for target in &data.targets {
                let params = &func.blocks[target.block].params;
                let given = params.iter().zip(&target.args).filter(|(_, arg)| carried.contains(arg));
                carried.extend(given.map(|(&param, _)| param).collect::<Vec<_>>());
            }
        }
        if carried.len() == before {
            return carried;
        }
    }
}

fn hash(words: &[Word]) -> Word {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes::<32>()).collect();
    keccak256(&bytes)
}

/// What `wanted` numbers are hashes of, or lie a little above, as far as it can be found: one or two words that are constants of the program,
/// `own`, or small numbers, and hashes of those again. `pairs` is the position of the place in all hashes of two words of the
/// program: with another one a slot would have two keys, this one as a constant and that one as the entry of a mapping.
pub fn preimages(own: &BTreeSet<Word>, wanted: &[Word], pairs: Position) -> Preimages {
    let small = |limit: u64| (0..limit).map(Word::from);
    let mut slots: BTreeSet<Word> = own.iter().copied().filter(|word| word.bit_len() <= 32).collect();
    slots.extend(small(64));
    let keys: BTreeSet<Word> = own.iter().copied().chain(small(32)).collect();
    let wanted: BTreeSet<Word> = wanted.iter().copied().collect();
    let mut found = Preimages::default();
    let is_wanted =
        |hash: &Word| wanted.range(*hash..).next().is_some_and(|wanted| *wanted - *hash <= Word::from(MAX_MEMBER));
    let pair = |key: Word, place: Word| match pairs {
        Position::Last => [key, place],
        Position::First => [place, key],
    };
    let mut tries = 0;
    let mut try_words = |words: &[Word], position: Position, found: &mut Preimages| {
        tries += 1;
        if tries >= MAX_TRIES {
            return None;
        }
        let hash = hash(words);
        let wanted = is_wanted(&hash);
        if wanted {
            found.insert(hash, words, position);
        }
        wanted.then_some(hash)
    };
    let mut nested = Vec::new();
    for &slot in &slots {
        nested.extend(try_words(&[slot], Position::Last, &mut found));
        for &key in &keys {
            nested.extend(try_words(&pair(key, slot), pairs, &mut found));
        }
    }
    for place in nested {
        for &key in &keys {
            try_words(&pair(key, place), pairs, &mut found);
        }
    }
    found
}

/// Whether a number of 2^64 or more is a slot by itself, whatever the program hashes: it has a well-known name, or no hash lies near it.
pub fn stands_alone(slot: &Word) -> bool {
    is_named(slot) || is_far_from_hashes(slot)
}

/// Whether a slot is below 2^128, or as near to 2^256: to find a hash there is as much work as to find two words with the same hash.
fn is_far_from_hashes(slot: &Word) -> bool {
    let half = 128;
    slot.bit_len() <= half || (!*slot).bit_len() <= half
}

/// Whether a slot is one of a well-known name.
fn is_named(slot: &Word) -> bool {
    let one = Word::from(1);
    let named = NAMES.iter().any(|name| {
        let hash = keccak256(name.as_bytes());
        *slot == hash || *slot == hash - one
    });
    named
        || NAMESPACES.iter().any(|name| {
            let root = hash(&[keccak256(name.as_bytes()) - one]) & !Word::from(0xff);
            *slot >= root && *slot - root < Word::from(0x100)
        })
}

#[cfg(test)]
mod tests {
    use cranelift_entity::EntityRef;

    use super::*;

    fn places(body: &str) -> (Function, Places) {
        let text = format!("zvm 1\nentry @f\nfunc @f(u256, u256) {{\nblock0(v0: u256, v1: u256):\n{body}}}\n");
        let func = zvm_ir::parse(&text).unwrap().funcs.values().next().unwrap().clone();
        let places = Places::new(&func);
        (func, places)
    }

    fn positions_of(body: &str) -> Vec<Position> {
        let (func, places) = places(body);
        func.insts_in_order().filter_map(|(_, inst)| places.position(inst)).collect()
    }

    #[test]
    fn mappings_of_both_compilers_are_told_apart() {
        let solidity = "v2: u2 = iconst 3\n v3: u256 = keccak_words v0, v2\n v4: u256 = keccak_words v1, v3\n v5: u256 = sload v4\n \
                        return_words 32, v5\n";
        assert_eq!(positions_of(solidity), [Position::Last, Position::Last]);
        let vyper = "v2: u2 = iconst 3\n v3: u256 = keccak_words v2, v0\n v4: u256 = keccak_words v3, v1\n v5: u256 = sload v4\n \
                     return_words 32, v5\n";
        assert_eq!(positions_of(vyper), [Position::First, Position::First]);
    }

    #[test]
    fn places_are_carried_through_offsets_and_choices() {
        let body = "v2: u2 = iconst 3\n v3: u256 = keccak_words v0, v2\n v4: u256 = wadd v3, v2\n v5: u1 = iszero v1\n v6: u256 = \
                    select v5, v3, v4\n v7: u256 = sload v6\n return_words 32, v7\n";
        let (func, places) = places(body);
        let carried: Vec<u32> =
            func.values.keys().filter(|&value| places.is_carried(value)).map(|v| v.as_u32()).collect();
        assert_eq!(carried, [3, 4, 6]);
    }

    #[test]
    fn constants_are_known_by_what_they_hash_or_refused() {
        let known = hash(&[Word::from(7), Word::from(3)]) + Word::from(1);
        for (slot, refused) in [
            (known, None),
            (hash(&[Word::from(5)]), None),
            (keccak256(b"eip1967.proxy.admin") - Word::from(1), None),
            (hash(&[Word::from(7_000_000), Word::from(3)]), Some(Reason::ConstantSlot)),
        ] {
            let body = format!("v2: u256 = iconst {slot:#x}\n v3: u256 = sload v2\n return_words 32, v3\n");
            let (func, places) = places(&body);
            let load = func.insts_in_order().map(|(_, inst)| inst).nth(1).unwrap();
            assert_eq!(places.refused(load), refused, "{slot:#x}");
        }
    }

    /// Entry 2 of the mapping in slot 5, by a constant and by a key: one slot, one key, whichever compiler it is.
    #[test]
    fn a_constant_has_the_key_of_the_entry_that_it_is() {
        for (first, last, position) in [(2, 5, Position::Last), (5, 2, Position::First)] {
            for constant in [[2u64, 5], [5, 2]] {
                let slot = hash(&constant.map(Word::from));
                let pair = if position == Position::Last { "v0, v2" } else { "v2, v0" };
                let body = format!(
                    "v2: u3 = iconst 5\n v3: u256 = keccak_words {pair}\n v4: u256 = sload v3\n v5: u256 = iconst {slot:#x}\n v6: u256 = \
                     sload v5\n v7: u256 = wadd v4, v6\n return_words 32, v7\n"
                );
                let (_, places) = places(&body);
                assert_eq!(places.pairs(), Some(position));
                let (_, words, at) = places.known().below(&slot).unwrap();
                assert_eq!((words, at), (&constant.map(Word::from)[..], position), "{first} {last}");
            }
        }
    }

    #[test]
    fn a_hash_that_escapes_has_no_place() {
        let body = "v2: u2 = iconst 3\n v3: u256 = keccak_words v0, v2\n v4: u256 = sload v3\n sstore v4, v3\n stop\n";
        let (func, places) = places(body);
        let load = func.insts_in_order().map(|(_, inst)| inst).nth(2).unwrap();
        assert_eq!(places.refused(load), Some(Reason::Place));
        assert_eq!(Inst::new(1), func.insts_in_order().nth(1).unwrap().1);
    }
}
