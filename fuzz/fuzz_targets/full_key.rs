//! The full key: its record, its recovery text, and recovery texts with wrong characters.

#![no_main]

use bkfs_fuzz::Input;
use bkfs_store::{
    base::id::RepoId,
    crypto::{SealSecret, Secret, SigningKey},
    format::keys::FullKey,
};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(full) = FullKey::decode(data) {
        assert_eq!(FullKey::decode(&full.encode()).expect("what was encoded").encode(), full.encode());
    }
    if let Ok(text) = str::from_utf8(data)
        && let Ok(full) = FullKey::from_recovery_text(text)
    {
        let again = FullKey::from_recovery_text(&full.recovery_text()).expect("what was written");
        assert_eq!(again.encode(), full.encode());
    }

    let mut input = Input(data);
    let full = FullKey {
        repo: RepoId(input.array()),
        id_key: Secret(input.array()),
        seal: SealSecret::from_seed(Secret(input.array())),
        admin: SigningKey::from_seed(Secret(input.array())),
    };
    let mut typed: Vec<char> = full.recovery_text().chars().collect();
    assert_eq!(FullKey::from_recovery_text(&full.recovery_text()).expect("what was written").encode(), full.encode());
    while !input.0.is_empty() {
        let (at, to) = (usize::from(input.u16()) % typed.len(), char::from(input.u8()));
        typed[at] = to;
    }
    // A text that is still accepted gives the original key.
    if let Ok(read) = FullKey::from_recovery_text(&typed.iter().collect::<String>()) {
        assert_eq!(read.encode(), full.encode());
    }
});
