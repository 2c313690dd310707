//! Key files: any text, and any record in a text with valid armour and checksum.

#![no_main]

use bkfs_store::format::keys::KeyFile;
use data_encoding::BASE64;

/// The check at the end of a line: 20 bits of a hash, in Crockford's base32.
fn line_check(number: u16, line: &[u8]) -> String {
    let hash =
        blake3::Hasher::new_derive_key("bkfs v1 key file line").update(&number.to_be_bytes()).update(line).finalize();
    let bits = u32::from_be_bytes([0, hash.as_bytes()[0], hash.as_bytes()[1], hash.as_bytes()[2]]) >> 4;
    let digit = |shift: u32| char::from(b"0123456789ABCDEFGHJKMNPQRSTVWXYZ"[(bits >> shift & 31) as usize]);
    [15, 10, 5, 0].map(digit).iter().collect()
}

fn armoured(kind: &str, record: &[u8]) -> String {
    let lines =
        record.chunks(48).zip(0..).map(|(line, at)| format!("{} {}\n", BASE64.encode(line), line_check(at, line)));
    let (body, sum) = (lines.collect::<String>(), &blake3::hash(record).to_hex()[..16]);
    format!("-----BEGIN BKFS {kind} KEY-----\n{body}-----CHECKSUM {sum}-----\n-----END BKFS {kind} KEY-----\n")
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
                    !["checksum", "line 2 is", "before line", "does not begin with a line"]
                        .iter()
                        .any(|why| error.contains(why)),
                    "{error}"
                );
            }
        }
    }
});
