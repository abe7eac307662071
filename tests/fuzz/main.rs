//! The bodies of the fuzz targets, on a bounded number of inputs from fixed seeds, and on every input that ever found
//! something. `ZVM_FUZZ` is the number of inputs per target, `ZVM_SEED` the seed.

mod bodies;

use bodies::{generator, parsers, passes, programs};
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Inputs for `body`: random bytes of growing length.
fn random(default: usize, len: usize, mut body: impl FnMut(&[u8])) {
    let (count, mut rng) = settings(default);
    for _ in 0..count {
        let mut bytes = vec![0; rng.random_range(1..=len)];
        rng.fill_bytes(&mut bytes);
        body(&bytes);
    }
}

/// Inputs for `body`: samples with some bytes or pieces changed.
fn mutated(default: usize, samples: &[Vec<u8>], body: fn(&[u8])) {
    let (count, mut rng) = settings(default);
    samples.iter().for_each(|sample| body(sample));
    for _ in 0..count {
        let mut bytes = samples[rng.random_range(0..samples.len())].clone();
        for _ in 0..rng.random_range(1..=6) {
            mutate(&mut rng, &mut bytes, samples);
        }
        body(&bytes);
    }
}

fn mutate(rng: &mut ChaCha8Rng, bytes: &mut Vec<u8>, samples: &[Vec<u8>]) {
    let at = rng.random_range(0..=bytes.len());
    let end = rng.random_range(at..=bytes.len().min(at + 40));
    match rng.random_range(0..7) {
        0 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
        1 if at < bytes.len() => bytes[at] = b"0123456789abcdefx{}[]\",:@(); \n-"[rng.random_range(0..31)],
        2 => drop(bytes.drain(at..end)),
        3 => {
            let piece = bytes[at..end].to_vec();
            let to = rng.random_range(0..=bytes.len());
            bytes.splice(to..to, piece);
        }
        4 => {
            let other = &samples[rng.random_range(0..samples.len())];
            let from = rng.random_range(0..=other.len());
            let piece = &other[from..other.len().min(from + 60)];
            bytes.splice(at..end, piece.iter().copied());
        }
        5 => drop(bytes.splice(at..at, *b"99999999999999999999999999")),
        _ => bytes.truncate(at.max(8)),
    }
}

fn settings(default: usize) -> (usize, ChaCha8Rng) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let count = number("ZVM_FUZZ").map_or(default, |count| count as usize);
    (count, ChaCha8Rng::seed_from_u64(number("ZVM_SEED").unwrap_or(1)))
}

/// Files below `examples`, by the end of their name.
fn examples(end: &str) -> Vec<Vec<u8>> {
    let (mut pending, mut found) = (vec![concat!(env!("CARGO_MANIFEST_DIR"), "/examples").into()], Vec::new());
    while let Some(folder) = pending.pop() {
        let mut paths: Vec<std::path::PathBuf> = std::fs::read_dir::<std::path::PathBuf>(folder)
            .expect("a folder")
            .map(|e| e.expect("an entry").path())
            .collect();
        paths.sort();
        for path in paths {
            if path.is_dir() {
                pending.push(path);
            } else if path.to_string_lossy().ends_with(end) {
                found.push(std::fs::read(path).expect("a file"));
            }
        }
    }
    found
}

#[test]
fn raw() {
    random(400, 120, programs::raw);
    // Bytes that are mostly cheap instructions get further.
    let (count, mut rng) = settings(400);
    for _ in 0..count {
        let bytes: Vec<u8> = (0..rng.random_range(2..120)).map(|_| rng.random_range(0..0xa5)).collect();
        programs::raw(&bytes);
    }
}

#[test]
fn structured() {
    random(150, 400, programs::structured);
}

#[test]
fn passes_keep_outcomes() {
    random(60, 400, passes::passes);
}

/// Most generated programs lift and run to an end that is no trap.
#[test]
fn generated_programs_are_programs() {
    let (mut compiled, mut made) = (0, 0);
    random(60, 400, |bytes| {
        let mut source = arbitrary::Unstructured::new(bytes);
        if let Ok(code) = generator::program(&mut source) {
            made += 1;
            compiled += usize::from(programs::agree(&code, source.take_rest()));
        }
    });
    assert!(2 * compiled > made, "{compiled} of {made} programs are compiled");
}

#[test]
fn ir_text() {
    let module = |code: &str| {
        let input = zvm::Input::read(code, None).expect("bytecode");
        zvm::Program::load(&input).expect("a program").module.to_string().into_bytes()
    };
    let samples = [
        module("0x5f35600a575f5ffd5b60015f5560205fa0"),
        module("0x5f355b806001900380600256"),
        module("0x365f5f37365f2080600757005b5f5260205ff3"),
        b"zvm 1\ndata0 = 0x0102\nentry @main\n\nfunc @main() {\nblock0:\n    v0: u8 = iconst 200 @0001\n    v1: u8 = call @f(v0)\n    \
          brif v1, block1, block2(v0)\n}\n"
            .to_vec(),
    ];
    mutated(3000, &samples, parsers::ir_text);
}

#[test]
fn input() {
    let mut samples = examples(".json");
    samples.push(
        br#"{"contracts":{"a.sol:A":{"bin-runtime":"6001","abi":"[]"},"a.sol:B":{"bin-runtime":"00"}}}"#.to_vec(),
    );
    samples.push(
        br#"{"deployedBytecode":{"object":"0x600160025500","immutableReferences":{"1":[{"start":1,"length":2}]},
        "linkReferences":{"a.sol":{"L":[{"start":3,"length":20}]}}},"abi":[{"type":"function","name":"f"}]}"#
            .to_vec(),
    );
    samples.push(b"0x7f0000000000000000000000000000000000000000000000000000000000000000".to_vec());
    mutated(300, &samples, parsers::input);
}

#[test]
fn state() {
    let sample = br#"{"0x00000000000000000000000000000000000000aa":{"balance":"0x10","nonce":3,"code":"0x6001","storage":{"0x0":"0x1",
        "0x02":"7"}},"0x00000000000000000000000000000000000000bb":{"codeHash":"0x00"}}"#;
    mutated(3000, &[sample.to_vec()], parsers::state);
}

#[test]
fn calls() {
    let samples = [
        br#"[{"sig":"transfer(address,uint256)","args":["0x00000000000000000000000000000000000000aa","1000"],"value":"0"}]"#.to_vec(),
        br#"[{"sig":"f","args":["7","0x1234"],"caller":"0x00000000000000000000000000000000000000bb","block":{"number":"9"}},
            {"calldata":"0xabcdef","gasprice":3},{"sig":"g((bool,(uint8[3])[]),string)","args":[[true,[[1,2,3]]],"x"]}]"#
            .to_vec(),
    ];
    mutated(3000, &samples, parsers::calls);
}

#[test]
fn program_file() {
    random(1000, 200, parsers::program_file);
}

#[test]
fn proof_file() {
    random(1000, 400, parsers::proof_file);
}
