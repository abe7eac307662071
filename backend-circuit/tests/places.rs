//! Places: their slots are those of the EVM, their keys in the circuit those natively, and different places have different keys.

mod tree_walks;

use std::collections::BTreeSet;

use ff::PrimeField;
use tree_walks::{alloc, limbs};
use zvm_backend_circuit::cs::CheckCs;
use zvm_backend_circuit::field::{from_u256, to_u256};
use zvm_backend_circuit::gadgets::Lc;
use zvm_backend_circuit::nova::Fr;
use zvm_backend_circuit::state::place::{
    HashedPlace, MAX_DEPTH, MAX_WORDS, Parent, Part, Place, PlaceError, address_element, plain_key,
};
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
        Place::Plain(keccak(&[five])),
        plain(5).items().unwrap(),
        plain(5).items().unwrap().plus(1).unwrap(),
        plain(5).items().unwrap().items().unwrap(),
        plain(0).entry(five).unwrap(),
        plain(5).entry(U256::ZERO).unwrap(),
        entry.clone(),
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
    for at in 0..3 {
        let mut parts = words(&[6, 5, 0]);
        parts[at] = Part::Place(entry.clone());
        places.push(Place::hash(parts).unwrap());
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
        if let Place::Hashed(hashed) = place
            && hashed.to_string() == place.to_string()
            && !place.to_string().contains('+')
        {
            // A path digest is no key, not even of the account zero.
            keys.insert(to_u256(&hashed.path::<Fr>()));
        }
    }
    let paths =
        places.iter().filter(|place| matches!(place, Place::Hashed(_)) && !place.to_string().ends_with("+1")).count();
    let inner =
        places.iter().filter(|place| place.to_string().contains("+1,") || place.to_string().contains("+1)")).count();
    assert!(keys.len() >= 3 * places.len() + paths - inner, "{} keys", keys.len());
    // Two numbers are one place, whichever of them is called the mapping's.
    let (five, six) = (U256::from(5), U256::from(6));
    assert_eq!(plain(5).entry(six).unwrap(), plain(6).vyper_entry(five).unwrap());
}

#[test]
fn text_goes_round() {
    for place in alike() {
        let text = place.to_string();
        assert_eq!(text.parse::<Place>(), Ok(place), "{text}");
    }
    assert_eq!(" keccak( 6 ,5 ) + 2".parse(), Ok(plain(5).entry(U256::from(6)).unwrap().plus(2).unwrap()));
    assert_eq!(plain(5).entry(U256::from(6)).unwrap().plus(2).unwrap().to_string(), "keccak(0x6, 0x5)+2");
    for text in
        ["", "keccak", "keccak(", "keccak()", "keccak(5", "keccak(5,)", "5 6", "0x", "keccak(5)+", "x", "keccak(5))"]
    {
        assert!(matches!(text.parse::<Place>(), Err(PlaceError::Text { .. })), "{text}");
    }
    assert!(matches!("é".parse::<Place>(), Err(PlaceError::Text { .. })));
    assert_eq!("keccak(keccak(1), keccak(2))".parse::<Place>(), Err(PlaceError::TwoPlaces));
    assert_eq!("keccak(1)+18446744073709551616".parse::<Place>(), Err(PlaceError::Offset));
    let deep = format!("{}1{}", "keccak(".repeat(100_000), ")".repeat(100_000));
    assert_eq!(deep.parse::<Place>(), Err(PlaceError::TooDeep));
    let deepest = format!("{}1{}", "keccak(".repeat(MAX_DEPTH), ")".repeat(MAX_DEPTH));
    assert!(deepest.parse::<Place>().unwrap().items().is_err());
    let long = format!("keccak({})", vec!["1"; MAX_WORDS + 1].join(","));
    assert_eq!(long.parse::<Place>(), Err(PlaceError::TooManyWords));
}

/// A place in the circuit, and how many rows it took.
struct Circuit<F: PrimeField> {
    cs: CheckCs<F>,
    active: Lc<F>,
    address: Lc<F>,
}

impl<F: PrimeField> Circuit<F> {
    fn new() -> Self {
        let mut cs = CheckCs::<F>::recording();
        let active = alloc(&mut cs, "active", F::ONE);
        let address = alloc(&mut cs, "address", address_element(&ACCOUNT));
        Self { cs, active, address }
    }

    fn number(&mut self, number: &U256) -> [Lc<F>; 2] {
        limbs(&mut self.cs, "number", number)
    }

    fn offset(&mut self, offset: u64) -> Lc<F> {
        alloc(&mut self.cs, "offset", F::from(offset))
    }

    /// The key of `place` and of the slot `offset` further, and the path digest, against the native ones; the rows of a key.
    fn expect(&mut self, place: &HashedPlace<F>, native: &Place, offset: u64) -> usize {
        let further = self.offset(offset);
        let before = self.cs.rows();
        let key = place.key(&mut self.cs, &self.active, &self.address, &further).unwrap();
        let rows = self.cs.rows() - before;
        assert_eq!(key.value(), Some(native.clone().plus(offset).unwrap().key(&ACCOUNT)), "{native}");
        let path = place.path(&mut self.cs, &self.active).unwrap();
        let Place::Hashed(hashed) = native else { panic!("{native}") };
        assert_eq!(path.value(), Some(hashed.path()), "{native}");
        assert_eq!(self.cs.verdict(), Ok(()));
        rows
    }

