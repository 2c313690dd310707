//! Lists of seal keys: the input as it is, and behind the admin key's signature. Only a list that begins with the
//! configuration's key is taken.

#![no_main]

use bkfs_fuzz::{keys, support};
use bkfs_store::{
    crypto::{SealNumber, signed::Signed},
    format::keys::SealKeys,
};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (full, push, config) = (&keys().full, &keys().push, support::config_record());
    let first = SealKeys::verify(&[], &config).expect("no list");
    let _ = SealKeys::verify(data, &config);
    let signed = Signed::new(&SealKeys::HEADER.magic, data.to_vec(), &full.admin).encode();
    let Ok(list) = SealKeys::verify(&signed, &config) else { return };
    let number = list.number();
    assert!(signed.len() <= SealKeys::SIZE_MAX && (2..=SealKeys::COUNT_MAX).contains(&number.0));
    assert_eq!((list.hash(SealNumber(0)), list.hash(SealNumber(number.0 + 1))), (None, None));
    assert_eq!(list.number_of(&config.seal_public), Some(SealNumber::FIRST));
    assert_eq!(list.follows(&first), number.0 == 2);
    assert!(!list.follows(&list) && !first.follows(&list));
    let renewed = list.renew(push).expect("it has the first key");
    assert_eq!((renewed.seal_number, list.number_of(&renewed.seal_public)), (number, Some(number)));
    let old = list.complete(full).expect("it has the first key, and none before it");
    assert!(old.older.is_empty() && list.check_newest(&old).is_err());
    assert!(list.rotate(&old).is_err());
});
