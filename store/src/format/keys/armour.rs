//! Bytes as text: base64 (RFC 4648, padded, strict) for key files and base32 (Crockford's alphabet, forgiving) for paper.
//!
//! Neither runs in constant time; both see keys only on the machine that already holds them.

use zeroize::Zeroizing;

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const BASE32: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Appends the base64 form of `bytes`, in lines of 64 characters.
pub fn base64(bytes: &[u8], text: &mut String) {
    for line in bytes.chunks(48) {
        for group in line.chunks(3) {
            let bits = group.iter().fold(0u32, |bits, b| bits << 8 | u32::from(*b)) << (8 * (3 - group.len()));
            for i in 0..4 {
                match i <= group.len() {
                    true => text.push(char::from(BASE64[(bits >> (18 - 6 * i)) as usize & 63])),
                    false => text.push('='),
                }
            }
        }
        text.push('\n');
    }
}

/// Reads base64 text without white space; none if it is not exactly what [`base64`] writes.
pub fn from_base64(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len() / 4 * 3));
    let last = text.len().saturating_sub(4);
    for (at, group) in text.chunks_exact(4).enumerate() {
        let padding = group.iter().rev().take_while(|c| **c == b'=').count();
        if padding > 2 || (padding > 0 && at * 4 != last) {
            return None;
        }
        let mut bits = 0u32;
        for c in &group[..4 - padding] {
            bits = bits << 6 | BASE64.iter().position(|b| b == c)? as u32;
        }
        bits <<= 6 * padding;
        let triple = bits.to_be_bytes();
        // The bits that padding leaves over must be zero: one key has one text.
        if triple[4 - padding..].iter().any(|b| *b != 0) {
            return None;
        }
        bytes.extend_from_slice(&triple[1..4 - padding]);
    }
    Some(bytes)
}

/// The base32 form of `bytes`, whose number is a multiple of five.
pub fn base32(bytes: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(bytes.len() / 5 * 8));
    for group in bytes.chunks(5) {
        let bits = group.iter().fold(0u64, |bits, b| bits << 8 | u64::from(*b));
        for i in (0..8).rev() {
            text.push(char::from(BASE32[(bits >> (5 * i)) as usize & 31]));
        }
    }
    text
}

/// The number of a base32 character; small letters and those that look alike are read as what was meant.
pub fn base32_digit(c: char) -> Option<u8> {
    let c = match c.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        c => c,
    };
    BASE32.iter().position(|b| char::from(*b) == c).map(|at| at as u8)
}

/// The bytes of base32 digits, whose number is a multiple of eight.
pub fn from_base32_digits(digits: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(digits.len() / 8 * 5));
    for group in digits.chunks_exact(8) {
        let bits = group.iter().fold(0u64, |bits, d| bits << 5 | u64::from(*d));
        bytes.extend_from_slice(&bits.to_be_bytes()[3..]);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_base64() {
        for (plain, coded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
            let mut text = String::new();
            base64(plain.as_bytes(), &mut text);
            assert_eq!(text.trim_end(), coded);
        }
        for bad in ["Zg=", "Zh==", "Zg==Zg==", "Z===", "====", "Zm9?", "Zm9v "] {
            assert!(from_base64(bad.as_bytes()).is_none(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn base64_returns(bytes: Vec<u8>) {
            let mut text = String::new();
            base64(&bytes, &mut text);
            let joined: String = text.split_whitespace().collect();
            prop_assert_eq!(&**from_base64(joined.as_bytes()).unwrap(), &bytes[..]);
        }

        #[test]
        fn base32_returns(groups: Vec<[u8; 5]>) {
            let bytes = groups.concat();
            let digits: Vec<u8> = base32(&bytes).to_lowercase().chars().map(|c| base32_digit(c).unwrap()).collect();
            prop_assert_eq!(&**from_base32_digits(&digits), &bytes[..]);
        }

        #[test]
        fn any_text_is_survived(text: Vec<u8>) {
            let _ = from_base64(&text);
        }
    }
}