    fn path(&mut self, place: &HashedPlace<F>) -> Lc<F> {
        place.path(&mut self.cs, &self.active).unwrap()
    }
}

fn keys_agree<F: PrimeField>() {
    let (slot, k, j) = (word(9), word(1), word(2));
    let mut circuit = Circuit::<F>::new();
    let slot_limbs = circuit.number(&slot);
    let key = plain_key(&mut circuit.cs, &circuit.active, &circuit.address, &slot_limbs).unwrap();
    assert_eq!(key.value(), Some(Place::Plain(slot).key(&ACCOUNT)));

    let (k_limbs, j_limbs) = (circuit.number(&k), circuit.number(&j));
    let base = Parent::number(&slot_limbs);
    let native = Place::Plain(slot).entry(k).unwrap();
    let entry = HashedPlace::second(&k_limbs, &base);
    // Six elements are variable beside the account; one permutation.
    assert_eq!(circuit.expect(&entry, &native, 3), 384 - 3 * 2);
    let array = Place::Plain(slot).items().unwrap();
    circuit.expect(&HashedPlace::one(&base), &array, u64::MAX);
    // Nested: a mapping in the third field of an entry.
    let path = circuit.path(&entry);
    let two = circuit.offset(2);
    let field = native.clone().plus(2).unwrap();
    let parent = Parent::place(&path, &two);
    circuit.expect(&HashedPlace::second(&j_limbs, &parent), &field.clone().entry(j).unwrap(), 1);
    circuit.expect(&HashedPlace::one(&parent), &field.clone().items().unwrap(), 5);
    circuit.expect(&HashedPlace::first([&path, &two], &j_limbs), &field.clone().vyper_entry(j).unwrap(), 0);
    // Many words.
    for (count, at) in [(3, None), (3, Some(0)), (4, Some(3)), (7, Some(4)), (7, None)] {
        let mut words = Vec::new();
        let mut parts = Vec::new();
        for i in 0..count {
            if at == Some(i) {
                words.push([path.clone(), two.clone()]);
                parts.push(Part::Place(field.clone()));
            } else {
                words.push(circuit.number(&word(i as u64)));
                parts.push(Part::Word(word(i as u64)));
            }
        }
        let active = circuit.active.clone();
        let many = HashedPlace::more(&mut circuit.cs, &active, &words, at).unwrap();
        circuit.expect(&many, &Place::hash(parts).unwrap(), 1);
    }
}

#[test]
fn keys_in_the_circuit_are_the_keys_natively() {
    keys_agree::<Fr>();
    keys_agree::<blstrs::Scalar>();
}

#[test]
fn every_value_of_a_key_is_forced() {
    let mut circuit = Circuit::<Fr>::new();
    let (slot, k) = (circuit.number(&word(9)), circuit.number(&word(1)));
    let zero = circuit.offset(0);
    let entry = HashedPlace::second(&k, &Parent::number(&slot));
    let path = circuit.path(&entry);
    let outer = HashedPlace::first([&path, &zero], &k);
    let key = outer.key(&mut circuit.cs, &circuit.active.clone(), &circuit.address.clone(), &zero).unwrap();
    let expected = Lc::constant(key.value().unwrap());
    zvm_backend_circuit::gadgets::enforce_equal(&mut circuit.cs, || "key".into(), &key, &expected);
    assert_eq!(circuit.cs.verdict(), Ok(()));
    for (aux, rows) in circuit.cs.rows_by_aux().iter().enumerate().skip(1) {
        for delta in [Fr::from(1), -from_u256::<Fr>(&word(4))] {
            let broken = circuit.cs.broken_by(aux, delta, rows).is_some();
            assert!(broken, "{} is not forced", circuit.cs.aux_name(aux));
        }
    }
}

/// Less than three words have forms of their own; more than the limit have none.
#[test]
fn lists_of_words_have_limits() {
    let mut circuit = Circuit::<Fr>::new();
    let words: Vec<[Lc<Fr>; 2]> = (0..MAX_WORDS as u64 + 1).map(|i| circuit.number(&word(i))).collect();
    let active = circuit.active.clone();
    for (count, place) in [(2, None), (MAX_WORDS + 1, None), (3, Some(3))] {
        assert!(HashedPlace::more(&mut circuit.cs, &active, &words[..count], place).is_err());
    }
    assert_eq!(Place::hash(Vec::new()), Err(PlaceError::NoWords));
    let part = |i: u64| Part::Word(word(i));
    assert_eq!(Place::hash((0..MAX_WORDS as u64 + 1).map(part).collect()), Err(PlaceError::TooManyWords));
    let array = Part::Place(plain(1).items().unwrap());
    assert_eq!(Place::hash(vec![array.clone(), array]), Err(PlaceError::TwoPlaces));
    assert_eq!(plain(1).items().unwrap().plus(u64::MAX).unwrap().plus(1), Err(PlaceError::Offset));
    assert_eq!(Place::Plain(U256::MAX).plus(1), Err(PlaceError::Offset));
}
