//! Recovery texts as people type them.

use super::*;
use proptest::prelude::*;

/// The text of a known key.
const KNOWN: &str = "
    1: 048H 248H 248H 248H 248H 248H 248J 48H2  WNNF
    2: 48H2 48H2 48H2 48H2 48H2 48H2 48H2 48H2  37Y4
    3: 48H2 48H2 48H2 48HK 6CSK 6CSK 6CSK 6CSK  0VHT
    4: 6CSK 6CSK 6CSK 6CSK 6CSK 6CSK 6CSK 6CSK  N8JY
    5: 6D24 8H24 8H24 8H24 8H24 8H24 8H24 8H24  H2YX
    6: 8H24 8H24 8H24 8H24 8H24 8HCD DYVD 7X9X  YEX2
";

fn key() -> FullKey {
    FullKey::random(RepoId([0x42; 16]))
}

#[test]
fn typed_text_is_read_back() {
    let key = key();
    let text = key.recovery_text();
    assert_eq!(text.lines().count(), LINES);
    assert_eq!(FullKey::from_recovery_text(&text).unwrap().encode(), key.encode());
    // Typed in a hurry: lower case, no line numbers, dashes, letters in place of digits, a note.
    let sloppy: String = text
        .lines()
        .map(|l| format!("\n  {}\n", l.split_once(':').unwrap().1.to_lowercase().replace(' ', "-").replace('0', "o")))
        .collect();
    let sloppy = format!("# from the safe\n{sloppy}").replace('1', "l");
    assert_eq!(FullKey::from_recovery_text(&sloppy).unwrap().encode(), key.encode());
}

/// Returns the lines without their numbers.
fn bare_lines(key: &FullKey) -> Vec<String> {
    key.recovery_text().lines().map(|l| l.split_once(':').unwrap().1.trim().to_owned()).collect()
}

#[test]
fn every_form_of_the_same_text_is_read() {
    let key = key();
    let text = key.recovery_text().to_string();
    let bare = bare_lines(&key);
    let numbered = |form: &dyn Fn(usize, &str) -> String| -> String {
        bare.iter().enumerate().map(|(at, line)| form(at + 1, line)).collect()
    };
    let mut reversed: Vec<&str> = text.lines().collect();
    reversed.reverse();
    let forms = [
        text.replace('\n', "\r\n"),
        format!("\u{feff}{text}"),
        text.to_lowercase(),
        numbered(&|n, line| format!("{n}. {line}\n")),
        numbered(&|n, line| format!("{n}) {}\n", line.replace(' ', ""))),
        numbered(&|n, line| format!(" {n} - {line}\n")),
        numbered(&|n, line| format!("{n} {line}\n")),
        numbered(&|_, line| format!("{line}\n\n")),
        // Quoted in a mail, twice.
        text.lines().map(|line| format!("> > {line}\r\n")).collect(),
        numbered(&|n, line| format!("\"{n}: {line}\"\n")),
        // Broken into two lines, by hand or by a mail program.
        numbered(&|n, line| format!("{n}: {}\n{}\n", &line[..19], &line[19..])),
        text.replace(' ', "\u{a0}").replace("\u{a0}", "\u{2013}"),
        // The check tells which line is which.
        reversed.join("\n"),
        reversed.iter().map(|line| format!("{}\n", line.split_once(':').unwrap().1)).collect(),
    ];
    for form in forms {
        let read = FullKey::from_recovery_text(&form).unwrap_or_else(|error| panic!("{error}: {form}"));
        assert_eq!(read.encode(), key.encode());
        assert!(FullKey::looks_like_recovery_text(&form), "{form}");
    }
    for other in ["", "hello\n", "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blbn\n", "# only a comment"] {
        assert!(!FullKey::looks_like_recovery_text(other), "{other}");
    }
}

