//! Names that people give: tags, targets, hosts and labels; and times that are typed back.

use crate::{common::program::Person, expect, make_source, text};

fn list(person: &Person, args: &[&str]) -> Vec<serde_json::Value> {
    let text = person.run([&["snapshots", "--json"], args].concat());
    serde_json::from_str::<serde_json::Value>(&text).unwrap().as_array().unwrap().clone()
}

#[test]
fn tags_are_lists_everywhere() {
    let person = Person::with_repo();
    let source = person.path("src");
    make_source(&source);
    let source = source.to_str().unwrap();
    person.run(["push", "--tag", "keep,monthly", "--tag", "third", "-C", source, "."]);
    person.run(["push", "--tag", "monthly", "-C", source, "."]);
    person.run(["push", "-C", source, "."]);
    assert_eq!(list(&person, &[])[0]["tags"], serde_json::json!(["keep", "monthly", "third"]));
    assert_eq!(list(&person, &["--tag", "monthly"]).len(), 2);
    assert_eq!(list(&person, &["--tag", "keep,monthly"]).len(), 1, "all of them");
    let output = text(&person.output(["forget", "--dry-run", "--keep-tag", "keep,monthly", "--keep-last", "1"]).stdout);
    assert!(output.contains("keep,monthly"), "{output}");
}

#[test]
fn names_that_nobody_could_type_again_are_refused() {
    let person = Person::with_repo();
    make_source(&person.path("src"));
    let source = person.path("src");
    let source = source.to_str().unwrap();
    for (option, value) in [
        ("--tag", ""),
        ("--tag", " x"),
        ("--tag", "a,,b"),
        ("--tag", "a\u{202e}b"),
        ("--host", ""),
        ("--host", "a\nb"),
        ("--target", ""),
        ("--target", "x "),
    ] {
        for command in
            [&["push", option, value, source][..], &["snapshots", option, value], &["ls", option, value, "latest"]]
        {
            expect(&person.output(command), 1, &[option]);
        }
    }
    expect(&person.output(["key", "export-push", "--label", " ", person.path("k").to_str().unwrap()]), 1, &["--label"]);
    assert!(list(&person, &[]).is_empty() && !person.path("k").exists(), "nothing was done");
}

#[test]
fn times_that_are_printed_can_be_typed_back() {
    let person = Person::with_repo();
    let source = person.path("src");
    make_source(&source);
    person.push(&source);
    let zones = ["UTC0", "CET-1CEST,M3.5.0,M10.5.0/3", "<+0545>-5:45", "<-12>12"];
    for zone in zones {
        let run = |args: &[&str]| {
            let output = person.command().env("TZ", zone).args(args).output().unwrap();
            expect(&output, 0, &[]);
            text(&output.stdout)
        };
        let table = run(&["snapshots"]);
        let row: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
        let json: serde_json::Value = serde_json::from_str(&run(&["snapshots", "--json"])).unwrap();
        let (printed, exact) = (format!("{} {}", row[1], row[2]), json[0]["time"].as_str().unwrap());
        for time in [printed.as_str(), &printed.replace(' ', "T"), exact, row[1]] {
            assert_eq!(run(&["cat", &format!("{time}:hello")]), "hello\n", "{time} in {zone}");
            assert_eq!(run(&["ls", time]), "hello\nsub/\n", "{time} in {zone}");
        }
        // A time that does not fit is not taken for a shorter time with a path.
        let other = format!("{}T{}", row[1], "00:00:61");
        let output = person.command().env("TZ", zone).args(["ls", &other]).output().unwrap();
        expect(&output, 1, &["neither a time nor a time with a path"]);
    }
}
