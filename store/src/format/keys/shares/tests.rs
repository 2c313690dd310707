//! Split keys as people type them.

use proptest::prelude::*;

use super::*;
use crate::{base::id::RepoId, format::keys::FullKey};

/// All ways to take `count` of the numbers below `of`.
fn combinations(of: usize, count: usize) -> impl Iterator<Item = Vec<usize>> {
    (0_u32..1 << of)
        .filter(move |bits| bits.count_ones() as usize == count)
        .map(move |bits| (0..of).filter(|at| bits & (1 << at) != 0).collect())
}

fn key() -> FullKey {
    FullKey::random(RepoId([0x42; 16]))
}

fn says(text: &str) -> String {
    FullKey::from_recovery_text(text).unwrap_err().to_string()
}

#[test]
fn any_three_of_five_sheets_give_the_key_and_no_two_do() {
    let key = key();
    let sheets = key.recovery_shares(3, 5).unwrap();
    assert!(sheets.iter().all(|sheet| sheet.lines().count() == LINES && FullKey::looks_like_recovery_text(sheet)));
    for chosen in combinations(5, 3) {
        let text: String = chosen.iter().rev().map(|at| sheets[*at].as_str()).collect();
        assert_eq!(FullKey::from_recovery_text(&text).unwrap().encode(), key.encode());
    }
    for chosen in combinations(5, 2) {
        let text: String = chosen.iter().map(|at| sheets[*at].as_str()).collect();
        assert_eq!(
            says(&text),
            "3 sheets are needed, and 2 are there: type 1 more of the same set below, each in full"
        );
        // One of them twice is no third sheet.
        let twice = format!("{text}{}", sheets[chosen[0]].as_str());
        assert!(says(&twice).contains("2 are there"));
    }
    assert!(says(&sheets[0]).contains("1 is there: type 2 more"));
    let all: String = sheets.iter().map(|sheet| sheet.as_str()).collect();
    assert_eq!(FullKey::from_recovery_text(&all).unwrap().encode(), key.encode());
}

#[test]
fn sheets_are_read_as_they_are_typed() {
    let key = key();
    let sheets = key.recovery_shares(2, 3).unwrap();
    let text = format!("# mine\n{}\n# my sister's\n{}", sheets[2].as_str(), sheets[0].as_str());
    let bare = |text: &str| -> String {
        let line = |line: &str| line.split_once(": ").map_or(String::new(), |(_, rest)| rest.to_lowercase() + "\n");
        text.lines().map(line).collect()
    };
    for form in [text.clone(), text.to_lowercase(), text.replace('\n', "\r\n"), bare(&text), text.replace(' ', "")] {
        assert_eq!(FullKey::from_recovery_text(&form).unwrap().encode(), key.encode(), "{form}");
    }
}

#[test]
fn errors_name_the_sheet_and_the_line() {
    let key = key();
    let sheets = key.recovery_shares(2, 3).unwrap();
    let lines = |at: usize| sheets[at].lines().map(ToOwned::to_owned).collect::<Vec<String>>();
    let (one, two) = (lines(0), lines(1));
    let typed = |two: &[String]| format!("{}\n{}", one.join("\n"), two.join("\n"));
    let mut wrong = two.clone();
    let right = wrong[3][8..12].to_owned();
    wrong[3].replace_range(8..9, if right.starts_with('W') { "X" } else { "W" });
    let said = says(&typed(&wrong));
    assert!(said.contains("sheet 2, line 4: a character is wrong"), "{said}");
    assert!(said.contains(&format!("group 2 is probably {right}")), "{said}");
    let mut missing = two.clone();
    missing.remove(2);
    assert!(says(&typed(&missing)).contains("sheet 2: line 3 missing"), "{}", says(&typed(&missing)));
    missing.pop();
    assert!(says(&typed(&missing)).contains("sheet 2: line 7 missing"), "{}", says(&typed(&missing)));
    let mut mixed = two.clone();
    mixed[5] = lines(2)[5].clone();
    assert!(says(&typed(&mixed)).contains("sheet 2: its lines do not belong together"));
    let other = self::key().recovery_shares(2, 3).unwrap();
    let foreign: Vec<String> = other[1].lines().map(ToOwned::to_owned).collect();
    assert!(says(&typed(&foreign)).contains("sheet 2 belongs to another set"));
    let again = key.recovery_shares(2, 3).unwrap();
    let again: Vec<String> = again[1].lines().map(ToOwned::to_owned).collect();
    assert!(says(&typed(&again)).contains("sheet 2 belongs to another set"), "sets of one key are not mixed");
}

#[test]
fn impossible_divisions_are_refused() {
    for (needed, count) in [(0, 0), (1, 1), (1, 3), (4, 3), (2, 17), (255, 255)] {
        assert!(matches!(key().recovery_shares(needed, count), Err(Error::Invalid(_))), "{needed} of {count}");
    }
    assert_eq!(key().recovery_shares(16, 16).unwrap().len(), 16);
}

proptest! {
    #[test]
    fn any_text_is_read_without_a_panic(
        lines in proptest::collection::vec("[0-9A-Z:. ]{0,60}", 0..40),
        cut in 0..400_usize,
    ) {
        let text = lines.join("\n");
        let _ = FullKey::from_recovery_text(&text);
        let sheets: String = key().recovery_shares(2, 2).unwrap().iter().map(|sheet| sheet.as_str()).collect();
        let _ = FullKey::from_recovery_text(&format!("{}{text}{}", &sheets[..cut], &sheets[cut..]));
    }
}
