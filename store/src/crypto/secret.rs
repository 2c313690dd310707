//! Secret bytes, and the source of random ones.

use zeroize::Zeroize;

use super::locked::LockedBytes;

/// Thirty-two secret bytes. They are in memory that is not swapped out, wiped when dropped and never printed.
pub struct Secret(LockedBytes);

impl Secret {
    /// Returns a secret of these bytes, and wipes this copy of them.
    pub fn new(mut bytes: [u8; 32]) -> Self {
        let mut locked = LockedBytes::zeros();
        *locked = bytes;
        bytes.zeroize();
        Self(locked)
    }

    /// Returns a new random secret.
    pub fn random() -> Self {
        Self::new(random())
    }

    /// Derives another secret for the purpose named by `context` (BLAKE3 in key derivation mode).
    pub fn derive(&self, context: &str) -> Secret {
        Self::new(blake3::derive_key(context, &*self.0))
    }

    /// Returns the bytes.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the bytes, to be written.
    pub fn bytes_mut(&mut self) -> &mut [u8; 32] {
        &mut self.0
    }
}

impl Clone for Secret {
    fn clone(&self) -> Self {
        Self::new(*self.0)
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        *self.0 == *other.0
    }
}

impl Eq for Secret {}

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
