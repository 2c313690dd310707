//! The records of a prune: filters of live ids and sets of condemned frames.

#![no_main]

use bkfs_fuzz::{Input, encodes_back};
use bkfs_store::{
    base::id::Hash,
    format::filter::{LiveFilter, encode_filter},
    repository::prune::condemned::CondemnedSet,
};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(filter) = LiveFilter::decode(data) {
        let _ = [0, 1, u64::MAX].map(|key| filter.holds(key));
    }
    let (mut input, mut keys) = (Input(data), Vec::new());
    while !input.0.is_empty() {
        keys.push(u64::from_le_bytes(input.array()));
    }
    let filter = LiveFilter::decode(&encode_filter(&mut keys)).expect("what was encoded");
    assert!(keys.iter().all(|key| filter.holds(*key)), "a live chunk would be lost");

    assert!(CondemnedSet::decode(data, Hash([0; 32])).is_err(), "its hash is not the one in the log");
    let Ok(set) = CondemnedSet::decode(data, Hash::of(&[data])) else { return };
    encodes_back(&set);
    let bytes = set.encode();
    assert_eq!(CondemnedSet::decode(&bytes, Hash::of(&[&bytes])).expect("what was encoded"), set);
    for pack in &set.packs {
        assert_eq!((0..pack.frames.as_bytes().len() as u32 * 8).any(|n| pack.frames.has(n)), !pack.frames.is_empty());
        assert!(!pack.frames.has(u32::MAX) || pack.frames.as_bytes().len() > (u32::MAX / 8) as usize);
    }
});
