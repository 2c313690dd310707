//! What a push excludes: patterns as in `.gitignore`, cache folders, marked folders, large files, other file systems.
//!
//! Patterns are matched against the path inside the snapshot. A pattern with a slash at its start or in its middle is
//! anchored at the file system's root, or at the base folder if there is one. The walk does not enter an excluded
//! folder, so no pattern can include anything below it again. Paths that the user names are included, whatever the
//! rules say.

use std::{
    io,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
};

mod pattern;

use self::pattern::Pattern;

/// The tag file of <https://bford.info/cachedir/>.
pub const CACHEDIR_TAG: &[u8] = b"CACHEDIR.TAG";
/// How a valid tag file begins. The name alone proves nothing.
pub const CACHEDIR_SIGNATURE: &[u8; 43] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// What to exclude, as the user gives it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExcludeOptions {
    /// Patterns. Later ones win; `!` includes again.
    pub patterns: Vec<String>,
    /// Files with one pattern a line, read before `patterns`.
    pub files: Vec<PathBuf>,
    /// A folder that holds an entry of one of these names keeps only that entry.
    pub if_present: Vec<Vec<u8>>,
    /// A folder with a valid `CACHEDIR.TAG` keeps only that file.
    pub caches: bool,
    /// Files with more bytes are excluded.
    pub larger_than: Option<u64>,
    /// Mount points below the given paths are kept as empty folders.
    pub one_file_system: bool,
}

/// Why the rules cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ExcludeError {
    /// A pattern file cannot be read.
    #[error("cannot read the pattern file {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
}

/// The compiled rules.
#[derive(Debug)]
pub struct Excludes {
    rules: Vec<Rule>,
    if_present: Vec<Vec<u8>>,
    caches: bool,
    larger_than: Option<u64>,
    one_file_system: bool,
}

/// One pattern, and whether it has decided about an entry.
#[derive(Debug)]
struct Rule {
    pattern: Pattern,
    is_used: AtomicBool,
}

impl Excludes {
    /// Reads the pattern files and compiles all patterns. As in git, no pattern is invalid: one that makes no sense
    /// matches nothing.
    pub fn new(options: &ExcludeOptions) -> Result<Self, ExcludeError> {
        let mut rules = Vec::new();
        let mut add = |text: &[u8]| {
            let patterns = pattern::parse_lines(text);
            rules.extend(patterns.map(|pattern| Rule { pattern, is_used: AtomicBool::new(false) }));
        };
        for path in &options.files {
            add(&std::fs::read(path).map_err(|source| ExcludeError::Read { path: path.clone(), source })?);
        }
        options.patterns.iter().for_each(|pattern| add(pattern.as_bytes()));
        Ok(Self {
            rules,
            if_present: options.if_present.clone(),
            caches: options.caches,
            larger_than: options.larger_than,
            one_file_system: options.one_file_system,
        })
    }

    /// Whether there are patterns. Without them [`Excludes::matches`] is always false, and callers need not build
    /// paths.
    pub fn has_patterns(&self) -> bool {
        !self.rules.is_empty()
    }

    /// Whether the patterns exclude the entry at a path (bytes, without a leading slash). The last pattern that
    /// matches decides.
    pub fn matches(&self, path: &[u8], is_dir: bool) -> bool {
        let decisive = self.rules.iter().rev().find(|rule| rule.pattern.matches(path, is_dir));
        decisive.is_some_and(|rule| {
            rule.is_used.store(true, Ordering::Relaxed);
            !rule.pattern.is_negative
        })
    }

    /// The patterns that have decided about no entry so far, as they were written.
    pub fn unused_patterns(&self) -> Vec<String> {
        let unused = self.rules.iter().filter(|rule| !rule.is_used.load(Ordering::Relaxed));
        unused.map(|rule| String::from_utf8_lossy(&rule.pattern.written).into_owned()).collect()
    }

    /// Whether a file of this size is excluded.
    pub fn is_too_large(&self, bytes: u64) -> bool {
        self.larger_than.is_some_and(|limit| bytes > limit)
    }

    /// Whether other file systems are excluded.
    pub fn is_one_file_system(&self) -> bool {
        self.one_file_system
    }

    /// Whether the rules look for tag files.
    pub fn has_tags(&self) -> bool {
        self.caches || !self.if_present.is_empty()
    }

    /// Whether an entry of this name could be a tag file.
    pub fn is_tag(&self, name: &[u8]) -> bool {
        self.caches && name == CACHEDIR_TAG || self.if_present.iter().any(|tag| tag == name)
    }

