//! Sealed data keys: wraps with any bytes in their parts, and public keys to seal to. Only the wrap of a data key
//! opens, and only to that key.

#![no_main]

use bkfs_fuzz::{Input, encodes_back, keys};
use bkfs_store::{
    base::{codec, id::KeyId},
    crypto::{SealPublic, Wrap},
};

fn unwrap(wrap: &Wrap) {
    let keys = keys();
    if let Ok(key) = keys.full.unwrap(wrap) {
        assert_eq!((key.id(), wrap), (keys.data.id(), &keys.wrap));
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let keys = keys();
    if let Ok(wrap) = codec::decode::<Wrap>("a wrap", data) {
        encodes_back(&wrap);
        let _ = keys.full.unwrap(&wrap);
    }
    if let Ok(public) = SealPublic::from_bytes(data, Default::default()) {
        assert_eq!(public.to_bytes(), data);
        let wrap = public.wrap(keys.full.repo, &keys.data);
        assert_eq!((wrap.encapsulated.len(), wrap.sealed.len()), (1120, 48));
    }

    let mut input = Input(data);
    let (which, at) = (input.u8(), usize::from(input.u16()));
    let mut wrap = keys.wrap.clone();
    match which % 3 {
        0 => wrap.key = KeyId(input.array()),
        part => {
            let bytes = if part == 1 { &mut wrap.encapsulated } else { &mut wrap.sealed };
            let at = at % bytes.len();
            bytes.splice(at..bytes.len().min(at + input.0.len()), input.0.iter().copied());
        }
    }
    unwrap(&wrap);
});
