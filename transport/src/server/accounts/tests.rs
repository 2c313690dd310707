//! Tests of what follows from the server's log.

use bkfs_store::base::id::{ClientId, Hash};

use super::Accounts;
use crate::{
    permission::Permissions,
    server::{
        event::{Event, Record},
        quota::Limits,
    },
    url::Name,
};

const ONE: Hash = Hash([1; 32]);
const TWO: Hash = Hash([2; 32]);

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn apply(accounts: &mut Accounts, event: Event) {
    accounts.apply(Record { secs: 7, event, by: None }).unwrap();
}

/// Makes an invitation to alice, whose secret is made of one byte.
fn invite(accounts: &mut Accounts, secret: u8, can: Permissions, uses: u32, repository: Option<&str>) {
    let (secret, repository) = (Hash([secret; 32]), repository.map(name));
    let account = name("alice");
    apply(accounts, Event::Invite { secret, account, can, expires_secs: 10, uses, repository, client_name: None });
}

fn join(accounts: &mut Accounts, secret: u8, client: Hash) {
    let joined = accounts.join(Hash([secret; 32]), client, 5).unwrap().1.unwrap();
    apply(accounts, joined);
}

fn can(accounts: &Accounts, client: Hash, repository: &str) -> Option<Permissions> {
    accounts.permissions(client, &name("alice"), &name(repository))
}

#[test]
fn an_invitation_works_as_often_as_it_says_and_in_time() {
    let secret = Hash([9; 32]);
    let mut accounts = Accounts::default();
    let refused = |accounts: &Accounts, client, now, why: &str| {
        let error = accounts.join(secret, client, now).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    };
    refused(&accounts, ONE, 10, "unknown");
    invite(&mut accounts, 9, Permissions::PUSH, 2, None);
    refused(&accounts, ONE, 11, "expired");
    join(&mut accounts, 9, ONE);
    assert!(accounts.is_known(ONE) && !accounts.is_known(TWO));
    assert_eq!(accounts.join(secret, ONE, 11).unwrap(), (name("alice"), None), "it repeats itself");
    join(&mut accounts, 9, TWO);
    refused(&accounts, Hash([3; 32]), 10, "has been used");
    assert_eq!(can(&accounts, TWO, "main"), Some(Permissions::PUSH));
    assert_eq!(can(&accounts, Hash([3; 32]), "main"), None);
}

#[test]
fn an_invitation_that_was_withdrawn_is_unknown() {
    let (mut accounts, alice) = (Accounts::default(), name("alice"));
    invite(&mut accounts, 1, Permissions::PUSH, 1, None);
    invite(&mut accounts, 2, Permissions::ALL, 2, None);
    invite(&mut accounts, 3, Permissions::ALL, 1, None);
    join(&mut accounts, 3, ONE);
    let open = |accounts: &Accounts, now| accounts.open_invitations(&alice, now).len();
    assert_eq!((open(&accounts, 10), open(&accounts, 11)), (2, 0), "one was used, and all expire");
    assert!(accounts.open_invitations(&name("bob"), 5).is_empty());
    for (digits, why) in [("0303", "no open invitation"), ("01", "more digits"), ("", "no single")] {
        let refused = accounts.withdraw(&alice, digits, 5).unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
    }
    join(&mut accounts, 2, ONE);
    let event = accounts.withdraw(&alice, "0202", 5).unwrap();
    apply(&mut accounts, event);
    assert!(accounts.join(Hash([2; 32]), TWO, 5).unwrap_err().to_string().contains("unknown"));
    assert_eq!(can(&accounts, ONE, "main"), Some(Permissions::ALL), "who has joined stays");
    join(&mut accounts, 1, TWO);
}

#[test]
fn joining_again_adds_permissions_and_takes_none_away() {
    let mut accounts = Accounts::default();
    for (secret, permissions, expected) in [
        (1, Permissions::READ, Permissions::READ),
        (2, Permissions::ALL, Permissions::ALL),
        (3, Permissions::PUSH, Permissions::ALL),
    ] {
        invite(&mut accounts, secret, permissions, 1, None);
        join(&mut accounts, secret, ONE);
        assert_eq!(can(&accounts, ONE, "main"), Some(expected));
    }
    assert_eq!(accounts.permissions(ONE, &name("bob"), &name("main")), None, "each account is separate");
}

