//! A server whose texts would take over the terminal.

use bkfs_store::base::id::{ChunkId, ClientId, PackId, SnapshotId};
use bkfs_transport::{
    message::{Call, Reply},
    wire_error::WireError,
};

use super::{
    challenges::{make_source, push},
    liar::LyingServer,
};

/// Sets the title, clears the screen, and begins a line that looks like the program's.
const TEXT: &str = "\u{1b}]0;title\u{7}\u{1b}[2J\u{9b}31m\r\nbkfs: all is well\u{8}\u{202e}";

fn errors() -> Vec<WireError> {
    let text = || TEXT.to_owned();
    vec![
        WireError::Other(text()),
        WireError::NoRepository(text()),
        WireError::RepositoryExists(text()),
        WireError::NoPermission(text()),
        WireError::LeaseRefused(text()),
        WireError::Full(text()),
        WireError::PackDamaged(PackId([1; 32]), text()),
        WireError::SnapshotDamaged(SnapshotId([1; 32]), text()),
        WireError::NotOnRoster(text(), ClientId([1; 16])),
        WireError::Damaged(text(), text()),
        WireError::SnapshotNotFound(text()),
        WireError::ChunkMissing(ChunkId([1; 32])),
    ]
}

/// Returns whether a call belongs to what is tested: each command makes others before it.
fn is_call(call: &Call, name: &str) -> bool {
    format!("{call:?}").split(['(', ' ']).next() == Some(name)
}

#[test]
fn no_text_of_a_server_reaches_the_terminal_as_it_is() {
    let server = LyingServer::start();
    let person = server.person();
    make_source(&person.path("src"), 0..3);
    assert!(push(&person).status.success());
    make_source(&person.path("src"), 3..5);
    let source = person.path("src");
    let pushing = ["-vv", "push", "-C", source.to_str().unwrap(), "."];
    let mut commands: Vec<(&str, Vec<&str>)> = vec![
        ("Log", vec!["-vv", "snapshots"]),
        ("Snapshots", vec!["snapshots", "--json"]),
        ("Read", vec!["-vv", "cat", "latest:f1"]),
        ("Wraps", vec!["cat", "latest:f1"]),
        ("Packs", vec!["-vv", "check"]),
        ("ReadPack", vec!["check", "--read-data"]),
    ];
    for call in ["Open", "Has", "Prove", "PutPack", "Commit"] {
        commands.push((call, pushing.to_vec()));
    }
    // Each place once, and each error once: every command that asks for the passphrase takes a while.
    let mut cases: Vec<_> = commands.into_iter().map(|(name, args)| (name, args, errors()[0].clone())).collect();
    cases.extend(errors().into_iter().map(|error| ("Open", pushing.to_vec(), error)));
    // These are logged, too.
    cases.push(("Commit", pushing.to_vec(), WireError::LeaseRefused(TEXT.to_owned())));
    for (name, args, error) in cases {
        server.liar.tell(move |_, call| is_call(call, name).then(|| Reply::Failed(error.clone()).into()));
        let output = person.output(&args);
        // What a file holds is printed as it is.
        let printed = if args.contains(&"cat") { Vec::new() } else { output.stdout };
        let all = [printed, output.stderr].concat();
        let text = String::from_utf8_lossy(&all);
        assert!(!all.iter().any(|byte| matches!(byte, 0..=9 | 11..=31 | 127)), "{name}: {text:?}");
        assert!(!text.contains("\nbkfs: all is well"), "{name}: {text:?}");
        assert!(!text.contains(['\u{1b}', '\u{9b}', '\u{202e}', '\u{8}']), "{name}: {text:?}");
    }
}
