//! Which values are places in storage, and which storage instructions name a place that the circuit can key.
//!
//! A storage instruction's address is one of three things: a *carried* place (a hash of words that is used as nothing else, or such
//! a hash with an offset), a constant, or a number. Carried places are field elements in the circuit ([`crate::place`]). A number
//! has to be below 2^64. A constant of 2^64 or more has to be one whose meaning is known: the hash of words that stand in the
//! program, or of a well-known name; or one that no hash lies near ([`is_far_from_hashes`]). Any other could be the hash that a mapping of
//! the program makes of some key, and would then be one slot with two keys.
//!
//! For the same reason all hashes of as many bytes of a program have their place at the same position ([`Scheme`]): the last, as Solidity
//! orders them, the first, as Vyper does, or nowhere, where all that is hashed is data: Solady packs an address and a number into a word.

use std::collections::{BTreeMap, BTreeSet};

use zvm_ir::eval::keccak256;
use zvm_ir::{Func, Function, Imm, Inst, InstData, Module, Opcode, StoragePaths, Value, Word};

use super::support::Reason;
use crate::place::{Layout, OFFSET_BITS, Position, Preimages, Scheme};
use crate::registers::{Source, source};

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
    hashes: BTreeMap<Inst, Layout>,
    scheme: Scheme,
    known: Preimages,
    refused: BTreeMap<Inst, Reason>,
}

