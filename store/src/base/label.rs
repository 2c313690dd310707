//! Names that people give: tags, targets, hosts and clients.
//!
//! What a name may be is defined here, for every place where one is typed or set. Records that are read may hold other
//! texts, from other programs or from an intruder, so whatever shows a name must still escape it.

use super::error::{Error, Result};

/// What a name is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Label {
    /// A tag of a snapshot. It has no comma, because commas separate tags in lists.
    Tag,
    /// The target of a push.
    Target,
    /// The name of a machine.
    Host,
    /// The label of a client on the roster.
    Client,
}

impl Label {
    /// The longest name in bytes.
    pub const fn len_max(self) -> usize {
        match self {
            // The default target has the paths that are pushed.
            Self::Target => 4096,
            Self::Tag | Self::Host | Self::Client => 255,
        }
    }

    /// Returns the name if it may be one: not empty, not too long, without spaces at its ends, and without characters
    /// that control a terminal or that nobody can see.
    pub fn check(self, text: &str) -> Result<&str> {
        let what = match self {
            Self::Tag => "a tag",
            Self::Target => "the name of a target",
            Self::Host => "the name of a host",
            Self::Client => "the label of a client",
        };
        let bad = |why: &str| Err(Error::Invalid(format!("{text:?} is not {what}: {why}")));
        if text.is_empty() {
            return bad("it is empty");
        }
        if text.len() > self.len_max() {
            let (len, max) = (text.len(), self.len_max());
            return Err(Error::Invalid(format!("{what} of {len} bytes is too long: the most are {max}")));
        }
        if text.trim() != text {
            return bad("it begins or ends with a space");
        }
        if text.chars().any(|c| !is_visible(c)) {
            return bad("it has a character that cannot be shown");
        }
        if self == Self::Tag && text.contains(',') {
            return bad("a comma separates two tags");
        }
        Ok(text)
    }
}

/// Reads a list of tags like `a,b`.
pub fn tags(list: &str) -> Result<Vec<String>> {
    list.split(',').map(|tag| Label::Tag.check(tag).map(str::to_owned)).collect()
}

/// Whether a character can be shown as it is: it does not control a terminal, reorder text or hide.
pub fn is_visible(c: char) -> bool {
    let hides = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    !c.is_control() && !hides
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_nobody_could_type_again_are_refused() {
        for label in [Label::Tag, Label::Target, Label::Host, Label::Client] {
            for good in ["a", "alpha:/home/x y", "gr\u{fc}n", "-x", "a=b"] {
                assert_eq!(label.check(good).unwrap(), good);
            }
            for bad in ["", " ", " x", "x ", "\tx", "x\u{a0}", "a\nb", "a\0", "\x1b[2J", "a\u{202e}b", "a\u{200b}"] {
                assert!(label.check(bad).is_err(), "{label:?} {bad:?}");
            }
            assert!(label.check(&"x".repeat(label.len_max())).is_ok());
            let error = label.check(&"x".repeat(label.len_max() + 1)).unwrap_err().to_string();
            assert!(error.contains("too long") && error.len() < 200, "{error}");
        }
        assert!(Label::Target.check("h:/a,/b").is_ok() && Label::Tag.check("a,b").is_err());
    }

    #[test]
    fn lists_of_tags_are_split_at_commas() {
        assert_eq!(tags("keep,monthly").unwrap(), ["keep", "monthly"]);
        assert_eq!(tags("keep").unwrap(), ["keep"]);
        for bad in ["", ",", "a,", ",a", "a,,b", "a, b"] {
            assert!(tags(bad).is_err(), "{bad:?}");
        }
    }
}
