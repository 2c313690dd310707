//! Key files: any text, and any record in a text with valid armour and checksum.

#![no_main]

use bkfs_store::format::keys::KeyFile;
use data_encoding::BASE64;

fn armoured(kind: &str, record: &[u8]) -> String {
    let (body, sum) = (BASE64.encode(record), &blake3::hash(record).to_hex()[..16]);
    format!("-----BEGIN BKFS {kind} KEY-----\n{body}\n-----CHECKSUM {sum}-----\n-----END BKFS {kind} KEY-----\n")
}

fn check(file: &KeyFile) {
    let bytes = file.encode();
    assert!(bytes.len() <= 64 << 10);
    let again = KeyFile::decode(&bytes).expect("what was encoded");
    assert_eq!(again.encode(), bytes);
    assert_eq!(again.full().is_some(), file.full().is_some());
    let (push, other) = (file.push(), again.push());
    assert!(push.label.len() <= 255 && push.url.as_ref().is_none_or(|url| url.len() <= 2048));
    assert_eq!((&push.label, &push.url, push.client_id()), (&other.label, &other.url, other.client_id()));
    push.seal().expect("a checked key");
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(file) = KeyFile::decode(data) {
        check(&file);
    }
    for kind in ["PUSH", "FULL"] {
        match KeyFile::decode(armoured(kind, data).as_bytes()) {
            Ok(file) => check(&file),
            Err(error) => {
                let error = error.to_string();
                assert!(
                    !["checksum", "base64", "does not begin with a line"].iter().any(|why| error.contains(why)),
                    "{error}"
                );
            }
        }
    }
});
