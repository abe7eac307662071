//! A real token on L1: OpenZeppelin's ERC20PresetFixedSupply as its constructor leaves it. One `transfer`, and then ten calls as one
//! proof, move the root that an anchor holds; everything else leaves it where it is.
//!
//! One circuit has room for both, so keys are made once.

#[path = "../corpus/mod.rs"]
#[expect(dead_code, reason = "shared with tests that are lists of trials")]
mod corpus;

use revm::primitives::Address;
use zvm::artifact::{self, Expected, ProofFile, Room, ShortCircuit, VerifiedShort};
use zvm::evm::Evm;
use zvm::evm::deploy::{arguments, deploy};
use zvm::{Call, Error, Exit, Immutables, Input, Program, Source as Given, Start, State, l1};
use zvm_backend_circuit::keys::{Keys, Source};
use zvm_ir::{Env, Halt, Word};

use super::chain::{Chain, FORKS};
use super::{BAR, anchor_creation, call, folder, modulus, refused};

const FILE: &str = "contracts/openzeppelin__ERC20PresetFixedSupply__0.8.4-o200.json";
/// Who deploys, and so owns the supply: the caller unless another is named.
const OWNER: &str = "0xcacacacacacacacacacacacacacacacacacacaca";
const ALICE: &str = "0xa11ce00000000000000000000000000000000001";
const BOB: &str = "0xb0b0000000000000000000000000000000000002";

/// What is proved, from which state.
struct Batch {
    calls: Vec<Call>,
    state: State,
}

struct Token {
    input: Input,
    program: Program,
    runtime: Vec<u8>,
    state: State,
}

impl Token {
    fn deployed(path: &str) -> Self {
        let mut input = Input::read(path, None).expect("readable");
        let Given::Contract(contract) = &mut input.source else { panic!("a contract is expected") };
        let args = ["Token", "TOK", "1000000", OWNER].map(serde_json::Value::from);
        let args = arguments(None, &args, contract.abi.as_ref()).expect("encodes");
        let creation = [contract.creation.as_deref().expect("creation code"), &args].concat();
        let deployment = deploy(&creation, &Env::default(), &State::default()).expect("deployed");
        contract.runtime.clone_from(&deployment.runtime);
        contract.immutables = Immutables::Deployed;
        let program = Program::load(&input).expect("inside the subset");
        Self { input, program, runtime: deployment.runtime, state: deployment.state }
    }

    fn transfer(&self, from: &str, to: &str, amount: u64) -> Call {
        let mut call = call(&self.input, "transfer", &[to, &amount.to_string()]);
        call.env.caller = zvm::call::address("caller", from).expect("an address");
        call.env.origin = call.env.caller;
        call
    }

    /// Runs calls in revm, from the state; how they halt. They are to be proved from the state that is given back.
    fn run(&mut self, calls: Vec<Call>) -> (Batch, Vec<Halt>) {
        let before = self.state.clone();
        let evm = Evm::new(&self.runtime);
        let halts = calls.iter().map(|call| {
            let env = call.env_in(&self.state);
            let execution = evm.run(&call.calldata, &env, &self.state).expect("runs");
            self.state.apply(&execution.changes);
            execution.outcome.halt
        });
        let halts = halts.collect();
        (Batch { calls, state: before }, halts)
    }
}

fn prove(program: &Program, keys: &Keys, Batch { calls, state }: &Batch) -> (ProofFile, VerifiedShort) {
    let file = Source::File(&keys.path);
    let (proved, _) = artifact::prove_short(program, calls, state, file).expect("a proof that verifies");
    let verified = verify(program, keys, &proved.file).expect("valid");
    (proved.file, verified)
}

fn verify(program: &Program, keys: &Keys, file: &ProofFile) -> Result<VerifiedShort, Error> {
    artifact::verify_short("proof", &file.encode(), program, &Expected::default(), Source::File(&keys.path))
}

