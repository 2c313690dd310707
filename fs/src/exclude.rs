//! What a push leaves out: patterns as in `.gitignore`, cache folders, marked folders, large files, other file systems.
//!
//! Patterns are matched against the path inside the snapshot; one with a slash in its middle or at its start is
//! anchored at the file system's root, or at the folder given as base. A folder that is left out is not entered, so
//! nothing below it can be taken back in. Paths that the user names are always taken, whatever the patterns say.

use std::{
    ffi::OsStr,
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use ignore::gitignore::{Gitignore, GitignoreBuilder};

/// The tag file of <https://bford.info/cachedir/>.
pub const CACHEDIR_TAG: &[u8] = b"CACHEDIR.TAG";
/// How a tag file begins; without it, the name alone says nothing.
pub const CACHEDIR_SIGNATURE: &[u8; 43] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// What to leave out, as the user says it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExcludeOptions {
    /// Patterns, later ones win; `!` takes back.
    pub patterns: Vec<String>,
    /// Files of patterns, one a line, read before `patterns`.
    pub files: Vec<PathBuf>,
    /// A folder that holds an entry of one of these names keeps only that entry.
    pub if_present: Vec<Vec<u8>>,
    /// A folder with a valid `CACHEDIR.TAG` keeps only that file.
    pub caches: bool,
    /// Files of more bytes are left out.
    pub larger_than: Option<u64>,
    /// Mount points below the given paths are kept as empty folders.
    pub one_file_system: bool,
}

/// A pattern, or a file of patterns, that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ExcludeError {
    /// The file of patterns cannot be read.
    #[error("cannot read the file of patterns {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// A pattern makes no sense.
    #[error("the pattern {pattern:?} cannot be used: {reason}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong.
        reason: String,
    },
}

/// The rules, ready for use.
#[derive(Debug)]
pub struct Excludes {
    matcher: Option<Gitignore>,
    if_present: Vec<Vec<u8>>,
    caches: bool,
    larger_than: Option<u64>,
    one_file_system: bool,
}

impl Excludes {
    /// Reads the files of patterns and compiles all.
    pub fn new(options: &ExcludeOptions) -> Result<Self, ExcludeError> {
        let mut builder = GitignoreBuilder::new("/");
        for path in &options.files {
            let read = |source| ExcludeError::Read { path: path.clone(), source };
            let text = std::fs::read(path).map_err(read)?;
            let text = String::from_utf8(text)
                .map_err(|_| read(io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8")))?;
            for line in text.strip_prefix('\u{feff}').unwrap_or(&text).lines() {
                add(&mut builder, line)?;
            }
        }
        for pattern in &options.patterns {
            add(&mut builder, pattern)?;
        }
        let matcher = builder
            .build()
            .map_err(|e| ExcludeError::Pattern { pattern: "all together".to_owned(), reason: e.to_string() })?;
        Ok(Self {
            matcher: (!matcher.is_empty()).then_some(matcher),
            if_present: options.if_present.clone(),
            caches: options.caches,
            larger_than: options.larger_than,
            one_file_system: options.one_file_system,
        })
    }

    /// Whether [`Excludes::matches`] can ever say yes; if not, paths need not be put together.
    pub fn has_patterns(&self) -> bool {
        self.matcher.is_some()
    }

    /// Whether patterns leave out the entry at a path (bytes, without a leading slash).
    pub fn matches(&self, path: &[u8], is_dir: bool) -> bool {
        match &self.matcher {
            Some(matcher) => matcher.matched(Path::new(OsStr::from_bytes(path)), is_dir).is_ignore(),
            None => false,
        }
    }

    /// Whether a file of so many bytes is left out.
    pub fn too_large(&self, bytes: u64) -> bool {
        self.larger_than.is_some_and(|limit| bytes > limit)
    }

    /// Whether other file systems are left out.
    pub fn one_file_system(&self) -> bool {
        self.one_file_system
    }

    /// Whether tag files can matter at all.
    pub fn has_tags(&self) -> bool {
        self.caches || !self.if_present.is_empty()
    }

    /// The name that marks a folder as one to be left out, among its sorted names; `read_start` reads the first bytes
    /// of an entry.
    pub fn tag(
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

fn add(builder: &mut GitignoreBuilder, pattern: &str) -> Result<(), ExcludeError> {
    let wrong = |reason: String| ExcludeError::Pattern { pattern: pattern.to_owned(), reason };
    builder.add_line(None, pattern).map(|_| ()).map_err(|e| wrong(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excludes(patterns: &[&str]) -> Excludes {
        let patterns = patterns.iter().map(|p| (*p).to_owned()).collect();
        Excludes::new(&ExcludeOptions { patterns, ..Default::default() }).unwrap()
    }

    #[test]
    fn patterns_mean_what_they_mean_to_git() {
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
    fn nonsense_is_refused_with_its_name() {
        let options = ExcludeOptions { patterns: vec!["[z-a]".to_owned()], ..Default::default() };
        assert!(matches!(Excludes::new(&options), Err(ExcludeError::Pattern { pattern, .. }) if pattern == "[z-a]"));
        let options = ExcludeOptions { files: vec!["/nonexistent/patterns".into()], ..Default::default() };
        assert!(matches!(Excludes::new(&options), Err(ExcludeError::Read { .. })));
    }

    #[test]
    fn tags_need_their_signature() {
        let options = ExcludeOptions { caches: true, if_present: vec![b".nobackup".to_vec()], ..Default::default() };
        let rules = Excludes::new(&options).unwrap();
        let signed = |_: &[u8]| Some(*CACHEDIR_SIGNATURE);
        assert_eq!(rules.tag(|n| n == b".nobackup", |_| None), Some(&b".nobackup"[..]));
        assert_eq!(rules.tag(|n| n == CACHEDIR_TAG, signed), Some(CACHEDIR_TAG));
        assert_eq!(rules.tag(|n| n == CACHEDIR_TAG, |_| Some([0; 43])), None);
        assert_eq!(rules.tag(|_| false, signed), None);
    }

    #[test]
    fn sizes() {
        let rules = Excludes::new(&ExcludeOptions { larger_than: Some(10), ..Default::default() }).unwrap();
        assert!(!rules.too_large(10) && rules.too_large(11));
    }
}
