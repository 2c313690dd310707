//! Invitations, as the operator makes them.

use std::time::Duration;

use crate::{addresses::Addresses, permission::Permissions, url::Name};

/// What an invitation allows.
#[derive(Debug, Clone)]
pub struct Invitation {
    /// The account. The first invitation makes it.
    pub account: Name,
    /// What a client that uses it may do.
    pub can: Permissions,
    /// The only repository in which it may do that; none for all.
    pub repository: Option<Name>,
    /// The name of the client that uses it, for [`permit`] and the like.
    pub client_name: Option<Name>,
    /// How many clients may use it.
    pub uses: u32,
    /// For how long it can be used, by this machine's clock, in whole seconds.
    pub valid: Duration,
    /// How many bytes the account may store from now on; none leaves that as it is.
    pub quota_bytes: Option<u64>,
    /// The addresses of the server that the token names; none for those that the server recorded.
    pub addresses: Option<Addresses>,
}

impl Invitation {
    /// The invitation of one client to all repositories of an account, for a week.
    pub fn new(account: Name, can: Permissions) -> Self {
        Self {
            account,
            can,
            repository: None,
            client_name: None,
            uses: 1,
            valid: Duration::from_secs(7 * 86_400),
            quota_bytes: None,
            addresses: None,
        }
    }
}
