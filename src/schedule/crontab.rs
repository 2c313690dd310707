//! The lines of a crontab that run profiles, between two markers. What is outside of them is kept byte for byte.

use super::job::{Kind, Program};

const BEGIN: &str = "# bkfs schedule: begin. `bkfs schedule` writes the lines from here to the end marker.";
const END: &str = "# bkfs schedule: end.";
/// What the line before each entry begins with.
const ENTRY: &str = "# profile ";

/// A crontab.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Crontab {
    before: String,
    /// What runs profiles.
    pub entries: Vec<Entry>,
    after: String,
}

/// A line that runs a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name of the profile.
    pub profile: String,
    /// How it is run.
    pub kind: Kind,
    /// The line.
    pub line: String,
}

impl Entry {
    /// Returns a line that runs a profile. `when` is five fields, or `@reboot`.
    pub fn new(profile: &str, kind: Kind, when: &str, program: &Program) -> Self {
        let variables: String =
            program.environment.iter().map(|(name, value)| format!("{name}={} ", quoted(value))).collect();
        let command = match kind {
            Kind::Run => format!("run {}", quoted(profile)),
            Kind::Watch => format!("watch -P {}", quoted(profile)),
        };
        let line = format!("{when} {variables}nice -n 10 {} {command}", quoted(&program.path));
        Self { profile: profile.to_owned(), kind, line }
    }

    /// Returns when it runs.
    pub fn when(&self) -> String {
        match self.line.starts_with('@') {
            true => self.line.split_whitespace().next().unwrap_or_default().to_owned(),
            false => self.line.split_whitespace().take(5).collect::<Vec<_>>().join(" "),
        }
    }
}

/// Quotes a word for the shell. Cron takes a percent sign for the end of the line, unless it is escaped.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@+,=".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''").replace('%', "\\%")),
    }
}

impl Crontab {
    /// Reads a crontab. Fails if its markers are not a pair.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lines = || text.split_inclusive('\n');
        let is = |line: &str, marker: &str| line.trim_end() == marker;
        let begins: Vec<usize> = lines().enumerate().filter(|(_, line)| is(line, BEGIN)).map(|(at, _)| at).collect();
        let ends: Vec<usize> = lines().enumerate().filter(|(_, line)| is(line, END)).map(|(at, _)| at).collect();
        let (begin, end) = match (&begins[..], &ends[..]) {
            ([], []) => return Ok(Self { before: text.to_owned(), ..Self::default() }),
            ([begin], [end]) if begin < end => (*begin, *end),
            _ => {
                return Err(format!(
                    "the lines of bkfs in the crontab do not begin with one line \"{BEGIN}\" and end with one line \
                     \"{END}\""
                ));
            }
        };
        let (mut entries, mut named) = (Vec::new(), None);
        for line in lines().skip(begin + 1).take(end - begin - 1).map(str::trim_end) {
            if let Some(rest) = line.strip_prefix(ENTRY) {
                named = Some(match rest.rsplit_once(": ") {
                    Some((profile, "run")) => (profile.to_owned(), Kind::Run),
                    Some((profile, "watch")) => (profile.to_owned(), Kind::Watch),
                    _ => return Err(format!("the line {line:?} in the crontab is not one that bkfs wrote")),
                });
                continue;
            }
            match named.take() {
                Some((profile, kind)) => entries.push(Entry { profile, kind, line: line.to_owned() }),
                None => return Err(format!("the line {line:?} in the crontab stands among the lines of bkfs")),
            }
        }
        Ok(Self { before: lines().take(begin).collect(), entries, after: lines().skip(end + 1).collect() })
    }

    /// Replaces what runs a profile.
    pub fn set(&mut self, profile: &str, kind: Kind, entries: Vec<Entry>) {
        self.entries.retain(|entry| (entry.profile.as_str(), entry.kind) != (profile, kind));
        self.entries.extend(entries);
    }

    /// Returns the lines between the markers, and the markers.
    pub fn block(&self) -> String {
        if self.entries.is_empty() {
            return String::new();
        }
        let line = |entry: &Entry| format!("{ENTRY}{}: {}\n{}\n", entry.profile, entry.kind, entry.line);
        format!("{BEGIN}\n{}{END}\n", self.entries.iter().map(line).collect::<String>())
    }

    /// Returns the whole text.
    pub fn text(&self) -> String {
        let block = self.block();
        let newline = if self.before.is_empty() || self.before.ends_with('\n') || block.is_empty() { "" } else { "\n" };
        format!("{}{newline}{block}{}", self.before, self.after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(profile: &str, when: &str) -> Entry {
        let program =
            Program { path: "/opt/it's/bkfs".into(), environment: vec![("BKFS_CONFIG_DIR", "/a 50%".to_owned())] };
        Entry::new(profile, Kind::Run, when, &program)
    }

    #[test]
    fn only_the_lines_between_the_markers_change() {
        let own = "MAILTO=me\n\n0 1 * * * backup  \n# no newline at the end";
        let mut crontab = Crontab::parse(own).unwrap();
        crontab.set("home", Kind::Run, vec![entry("home", "5 3 * * *")]);
        let text = crontab.text();
        assert!(text.starts_with(&format!("{own}\n{BEGIN}\n")) && text.ends_with(&format!("{END}\n")), "{text}");
        let mut again = Crontab::parse(&format!("{text}7 7 * * * after\n")).unwrap();
        assert_eq!((&again.entries, again.entries[0].when()), (&crontab.entries, "5 3 * * *".to_owned()));
        again.set("home", Kind::Watch, vec![entry("home", "@reboot")]);
        again.set("home", Kind::Run, vec![entry("home", "6 3 * * *")]);
        assert!(again.text().contains("\n6 3 * * *") && !again.text().contains("\n5 3 * * *"));
        again.set("home", Kind::Run, vec![]);
        again.set("home", Kind::Watch, vec![]);
        assert_eq!(again.text(), format!("{own}\n7 7 * * * after\n"));
        assert_eq!(Crontab::parse("").unwrap().text(), "");
    }

    #[test]
    fn a_word_is_quoted_for_the_shell_and_for_cron() {
        let line = entry("home", "0 0 * * *").line;
        let whole = "0 0 * * * BKFS_CONFIG_DIR='/a 50\\%' nice -n 10 '/opt/it'\\''s/bkfs' run home";
        assert_eq!(line, whole);
    }

    #[test]
    fn markers_that_are_not_a_pair_are_refused() {
        for bad in [
            format!("{BEGIN}\n"),
            format!("{END}\n"),
            format!("{END}\n{BEGIN}\n"),
            format!("{BEGIN}\n{BEGIN}\n{END}\n"),
            format!("{BEGIN}\n0 0 * * * mine\n{END}\n"),
            format!("{BEGIN}\n{ENTRY}x\n{END}\n"),
        ] {
            assert!(Crontab::parse(&bad).is_err(), "{bad}");
        }
    }
}
