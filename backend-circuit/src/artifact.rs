//! Files: proofs (`.zvmp`), compiled programs (`.zvma`), and what stands at the head of Groth16 keys (`.zvmk`).
//!
//! All are a magic number with a version, then fields of fixed size or with their length before them, little endian, and
//! nothing after. Reading never allocates more than the file is long. What a file says is never trusted: a proof's
//! calldata, outcome and plan are inputs of verification, and a program's digest is computed again.

use zvm_ir::{Address, Env, Halt, Log, Outcome, Word};

use crate::execute::Call;

/// The first bytes of a proof.
pub const PROOF_MAGIC: [u8; 4] = *b"ZVMP";
/// The first bytes of a compiled program.
pub const PROGRAM_MAGIC: [u8; 4] = *b"ZVMA";
/// The first bytes of Groth16 keys.
pub const KEYS_MAGIC: [u8; 4] = *b"ZVMK";
/// The version of the formats.
pub const VERSION: u8 = 2;
/// The most topics of a log.
const MAX_TOPICS: u8 = 4;

/// Why a file cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// The file does not start with the magic number.
    #[error("this is not a {0} file")]
    Magic(&'static str),
    /// The file has a version that this compiler does not know.
    #[error("the file has format version {0}, this compiler reads version {VERSION}")]
    Version(u8),
    /// The file ends within a field.
    #[error("the file is truncated: it ends within the {0}")]
    Truncated(&'static str),
    /// A field has a value that it cannot have.
    #[error("the {0} is malformed")]
    Malformed(&'static str),
    /// Something follows the last field.
    #[error("{0} bytes follow the end of the file's content")]
    Trailing(usize),
}

/// Which proof a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The folded instances with their witness: large, made at once, can be continued.
    Recursive,
    /// A short argument of knowledge of it.
    Compressed,
    /// One proof of the whole execution, for contracts.
    Groth16,
}

impl Kind {
    /// The name in text and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Recursive => "recursive",
            Self::Compressed => "compressed",
            Self::Groth16 => "groth16",
        }
    }
}

/// A part of a proof with a step circuit of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentProof {
    /// The plan, as [`crate::plan::Plan::to_numbers`].
    pub plan: Vec<(u32, u32)>,
    /// How many steps it folds.
    pub steps: u64,
    /// The proof in the encoding of the proof system.
    pub proof: Vec<u8>,
}

/// A proof with everything that verification needs besides the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProofFile {
    /// Which proof it is.
    pub kind: Kind,
    /// The calls, in the order in which they ran.
    pub calls: Vec<Call>,
    /// What each of them did: halt, data and logs.
    pub outcomes: Vec<Outcome>,
    /// The state tree's root before and after, as integers below the field's modulus; zero for programs without storage.
    pub roots: [Word; 2],
    /// The hash of the prover's advice, from which the challenges come; zero for programs without state.
    pub advice: Word,
    /// The parts of the proof: each starts from the state in which the one before it ends.
    pub segments: Vec<SegmentProof>,
}

impl ProofFile {
    /// How many steps all segments fold.
    pub fn steps(&self) -> u64 {
        self.segments.iter().fold(0, |steps: u64, segment| steps.saturating_add(segment.steps))
    }

    /// The file's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new(PROOF_MAGIC);
        out.0.push(match self.kind {
            Kind::Recursive => 0,
            Kind::Compressed => 1,
            Kind::Groth16 => 2,
        });
        out.0.extend((self.calls.len() as u64).to_le_bytes());
        for call in &self.calls {
            out.bytes(&call.calldata);
            write_env(&mut out, &call.env);
        }
        out.0.extend((self.outcomes.len() as u64).to_le_bytes());
        self.outcomes.iter().for_each(|outcome| write_outcome(&mut out, outcome));
        self.roots.iter().chain([&self.advice]).for_each(|word| out.word(word));
        out.segments(&self.segments);
        out.0
    }

    /// Reads a file.
    ///
    /// # Errors
    /// See [`FileError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, FileError> {
        let mut from = Reader::new(bytes, PROOF_MAGIC, "ZVM proof")?;
        let kind = match from.byte("kind of proof")? {
            0 => Kind::Recursive,
            1 => Kind::Compressed,
            2 => Kind::Groth16,
            _ => return Err(FileError::Malformed("kind of proof")),
        };
        let count = from.number("number of calls")?;
        let (mut calls, mut outcomes) = (Vec::new(), Vec::new());
        for _ in 0..count {
            // The file's length bounds how often this can go well.
            let calldata = from.bytes("calldata")?.to_vec();
            calls.push(Call { calldata, env: read_env(&mut from)? });
        }
        for _ in 0..from.number("number of outcomes")? {
            outcomes.push(read_outcome(&mut from)?);
        }
        let roots = [from.word("state root")?, from.word("state root")?];
        let advice = from.word("hash of advice")?;
        let segments = from.segments()?;
        from.end()?;
        Ok(Self { kind, calls, outcomes, roots, advice, segments })
    }
}

