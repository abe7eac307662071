//! Places: their slots are those of the EVM, their keys those by which programs know the slots that they hash, and different places have
//! different keys.

mod tree_walks;

use std::collections::BTreeSet;

use tree_walks::random;
use zvm_backend_circuit::field::to_u256;
use zvm_backend_circuit::nova::Fr;
use zvm_backend_circuit::place::{Layout, Position, Preimages, origin};
use zvm_backend_circuit::state::place::{MAX_DEPTH, MAX_WORDS, Part, Place, PlaceError};
use zvm_ir::Word as U256;

const ACCOUNT: [u8; 20] = [0xab; 20];

fn word(seed: u64) -> U256 {
    U256::MAX / U256::from(seed + 3)
}

fn plain(slot: u64) -> Place {
    Place::Plain(U256::from(slot))
}

fn keccak(words: &[U256]) -> U256 {
    use tiny_keccak::Hasher;
    let mut keccak = tiny_keccak::Keccak::v256();
    for word in words {
        keccak.update(&word.to_be_bytes::<32>());
    }
    let mut digest = [0; 32];
    keccak.finalize(&mut digest);
    U256::from_be_bytes(digest)
}

#[test]
fn slots_are_those_of_compilers() {
    let (five, k, j) = (U256::from(5), word(1), word(2));
    assert_eq!(plain(5).slot(), five);
    let entry = plain(5).entry(k).unwrap();
    assert_eq!(entry.slot(), keccak(&[k, five]));
    assert_eq!(plain(5).vyper_entry(k).unwrap().slot(), keccak(&[five, k]));
    assert_eq!(plain(5).items().unwrap().plus(7).unwrap().slot(), keccak(&[five]) + U256::from(7));
    let field = entry.clone().plus(2).unwrap().entry(j).unwrap().plus(1).unwrap();
    assert_eq!(field.slot(), keccak(&[j, keccak(&[k, five]) + U256::from(2)]) + U256::from(1));
    assert_eq!(entry.vyper_entry(j).unwrap().slot(), keccak(&[keccak(&[k, five]), j]));
}

/// Places that resemble each other as much as they can.
fn alike() -> Vec<Place> {
    let (five, six) = (U256::from(5), U256::from(6));
    let entry = plain(5).entry(six).unwrap();
    let words = |words: &[u64]| words.iter().map(|word| Part::Word(U256::from(*word))).collect::<Vec<_>>();
    let mut places = vec![
        plain(0),
        plain(5),
        plain(6),
        Place::Plain(U256::from(5) << 128),
        Place::Plain(U256::from(5) << 64),
        Place::Plain(keccak(&[five])),
        plain(5).items().unwrap(),
        plain(5).items().unwrap().plus(1).unwrap(),
        plain(5).items().unwrap().items().unwrap(),
        plain(0).entry(five).unwrap(),
        plain(5).entry(U256::ZERO).unwrap(),
        entry.clone(),
        plain(5).vyper_entry(six).unwrap(),
        plain(6).vyper_entry(five).unwrap(),
        plain(5).entry(six << 128).unwrap(),
        Place::Plain(five << 128).entry(six).unwrap(),
        plain(6).entry(five).unwrap(),
        entry.clone().plus(1).unwrap(),
        entry.clone().items().unwrap(),
        entry.clone().entry(six).unwrap(),
        entry.clone().vyper_entry(six).unwrap(),
        entry.clone().plus(1).unwrap().entry(six).unwrap(),
        entry.clone().entry(six).unwrap().plus(1).unwrap(),
        Place::hash(words(&[6, 5, 0])).unwrap(),
        Place::hash(words(&[0, 6, 5])).unwrap(),
        Place::hash(words(&[6, 5, 0, 0])).unwrap(),
        Place::hash(words(&[6, 5, 0, 0, 0, 0, 0])).unwrap(),
    ];
    for at in [0, 2] {
        for place in [plain(5), entry.clone()] {
            let mut parts = words(&[6, 5, 1]);
            parts[at] = Part::Place(place);
            places.push(Place::hash(parts).unwrap());
        }
    }
    // Words of which the last counts in part, and words that are no places.
    let top = U256::from(6) << 248;
    for len in [33, 36] {
        for base in [plain(5), entry.clone()] {
            let parts = vec![Part::Place(base), Part::Word(top)];
            places.push(Place::hash_of_bytes(parts, len).unwrap());
        }
        places.push(Place::hash_of_data(vec![five, top], len).unwrap());
    }
    places.push(Place::hash_of_data(vec![entry.slot(), top], 33).unwrap());
    places.push(Place::hash_of_data(vec![top], 1).unwrap());
    for len in [8, 32] {
        places.push(Place::hash_of_data(vec![top], len).unwrap().plus(u64::from(len)).unwrap());
    }
    for words in [vec![five, top], vec![top, five], vec![U256::ZERO, five, six]] {
        let len = 32 * words.len() as u32;
        places.push(Place::hash_of_data(words, len).unwrap());
    }
    places
}

