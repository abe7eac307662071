//! The byte memory of an execution, as the EVM defines it: zero at first, growing in words of 32 bytes as it is touched.

use crate::Word;

/// The largest memory an execution may touch, in bytes. On the EVM a memory of this size costs more than 8·10^9 gas, so
/// that an execution which needs more runs out of gas there: a limit of ours, not an outcome.
pub const MEMORY_LIMIT: usize = 1 << 26;

/// More memory was touched than [`MEMORY_LIMIT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLimit;

/// Byte memory.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    bytes: Vec<u8>,
}

impl Memory {
    /// The size of touched memory in bytes, a multiple of 32.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The place of `len` bytes at `offset`, after touching them. Nothing is touched when `len` is zero.
    ///
    /// # Errors
    /// When the bytes lie beyond the limit.
    pub fn touch(&mut self, offset: Word, len: Word) -> Result<core::ops::Range<usize>, MemoryLimit> {
        if len.is_zero() {
            return Ok(0..0);
        }
        let offset = usize::try_from(offset).map_err(|_| MemoryLimit)?;
        let len = usize::try_from(len).map_err(|_| MemoryLimit)?;
        let end = offset.checked_add(len).filter(|&end| end <= MEMORY_LIMIT).ok_or(MemoryLimit)?;
        if end > self.bytes.len() {
            self.bytes.resize(end.next_multiple_of(32), 0);
        }
        Ok(offset..end)
    }

    /// The word at `offset`.
    ///
    /// # Errors
    /// When it lies beyond the limit.
    pub fn load(&mut self, offset: Word) -> Result<Word, MemoryLimit> {
        let range = self.touch(offset, Word::from(32))?;
        Ok(Word::from_be_slice(&self.bytes[range]))
    }

    /// Stores `bytes` at `offset`.
    ///
    /// # Errors
    /// When they lie beyond the limit.
    pub fn store(&mut self, offset: Word, bytes: &[u8]) -> Result<(), MemoryLimit> {
        let range = self.touch(offset, Word::from(bytes.len()))?;
        self.bytes[range].copy_from_slice(bytes);
        Ok(())
    }

    /// A copy of `len` bytes at `offset`.
    ///
    /// # Errors
    /// When they lie beyond the limit.
    pub fn read(&mut self, offset: Word, len: Word) -> Result<Vec<u8>, MemoryLimit> {
        let range = self.touch(offset, len)?;
        Ok(self.bytes[range].to_vec())
    }

    /// Copies `len` bytes from `source`, which is zero past its end, to `to`.
    ///
    /// # Errors
    /// When the bytes written lie beyond the limit.
    pub fn copy_padded(&mut self, to: Word, source: &[u8], from: Word, len: Word) -> Result<(), MemoryLimit> {
        let range = self.touch(to, len)?;
        let from = usize::try_from(from).unwrap_or(usize::MAX).min(source.len());
        let available = &source[from..];
        let count = available.len().min(range.len());
        let target = &mut self.bytes[range];
        target[..count].copy_from_slice(&available[..count]);
        target[count..].fill(0);
        Ok(())
    }

    /// Copies `len` bytes within memory, as if through a buffer.
    ///
    /// # Errors
    /// When either range lies beyond the limit.
    pub fn copy_within(&mut self, to: Word, from: Word, len: Word) -> Result<(), MemoryLimit> {
        let source = self.touch(from, len)?;
        let target = self.touch(to, len)?;
        self.bytes.copy_within(source, target.start);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn n(value: u64) -> Word {
        Word::from(value)
    }

    #[test]
    fn grows_in_words_and_only_when_touched() {
        let mut memory = Memory::default();
        memory.store(n(1), &[7]).unwrap();
        assert_eq!(memory.size(), 32);
        assert_eq!(memory.load(n(1)).unwrap() >> 248, n(7));
        assert_eq!(memory.size(), 64);
        memory.copy_padded(Word::MAX, &[1], n(0), n(0)).unwrap();
        assert_eq!(memory.size(), 64);
    }

    #[test]
    fn the_limit_is_an_error() {
        let mut memory = Memory::default();
        assert_eq!(memory.load(Word::MAX), Err(MemoryLimit));
        assert_eq!(memory.load(n(MEMORY_LIMIT as u64 - 31)), Err(MemoryLimit));
        assert_eq!(memory.read(n(u64::MAX), n(2)), Err(MemoryLimit));
        assert_eq!(memory.size(), 0);
    }

    #[test]
    fn copies_overlap_and_pad() {
        let mut memory = Memory::default();
        memory.copy_padded(n(0), &[1, 2, 3], n(1), n(4)).unwrap();
        assert_eq!(memory.read(n(0), n(4)).unwrap(), [2, 3, 0, 0]);
        memory.copy_within(n(1), n(0), n(3)).unwrap();
        assert_eq!(memory.read(n(0), n(4)).unwrap(), [2, 2, 3, 0]);
        memory.copy_padded(n(0), &[9], Word::MAX, n(2)).unwrap();
        assert_eq!(memory.read(n(0), n(4)).unwrap(), [0, 0, 3, 0]);
    }
}
