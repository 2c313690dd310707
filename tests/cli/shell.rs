//! What the program does for the shell: completion, manual pages, its version.

use std::{fs, path::Path, process::Command};

use serde_json::Value;

use crate::{common::program::Person, make_source, skip, text};

/// Completes command lines in a real bash, as the key Tab does. Prints one line for each: what is offered.
const COMPLETE: &str = r#"
source <(bkfs completions bash)
while IFS= read -r line; do
    read -ra COMP_WORDS <<<"$line"
    [ "${line: -1}" != " " ] || COMP_WORDS+=("")
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMPREPLY=()
    _clap_complete_bkfs bkfs "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
    echo "${COMPREPLY[*]}"
done
"#;

#[test]
fn bash_completes_commands_snapshots_paths_and_targets() {
    if Command::new("bash").arg("--version").output().is_err() {
        skip!("there is no bash");
    }
    let person = Person::with_repo();
    let source = person.path("src");
    make_source(&source);
    person.run(["push", "--target", "home", "-C", source.to_str().unwrap(), "."]);
    let newest = person.newest();
    let lines = ["bkfs snap", "bkfs ls lat", &format!("bkfs ls {}", &newest[..4]), "bkfs cat latest:sub/b"];
    let unknown = format!("bkfs ls -r {} l", person.path("nothing").display());
    let lines = [&lines[..], &["bkfs restore --target h", "bkfs completions z", &unknown]].concat();
    let program = Path::new(env!("CARGO_BIN_EXE_bkfs"));
    let path = format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let complete = |password: &str| {
        let mut bash = Command::new("bash");
        bash.envs(person.command().get_envs().filter_map(|(name, value)| Some((name, value?))));
        bash.env("PATH", &path).env("BKFS_PASSWORD", password).args(["--norc", "-c", COMPLETE]);
        let output = bash.stdin(lines_file(&person, &lines)).output().unwrap();
        text(&output.stdout).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let found = complete("correct horse battery staple");
    assert_eq!(found, ["snapshots", "latest", &newest[..8], "latest:sub/big", "home", "zsh", "latest"], "{lines:?}");
    // A wrong passphrase: nothing is asked, and nothing that the repository holds is offered.
    assert_eq!(complete("wrong"), ["snapshots", "latest", "", "", "", "zsh", "latest"]);
}

fn lines_file(person: &Person, lines: &[&str]) -> fs::File {
    let path = person.path("lines");
    fs::write(&path, lines.join("\n") + "\n").unwrap();
    fs::File::open(path).unwrap()
}

#[test]
fn every_command_has_a_manual_page() {
    let person = Person::new();
    let folder = person.path("share/man1");
    person.run(["man", folder.to_str().unwrap()]);
    let page = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    assert!(page("bkfs.1").contains("bkfs\\-push(1)") && page("bkfs-push.1").contains("exclude\\-caches"));
    assert!(page("bkfs-server-account-quota.1").contains("quota"));
    assert!(fs::read_dir(&folder).unwrap().count() > 50);
}

#[test]
fn the_version_is_an_object_for_programs() {
    let person = Person::new();
    let version: Value = serde_json::from_str(&person.run(["version", "--json"])).unwrap();
    assert_eq!(version["program"], env!("CARGO_PKG_VERSION"));
    assert_eq!(person.run(["version"]), person.run(["--version"]));
    assert_eq!(version["protocol"], bkfs_transport::PROTOCOL);
}