#[test]
fn permissions_differ_between_repositories() {
    let (mut accounts, alice) = (Accounts::default(), name("alice"));
    invite(&mut accounts, 1, Permissions::PUSH, 1, Some("photos"));
    join(&mut accounts, 1, ONE);
    assert_eq!(can(&accounts, ONE, "photos"), Some(Permissions::PUSH));
    assert_eq!(can(&accounts, ONE, "main"), Some(Permissions::NONE));
    let permit = accounts.permit(&alice, "0101", Some(name("main")), Permissions::READ).unwrap();
    apply(&mut accounts, permit);
    assert_eq!(can(&accounts, ONE, "main"), Some(Permissions::READ));
    assert_eq!(can(&accounts, ONE, "photos"), Some(Permissions::PUSH));
    let permit = accounts.permit(&alice, "0101", None, Permissions::FORGET).unwrap();
    apply(&mut accounts, permit);
    for repository in ["main", "photos", "other"] {
        assert_eq!(can(&accounts, ONE, repository), Some(Permissions::FORGET), "{repository}");
    }
}

#[test]
fn a_revoked_client_may_do_nothing_until_it_is_permitted() {
    let (mut accounts, alice) = (Accounts::default(), name("alice"));
    invite(&mut accounts, 1, Permissions::ALL, 5, None);
    join(&mut accounts, 1, ONE);
    let before = accounts.losses();
    let revoke = accounts.revoke(&alice, "0101").unwrap();
    apply(&mut accounts, revoke);
    assert_eq!((can(&accounts, ONE, "main"), accounts.is_known(ONE)), (None, false));
    assert!(accounts.has_lost_since(ONE, before) && !accounts.has_lost_since(ONE, accounts.losses()));
    assert!(accounts.revoke(&alice, "0101").unwrap_err().to_string().contains("already"));
    // Neither a token that it has used nor another one brings it back.
    for secret in [1, 2] {
        invite(&mut accounts, 2, Permissions::ALL, 5, None);
        let error = accounts.join(Hash([secret; 32]), ONE, 5).unwrap_err().to_string();
        assert!(error.contains("was revoked") && error.contains("client permit"), "{error}");
    }
    let permit = accounts.permit(&alice, "0101", Some(name("main")), Permissions::PUSH).unwrap();
    apply(&mut accounts, permit);
    assert_eq!(can(&accounts, ONE, "main"), Some(Permissions::PUSH));
    assert_eq!(can(&accounts, ONE, "photos"), Some(Permissions::NONE), "it does not get back what it had");
    assert!(accounts.is_known(ONE));
}

