//! Clients that make a server keep things open: repositories and connections.

use std::path::Path;

use crate::wire::{Attacker, Honest, descriptors, server, until};

#[test]
fn an_account_has_a_bounded_number_of_repositories_and_idle_ones_are_closed() {
    let (operator, server) = server(&["--close-after", "2s"]);
    let (honest, attacker) = (Honest::new(&server), Attacker::join(&server, "mallory"));
    let made = (0..80).map_while(|n| attacker.make_repository(&format!("r{n}")).ok()).count();
    assert_eq!(made, 63, "with the first one, 64");
    let refused = attacker.make_repository("more").unwrap_err().to_string();
    assert!(refused.contains("64 repositories"), "{refused}");
    assert!(!Path::new(&operator.path("data/accounts/mallory/more")).exists(), "nothing is left of what was refused");
    // Four descriptors for each open repository, and some for the server itself.
    assert!(descriptors(&server) < 64 * 5 + 50, "{} files are open", descriptors(&server));
    until("unused repositories are closed", || descriptors(&server) < 40);
    // They are opened again when they are needed.
    honest.pushes();
    assert!(attacker.make_repository("r0").unwrap_err().to_string().contains("already"));
}

#[test]
fn what_is_no_repository_is_not_kept() {
    let (operator, server) = server(&[]);
    let attacker = Attacker::join(&server, "mallory");
    let rubbish = bkfs_store::access::InitRequest { config: vec![1; 100], roster: vec![2; 100], slots: vec![] };
    for n in 0..3 {
        bkfs_store::access::Manage::init(&attacker.remote(&format!("bad{n}")), &rubbish).unwrap_err();
    }
    let names: Vec<_> =
        std::fs::read_dir(operator.path("data/accounts/mallory")).unwrap().map(Result::unwrap).collect();
    assert_eq!(names.len(), 1, "{names:?}");
}

#[test]
fn a_client_has_a_bounded_number_of_connections() {
    let (_operator, server) = server(&[]);
    let (honest, attacker) = (Honest::new(&server), Attacker::join(&server, "mallory"));
    let mut connections = Vec::new();
    attacker.runtime.block_on(async {
        for _ in 0..60 {
            connections.extend(attacker.connect().await);
        }
    });
    let open = || connections.iter().filter(|connection| connection.close_reason().is_none()).count();
    until("those that are too many are closed", || open() <= 16);
    assert_eq!(open(), 16);
    honest.pushes();
}
