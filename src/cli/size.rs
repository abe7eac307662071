//! How large steps may be: options that `prove`, `compile` and `profile` share.

use clap::Args;
use zvm::artifact::Limits;

/// What plans have to keep to.
#[derive(Debug, Args)]
pub(super) struct Size {
    /// How many rows a step should have [default: what is expected to cost least].
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u64).range(1..))]
    rows_per_step: Option<u64>,
    /// How much memory proving may take, for example `1500M` or `4G` [default: 2G, or more where a program needs it].
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    max_memory: Option<u64>,
}

impl Size {
    pub(super) fn limits(&self) -> Limits {
        Limits { memory_bytes: self.max_memory, rows_per_step: self.rows_per_step }
    }
}

/// A number of bytes, with a suffix for powers of 1024.
fn bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let upper = text.to_ascii_uppercase();
    let digits = upper.trim_end_matches("IB").trim_end_matches('B');
    let (digits, shift) = match digits.chars().last() {
        Some('K') => (&digits[..digits.len() - 1], 10),
        Some('M') => (&digits[..digits.len() - 1], 20),
        Some('G') => (&digits[..digits.len() - 1], 30),
        _ => (digits, 0),
    };
    let number: u64 =
        digits.trim().parse().map_err(|_| format!("`{text}` is not a number of bytes, like 1500M or 4G"))?;
    number.checked_mul(1 << shift).ok_or_else(|| format!("`{text}` is more than any machine has"))
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn bytes_have_suffixes() {
        assert_eq!(bytes("77"), Ok(77));
        assert_eq!(bytes("2G"), Ok(2 << 30));
        assert_eq!(bytes("1500MiB"), Ok(1500 << 20));
        assert_eq!(bytes("3kb"), Ok(3 << 10));
        for wrong in ["", "G", "-1", "2T", "1e9", "99999999999G", "é"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }
}