/// A compiled program: everything a verifier needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramFile {
    /// The version of the compiler that wrote it.
    pub compiler: String,
    /// The IR, as text.
    pub text: String,
    /// A plan for it, as [`crate::plan::Plan::to_numbers`].
    pub plan: Vec<(u32, u32)>,
    /// The digest of the circuit of program and plan.
    pub digest: Word,
}

impl ProgramFile {
    /// The file's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new(PROGRAM_MAGIC);
        out.bytes(self.compiler.as_bytes());
        out.bytes(self.text.as_bytes());
        out.plan(&self.plan);
        out.word(&self.digest);
        out.0
    }

    /// Reads a file.
    ///
    /// # Errors
    /// See [`FileError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, FileError> {
        let mut from = Reader::new(bytes, PROGRAM_MAGIC, "compiled ZVM program")?;
        let text = |bytes: &[u8], what| String::from_utf8(bytes.to_vec()).map_err(|_| FileError::Malformed(what));
        let compiler = text(from.bytes("compiler version")?, "compiler version")?;
        let program = text(from.bytes("program")?, "program")?;
        let plan = from.plan()?;
        let digest = from.word("digest")?;
        from.end()?;
        Ok(Self { compiler, text: program, plan, digest })
    }
}

fn write_outcome(out: &mut Writer, outcome: &Outcome) {
    out.0.push(outcome.halt.code());
    out.bytes(&outcome.data);
    out.0.extend((outcome.logs.len() as u64).to_le_bytes());
    for log in &outcome.logs {
        out.0.extend(log.address);
        out.0.push(log.topics.len() as u8);
        log.topics.iter().for_each(|topic| out.word(topic));
        out.bytes(&log.data);
    }
}

fn read_outcome(from: &mut Reader<'_>) -> Result<Outcome, FileError> {
    let code = from.byte("kind of halt")?;
    let halt = [Halt::Return, Halt::Revert, Halt::Trap].into_iter().find(|halt| halt.code() == code);
    let halt = halt.ok_or(FileError::Malformed("kind of halt"))?;
    let mut outcome = Outcome::halted(halt, from.bytes("returned data")?.to_vec());
    for _ in 0..from.number("number of logs")? {
        let address = from.address("log")?;
        let count = from.byte("number of topics")?;
        if count > MAX_TOPICS {
            return Err(FileError::Malformed("number of topics"));
        }
        let topics = (0..count).map(|_| from.word("log")).collect::<Result<_, _>>()?;
        outcome.logs.push(Log { address, topics, data: from.bytes("log")?.to_vec() });
    }
    Ok(outcome)
}

/// Who made Groth16 keys, and so who could prove what is false with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This machine, in one go: for development only.
    InsecureLocal,
    /// A ceremony, whose parameters were imported.
    Ceremony,
}

impl Origin {
    /// The name in text and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InsecureLocal => "insecure-local",
            Self::Ceremony => "ceremony",
        }
    }
}

/// What stands at the head of a file of Groth16 keys: all that a verifier needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyHeader {
    /// Who made them.
    pub origin: Origin,
    /// The commitment to the program.
    pub program: Word,
    /// The digest of the circuit.
    pub circuit: Word,
    /// The rows of the circuit.
    pub rows: u64,
    /// The plan, as [`crate::plan::Plan::to_numbers`].
    pub plan: Vec<(u32, u32)>,
    /// The verifying key in the encoding of the proof system.
    pub verifying: Vec<u8>,
}