#[test]
fn errors_name_the_line() {
    let key = key();
    let mut lines = bare_lines(&key);
    let says = |lines: &[String]| FullKey::from_recovery_text(&lines.join("\n")).unwrap_err().to_string();
    let good = lines[4].clone();
    lines[4] = good[..good.len() - 1].to_owned();
    assert!(says(&lines).contains("line 5: it is too short, 35 of 36"), "{}", says(&lines));
    lines[4] = good.clone() + "0";
    assert!(says(&lines).contains("line 5: it is too long, 37 of 36"), "{}", says(&lines));
    lines[4] = "U".repeat(36);
    assert!(says(&lines).contains("line 5") && says(&lines).contains("never used"), "{}", says(&lines));
    lines[4] = lines[3].clone();
    assert!(says(&lines).contains("line 4 is there twice"), "{}", says(&lines));
    lines.pop();
    lines.pop();
    assert!(says(&lines).contains("lines 5, 6 of 6 missing"), "{}", says(&lines));
    assert!(says(&["7: 0000".to_owned()]).contains("numbered 7"));
    // Two lines are wrong: both are named.
    let mut lines = bare_lines(&key);
    for at in [1, 3] {
        let wrong = if lines[at].starts_with('7') { "X" } else { "7" };
        lines[at].replace_range(0..1, wrong);
    }
    assert!(says(&lines).contains("line 2:") && says(&lines).contains("line 4:"), "{}", says(&lines));
    // Lines of two sheets.
    let mut lines = bare_lines(&key);
    lines[2] = bare_lines(&self::key())[2].clone();
    assert!(says(&lines).contains("do not belong together"));
}

#[test]
fn a_slip_of_the_hand_is_found_and_the_right_group_suggested() {
    // This key's lines have no other line close to them that fits by chance.
    let key = FullKey::from_recovery_text(KNOWN).unwrap();
    let lines = bare_lines(&key);
    let groups = |line: &str| line.split_whitespace().map(ToOwned::to_owned).collect::<Vec<String>>();
    let says = |at: usize, typed: String| {
        let mut lines = lines.clone();
        lines[at] = typed;
        FullKey::from_recovery_text(&lines.join("\n")).unwrap_err().to_string()
    };
    for (at, line) in lines.iter().enumerate() {
        for group in 0..9 {
            let right = groups(line)[group].clone();
            let meant = format!("group {} is probably {right}", group + 1);
            let typed = |wrong: String| {
                let mut groups = groups(line);
                groups[group] = wrong;
                groups.join(" ")
            };
            let (first, rest) = right.split_at(1);
            let wrong = if first == "8" { "B" } else { "8" };
            for slip in [format!("{wrong}{rest}"), format!("U{rest}")] {
                let text = says(at, typed(slip.clone()));
                assert!(text.contains(&format!("line {}:", at + 1)) && text.contains(&meant), "{slip}: {text}");
            }
            let missing = says(at, typed(rest.to_owned()));
            assert!(missing.contains("too short") && missing.contains("is probably"), "{missing}");
            let doubled = says(at, typed(format!("{first}{right}")));
            assert!(doubled.contains("too long"), "{doubled}");
        }
    }
    // Two characters that look alike, in two places.
    let twice = lines[0].replacen('8', "B", 2);
    assert_ne!(twice, lines[0]);
    let text = says(0, twice);
    assert!(text.contains("line 1: a character is wrong; group"), "{text}");
}

proptest! {
    #[test]
    fn random_text_is_rejected(text: String) {
        prop_assert!(FullKey::from_recovery_text(&text).is_err());
    }

    #[test]
    fn one_wrong_character_is_found(at: prop::sample::Index, to in 0usize..32) {
        let key = key();
        let text = key.recovery_text();
        let characters = text.char_indices().filter(|(_, c)| c.is_ascii_alphanumeric());
        let places: Vec<usize> = characters.map(|(at, _)| at).collect();
        let at = places[at.index(places.len())];
        let to = &"0123456789ABCDEFGHJKMNPQRSTVWXYZ"[to..=to];
        prop_assume!(&text[at..=at] != to);
        let mut typed = text.to_string();
        typed.replace_range(at..=at, to);
        // The check also tells which line is which, so a wrong number does no harm.
        let read = FullKey::from_recovery_text(&typed);
        prop_assert!(read.map_or(true, |read| read.encode() == key.encode()));
    }
}
