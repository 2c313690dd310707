//! Messages on the wire.

#![no_main]

use bkfs_fuzz::{
    Input, encodes_back,
    message::{self, Call, Reply, RequestHead},
    url,
    wire_error::WireError,
};
use bkfs_store::base::codec;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(head) = codec::decode::<RequestHead>("a request", data) {
        encodes_back(&head);
        for name in [&head.account, &head.repository] {
            assert_eq!(&name.as_str().parse::<url::Name>().expect("a checked name"), name);
        }
    }
    if let Ok(call) = codec::decode::<Call>("a call", data) {
        encodes_back(&call);
        assert!(message::sizes(call.number()).is_some());
    }
    if let Ok(reply) = codec::decode::<Reply>("a reply", data) {
        encodes_back(&reply);
        if let Reply::Failed(error) = reply {
            let kind = error.clone().into_error();
            assert_eq!(WireError::new(&kind, "place").into_error().kind(), kind.kind());
            let _ = kind.to_string();
        }
    }
    let mut input = Input(data);
    let count = usize::from(input.u16());
    if let Some(answers) = message::from_bits(input.0, count) {
        assert_eq!(answers.len(), count);
        assert_eq!(message::from_bits(&message::to_bits(&answers), count), Some(answers));
    }
});
