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
        id_key: Secret::new(input.array()),
        seal: SealSecret::from_seed(Secret::new(input.array()), Default::default()),
        older: vec![],
        admin: SigningKey::from_seed(Secret::new(input.array())),
    };
    let divided = full.recovery_shares(2, 2).expect("two of two sheets");
    let mut sheets: Vec<char> = divided.iter().flat_map(|sheet| sheet.chars()).collect();
    let mut typed: Vec<char> = full.recovery_text().chars().collect();
    assert_eq!(FullKey::from_recovery_text(&full.recovery_text()).expect("what was written").encode(), full.encode());
    while !input.0.is_empty() {
        let (at, to) = (usize::from(input.u16()) % typed.len(), char::from(input.u8()));
        typed[at] = to;
        let at = at * 7 % sheets.len();
        sheets[at] = to;
    }
    // A text that is still accepted gives the original key.
    for text in [typed, sheets] {
        if let Ok(read) = FullKey::from_recovery_text(&text.iter().collect::<String>()) {
            assert_eq!(read.encode(), full.encode());
        }
    }
});