#[test]
fn a_token_moves_an_anchor() {
    if std::env::var_os("ZVM_SLOW").is_none() {
        eprintln!("skipped: set ZVM_SLOW=1");
        return;
    }
    let Some(path) = corpus::folder().map(|folder| folder.join(FILE)).filter(|path| path.exists()) else {
        assert!(std::env::var_os("CI").is_none_or(|value| value != "true"), "{FILE} is not in the corpus, and CI=true");
        eprintln!("skipped: {FILE} of the corpus is needed");
        return;
    };
    let mut token = Token::deployed(&path.display().to_string());
    // Both have something already. What places the slots of a state have is known from the calls, so they touch all of them.
    token.run(vec![token.transfer(OWNER, ALICE, 500)]);
    let (one, halts) = token.run(vec![token.transfer(OWNER, ALICE, 30)]);
    assert_eq!(halts, [Halt::Return]);
    let transfers = [
        (OWNER, ALICE, 100),
        (ALICE, BOB, 631), // more than there is: it reverts, and the batch goes on
        (ALICE, OWNER, 200),
        (ALICE, OWNER, 0),
        (ALICE, BOB, 400), // to somebody new
        (BOB, ALICE, 1),
        (BOB, OWNER, 2),
        (ALICE, BOB, 1),
        (OWNER, OWNER, 2),
        (BOB, ALICE, 398), // all that there is
    ];
    let (ten, halts) =
        token.run(transfers.iter().map(|&(from, to, amount)| token.transfer(from, to, amount)).collect());
    let reverts = halts.iter().filter(|&&halt| halt == Halt::Revert).count();
    assert_eq!((halts.len(), halts[1], reverts), (10, Halt::Revert, 1));

    let each = [&one.calls[..], &ten.calls[..]];
    let circuit = ShortCircuit::new(&token.program, Room::Calls(&each, Start::State(&one.state))).expect("provable");
    let keys = circuit.insecure_setup(Source::Folder(folder())).expect("keys");
    println!("{} rows, {} slots", keys.header.rows, circuit.slots());
    let contracts = l1::contracts(&keys).expect("compiles");
    let (first_file, first) = prove(&token.program, &keys, &one);
    let (file, second) = prove(&token.program, &keys, &ten);
    assert_eq!((file.calls.len(), file.outcomes.len()), (10, 10));
    assert_eq!(file.outcomes.iter().map(|outcome| outcome.halt).collect::<Vec<_>>(), halts);
    assert!(file.outcomes.iter().all(|outcome| outcome.logs.len() == usize::from(outcome.halt == Halt::Return)));
    let [[before, between], [from, after]] = [first_file.roots, file.roots];
    assert_eq!(between, from, "the second goes on where the first ends");
    assert!(before != between && between != after && before != after);

    attack_the_native_verifier(&token.program, &keys, &first_file, &file);

    for fork in FORKS {
        let mut chain = Chain::new(fork);
        let verifier = chain.deploy(&contracts.verifier.creation).expect("deployed");
        let anchor = chain.deploy(&anchor_creation(&contracts, modulus(), before)).expect("deployed");
        for proof in [&first, &second] {
            let receipt = chain.call(verifier, &proof.verify_calldata);
            assert!(receipt.success && receipt.gas <= BAR, "{fork:?}: {receipt:?}");
            println!("{fork:?}: {} gas", receipt.gas);
            let (good, elements) = proof.verify_calldata.split_at(516);
            let swapped = [good, &elements[32..64], &elements[..32], &elements[64..]].concat();
            refused(&mut chain, verifier, "swapped roots", &swapped);
        }
        let step = if fork == FORKS[0] { 7 } else { 61 };
        every_refusal(&mut chain, anchor, before, &first.advance_calldata, step);
        refused(&mut chain, anchor, "a proof from a later root", &second.advance_calldata);
        assert_eq!(chain.storage(anchor, 0), before);

        let gas = chain.call(anchor, &first.advance_calldata);
        assert!(gas.success);
        println!("{fork:?}: advance takes {} gas", gas.gas);
        assert_eq!(chain.storage(anchor, 0), between);
        refused(&mut chain, anchor, "the same transfer again", &first.advance_calldata);
        assert_eq!(chain.storage(anchor, 0), between);
        assert!(chain.call(anchor, &second.advance_calldata).success);
        assert_eq!(chain.storage(anchor, 0), after);

        // An anchor that is elsewhere, with the roots of the first proof exchanged: it would be taken back.
        let there = chain.deploy(&anchor_creation(&contracts, modulus(), between)).expect("deployed");
        let mut backwards = first.advance_calldata.clone();
        backwards[516..548].copy_from_slice(&before.to_be_bytes::<32>());
        refused(&mut chain, there, "swapped roots", &backwards);
        assert_eq!(chain.storage(there, 0), between);
        // A foreign root.
        let foreign = chain.deploy(&anchor_creation(&contracts, modulus(), Word::from(7))).expect("deployed");
        refused(&mut chain, foreign, "a foreign root", &first.advance_calldata);
        assert_eq!(chain.storage(foreign, 0), Word::from(7));
    }
}

