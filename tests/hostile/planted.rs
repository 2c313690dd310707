//! What a server can learn: words are planted in all that a client keeps from it, and then all that the server
//! receives, stores and holds in memory is searched for them.

use std::{
    fs,
    io::{Read, Seek, SeekFrom},
    path::Path,
};

use crate::{
    common::program::{Person, Server},
    liar::LyingServer,
    wire::server,
};

/// Lengths of files that are one chunk each.
const LENGTHS: [usize; 4] = [54_321, 61_283, 48_611, 57_901];

/// What must not be found, and what it is.
struct Planted {
    words: Vec<(String, Vec<u8>)>,
    lengths: Vec<(String, Vec<u8>)>,
}

/// Makes a source full of planted words, pushes it in two snapshots, reads it, and forgets one of them.
fn plant(person: &Person) -> Planted {
    let source = person.path("source");
    let folder = source.join("planted-folder-pzvk");
    fs::create_dir_all(&folder).unwrap();
    let mut planted = Planted { words: Vec::new(), lengths: Vec::new() };
    let word = |text: &str| (text.to_owned(), text.as_bytes().to_vec());
    planted.words.extend(
        ["folder", "file", "link", "attribute", "value", "target", "tag", "host", "words", "more"]
            .map(|kind| word(&format!("planted-{kind}-pzvk"))),
    );
    planted.words.push(word("correct horse battery staple"));
    planted.words.push(word(source.to_str().unwrap()));
    for (number, len) in LENGTHS.into_iter().enumerate() {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().update(&[number as u8]).finalize_xof().fill(&mut bytes);
        fs::write(folder.join(format!("length {number}")), &bytes).unwrap();
        hashes(&mut planted, &bytes);
        planted.words.push((format!("bytes of file {number}"), bytes[1000..1024].to_vec()));
        for (form, encoded) in [("little", (len as u32).to_le_bytes()), ("big", (len as u32).to_be_bytes())] {
            planted.lengths.push((format!("{len}, {form} endian"), encoded.to_vec()));
        }
    }
    // Words that compress well, alone and many times.
    let words = "planted-words-pzvk ".repeat(5000);
    hashes(&mut planted, words.as_bytes());
    fs::write(folder.join("planted-file-pzvk"), words).unwrap();
    std::os::unix::fs::symlink("planted-link-pzvk", folder.join("link")).unwrap();
    // A file system without attributes plants one word less.
    let _ = xattr::set(folder.join("planted-file-pzvk"), "user.planted-attribute-pzvk", b"planted-value-pzvk");
    let text = source.to_str().unwrap();
    let labels = ["--target", "planted-target-pzvk", "--tag", "planted-tag-pzvk", "--host", "planted-host-pzvk"];
    person.run([&["push", text][..], &labels].concat());
    fs::write(folder.join("more"), "planted-more-pzvk").unwrap();
    person.run([&["push", text][..], &labels].concat());
    person.run(["ls", "-R", "latest"]);
    person.run(["restore", "latest", person.path("out").to_str().unwrap()]);
    person.run(["check", "--read-data"]);
    person.run(["forget", "--keep-last", "1"]);
    person.run(["prune"]);
    planted
}

/// The plain hashes that a server could compare with those of known files, and their beginnings.
fn hashes(planted: &mut Planted, bytes: &[u8]) {
    let hash = blake3::hash(bytes);
    planted.words.push((format!("BLAKE3 {hash}"), hash.as_bytes()[..16].to_vec()));
    planted.words.push((format!("BLAKE3 {hash} as text"), hash.to_hex().as_bytes()[..32].to_vec()));
}

