//! Invitations: any text, and any record in a text with a valid checksum.

#![no_main]

use bkfs_transport::Token;

const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

fn base32(bytes: &[u8]) -> String {
    let (mut text, mut bits, mut have) = (String::new(), 0u32, 0);
    for byte in bytes {
        (bits, have) = ((bits << 8 | u32::from(*byte)) & 0xffff, have + 8);
        while have >= 5 {
            have -= 5;
            text.push(char::from(BASE32[(bits >> have) as usize & 31]));
        }
    }
    if have > 0 {
        text.push(char::from(BASE32[(bits << (5 - have)) as usize & 31]));
    }
    text
}

fn check(token: &Token) {
    let text = token.text();
    assert!(text.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()), "one word");
    assert_eq!(&Token::parse(&text).expect("what was written"), token);
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(token) = str::from_utf8(data).map_err(drop).and_then(|text| Token::parse(text).map_err(drop)) {
        check(&token);
    }
    let sum = blake3::hash(data);
    let text = format!("bkfs1{}", base32(&[data, &sum.as_bytes()[..4]].concat()));
    match Token::parse(&text) {
        Ok(token) => check(&token),
        Err(error) => assert!(!error.to_string().contains("mistyped"), "{error}"),
    }
});