/// Bytes altered and lengths changed: refused, and the root stays.
fn every_refusal(chain: &mut Chain, anchor: Address, root: Word, good: &[u8], step: usize) {
    for at in (0..good.len()).step_by(step) {
        let mut altered = good.to_vec();
        altered[at] ^= 0x80 >> (at % 8);
        refused(chain, anchor, &format!("byte {at}"), &altered);
        assert_eq!(chain.storage(anchor, 0), root, "byte {at}");
    }
    for len in [0, 4, good.len() - 1] {
        refused(chain, anchor, "truncated", &good[..len]);
    }
    refused(chain, anchor, "longer", &[good, &[0; 32]].concat());
    assert_eq!(chain.storage(anchor, 0), root);
}

fn attack_the_native_verifier(program: &Program, keys: &Keys, one: &ProofFile, ten: &ProofFile) {
    let attack = |what: &str, file: &ProofFile| {
        let error = verify(program, keys, file).expect_err(what);
        assert_eq!(error.exit(), Exit::No, "{what}: {error}");
    };
    let alter = |what: &str, change: &dyn Fn(&mut ProofFile)| {
        let mut file = ten.clone();
        change(&mut file);
        assert_ne!(file, *ten, "{what}: nothing was altered");
        attack(what, &file);
    };
    alter("swapped roots", &|file| file.roots.reverse());
    alter("a foreign root before", &|file| file.roots[0] = Word::from(7));
    alter("a foreign root after", &|file| file.roots[1] = Word::from(7));
    alter("the roots of the other proof", &|file| file.roots = one.roots);
    alter("no change", &|file| file.roots[1] = file.roots[0]);
    alter("a call less", &|file| {
        file.calls.pop();
        file.outcomes.pop();
    });
    alter("a call twice", &|file| {
        file.calls.push(file.calls[9].clone());
        file.outcomes.push(file.outcomes[9].clone());
    });
    alter("calls in another order", &|file| {
        file.calls.swap(5, 6);
        file.outcomes.swap(5, 6);
    });
    alter("another amount", &|file| file.calls[0].calldata[67] ^= 1);
    alter("another sender", &|file| file.calls[0].env.caller[19] ^= 1);
    alter("another account", &|file| file.calls.iter_mut().for_each(|call| call.env.address[0] ^= 1));
    alter("a revert that is none", &|file| file.outcomes[1] = file.outcomes[0].clone());
    alter("a log less", &|file| file.outcomes[0].logs.clear());
    alter("another amount in a log", &|file| file.outcomes[0].logs[0].data[31] ^= 1);
    alter("the proof of the other batch", &|file| file.segments[0].proof.clone_from(&one.segments[0].proof));
    for at in (0..192).step_by(5) {
        let mut file = ten.clone();
        file.segments[0].proof[at] ^= 1 << (at % 8);
        verify(program, keys, &file).expect_err("an altered byte");
    }
}