impl Planted {
    /// Returns what is found in these bytes.
    fn find(&self, bytes: &[u8]) -> Vec<&str> {
        let has = |word: &[u8]| memchr::memmem::find(bytes, word).is_some();
        let mut found: Vec<&str> =
            self.words.iter().filter(|(_, word)| has(word)).map(|(what, _)| what.as_str()).collect();
        // Four bytes may occur by chance, so one length proves nothing.
        let lengths: Vec<_> = self.lengths.iter().filter(|(_, length)| has(length)).collect();
        if lengths.len() >= 2 {
            found.extend(lengths.iter().map(|(what, _)| what.as_str()));
        }
        found
    }
}

#[test]
fn nothing_that_clients_send_tells_names_contents_hashes_or_lengths() {
    let server = LyingServer::start();
    let planted = plant(&server.person());
    let received = std::mem::take(&mut *server.liar.received.lock().unwrap());
    // The search finds what a server is told.
    assert!(memchr::memmem::find(&received, b"alice").is_some());
    assert!(received.len() > LENGTHS.iter().sum(), "{} bytes", received.len());
    assert_eq!(planted.find(&received), Vec::<&str>::new());
}

#[test]
fn nothing_at_a_server_tells_names_contents_hashes_or_lengths() {
    let (operator, server) = server(&[]);
    let planted = plant(&server.person("planter"));
    let memory = match memory(&server) {
        Ok(memory) => memory,
        Err(error) => {
            println!("skipped a part: the memory of the server cannot be read: {error}");
            Vec::new()
        }
    };
    assert!(memory.is_empty() || memchr::memmem::find(&memory, b"planter").is_some());
    assert_eq!(planted.find(&memory), Vec::<&str>::new(), "in the memory of the server");
    let (mut files, mut names) = (0, Vec::new());
    each_file(&operator.path("data"), &mut |path| {
        files += 1;
        names.extend(path.display().to_string().into_bytes());
        assert_eq!(planted.find(&fs::read(path).unwrap()), Vec::<&str>::new(), "in {}", path.display());
    });
    assert!(files > 10, "{files} files");
    assert!(memchr::memmem::find(&names, b"planter").is_some());
    assert_eq!(planted.find(&names), Vec::<&str>::new(), "in the names of the server's files");
}

#[test]
fn the_search_finds_what_is_there() {
    let person = Person::with_repo();
    let planted = plant(&person);
    let source = person.path("source").join("planted-folder-pzvk");
    let found = planted.find(&fs::read(source.join("planted-file-pzvk")).unwrap());
    assert_eq!(found, ["planted-words-pzvk"]);
    let text = LENGTHS.map(|len| (len as u32).to_le_bytes()).concat();
    assert_eq!(planted.find(&text).len(), LENGTHS.len());
}

/// Calls `visit` for each file below a folder.
fn each_file(folder: &Path, visit: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => each_file(&entry.path(), visit),
            kind if kind.is_file() => visit(&entry.path()),
            _ => {}
        }
    }
}

/// Returns all that a server can write in its memory.
fn memory(server: &Server) -> std::io::Result<Vec<u8>> {
    let mut memory = fs::File::open(format!("/proc/{}/mem", server.id()))?;
    let maps = fs::read_to_string(format!("/proc/{}/maps", server.id()))?;
    let mut bytes = Vec::new();
    for line in maps.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (range, rights) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        let inode = fields.nth(2).unwrap_or_default();
        // What maps a file is searched as a file.
        if !rights.starts_with("rw") || inode != "0" {
            continue;
        }
        let (begin, end) = range.split_once('-').expect("a range");
        let address = |text| u64::from_str_radix(text, 16).expect("an address");
        let (begin, end) = (address(begin), address(end));
        memory.seek(SeekFrom::Start(begin))?;
        let mut region = memory.by_ref().take(end - begin);
        let mut part = vec![0; 1 << 20];
        // A region may have gone since, and most of a large one was never written.
        while let Ok(len @ 1..) = region.read(&mut part) {
            if part[..len].iter().any(|byte| *byte != 0) {
                bytes.extend_from_slice(&part[..len]);
            }
        }
    }
    Ok(bytes)
}
