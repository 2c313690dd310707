//! A plain check, without reading any data, finds files of packs that are missing or have a wrong length.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    common::program::{Person, Server},
    expect, files, make_source, packs, text,
};

fn set_len(path: &Path, len: u64) {
    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(len).unwrap();
}

fn pushed(init: &[&str]) -> Person {
    let person = Person::new();
    person.run([&["init"], init].concat());
    make_source(&person.path("src"));
    person.push(&person.path("src"));
    person
}

fn parity_of(repo: &Path) -> PathBuf {
    let mut found = files(repo);
    found.retain(|path| path.to_str().unwrap().contains("/parity/"));
    found.sort_by_key(|path| std::cmp::Reverse(path.metadata().unwrap().len()));
    found.remove(0)
}

#[test]
fn a_pack_of_a_wrong_length_is_a_problem() {
    for (cut, words) in [(0, "pack"), (100, "pack"), (1 << 20, "pack")] {
        let person = pushed(&["--parity", "off"]);
        expect(&person.output(["check"]), 0, &[]);
        let pack = packs(&person.path("repo"))[0].clone();
        let (name, len) = (pack.file_name().unwrap().to_str().unwrap(), pack.metadata().unwrap().len());
        set_len(&pack, cut.min(len - 1));
        expect(&person.output(["check"]), 1, &[words, name, "/sub/big"]);
        // The next push of the same files heals it, and what is left of the pack can be dropped.
        person.push(&person.path("src"));
        let big = person.output(["cat", "latest:sub/big"]);
        assert!(big.stdout == fs::read(person.path("src/sub/big")).unwrap());
        person.run(["repair", "packs"]);
        expect(&person.output(["check"]), 0, &[]);
    }
    // Bytes behind its end.
    let person = pushed(&["--parity", "off"]);
    let pack = packs(&person.path("repo"))[0].clone();
    set_len(&pack, pack.metadata().unwrap().len() + 1);
    expect(&person.output(["check"]), 1, &[pack.file_name().unwrap().to_str().unwrap()]);
}

#[test]
fn parity_mends_what_a_plain_check_finds() {
    let person = pushed(&[]);
    let pack = packs(&person.path("repo"))[0].clone();
    let whole = fs::read(&pack).unwrap();
    for len in [whole.len() - 100, whole.len() + 100] {
        set_len(&pack, len as u64);
        let output = person.output(["check"]);
        expect(&output, 0, &[]);
        assert!(text(&output.stdout).contains("mended 1 damaged pack from parity"), "{}", text(&output.stdout));
        assert!(fs::read(&pack).unwrap() == whole);
    }
    // More is gone than parity can bring back.
    set_len(&pack, 0);
    expect(&person.output(["check"]), 1, &[pack.file_name().unwrap().to_str().unwrap(), "/sub/big"]);
}

#[test]
fn parity_that_is_missing_or_short_is_made_again() {
    let person = pushed(&[]);
    let parity = parity_of(&person.path("repo"));
    let whole = fs::read(&parity).unwrap();
    let harms: [&dyn Fn(); 4] = [
        &|| fs::remove_file(&parity).unwrap(),
        &|| set_len(&parity, 0),
        &|| set_len(&parity, whole.len() as u64 - 1),
        &|| set_len(&parity, whole.len() as u64 + 1),
    ];
    for harm in harms {
        harm();
        let output = person.output(["check"]);
        expect(&output, 0, &[]);
        assert!(text(&output.stdout).contains("made the parity of 1 pack again"), "{}", text(&output.stdout));
        assert!(fs::read(&parity).unwrap() == whole);
    }
    let output = person.output(["check", "--json"]);
    assert!(text(&output.stdout).contains("\"parity_remade\": 0"), "{}", text(&output.stdout));
}

#[test]
fn a_server_says_it_as_well() {
    let operator = Person::new();
    let data = operator.path("data");
    let server = Server::start(&operator, &data);
    let person = server.person("alice");
    make_source(&person.path("src"));
    person.push(&person.path("src"));
    expect(&person.output(["check"]), 0, &[]);
    let pack = packs(&data).remove(0);
    set_len(&pack, 0);
    expect(&person.output(["check"]), 1, &[pack.file_name().unwrap().to_str().unwrap(), "/sub/big"]);
}