impl Places {
    /// Looks at every storage instruction and hash of a function without calls.
    pub fn new(func: &Function) -> Self {
        let (paths, only) = paths(func);
        let mut places = Self::default();
        let structured: BTreeSet<Inst> = inner(&paths.structured, only);
        places.scheme = scheme(func, &structured);
        (places.hashes, places.carried) = layouts(func, &structured, &places.scheme, inner(&paths.places, only));
        let addresses = places.addresses(func);
        let constants: Vec<Word> = addresses.iter().filter_map(|&(_, value)| large(func, value)).collect();
        if !constants.is_empty() {
            let own: BTreeSet<Word> = func.values.keys().filter_map(|value| func.constant(value)).collect();
            places.known = preimages(&own, &constants, &places.scheme);
        }
        places.know_constant_hashes(func);
        let hashes = func.insts_in_order().map(|(_, inst)| inst);
        let is_number = |inst: &Inst| match func.insts[*inst].opcode {
            Opcode::KeccakWords => places.layout(*inst).is_none(),
            Opcode::Keccak256 | Opcode::KeccakF => true,
            _ => false,
        };
        let numbers = reached(func, &hashes.filter(is_number).collect());
        for (inst, value) in addresses {
            if let Some(reason) = places.refusal(func, &numbers, value) {
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

    /// Remembers what the hashes are of that are of constants only: slots behind them are known without any execution.
    fn know_constant_hashes(&mut self, func: &Function) {
        let mut computed: BTreeMap<Value, Word> = BTreeMap::new();
        for (_, inst) in func.insts_in_order() {
            let Some(layout) = self.layout(inst) else { continue };
            let data = &func.insts[inst];
            let word = |value: &Value| func.constant(*value).or_else(|| computed.get(value).copied());
            let Some(words) = data.args.iter().map(word).collect::<Option<Vec<Word>>>() else { continue };
            let hash = layout.hash(&words);
            self.known.insert(hash, &words, layout);
            computed.extend(data.result().map(|value| (value, hash)));
        }
    }

    /// Where a value is an address: storage instructions with their first operand, hashes with the place among their words.
    fn addresses(&self, func: &Function) -> Vec<(Inst, Value)> {
        let address = |inst: Inst| {
            let data = &func.insts[inst];
            match (data.opcode, self.layout(inst)) {
                (Opcode::Sload | Opcode::Sstore | Opcode::Tload | Opcode::Tstore, _) => data.args.first().copied(),
                (_, Some(layout)) => layout.split(&data.args).0.copied(),
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

    /// What a hash that is only a place in storage is of.
    pub fn layout(&self, inst: Inst) -> Option<Layout> {
        self.hashes.get(&inst).copied()
    }

    /// Where places are in the hashes of the program, as far as it has any that tell.
    pub fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    /// What constants of 2^64 or more are hashes of.
    pub fn known(&self) -> &Preimages {
        &self.known
    }

    /// Why the place that a storage instruction names has no key.
    pub fn refused(&self, inst: Inst) -> Option<Reason> {
        self.refused.get(&inst).copied()
    }

    /// Why `value` is no address. `numbers` are what hashes that are no places reach.
    fn refusal(&self, func: &Function, numbers: &BTreeSet<Value>, value: Value) -> Option<Reason> {
        if self.is_carried(value) {
            return None;
        }
        if let Some(slot) = large(func, value) {
            let is_own = self.known.is_known(&slot) || stands_alone(&slot);
            return (!is_own).then_some(Reason::ConstantSlot);
        }
        numbers.contains(&value).then_some(Reason::Place)
    }
}

/// What the hashes of a function without calls are used for, and its name there.
pub(super) fn paths(func: &Function) -> (StoragePaths, Func) {
    let mut module = Module::new();
    let only = module.funcs.push(func.clone());
    (StoragePaths::new(&module), only)
}

pub(super) fn inner<T: Copy + Ord>(all: &BTreeSet<(Func, T)>, func: Func) -> BTreeSet<T> {
    all.iter().filter(|(of, _)| *of == func).map(|&(_, inner)| inner).collect()
}

/// The constant of 2^64 or more that `value` is.
fn large(func: &Function, value: Value) -> Option<Word> {
    func.constant(value).filter(|word| word.bit_len() as u32 > OFFSET_BITS)
}

/// Where the place is in hashes of each number of bytes: where most of them have a slot number or a hash, the last word before the first; nowhere
/// if most have none and the word in question is put together from parts.
pub(super) fn scheme(func: &Function, structured: &BTreeSet<Inst>) -> Scheme {
    const POSITIONS: [Position; 3] = [Position::Last, Position::First, Position::Nowhere];
    let is_slot = |value: Value| {
        func.constant(value).is_some() || func.def_inst(value).is_some_and(|inst| structured.contains(&inst))
    };
    let mut votes: BTreeMap<u32, [usize; 3]> = BTreeMap::new();
    for &inst in structured {
        let InstData { args, imm: Imm::Len(len), .. } = &func.insts[inst] else { continue };
        let Some((&first, &last)) = args.first().zip(args.last()) else { continue };
        let usual = Scheme::default().layout(*len).position;
        let position = match usual {
            Position::Last if is_slot(last) => Position::Last,
            Position::Last if args.len() == 2 && is_slot(first) => Position::First,
            Position::Last if is_packed(func, last) => Position::Nowhere,
            Position::First if is_packed(func, first) => Position::Nowhere,
            _ => usual,
        };
        // A slot in both places tells nothing of two words.
        let both = args.len() == 2 && position == Position::Last && is_slot(first);
        let of_len = votes.entry(*len).or_default();
        of_len[position as usize] += 1;
        of_len[Position::First as usize] += usize::from(both);
    }
    let mut scheme = Scheme::default();
    for (len, votes) in votes {
        let most = votes.iter().max().copied().unwrap_or_default();
        let best = POSITIONS.into_iter().find(|&position| votes[position as usize] == most);
        scheme.insert(Layout { len, position: best.unwrap_or(Position::Last) });
    }
    scheme
}

/// Whether a word is put together from parts: no slot number is.
fn is_packed(func: &Function, value: Value) -> bool {
    let Source::Value(value) = source(func, value) else { return false };
    func.def_inst(value).is_some_and(|inst| matches!(func.insts[inst].opcode, Opcode::Or | Opcode::Shl))
}

/// The layouts of structured hashes, and the values that are places because of them. A hash that has a place among its data has no layout;
/// nor have those that make this place, which is then seen as a word.
fn layouts(
    func: &Function,
    structured: &BTreeSet<Inst>,
    scheme: &Scheme,
    carried: BTreeSet<Value>,
) -> (BTreeMap<Inst, Layout>, BTreeSet<Value>) {
    let hashes: Vec<Inst> = func
        .insts_in_order()
        .map(|(_, inst)| inst)
        .filter(|&inst| func.insts[inst].opcode == Opcode::KeccakWords)
        .collect();
    let layout = |inst: &Inst| match func.insts[*inst].imm {
        Imm::Len(len) => Some((*inst, scheme.layout(len))),
        _ => None,
    };
    let mut layouts: BTreeMap<Inst, Layout> = structured.iter().filter_map(layout).collect();
    let mut carried = carried;
    loop {
        // What is hashed as data, and by whom.
        let mut seen: BTreeSet<Value> = BTreeSet::new();
        let before = layouts.len();
        for inst in &hashes {
            let args = &func.insts[*inst].args;
            let data = layouts.get(inst).map_or(args.as_slice(), |layout| layout.split(args).1);
            let places: Vec<Value> = data.iter().copied().filter(|value| carried.contains(value)).collect();
            if !places.is_empty() {
                layouts.remove(inst);
                seen.extend(places);
            }
        }
        layouts.retain(|&inst, _| seen.is_empty() || reached(func, &BTreeSet::from([inst])).is_disjoint(&seen));
        if layouts.len() == before {
            return (layouts, carried);
        }
        carried = reached(func, &layouts.keys().copied().collect());
    }
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

/// What `wanted` numbers are hashes of, or lie a little above, as far as it can be found: one or two words that are constants of the program,
/// `own`, or small numbers, and hashes of those again. `scheme` says where the place is in the hashes of the
/// program: with another one a slot would have two keys, this one as a constant and that one as the entry of a mapping.
pub fn preimages(own: &BTreeSet<Word>, wanted: &[Word], scheme: &Scheme) -> Preimages {
    let small = |limit: u64| (0..limit).map(Word::from);
    let mut slots: BTreeSet<Word> = own.iter().copied().filter(|word| word.bit_len() <= 32).collect();
    slots.extend(small(64));
    let keys: BTreeSet<Word> = own.iter().copied().chain(small(32)).collect();
    let wanted: BTreeSet<Word> = wanted.iter().copied().collect();
    let mut found = Preimages::default();
    let is_wanted =
        |hash: &Word| wanted.range(*hash..).next().is_some_and(|wanted| *wanted - *hash <= Word::from(MAX_MEMBER));
    let pair = |key: Word, place: Word| match scheme.layout(64).position {
        Position::Last | Position::Nowhere => [key, place],
        Position::First => [place, key],
    };
    let mut tries = 0;
    let mut try_words = |words: &[Word], found: &mut Preimages| {
        tries += 1;
        if tries >= MAX_TRIES {
            return None;
        }
        let layout = scheme.layout(32 * words.len() as u32);
        let hash = layout.hash(words);
        let wanted = is_wanted(&hash);
        if wanted {
            found.insert(hash, words, layout);
        }
        wanted.then_some(hash)
    };
    let mut nested = Vec::new();
    for &slot in &slots {
        nested.extend(try_words(&[slot], &mut found));
        for &key in &keys {
            nested.extend(try_words(&pair(key, slot), &mut found));
        }
    }
    for place in nested {
        for &key in &keys {
            try_words(&pair(key, place), &mut found);
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
            let root = Layout::whole(1, Position::Last).hash(&[keccak256(name.as_bytes()) - one]) & !Word::from(0xff);
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

    fn hash(words: &[Word]) -> Word {
        Layout::whole(words.len(), Position::Last).hash(words)
    }

    fn positions_of(body: &str) -> Vec<Position> {
        let (func, places) = places(body);
        func.insts_in_order().filter_map(|(_, inst)| places.layout(inst)).map(|layout| layout.position).collect()
    }

    #[test]
    fn mappings_of_both_compilers_are_told_apart() {
        let solidity = "v2: u2 = iconst 3\n v3: u256 = keccak_words 64, v0, v2\n v4: u256 = keccak_words 64, v1, v3\n v5: u256 = sload v4\n \
                        return_words 32, v5\n";
        assert_eq!(positions_of(solidity), [Position::Last, Position::Last]);
        let vyper = "v2: u2 = iconst 3\n v3: u256 = keccak_words 64, v2, v0\n v4: u256 = keccak_words 64, v3, v1\n v5: u256 = sload v4\n \
                     return_words 32, v5\n";
        assert_eq!(positions_of(vyper), [Position::First, Position::First]);
    }

    /// A word put together from an address and a number is no place, wherever it is hashed: all bytes are data.
    #[test]
    fn packed_words_are_data() {
        let packed =
            "v2: u7 = iconst 96\n v3: u256 = shl v2, v0\n v4: u32 = iconst 0x87a211a2\n v5: u256 = or v3, v4\n ";
        let balance = format!("{packed}v6: u256 = keccak_words 32, v5\n v7: u256 = sload v6\n return_words 32, v7\n");
        assert_eq!(positions_of(&balance), [Position::Nowhere]);
        let allowance =
            format!("{packed}v6: u256 = keccak_words 52, v5, v1\n v7: u256 = sload v6\n return_words 32, v7\n");
        assert_eq!(positions_of(&allowance), [Position::Nowhere]);
        // The first bytes of a set's slot and a number; then a slot that is a hash of so many bytes.
        let set = "v2: u2 = iconst 3\n v3: u256 = iconst 0x978aab9200000000000000000000000000000000000000000000000000000000\n v4: u256 = \
                   keccak_words 36, v2, v3\n v5: u256 = keccak_words 64, v0, v4\n v6: u256 = sload v5\n v7: u256 = keccak_words 36, v4, v3\n \
                   v8: u256 = sload v7\n v9: u256 = wadd v6, v8\n return_words 32, v9\n";
        assert_eq!(positions_of(set), [Position::First, Position::Last, Position::First]);
    }

    /// Hashes of as many bytes are all of one kind, so that no slot has two keys: those that do not fit are no places, nor what they hash.
    #[test]
    fn one_length_is_one_kind() {
        let packed =
            "v2: u7 = iconst 96\n v3: u256 = shl v2, v0\n v4: u32 = iconst 0x87a211a2\n v5: u256 = or v3, v4\n ";
        // Two words of an address and a number, and one place in two hashes of one word.
        let body = format!(
            "{packed}v6: u256 = keccak_words 32, v5\n v7: u256 = sload v6\n v8: u256 = or v3, v7\n v9: u256 = keccak_words 32, v8\n v10: \
             u256 = sload v9\n v11: u256 = keccak_words 64, v0, v4\n v12: u256 = keccak_words 32, v11\n v13: u256 = sload v12\n v14: u256 = \
             wadd v10, v13\n return_words 32, v14\n"
        );
        let (func, places) = places(&body);
        let layouts: Vec<_> = func
            .insts_in_order()
            .filter(|&(_, inst)| func.insts[inst].opcode == Opcode::KeccakWords)
            .map(|(_, inst)| places.layout(inst).map(|layout| layout.position))
            .collect();
        let data = Some(Position::Nowhere);
        assert_eq!(layouts, [data, data, None, None]);
        let refused: Vec<_> = func.insts_in_order().filter_map(|(_, inst)| places.refused(inst)).collect();
        assert_eq!(refused, [Reason::Place]);
    }

    #[test]
    fn places_are_carried_through_offsets_and_choices() {
        let body = "v2: u2 = iconst 3\n v3: u256 = keccak_words 64, v0, v2\n v4: u256 = wadd v3, v2\n v5: u1 = iszero v1\n v6: u256 = \
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
                    "v2: u3 = iconst 5\n v3: u256 = keccak_words 64, {pair}\n v4: u256 = sload v3\n v5: u256 = iconst {slot:#x}\n v6: u256 = \
                     sload v5\n v7: u256 = wadd v4, v6\n return_words 32, v7\n"
                );
                let (_, places) = places(&body);
                let layout = Layout::whole(2, position);
                assert_eq!(places.scheme().layout(64), layout);
                let (_, words, at) = places.known().below(&slot).unwrap();
                assert_eq!((words, at), (&constant.map(Word::from)[..], layout), "{first} {last}");
            }
        }
    }

    #[test]
    fn a_hash_that_escapes_has_no_place() {
        let body =
            "v2: u2 = iconst 3\n v3: u256 = keccak_words 64, v0, v2\n v4: u256 = sload v3\n sstore v4, v3\n stop\n";
        let (func, places) = places(body);
        let load = func.insts_in_order().map(|(_, inst)| inst).nth(2).unwrap();
        assert_eq!(places.refused(load), Some(Reason::Place));
        assert_eq!(Inst::new(1), func.insts_in_order().nth(1).unwrap().1);
    }
}
