//! Keys as text: base64 (RFC 4648, padded, strict) for key files and base32 (Crockford's alphabet, forgiving) for
//! paper.
//!
//! `data-encoding` does the conversions. This module adds what the two texts require: lines, exactly one base64 text
//! per key, and look-alike letters. Decoded secrets go into buffers that are wiped when dropped.
//!
//! Neither conversion runs in constant time; both see keys only on the machine that already holds them.

use std::sync::LazyLock;

use data_encoding::{BASE64, Encoding, Specification};
use zeroize::Zeroizing;

/// Bytes in one line of base64: 64 characters.
const LINE_BYTES: usize = 48;

/// Crockford's base32. Lower-case letters are read as upper-case, `O` as `0`, and `I` and `L` as `1`.
static BASE32: LazyLock<Encoding> = LazyLock::new(|| {
    let mut specification = Specification::new();
    specification.symbols.push_str("0123456789ABCDEFGHJKMNPQRSTVWXYZ");
    specification.translate.from.push_str("abcdefghjkmnpqrstvwxyzOoIiLl");
    specification.translate.to.push_str("ABCDEFGHJKMNPQRSTVWXYZ001111");
    specification.encoding().expect("a valid alphabet")
});

/// Digits of [`line_check`].
pub const CHECK_DIGITS: usize = 4;

/// Appends the base64 form of `bytes`, in lines of 64 characters, each with a space and its [`line_check`]. If `text`
/// has room for it, no copy of a secret stays behind in memory.
pub fn base64_lines(context: &str, bytes: &[u8], text: &mut String) {
    for (at, line) in bytes.chunks(LINE_BYTES).enumerate() {
        BASE64.encode_append(line, text);
        text.push(' ');
        text.push_str(&line_check(context, &(at as u16).to_be_bytes(), line));
        text.push('\n');
    }
}

/// A line of base64 that is not what [`base64_lines`] wrote.
#[derive(Debug, PartialEq, Eq)]
pub enum BadLine {
    /// A character is wrong or missing.
    Damaged,
    /// It is the line after the one that belongs there.
    OneLater,
    /// It is a line that came before.
    Earlier,
}

/// Appends the bytes of the line with this number, from 0, of [`base64_lines`] to `bytes`.
pub fn from_base64_line(
    context: &str,
    at: usize,
    line: &str,
    bytes: &mut Zeroizing<Vec<u8>>,
) -> std::result::Result<(), BadLine> {
    let (digits, check) = line.rsplit_once(char::is_whitespace).ok_or(BadLine::Damaged)?;
    let decoded = from_base64(digits.trim_end().as_bytes()).ok_or(BadLine::Damaged)?;
    let is_line = |at: usize| {
        let number = u16::try_from(at).unwrap_or(u16::MAX).to_be_bytes();
        line_check(context, &number, &decoded).as_bytes() == check.as_bytes()
    };
    match (0..at).chain([at + 1]).find(|other| is_line(*other)) {
        _ if is_line(at) => {
            bytes.extend_from_slice(&decoded);
            Ok(())
        }
        Some(other) if other > at => Err(BadLine::OneLater),
        Some(_) => Err(BadLine::Earlier),
        None => Err(BadLine::Damaged),
    }
}

/// Reads the base64 of one line. Returns `None` unless it is exactly what [`base64_lines`] writes: one key has one
/// text.
fn from_base64(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    // `data-encoding` also accepts several padded texts, one after another.
    if text.len() > LINE_BYTES / 3 * 4 || text[..text.len().saturating_sub(2)].contains(&b'=') {
        return None;
    }
    let mut bytes = Zeroizing::new(vec![0; BASE64.decode_len(text.len()).ok()?]);
    let len = BASE64.decode_mut(text, &mut bytes).ok()?;
    bytes.truncate(len);
    Some(bytes)
}

/// Returns the check of a line: 20 bits of the BLAKE3 of its number and its bytes, in base32.
pub fn line_check(context: &str, number: &[u8], line: &[u8]) -> String {
    let hash = blake3::Hasher::new_derive_key(context).update(number).update(line).finalize();
    let [first, second, third, ..] = *hash.as_bytes();
    base32(&[first, second, third & 0xf0, 0, 0])[..CHECK_DIGITS].to_owned()
}

