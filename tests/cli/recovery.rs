//! The bad day: nothing is left but the recovery sheet, with the address that is on it.

use crate::{
    common::program::{Person, Server},
    expect, make_source, text,
};

/// A server with a repository of alice's, and her recovery sheet.
fn with_sheet() -> (Person, Server, String) {
    let operator = Person::new();
    let server = Server::start(&operator, &operator.path("server"));
    let alice = server.person("alice");
    make_source(&alice.path("src"));
    alice.push(&alice.path("src"));
    let sheet = alice.run(["key", "recovery"]);
    (operator, server, sheet)
}

/// Returns the six lines.
fn key_lines(sheet: &str) -> Vec<String> {
    let is_key = |line: &&str| !line.is_empty() && !line.starts_with('#');
    sheet.lines().filter(is_key).map(ToOwned::to_owned).collect()
}

#[test]
fn three_commands_restore_with_nothing_but_the_sheet() {
    let (operator, server, sheet) = with_sheet();
    // What the sheet says is what is done here.
    let url = format!("bkfs://{}/alice", server.address);
    for word in ["bkfs join TOKEN", "bkfs server invite --data DIR alice", &format!("bkfs snapshots -r {url}")] {
        assert!(sheet.contains(word), "{word} is not on the sheet: {sheet}");
    }
    let mut fresh = Person::new();
    fresh.repo = url.clone();
    std::fs::write(fresh.path("sheet"), key_lines(&sheet).join("\n").to_lowercase()).unwrap();
    let run = |args: &[&str]| {
        let mut command = fresh.command();
        command.env_remove("BKFS_PASSWORD").env("BKFS_KEY_FILE", fresh.path("sheet")).args(args).output().unwrap()
    };
    let out = fresh.path("restored");
    // Without an invitation, the message says who makes it, and how.
    let refused = run(&["restore", "latest", out.to_str().unwrap()]);
    expect(&refused, 1, &["has not joined", "bkfs join TOKEN", "bkfs server invite --data DIR alice"]);
    let token = server.invite(&operator, "alice", "read");
    expect(&run(&["join", &token]), 0, &[]);
    expect(&run(&["snapshots"]), 0, &[]);
    expect(&run(&["restore", "latest", out.to_str().unwrap()]), 0, &[]);
    assert_eq!(std::fs::read_to_string(out.join("hello")).unwrap(), "hello\n");
}

#[test]
fn any_three_of_five_sheets_restore_on_a_bare_machine() {
    let operator = Person::new();
    let server = Server::start(&operator, &operator.path("server"));
    let alice = server.person("alice");
    make_source(&alice.path("src"));
    alice.push(&alice.path("src"));
    let printed = alice.run(["key", "recovery", "--shares", "3/5"]);
    let lines = key_lines(&printed);
    assert_eq!((lines.len(), printed.matches("# bkfs recovery sheet ").count()), (35, 5), "{printed}");
    let sheet = |at: usize| lines[at * 7..at * 7 + 7].join("\n");
    let mut fresh = Person::new();
    fresh.repo = format!("bkfs://{}/alice", server.address);
    fresh.run(["join", &server.invite(&operator, "alice", "read")]);
    let out = fresh.path("restored");
    let restore = |typed: &[String]| {
        std::fs::write(fresh.path("sheet"), typed.join("\n\n")).unwrap();
        let mut command = fresh.command();
        command.env_remove("BKFS_PASSWORD").env("BKFS_KEY_FILE", fresh.path("sheet"));
        command.args(["restore", "latest", out.to_str().unwrap()]).output().unwrap()
    };
    expect(&restore(&[sheet(4), sheet(1)]), 1, &["3 sheets are needed, and 2 are there", "type 1 more"]);
    expect(&restore(&[sheet(4), sheet(1), sheet(3)]), 0, &[]);
    assert_eq!(std::fs::read_to_string(out.join("hello")).unwrap(), "hello\n");
    // Some mistakes.
    for wrong in ["1/5", "6/5", "3", "3/17", "three/five"] {
        expect(&alice.output(["key", "recovery", "--shares", wrong]), 1, &["like 3/5"]);
    }
}

#[test]
fn a_mistyped_sheet_names_the_line_and_what_was_probably_meant() {
    let (_operator, _server, sheet) = with_sheet();
    let fresh = Person::with_repo();
    let says = |typed: &str| {
        std::fs::write(fresh.path("sheet"), typed).unwrap();
        let mut command = fresh.command();
        let output = command.env("BKFS_KEY_FILE", fresh.path("sheet")).args(["ls", "latest"]).output().unwrap();
        expect(&output, 1, &["sheet: "]);
        text(&output.stderr)
    };
    let lines = key_lines(&sheet);
    // "3: XXXX XXXX ...": the second group.
    let right = &lines[2][8..12];
    let wrong = if right.starts_with('W') { "X" } else { "W" };
    let mut typed = lines.clone();
    typed[2].replace_range(8..9, wrong);
    let said = says(&typed.join("\n"));
    assert!(said.contains("the recovery text is damaged: line 3: a character is wrong"), "{said}");
    assert!(said.contains(&format!("group 2 is probably {right}")), "{said}");
    typed.remove(4);
    typed[2] = lines[2].clone();
    assert!(says(&typed.join("\n")).contains("line 5 of 6 missing"));
    // A damaged key file is no recovery text.
    let key = fresh.path("full.key");
    fresh.run(["key", "export-full", key.to_str().unwrap()]);
    let file = std::fs::read_to_string(&key).unwrap();
    let line = file.lines().nth(5).unwrap();
    let changed = line.replacen(&line[10..11], if &line[10..11] == "A" { "B" } else { "A" }, 1);
    assert!(says(&file.replace(line, &changed)).contains("line 6 is damaged"));
    assert!(says(&file.replace("BEGIN", "BEGlN")).contains("does not begin with"));
    assert!(says("hello").contains("numbered lines of a recovery sheet"));
}

#[test]
fn a_sheet_is_no_push_key() {
    let (operator, server, sheet) = with_sheet();
    let fresh = Person::new();
    std::fs::write(fresh.path("sheet"), &sheet).unwrap();
    let token = server.invite(&operator, "alice", "all");
    let path = fresh.path("sheet");
    let output = fresh.output(["join", &token, "--push-key", path.to_str().unwrap()]);
    expect(&output, 1, &["this is a recovery sheet", "BKFS_KEY_FILE"]);
    // The invitation is not used up. With it, the sheet pushes, too.
    expect(&fresh.output(["join", &token]), 0, &[]);
    make_source(&fresh.path("src"));
    let output = fresh
        .command()
        .env_remove("BKFS_PASSWORD")
        .env("BKFS_REPOSITORY", format!("bkfs://{}/alice", server.address))
        .env("BKFS_KEY_FILE", &path)
        .args(["push", "-C", fresh.path("src").to_str().unwrap(), "."])
        .output()
        .unwrap();
    expect(&output, 0, &[]);
}