#[test]
fn different_places_have_different_keys() {
    let places = alike();
    let mut keys = BTreeSet::new();
    for place in &places {
        for account in [ACCOUNT, [0xac; 20], [0; 20]] {
            keys.insert(to_u256(&place.key::<Fr>(&account)));
        }
    }
    assert_eq!(keys.len(), 3 * places.len());
    // Two numbers are two places, by which of them is the mapping's; their slot is one.
    let (five, six) = (U256::from(5), U256::from(6));
    let (solidity, vyper) = (plain(5).entry(six).unwrap(), plain(6).vyper_entry(five).unwrap());
    assert_eq!(solidity.slot(), vyper.slot());
    assert_ne!(solidity, vyper);
}

/// A place with what is hashed on the way to it. Numbers of 2^64 and more are no places here.
fn built(seed: u64) -> (Place, Preimages) {
    let mut drawn = 0;
    let mut draw = || {
        drawn += 1;
        random(seed, drawn)
    };
    let (mut place, mut preimages) = (Place::Plain(U256::from(draw())), Preimages::default());
    for _ in 0..draw() % 5 {
        let others: Vec<U256> = (0..draw() % 4).map(|_| word(draw() >> 8) >> (draw() % 256) as usize).collect();
        let position = match draw() % 5 {
            0 if !others.is_empty() => Position::Nowhere,
            1 | 2 if !others.is_empty() => Position::First,
            _ => Position::Last,
        };
        let count = others.len() + usize::from(position != Position::Nowhere);
        let unused = if position == Position::Last { 0 } else { (draw() % 64) as u32 % 32 };
        let layout = Layout { len: 32 * count as u32 - unused, position };
        let mut others = others;
        if let Some(last) = others.last_mut() {
            *last = (*last >> (8 * unused) as usize) << (8 * unused) as usize;
        }
        let offset = draw() >> (draw() % 64);
        let words = layout.join(place.slot(), &others);
        preimages.insert(layout.hash(&words), &words, layout);
        place = match position {
            Position::Nowhere => Place::hash_of_data(others, layout.len),
            _ => {
                let others: Vec<Part> = others.into_iter().map(Part::Word).collect();
                Place::hash_of_bytes(layout.join(Part::Place(place), &others), layout.len)
            }
        }
        .unwrap()
        .plus(offset)
        .unwrap();
    }
    (place, preimages)
}

