//! Target forks, and what each of them can execute.

use core::fmt;
use core::str::FromStr;

/// A hard fork of Ethereum that code can be lowered for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fork {
    /// August 2021.
    London,
    /// The Merge, September 2022.
    Paris,
    /// April 2023: PUSH0.
    Shanghai,
    /// March 2024: MCOPY, transient storage, blobs.
    Cancun,
    /// May 2025.
    Prague,
    /// December 2025: CLZ. The newest fork on mainnet.
    #[default]
    Osaka,
    /// Not yet scheduled: DUPN, SWAPN and EXCHANGE (EIP-8024).
    Amsterdam,
}

impl Fork {
    /// All forks, oldest first.
    pub const ALL: [Self; 7] =
        [Self::London, Self::Paris, Self::Shanghai, Self::Cancun, Self::Prague, Self::Osaka, Self::Amsterdam];

    /// The name, in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::London => "london",
            Self::Paris => "paris",
            Self::Shanghai => "shanghai",
            Self::Cancun => "cancun",
            Self::Prague => "prague",
            Self::Osaka => "osaka",
            Self::Amsterdam => "amsterdam",
        }
    }

    /// Whether PUSH0 exists (EIP-3855).
    pub fn has_push0(self) -> bool {
        self >= Self::Shanghai
    }

    /// Whether MCOPY exists (EIP-5656).
    pub fn has_mcopy(self) -> bool {
        self >= Self::Cancun
    }

    /// Whether TLOAD and TSTORE exist (EIP-1153).
    pub fn has_transient(self) -> bool {
        self >= Self::Cancun
    }

    /// Whether BLOBHASH and BLOBBASEFEE exist (EIP-4844, EIP-7516).
    pub fn has_blobs(self) -> bool {
        self >= Self::Cancun
    }

    /// Whether CLZ exists (EIP-7939).
    pub fn has_clz(self) -> bool {
        self >= Self::Osaka
    }

    /// What code costs.
    pub fn costs(self) -> zvm_ir::cost::Gas {
        zvm_ir::cost::Gas { push0: self.has_push0(), mcopy: self.has_mcopy(), clz: self.has_clz() }
    }

    /// Whether EXCHANGE exists (EIP-8024).
    pub fn has_exchange(self) -> bool {
        self >= Self::Amsterdam
    }

    /// The deepest item that DUP reaches, the top being 1; SWAP reaches one deeper.
    pub fn reach(self) -> usize {
        if self >= Self::Amsterdam { 235 } else { 16 }
    }
}

impl fmt::Display for Fork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Fork {
    type Err = UnknownFork;

    fn from_str(name: &str) -> Result<Self, UnknownFork> {
        let name = name.to_ascii_lowercase();
        Self::ALL.into_iter().find(|fork| fork.name() == name).ok_or(UnknownFork(name))
    }
}

/// The name of a fork that is not in [`Fork::ALL`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown fork `{0}`; known: london, paris, shanghai, cancun, prague, osaka, amsterdam")]
pub struct UnknownFork(String);
