//! Passphrases on a terminal, and passphrases that are written in two ways.

use crate::{
    common::{program::Person, terminal::Terminal},
    expect, make_source, text,
};

const RIGHT: &str = "correct horse battery staple";

fn pushed() -> Person {
    let person = Person::with_repo();
    make_source(&person.path("src"));
    person.push(&person.path("src"));
    person
}

/// Runs the program on a terminal, without a passphrase in the environment.
macro_rules! terminal {
    ($person:expr, $args:expr) => {{
        let mut command = $person.command();
        command.env_remove("BKFS_PASSWORD").args($args);
        match Terminal::start(&command) {
            Some(terminal) => terminal,
            None => crate::skip!("script(1) is not installed"),
        }
    }};
}

#[test]
fn a_mistyped_passphrase_is_asked_for_again() {
    let person = pushed();
    for args in [&["ls", "latest"][..], &["key", "list"]] {
        let mut terminal = terminal!(person, args);
        terminal.expect("Passphrase of ");
        terminal.enter("wrong");
        terminal.expect("wrong passphrase, try again");
        terminal.expect("Passphrase of ");
        terminal.enter("");
        terminal.expect("the passphrase is empty, try again");
        terminal.expect("Passphrase of ");
        terminal.enter(RIGHT);
        let (code, shown) = terminal.end();
        assert_eq!(code, 0, "{shown}");
        assert!(!shown.contains(RIGHT), "what is typed is not shown");
    }
}

#[test]
fn after_three_tries_it_is_an_error() {
    let person = pushed();
    let mut terminal = terminal!(person, ["ls", "latest"]);
    for _ in 0..3 {
        terminal.expect("Passphrase of ");
        terminal.enter("wrong");
    }
    let (code, shown) = terminal.end();
    assert_eq!(code, 12, "{shown}");
    assert_eq!(shown.matches("Passphrase of ").count(), 3);
    // From the environment, it is tried once.
    let output = person.command().env("BKFS_PASSWORD", "wrong").args(["ls", "latest"]).output().unwrap();
    expect(&output, 12, &["wrong passphrase"]);
    assert_eq!(text(&output.stderr).matches("wrong passphrase").count(), 1);
}

#[test]
fn changing_a_passphrase_asks_again_for_the_old_and_the_new_one() {
    let person = pushed();
    let mut terminal = terminal!(person, ["key", "change"]);
    terminal.expect("Passphrase of ");
    terminal.enter("wrong");
    terminal.expect("Passphrase of ");
    terminal.enter(RIGHT);
    terminal.expect("New passphrase: ");
    terminal.enter("one");
    terminal.expect("Repeat");
    terminal.enter("two");
    terminal.expect("different, try again");
    terminal.expect("New passphrase: ");
    terminal.enter("gr\u{fc}n");
    terminal.expect("Repeat");
    terminal.enter("gr\u{fc}n");
    let (code, shown) = terminal.end();
    assert_eq!(code, 0, "{shown}");
    let opened = person.command().env("BKFS_PASSWORD", "gru\u{308}n").args(["ls", "latest"]).output().unwrap();
    expect(&opened, 0, &[]);
}

#[test]
fn control_c_at_the_prompt_ends_by_the_signal() {
    let person = pushed();
    let mut terminal = terminal!(person, ["ls", "latest"]);
    terminal.expect("Passphrase of ");
    terminal.press("\x03");
    let (code, shown) = terminal.end();
    assert_eq!(code, 130, "{shown}");
    assert!(!shown.contains("bkfs: "), "it needs no message: {shown}");
}

#[test]
fn a_signal_at_the_prompt_leaves_the_terminal_as_it_was() {
    let person = pushed();
    // The shell shows how the terminal is afterwards.
    let command = person.command();
    let program = command.get_program().to_owned();
    let envs: Vec<_> = command.get_envs().map(|(k, v)| (k.to_owned(), v.map(ToOwned::to_owned))).collect();
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "(sleep 2; kill -TERM $(pgrep -P $$ -x bkfs)) & \"$0\" ls latest; echo \"ended $?\"; stty -a"]);
    command.arg(program);
    for (name, value) in envs {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.env_remove("BKFS_PASSWORD");
    let Some(mut terminal) = Terminal::start(&command) else { crate::skip!("script(1) is not installed") };
    terminal.expect("Passphrase of ");
    terminal.expect("ended 143");
    terminal.expect(" icanon");
    let (_, shown) = terminal.end();
    assert!(shown.contains(" echo ") && !shown.contains("-echo "), "{shown}");
}

#[test]
fn both_forms_of_a_passphrase_open_what_either_of_them_made() {
    let (one, two) = ("gr\u{fc}n und \u{e9}t\u{e9}", "gru\u{308}n und e\u{301}te\u{301}");
    for (made, others) in [(one, [one, two]), (two, [two, one])] {
        let person = Person::new();
        let run = |passphrase: &str, args: &[&str]| {
            person.command().env("BKFS_PASSWORD", passphrase).args(args).output().unwrap()
        };
        expect(&run(made, &["init"]), 0, &[]);
        make_source(&person.path("src"));
        expect(&run(made, &["push", "-C", person.path("src").to_str().unwrap(), "."]), 0, &[]);
        for passphrase in others {
            expect(&run(passphrase, &["ls", "latest"]), 0, &[]);
            expect(&run(&format!("{passphrase}!"), &["ls", "latest"]), 12, &["wrong passphrase"]);
        }
        let changed = person
            .command()
            .env("BKFS_PASSWORD", others[1])
            .env("BKFS_NEW_PASSWORD", made)
            .args(["key", "change"])
            .output()
            .unwrap();
        expect(&changed, 0, &[]);
        expect(&run(others[1], &["ls", "latest"]), 0, &[]);
    }
}