#[test]
fn a_place_has_the_key_of_its_slot() {
    let mut hashed = 0;
    for seed in 0..200 {
        let (place, preimages) = built(seed);
        let slot = place.slot();
        assert_eq!(Place::of(&slot, &preimages, |_| false), Ok(Some(place.clone())));
        assert_eq!(place.key::<Fr>(&ACCOUNT), preimages.key(&slot, origin::<Fr>(&ACCOUNT)), "{place}");
        let other = preimages.key(&slot, origin::<blstrs::Scalar>(&ACCOUNT));
        assert_eq!(place.key::<blstrs::Scalar>(&ACCOUNT), other, "{place}");
        assert_eq!(place.to_string().parse::<Place>(), Ok(place.clone()));
        // Without what was hashed a slot has no place, unless it is a number.
        hashed += usize::from(matches!(place, Place::Hashed(_)));
        let alone = Place::of(&slot, &Preimages::default(), |_| false);
        assert_eq!(alone, Ok(matches!(place, Place::Plain(_)).then_some(place)));
    }
    assert!(hashed > 100, "{hashed}");
}

#[test]
fn constants_are_places_where_they_are_known_to_be() {
    let constant = word(7);
    assert_eq!(Place::of(&constant, &Preimages::default(), |_| false), Ok(None));
    let place = Place::of(&constant, &Preimages::default(), |slot| *slot == constant).unwrap().unwrap();
    assert_eq!(place, Place::Plain(constant));
    assert_eq!(place.key::<Fr>(&ACCOUNT), Preimages::default().key(&constant, origin::<Fr>(&ACCOUNT)));
    // Also below a hash.
    let mut preimages = Preimages::default();
    preimages.insert(keccak(&[constant]), &[constant], Layout::whole(1, Position::Last));
    let items = Place::of(&keccak(&[constant]), &preimages, |slot| *slot == constant).unwrap();
    assert_eq!(items, Some(place.items().unwrap()));
    assert_eq!(Place::of(&keccak(&[constant]), &preimages, |_| false), Ok(None));
}

/// Hashes that lie in one another deeper than places do have a key, found without recursion.
#[test]
fn deep_hashes_have_a_key_and_no_place() {
    let mut preimages = Preimages::default();
    let mut slot = U256::from(1);
    for _ in 0..20_000 {
        preimages.insert(keccak(&[slot]), &[slot], Layout::whole(1, Position::Last));
        slot = keccak(&[slot]);
    }
    assert_eq!(Place::of(&slot, &preimages, |_| false), Err(PlaceError::TooDeep));
    assert_ne!(preimages.key(&slot, origin::<Fr>(&ACCOUNT)), preimages.key(&keccak(&[slot]), origin(&ACCOUNT)));
}

