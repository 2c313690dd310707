//! The forms of a passphrase. One and the same character can be written in two ways: `ü` as one code (NFC), as most
//! keyboards give it, or as `u` and two dots (NFD), as other systems do. They look the same, and their bytes differ.

use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

/// Returns the form in which new passphrases are stored.
pub(super) fn stored(passphrase: &str) -> Zeroizing<String> {
    collect(passphrase, passphrase.nfc())
}

/// Returns the forms to try, in this order: the one in which bkfs stores passphrases, as it was given, and the other
/// one. Each costs the work of Argon2 for each slot, so none is there twice; most passphrases have one form.
pub(super) fn to_try(passphrase: &Zeroizing<String>) -> Vec<Zeroizing<String>> {
    let mut forms = vec![stored(passphrase)];
    for form in [passphrase.clone(), collect(passphrase, passphrase.nfd())] {
        if !forms.contains(&form) {
            forms.push(form);
        }
    }
    forms
}

fn collect(passphrase: &str, form: impl Iterator<Item = char>) -> Zeroizing<String> {
    // The longest that a form can be, so that no copy of a shorter text stays behind in memory.
    let mut text = Zeroizing::new(String::with_capacity(passphrase.len() * 4));
    text.extend(form);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_different_forms_are_tried() {
        let forms = |text: &str| -> Vec<String> {
            to_try(&Zeroizing::new(text.to_owned())).iter().map(|form| form.to_string()).collect()
        };
        assert_eq!(forms("correct horse"), ["correct horse"]);
        let (one, two) = ("gr\u{fc}n", "gru\u{308}n");
        assert_eq!(forms(one), [one, two]);
        assert_eq!(forms(two), [one, two]);
        // Neither form: one letter of each.
        let mixed = "\u{fc}u\u{308}";
        assert_eq!(forms(mixed), ["\u{fc}\u{fc}", mixed, "u\u{308}u\u{308}"]);
        assert_eq!(*stored(two), one);
        assert_eq!(*stored(""), "");
    }
}