#[test]
fn clients_are_found_by_name_and_by_digits() {
    let (mut accounts, alice) = (Accounts::default(), name("alice"));
    invite(&mut accounts, 1, Permissions::ALL, 5, None);
    for client in [ONE, Hash([0x11; 32]), TWO] {
        join(&mut accounts, 1, client);
    }
    let rename = accounts.rename(&alice, "0202", name("laptop")).unwrap();
    apply(&mut accounts, rename);
    assert_eq!(accounts.find_client(&alice, "laptop").unwrap().0, TWO);
    assert_eq!(accounts.find_client(&alice, "1111").unwrap().0, Hash([0x11; 32]));
    for (text, why) in [("02", "at least 4"), ("", "at least 4"), ("desktop", "no client"), ("ffff", "no client")] {
        let error = accounts.find_client(&alice, text).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    assert!(accounts.rename(&alice, "0101", name("laptop")).unwrap_err().to_string().contains("already"));
    assert!(accounts.rename(&alice, "laptop", name("laptop")).is_ok());
    assert!(accounts.find_client(&name("bob"), "laptop").unwrap_err().to_string().contains("no account bob"));
}

#[test]
fn accounts_share_limits_on_one_level() {
    let mut accounts = Accounts::default();
    let bytes = |bytes| Limits { bytes: Some(bytes), ..Limits::default() };
    for (account, limit) in [("company", 100), ("anna", 60), ("ben", 0)] {
        let limits = if limit == 0 { Limits::default() } else { bytes(limit) };
        apply(&mut accounts, Event::Limit { account: name(account), limits });
    }
    for child in ["anna", "ben"] {
        let event = accounts.set_parent(&name(child), Some(name("company"))).unwrap();
        apply(&mut accounts, event);
    }
    let bounds = |accounts: &Accounts, account| -> Vec<(String, Option<u64>, usize)> {
        let bounds = accounts.bounds(&name(account)).into_iter();
        bounds.map(|b| (b.account.to_string(), b.limits.bytes, b.sharers.len())).collect()
    };
    assert_eq!(bounds(&accounts, "anna"), [("anna".into(), Some(60), 1), ("company".into(), Some(100), 3)]);
    assert_eq!(bounds(&accounts, "ben"), [("company".into(), Some(100), 3)]);
    assert_eq!(bounds(&accounts, "company"), [("company".into(), Some(100), 3)]);
    for (account, parent) in [("company", "anna"), ("anna", "anna"), ("anna", "ben"), ("anna", "nobody")] {
        assert!(accounts.set_parent(&name(account), Some(name(parent))).is_err(), "{account} below {parent}");
    }
    // Without their parent, they would have no limits that bound them together.
    let refused = accounts.remove(&name("company")).unwrap_err().to_string();
    assert!(refused.contains("anna, ben") && refused.contains("--parent none"), "{refused}");
    for child in ["anna", "ben"] {
        let event = accounts.set_parent(&name(child), None).unwrap();
        apply(&mut accounts, event);
    }
    let event = accounts.remove(&name("company")).unwrap();
    apply(&mut accounts, event);
    assert_eq!(bounds(&accounts, "ben"), []);
}

#[test]
fn a_removed_account_leaves_nothing() {
    let (mut accounts, alice) = (Accounts::default(), name("alice"));
    invite(&mut accounts, 1, Permissions::ALL, 5, None);
    join(&mut accounts, 1, ONE);
    let before = accounts.losses();
    apply(&mut accounts, Event::Remove { account: alice.clone() });
    assert!(accounts.account(&alice).is_err() && !accounts.is_known(ONE) && accounts.has_lost_since(ONE, before));
    assert!(accounts.join(Hash([1; 32]), TWO, 5).unwrap_err().to_string().contains("unknown"));
}

#[test]
fn ties_are_remembered_once_and_within_bounds() {
    let (mut accounts, alice, main) = (Accounts::default(), name("alice"), name("main"));
    assert_eq!(accounts.tie(&alice, &main, ONE, ClientId([1; 16]), false), None, "it is no client");
    invite(&mut accounts, 1, Permissions::ALL, 5, None);
    join(&mut accounts, 1, ONE);
    for key in 0..100 {
        if let Some(event) = accounts.tie(&alice, &main, ONE, ClientId([key; 16]), false) {
            apply(&mut accounts, event);
        }
        assert_eq!(accounts.tie(&alice, &main, ONE, ClientId([key.min(63); 16]), false), None);
    }
    assert_eq!(accounts.client(ONE, &alice).unwrap().keys_in(&main).count(), 64);
}

#[test]
fn a_name_means_one_client_although_two_invitations_gave_it() {
    let (mut accounts, alice) = (Accounts::default(), name("alice"));
    for secret in [1, 2] {
        let (secret, client_name) = (Hash([secret; 32]), Some(name("laptop")));
        let (account, can) = (alice.clone(), Permissions::PUSH);
        let invite = Event::Invite { secret, account, can, expires_secs: 10, uses: 1, repository: None, client_name };
        apply(&mut accounts, invite);
    }
    // The second client has the smaller fingerprint.
    join(&mut accounts, 1, TWO);
    join(&mut accounts, 2, ONE);
    assert_eq!(accounts.find_client(&alice, "laptop").unwrap().0, TWO);
    assert_eq!(accounts.client(ONE, &alice).unwrap().name, None);
    assert_eq!(can(&accounts, ONE, "main"), Some(Permissions::PUSH));
}