#[test]
fn text_goes_round() {
    for place in alike() {
        let text = place.to_string();
        assert_eq!(text.parse::<Place>(), Ok(place), "{text}");
    }
    let (five, six) = (U256::from(5), U256::from(6));
    assert_eq!(" keccak( 6 ,5 ) + 2".parse(), Ok(plain(5).entry(six).unwrap().plus(2).unwrap()));
    assert_eq!(plain(5).entry(six).unwrap().plus(2).unwrap().to_string(), "keccak(0x6, 0x5)+2");
    assert_eq!(plain(5).vyper_entry(six).unwrap().to_string(), "keccak([0x5], 0x6)");
    assert_eq!("keccak( [ 5 ] ,6)".parse(), Ok(plain(5).vyper_entry(six).unwrap()));
    assert_eq!("keccak(6, [5])".parse(), Ok(plain(5).entry(six).unwrap()));
    assert_eq!("keccak([5])".parse(), Ok(plain(5).items().unwrap()));
    let nested = plain(5).vyper_entry(six).unwrap().vyper_entry(five).unwrap();
    assert_eq!(nested.to_string(), "keccak(keccak([0x5], 0x6), 0x5)");
    assert_eq!("keccak([keccak([5], 6)], 5)".parse(), Ok(nested));
    let part = U256::from(0x978aab92u32) << 224;
    let set = Place::hash_of_bytes(vec![Part::Word(five), Part::Word(part)], 36).unwrap();
    assert_eq!(set.to_string(), format!("keccak:36(0x5, {part:#x})"));
    assert_eq!(format!("keccak:0x24([5], {part})").parse(), Ok(set));
    let data = Place::hash_of_data(vec![six, part], 52).unwrap().plus(3).unwrap();
    assert_eq!(data.to_string(), format!("keccak_data:52(0x6, {part:#x})+3"));
    assert_eq!("keccak_data(5)".parse(), Ok(Place::hash_of_data(vec![five], 32).unwrap()));
    for text in [
        "keccak_data(keccak(1))",
        "keccak_data:",
        "keccak_data:(1)",
        "keccak:36",
        "",
        "keccak",
        "keccak(",
        "keccak()",
        "keccak(5",
        "keccak(5,)",
        "5 6",
        "0x",
        "keccak(5)+",
        "x",
        "keccak(5))",
        "[5]",
        "keccak([5)",
        "keccak([5, 6])",
        "keccak([])",
        "keccak([[5]])",
    ] {
        assert!(matches!(text.parse::<Place>(), Err(PlaceError::Text { .. })), "{text}");
    }
    assert!(matches!("é".parse::<Place>(), Err(PlaceError::Text { .. })));
    for text in ["keccak(keccak(1), keccak(2))", "keccak([1], keccak(2))", "keccak([1], [2])"] {
        assert_eq!(text.parse::<Place>(), Err(PlaceError::TwoPlaces), "{text}");
    }
    for text in ["keccak(1, [2], 3)", "keccak(1, keccak(2), 3)"] {
        assert_eq!(text.parse::<Place>(), Err(PlaceError::Middle), "{text}");
    }
    assert_eq!("keccak(1)+18446744073709551616".parse::<Place>(), Err(PlaceError::Offset));
    for open in ["keccak(", "keccak(["] {
        let close = if open.ends_with('[') { "])" } else { ")" };
        let deep = format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
        assert_eq!(deep.parse::<Place>(), Err(PlaceError::TooDeep));
    }
    for (text, len, words) in [
        ("keccak:36(1)", 36, 1),
        ("keccak:31(1)", 31, 1),
        ("keccak:64(1)", 64, 1),
        ("keccak:36(1, [0])", 36, 2),
        ("keccak:36(1, keccak(2))", 36, 2),
        ("keccak:0(1)", 0, 1),
        ("keccak_data:65(1, 2)", 65, 2),
        ("keccak_data:32(1, 2)", 32, 2),
        ("keccak_data:340282366920938463463374607431768211456(1)", u32::MAX, 1),
    ] {
        assert_eq!(text.parse::<Place>(), Err(PlaceError::Length(len, words)), "{text}");
    }
    assert_eq!("keccak:36(1, 2)".parse::<Place>(), Err(PlaceError::PastTheEnd));
    assert_eq!("keccak_data:31(1)".parse::<Place>(), Err(PlaceError::PastTheEnd));
    let deepest = format!("{}1{}", "keccak(".repeat(MAX_DEPTH), ")".repeat(MAX_DEPTH));
    assert!(deepest.parse::<Place>().unwrap().items().is_err());
    let long = format!("keccak({})", vec!["1"; MAX_WORDS + 1].join(","));
    assert_eq!(long.parse::<Place>(), Err(PlaceError::TooManyWords));
}

#[test]
fn places_have_limits() {
    assert_eq!(Place::hash(Vec::new()), Err(PlaceError::NoWords));
    let part = |i: u64| Part::Word(word(i));
    assert_eq!(Place::hash((0..MAX_WORDS as u64 + 1).map(part).collect()), Err(PlaceError::TooManyWords));
    assert!(Place::hash((0..MAX_WORDS as u64).map(part).collect()).is_ok());
    let array = Part::Place(plain(1).items().unwrap());
    assert_eq!(Place::hash(vec![array.clone(), array.clone()]), Err(PlaceError::TwoPlaces));
    assert_eq!(Place::hash(vec![part(1), array, part(2)]), Err(PlaceError::Middle));
    assert_eq!(plain(1).items().unwrap().plus(u64::MAX).unwrap().plus(1), Err(PlaceError::Offset));
    assert_eq!(Place::Plain(U256::MAX).plus(1), Err(PlaceError::Offset));
}
