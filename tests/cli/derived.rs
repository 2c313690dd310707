//! Damage of what is derived from the repository and the source, the index and the file cache: each command makes it
//! again by itself, and nobody has to do anything about it.

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
};

use crate::{common::program::Person, make_source, noise, text};

const PAGE: usize = 4096;

/// Returns the folders of the two LMDB environments: the repository's index and the file cache.
fn environments(person: &Person) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![person.path("cache")]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(entry.path()),
                false if entry.file_name() == "data.mdb" => found.push(folder.clone()),
                false => {}
            }
        }
    }
    found
}

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    assert!(std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

/// Runs commands that need the index or the file cache, and asserts that each succeeds and shows the right contents.
#[track_caller]
fn use_all(person: &Person, what: &str) {
    let source = person.path("src");
    let big = fs::read(source.join("sub/big")).unwrap();
    let source = source.to_str().unwrap().to_owned();
    let commands: [&[&str]; 4] =
        [&["push", "-C", &source, "."], &["snapshots"], &["cat", "latest:sub/big"], &["check"]];
    for args in commands {
        let output = person.output(args);
        let told = text(&output.stderr);
        assert_eq!(output.status.signal(), None, "{what}: {args:?}: {told}");
        assert_eq!(output.status.code(), Some(0), "{what}: {args:?}: {told}");
        assert!(!told.contains("panicked"), "{what}: {args:?}: {told}");
        assert!(args[0] != "cat" || output.stdout == big, "{what}: wrong contents");
    }
}

/// What is done to a data file, by a name.
type Harm = (&'static str, fn(&mut Vec<u8>, u64));

const HARMS: &[Harm] = &[
    ("empty", |bytes, _| bytes.clear()),
    ("cut within its first pages", |bytes, seed| bytes.truncate([1, 100, 4096, 5000][seed as usize % 4])),
    ("cut by 1 to 4 pages", |bytes, seed| bytes.truncate(bytes.len() - PAGE * (1 + seed as usize % 4))),
    ("cut by half a page", |bytes, _| bytes.truncate(bytes.len() - PAGE / 2)),
    ("cut to a third", |bytes, _| bytes.truncate(bytes.len() / 3)),
    ("wrong magic", |bytes, seed| bytes[16 + PAGE * (seed as usize % 2)] ^= 1),
    ("a page of zeros", |bytes, seed| {
        let page = PAGE * (seed as usize % (bytes.len() / PAGE));
        bytes[page..page + PAGE].fill(0);
    }),
    ("a page of noise", |bytes, seed| {
        let page = PAGE * (seed as usize % (bytes.len() / PAGE));
        bytes[page..page + PAGE].copy_from_slice(&noise(seed, PAGE));
    }),
    ("all zeros", |bytes, _| bytes.fill(0)),
    ("flipped bits in its first pages", |bytes, seed| {
        for at in noise(seed, 3) {
            bytes[PAGE * (at as usize % 2) + at as usize % 152] ^= 1 << (at % 8);
        }
    }),
    ("flipped bits", |bytes, seed| {
        for four in noise(seed, 40).as_chunks::<4>().0 {
            let at = u32::from_le_bytes(*four) as usize % bytes.len();
            bytes[at] ^= 1 << (four[0] % 8);
        }
    }),
    ("rubbish behind its end", |bytes, seed| bytes.extend(noise(seed, 3 * PAGE))),
];

fn pushed() -> Person {
    let person = Person::with_repo();
    let source = person.path("src");
    make_source(&source);
    for number in 0..300 {
        fs::create_dir_all(source.join(format!("many/{}", number % 40))).unwrap();
        fs::write(source.join(format!("many/{}/{number}", number % 40)), noise(number, 3000)).unwrap();
    }
    person.push(&source);
    person
}

#[test]
fn a_damaged_data_file_is_made_again_in_the_same_command() {
    let person = pushed();
    let saved = person.path("saved");
    copy(&person.path("cache"), &saved);
    let found = environments(&person);
    assert_eq!(found.len(), 2, "{found:?}");
    for (number, folder) in found.iter().enumerate() {
        for (round, (name, harm)) in HARMS.iter().enumerate() {
            copy(&saved, &person.path("cache"));
            let data = folder.join("data.mdb");
            let mut bytes = fs::read(&data).unwrap();
            harm(&mut bytes, 31 * number as u64 + 7 * round as u64 + 3);
            fs::write(&data, bytes).unwrap();
            // Without the seal, as after a crash, LMDB's pages are all there is to go by.
            if round % 2 == number % 2 {
                let _ = fs::remove_file(folder.join("sealed"));
            }
            use_all(&person, &format!("{}: {name}", data.display()));
        }
    }
}

#[test]
fn the_other_files_beside_it_may_be_anything() {
    let person = pushed();
    let saved = person.path("saved");
    copy(&person.path("cache"), &saved);
    for folder in environments(&person) {
        assert!(folder.join("sealed").is_file(), "a command that ends properly seals {}", folder.display());
        for name in ["data.mdb", "lock.mdb", "sealed"] {
            let file = folder.join(name);
            let harms: [(&str, &dyn Fn()); 4] = [
                ("gone", &|| fs::remove_file(&file).unwrap()),
                ("a folder", &|| {
                    fs::remove_file(&file).unwrap();
                    fs::create_dir_all(file.join("in it")).unwrap();
                }),
                ("rubbish", &|| fs::write(&file, noise(9, 5000)).unwrap()),
                ("one byte", &|| fs::write(&file, b"x").unwrap()),
            ];
            for (how, harm) in harms {
                copy(&saved, &person.path("cache"));
                harm();
                use_all(&person, &format!("{}: {how}", file.display()));
            }
        }
        copy(&saved, &person.path("cache"));
        fs::remove_dir_all(&folder).unwrap();
        fs::write(&folder, "a file in the folder's place").unwrap();
        use_all(&person, &format!("{}: a file", folder.display()));
    }
}