    /// What tells these rules from others.
    pub fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        let mut add = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
        };
        self.rules.iter().for_each(|rule| add(&rule.pattern.written));
        add(b"");
        self.if_present.iter().for_each(|name| add(name));
        add(b"");
        add(&[u8::from(self.caches), u8::from(self.one_file_system), u8::from(self.larger_than.is_some())]);
        add(&self.larger_than.unwrap_or_default().to_le_bytes());
        *hasher.finalize().as_bytes()
    }

    /// The name of the entry that marks a folder's contents as excluded, if there is one. `has_name` tells whether the
    /// folder has an entry of a name; `read_start` reads an entry's first bytes.
    pub fn find_tag(
        &self,
        has_name: impl Fn(&[u8]) -> bool,
        read_start: impl Fn(&[u8]) -> Option<[u8; CACHEDIR_SIGNATURE.len()]>,
    ) -> Option<&[u8]> {
        if let Some(name) = self.if_present.iter().find(|name| has_name(name)) {
            return Some(name);
        }
        let tagged = self.caches && has_name(CACHEDIR_TAG);
        (tagged && read_start(CACHEDIR_TAG).as_ref() == Some(CACHEDIR_SIGNATURE)).then_some(CACHEDIR_TAG)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excludes(patterns: &[&str]) -> Excludes {
        let patterns = patterns.iter().map(|p| (*p).to_owned()).collect();
        Excludes::new(&ExcludeOptions { patterns, ..Default::default() }).unwrap()
    }

    #[test]
    fn patterns_match_as_in_git() {
        let table: &[(&[&str], &str, bool, bool)] = &[
            (&["*.o"], "a/b/c.o", false, true),
            (&["*.o"], "a/b/c.c", false, false),
            (&["target/"], "x/target", true, true),
            (&["target/"], "x/target", false, false),
            (&["/home/x/.cache"], "home/x/.cache", true, true),
            (&["/home/x/.cache"], "other/home/x/.cache", true, false),
            (&["a/b"], "a/b", false, true),
            (&["a/b"], "c/a/b", false, false),
            (&["**/a/b"], "c/a/b", false, true),
            (&["*.log", "!keep.log"], "d/keep.log", false, false),
            (&["*.log", "!keep.log"], "d/lose.log", false, true),
            (&["# comment", "", "x"], "x", false, true),
            (&["# comment"], "# comment", false, false),
            (&["[ab]?"], "bz", false, true),
            (&["\\!odd"], "!odd", false, true),
            // Braces and dollar signs are ordinary characters.
            (&["{a,b}"], "a", true, false),
            (&["{a,b}"], "{a,b}", false, true),
            (&["a{"], "a{", false, true),
            (&["$x"], "$x", false, true),
            (&["[[:upper:]]*"], "Ab", false, true),
            (&["[[:upper:]]*"], "ab", false, false),
            // Two stars in the middle of a component are one star. (Right after the first text they mean folders, in
            // git, too.)
            (&["x/?**b"], "x/acb", false, true),
            (&["x/?**b"], "x/ac/b", false, false),
            (&["x/a**/b"], "x/ac/d/b", false, true),
            (&["a/**/b"], "a/b", false, true),
            (&["a/**/b"], "a/c/d/b", false, true),
            (&["a/**"], "a", true, false),
            // What is not a pattern matches nothing.
            (&["[z-b]"], "y", false, false),
            (&["[ab"], "a", false, false),
            (&["x\\"], "x", false, false),
            (&["a "], "a", false, true),
            (&["a\\ "], "a ", false, true),
        ];
        for (patterns, path, is_dir, expected) in table {
            assert_eq!(excludes(patterns).matches(path.as_bytes(), *is_dir), *expected, "{patterns:?} {path}");
        }
    }

    #[test]
    fn a_name_that_is_not_utf8_is_matched() {
        assert!(excludes(&["*.o"]).matches(b"d/\xff\xfe.o", false));
    }

    #[test]
    fn a_missing_pattern_file_is_refused_by_name() {
        let options = ExcludeOptions { files: vec!["/nonexistent/patterns".into()], ..Default::default() };
        let error = Excludes::new(&options).unwrap_err().to_string();
        assert!(error.starts_with("cannot read the pattern file /nonexistent/patterns"), "{error}");
    }

    #[test]
    fn patterns_that_decide_nothing_are_known() {
        let rules = excludes(&["*.o", "!keep.o", "/nowhere/", "{a,b}"]);
        assert!(rules.matches(b"d/x.o", false) && !rules.matches(b"d/keep.o", false) && !rules.matches(b"a", true));
        assert_eq!(rules.unused_patterns(), ["/nowhere/", "{a,b}"]);
    }

    #[test]
    fn tags_need_their_signature() {
        let options = ExcludeOptions { caches: true, if_present: vec![b".nobackup".to_vec()], ..Default::default() };
        let rules = Excludes::new(&options).unwrap();
        let signed = |_: &[u8]| Some(*CACHEDIR_SIGNATURE);
        assert_eq!(rules.find_tag(|n| n == b".nobackup", |_| None), Some(&b".nobackup"[..]));
        assert_eq!(rules.find_tag(|n| n == CACHEDIR_TAG, signed), Some(CACHEDIR_TAG));
        assert_eq!(rules.find_tag(|n| n == CACHEDIR_TAG, |_| Some([0; 43])), None);
        assert_eq!(rules.find_tag(|_| false, signed), None);
    }

    #[test]
    fn files_above_the_limit_are_too_large() {
        let rules = Excludes::new(&ExcludeOptions { larger_than: Some(10), ..Default::default() }).unwrap();
        assert!(!rules.is_too_large(10) && rules.is_too_large(11));
    }
}
