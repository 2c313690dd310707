//! Messages on the wire. The module is private to its crate. It is compiled in by its path, so that the crate does not
//! have to export it.

#![no_main]
#![allow(dead_code, missing_docs)]

#[path = "../../transport/src/message.rs"]
mod message;
#[path = "../../transport/src/token.rs"]
mod token;
#[path = "../../transport/src/url.rs"]
mod url;
#[path = "../../transport/src/wire_error.rs"]
mod wire_error;

use bkfs_fuzz::{Input, encodes_back};
use bkfs_store::base::codec;
use message::{Reply, Request};
use wire_error::WireError;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(request) = codec::decode::<Request>("a request", data) {
        encodes_back(&request);
        for name in [&request.account, &request.repository] {
            assert_eq!(&name.as_str().parse::<url::Name>().expect("a checked name"), name);
        }
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