/// Returns the base32 form of `bytes`, whose number is a multiple of five.
pub fn base32(bytes: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(BASE32.encode_len(bytes.len())));
    BASE32.encode_append(bytes, &mut text);
    text
}

/// Whether base32 text may contain this character.
pub fn is_base32(c: char) -> bool {
    u8::try_from(c).is_ok_and(|byte| BASE32.interpret_byte(byte).is_symbol().is_some())
}

/// Returns the character of the alphabet as which a character that [`is_base32`] accepts is read. Returns others as
/// `0`.
pub fn digit(c: char) -> u8 {
    match c.to_ascii_uppercase() {
        'O' => b'0',
        'I' | 'L' => b'1',
        c if is_base32(c) => u8::try_from(c).unwrap_or(b'0'),
        _ => b'0',
    }
}

/// Reads base32 text of `bytes.len()` bytes, whose number is a multiple of five. Returns `None` if the text has another
/// length or holds a character that [`is_base32`] does not accept.
pub fn from_base32(text: &[u8], bytes: &mut [u8]) -> Option<()> {
    let is_fitting = BASE32.decode_len(text.len()) == Ok(bytes.len());
    (is_fitting && BASE32.decode_mut(text, bytes).is_ok()).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_base64() {
        for (plain, coded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
            assert_eq!(BASE64.encode(plain.as_bytes()), coded);
            assert_eq!(from_base64(coded.as_bytes()).unwrap().as_slice(), plain.as_bytes());
        }
        for bad in ["Zg=", "Zh==", "Zg==Zg==", "Z===", "====", "Zm9?", "Zm9v ", "Zm9v\n", "Zg=g", "=", "=="] {
            assert!(from_base64(bad.as_bytes()).is_none(), "{bad}");
        }
    }

    #[test]
    fn known_base32() {
        assert_eq!(*base32(&[0x00, 0x44, 0x32, 0x14, 0xc7]), "0123456789"[..8]);
        assert_eq!(*base32(&[0xff, 0xff, 0xff, 0xff, 0xdf]), "ZZZZZZYZ");
        let read = |text: &str| {
            let mut bytes = [0; 5];
            from_base32(text.as_bytes(), &mut bytes).map(|()| bytes)
        };
        assert_eq!(read("oOiIlLzZ"), read("001111ZZ"));
        for bad in ["", "0000000", "000000000", "0000000U", "0000000u", "0000000 ", "0000000="] {
            assert!(read(bad).is_none(), "{bad}");
        }
        let digits: String =
            (0..=255).map(char::from).chain(['ſ', '\u{212a}', '０']).filter(|c| is_base32(*c)).collect();
        assert_eq!(digits, "0123456789ABCDEFGHIJKLMNOPQRSTVWXYZabcdefghijklmnopqrstvwxyz");
    }

    proptest! {
        #[test]
        fn base64_is_read_back(bytes: Vec<u8>) {
            let mut text = String::new();
            base64_lines("test", &bytes, &mut text);
            let mut read = Zeroizing::new(Vec::new());
            for (at, line) in text.lines().enumerate() {
                prop_assert_eq!(from_base64_line("test", at, line, &mut read), Ok(()));
            }
            prop_assert_eq!(&read[..], &bytes[..]);
        }

        #[test]
        fn base32_is_read_back(groups: Vec<[u8; 5]>) {
            let bytes = groups.concat();
            let mut read = vec![0; bytes.len()];
            from_base32(base32(&bytes).to_lowercase().as_bytes(), &mut read).unwrap();
            prop_assert_eq!(read, bytes);
        }

        #[test]
        fn no_text_panics(text: Vec<u8>) {
            let _ = from_base64(&text);
            let _ = from_base64_line("test", 1, &String::from_utf8_lossy(&text), &mut Zeroizing::new(Vec::new()));
            let _ = from_base32(&text, &mut [0; 20]);
        }
    }
}
