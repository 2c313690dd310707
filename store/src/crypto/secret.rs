//! Secret bytes, and the source of random ones.

use zeroize::{Zeroize, ZeroizeOnDrop};

/// Thirty-two secret bytes, wiped when dropped and never printed.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Secret(pub [u8; 32]);

impl Secret {
    /// Returns a new random secret.
    pub fn random() -> Self {
        Self(random())
    }

    /// Derives another secret for the purpose named by `context` (BLAKE3 in key derivation mode).
    pub fn derive(&self, context: &str) -> Secret {
        Secret(blake3::derive_key(context, &self.0))
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Returns random bytes from the operating system.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // The kernel's generator does not fail once it has started. Without it, no key can be made.
    getrandom::fill(&mut bytes).expect("the operating system's random generator");
    bytes
}
