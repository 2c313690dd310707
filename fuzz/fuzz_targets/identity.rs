//! Network identities, as they are stored.

#![no_main]

use bkfs_transport::Identity;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(identity) = Identity::decode(data) {
        let again = Identity::decode(&identity.encode()).expect("what was encoded");
        assert_eq!(again.encode(), identity.encode());
        assert_eq!(again.fingerprint(), identity.fingerprint());
    }
});