impl KeyHeader {
    /// The header's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new(KEYS_MAGIC);
        out.0.push(match self.origin {
            Origin::InsecureLocal => 0,
            Origin::Ceremony => 1,
        });
        out.word(&self.program);
        out.word(&self.circuit);
        out.0.extend(self.rows.to_le_bytes());
        out.plan(&self.plan);
        out.bytes(&self.verifying);
        out.0
    }

    /// Reads a header.
    ///
    /// # Errors
    /// See [`FileError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, FileError> {
        let mut from = Reader::new(bytes, KEYS_MAGIC, "ZVM key")?;
        let origin = match from.byte("origin")? {
            0 => Origin::InsecureLocal,
            1 => Origin::Ceremony,
            _ => return Err(FileError::Malformed("origin")),
        };
        let program = from.word("program")?;
        let circuit = from.word("circuit")?;
        let rows = from.number("number of rows")?;
        let plan = from.plan()?;
        let verifying = from.bytes("verifying key")?.to_vec();
        from.end()?;
        Ok(Self { origin, program, circuit, rows, plan, verifying })
    }
}

fn write_env(out: &mut Writer, env: &Env) {
    let Env {
        address,
        caller,
        origin,
        callvalue,
        gasprice,
        coinbase,
        timestamp,
        number,
        prevrandao,
        gaslimit,
        chainid,
        basefee,
        blobbasefee,
        selfbalance,
    } = env;
    for address in [address, caller, origin, coinbase] {
        out.0.extend(address);
    }
    for word in
        [callvalue, gasprice, timestamp, number, prevrandao, gaslimit, chainid, basefee, blobbasefee, selfbalance]
    {
        out.word(word);
    }
}

fn read_env(from: &mut Reader<'_>) -> Result<Env, FileError> {
    const WHAT: &str = "environment";
    let [address, caller, origin, coinbase] =
        [from.address(WHAT)?, from.address(WHAT)?, from.address(WHAT)?, from.address(WHAT)?];
    Ok(Env {
        address,
        caller,
        origin,
        coinbase,
        callvalue: from.word(WHAT)?,
        gasprice: from.word(WHAT)?,
        timestamp: from.word(WHAT)?,
        number: from.word(WHAT)?,
        prevrandao: from.word(WHAT)?,
        gaslimit: from.word(WHAT)?,
        chainid: from.word(WHAT)?,
        basefee: from.word(WHAT)?,
        blobbasefee: from.word(WHAT)?,
        selfbalance: from.word(WHAT)?,
    })
}

pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn new(magic: [u8; 4]) -> Self {
        let mut bytes = magic.to_vec();
        bytes.push(VERSION);
        Self(bytes)
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend((bytes.len() as u64).to_le_bytes());
        self.0.extend(bytes);
    }

    pub(crate) fn word(&mut self, word: &Word) {
        self.0.extend(word.to_be_bytes::<32>());
    }

    pub(crate) fn plan(&mut self, plan: &[(u32, u32)]) {
        self.0.extend((plan.len() as u64).to_le_bytes());
        for (region, count) in plan {
            self.0.extend(region.to_le_bytes());
            self.0.extend(count.to_le_bytes());
        }
    }

    pub(crate) fn segments(&mut self, segments: &[SegmentProof]) {
        self.0.extend((segments.len() as u64).to_le_bytes());
        for SegmentProof { plan, steps, proof } in segments {
            self.plan(plan);
            self.0.extend(steps.to_le_bytes());
            self.bytes(proof);
        }
    }
}

pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8], magic: [u8; 4], what: &'static str) -> Result<Self, FileError> {
        let rest = bytes.strip_prefix(&magic).ok_or(FileError::Magic(what))?;
        match rest.split_first() {
            None => Err(FileError::Truncated("version")),
            Some((&VERSION, rest)) => Ok(Self(rest)),
            Some((&version, _)) => Err(FileError::Version(version)),
        }
    }

    fn take(&mut self, len: u64, what: &'static str) -> Result<&'a [u8], FileError> {
        let len = usize::try_from(len).map_err(|_| FileError::Truncated(what))?;
        let (taken, rest) = self.0.split_at_checked(len).ok_or(FileError::Truncated(what))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], FileError> {
        self.take(N as u64, what)?.try_into().map_err(|_| FileError::Truncated(what))
    }

    pub(crate) fn byte(&mut self, what: &'static str) -> Result<u8, FileError> {
        self.array(what).map(|[byte]| byte)
    }

    pub(crate) fn number(&mut self, what: &'static str) -> Result<u64, FileError> {
        self.array(what).map(u64::from_le_bytes)
    }

    pub(crate) fn bytes(&mut self, what: &'static str) -> Result<&'a [u8], FileError> {
        let len = self.number(what)?;
        self.take(len, what)
    }

    pub(crate) fn word(&mut self, what: &'static str) -> Result<Word, FileError> {
        self.array(what).map(Word::from_be_bytes::<32>)
    }

    fn address(&mut self, what: &'static str) -> Result<Address, FileError> {
        self.array(what)
    }

    pub(crate) fn plan(&mut self) -> Result<Vec<(u32, u32)>, FileError> {
        let len = self.number("plan")?;
        let bytes = self.take(len.checked_mul(8).ok_or(FileError::Truncated("plan"))?, "plan")?;
        let number = |bytes: &[u8]| bytes.iter().rev().fold(0u32, |number, &byte| number << 8 | u32::from(byte));
        Ok(bytes.chunks_exact(8).map(|pair| (number(&pair[..4]), number(&pair[4..]))).collect())
    }

    /// Grows as segments are read, so that a number of segments that lies allocates nothing.
    pub(crate) fn segments(&mut self) -> Result<Vec<SegmentProof>, FileError> {
        let mut segments = Vec::new();
        for _ in 0..self.number("number of segments")? {
            let plan = self.plan()?;
            let steps = self.number("number of steps")?;
            let proof = self.bytes("proof")?.to_vec();
            segments.push(SegmentProof { plan, steps, proof });
        }
        Ok(segments)
    }

    pub(crate) fn end(self) -> Result<(), FileError> {
        if self.0.is_empty() { Ok(()) } else { Err(FileError::Trailing(self.0.len())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proof() -> ProofFile {
        ProofFile {
            kind: Kind::Compressed,
            calls: vec![Call { calldata: vec![1, 2, 3], env: Env { number: Word::MAX, ..Env::default() } }],
            outcomes: vec![Outcome {
                logs: vec![Log { address: [3; 20], topics: vec![Word::MAX; 3], data: vec![7; 33] }],
                ..Outcome::halted(Halt::Return, vec![9; 40])
            }],
            roots: [Word::from(5), Word::from(6)],
            advice: Word::from(7),
            segments: vec![
                SegmentProof { plan: vec![(0, 1), (1, 300), (2, u32::MAX)], steps: 7, proof: vec![5; 1000] },
                SegmentProof { plan: vec![(3, 1)], steps: 1 << 40, proof: vec![] },
            ],
        }
    }

    #[test]
    fn files_round_trip() {
        assert_eq!(ProofFile::decode(&proof().encode()), Ok(proof()));
        let program = ProgramFile {
            compiler: "zvm 0.1.0".into(),
            text: "zvm 1\n".into(),
            plan: vec![(3, 4)],
            digest: Word::from(12),
        };
        assert_eq!(ProgramFile::decode(&program.encode()), Ok(program));
    }

    #[test]
    fn malformed_files_are_refused() {
        let bytes = proof().encode();
        for len in 0..bytes.len() {
            assert!(ProofFile::decode(&bytes[..len]).is_err(), "{len} bytes of {}", bytes.len());
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert_eq!(ProofFile::decode(&longer), Err(FileError::Trailing(1)));
        let mut version = bytes.clone();
        version[4] = 9;
        assert_eq!(ProofFile::decode(&version), Err(FileError::Version(9)));
        let mut kind = bytes.clone();
        kind[5] = 3;
        assert_eq!(ProofFile::decode(&kind), Err(FileError::Malformed("kind of proof")));
        // A length that no file can have allocates nothing.
        let mut huge = bytes;
        huge[14..22].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(ProofFile::decode(&huge), Err(FileError::Truncated("calldata")));
        assert_eq!(ProgramFile::decode(b"ZVMP\x01"), Err(FileError::Magic("compiled ZVM program")));
    }
}
