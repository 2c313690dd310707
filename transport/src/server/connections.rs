//! How many connections there are, by address and by client.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use bkfs_store::base::id::Hash;
use parking_lot::Mutex;
use quinn::Connection;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// Handshakes of clients that have not proved their address.
    Unproved,
    /// Handshakes of clients that have.
    Proved,
    /// Handshakes from an address.
    Handshake(IpAddr),
    /// Connections of strangers.
    Strangers,
    /// Connections of strangers from an address.
    Stranger(IpAddr),
}

type Counts = Arc<Mutex<HashMap<Kind, usize>>>;
type Clients = Arc<Mutex<HashMap<Hash, Vec<OfClient>>>>;

/// Counts connections.
#[derive(Debug, Default)]
pub(super) struct Connections {
    counts: Counts,
    clients: Clients,
}

/// A connection that is counted, until this is dropped.
#[derive(Debug)]
pub(super) struct Counted {
    counts: Counts,
    kind: Kind,
}

/// A connection of a client.
#[derive(Debug, Clone)]
struct OfClient {
    connection: Connection,
    /// How often clients had lost a right when it was registered.
    losses: u64,
    /// Held by each of its requests that is in progress.
    in_use: Arc<()>,
}

/// A connection of a client that is counted, until this is dropped.
#[derive(Debug)]
pub(super) struct Registered {
    clients: Clients,
    client: Hash,
    id: usize,
    /// Each request in progress holds this.
    pub in_use: Arc<()>,
    /// Whether the client had no other one.
    pub is_first: bool,
}

impl Connections {
    /// Counts a connection, unless there are `max` already.
    pub fn count(&self, kind: Kind, max: usize) -> Option<Counted> {
        let mut counts = self.counts.lock();
        let count = counts.entry(kind).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(Counted { counts: self.counts.clone(), kind })
    }

    /// Registers a connection of a client. If the client has `max` others, the oldest of them that has nothing to do is
    /// closed: it may have been lost already. Returns none if all are in use. `losses` says how often clients have lost
    /// a right until now.
    pub fn register(
        &self,
        client: Hash,
        connection: &Connection,
        max: usize,
        losses: impl FnOnce() -> u64,
    ) -> Option<Registered> {
        let mut clients = self.clients.lock();
        let all = clients.entry(client).or_default();
        if all.len() >= max {
            let idle = all.iter().position(|other| Arc::strong_count(&other.in_use) == IDLE)?;
            all.remove(idle).connection.close(3u32.into(), b"this client has newer connections");
        }
        let (in_use, is_first) = (Arc::new(()), all.is_empty());
        // The lock is held: a loss that is counted after this is one that `close` sees.
        all.push(OfClient { connection: connection.clone(), losses: losses(), in_use: in_use.clone() });
        let (clients, id) = (self.clients.clone(), connection.stable_id());
        Some(Registered { clients, client, id, in_use, is_first })
    }

    /// Closes the connections that `is_over` selects by their clients, and by how often clients had lost a right when
    /// they connected. What runs on them ends. The client connects again, and is told with its next request what it may
    /// not do.
    pub fn close(&self, is_over: impl Fn(Hash, u64) -> bool) {
        for (client, all) in &*self.clients.lock() {
            for over in all.iter().filter(|connection| is_over(*client, connection.losses)) {
                over.connection.close(3u32.into(), b"what this client may do has changed");
            }
        }
    }
}

/// How many hold `in_use` of a connection that has nothing to do: the list and the connection's task.
const IDLE: usize = 2;

impl Drop for Registered {
    fn drop(&mut self) {
        let mut clients = self.clients.lock();
        if let Some(all) = clients.get_mut(&self.client) {
            all.retain(|other| other.connection.stable_id() != self.id);
            if all.is_empty() {
                clients.remove(&self.client);
            }
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.counts.lock();
        if let Some(count) = counts.get_mut(&self.kind) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.kind);
            }
        }
    }
}

/// What counts as one address: whoever has one IPv6 address usually has all of its /64.
pub(super) fn place(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_by_place() {
        let connections = Connections::default();
        let ip = |text: &str| place(text.parse().unwrap());
        assert_eq!(ip("2001:db8::1"), ip("2001:db8::ffff:2"));
        assert_ne!(ip("2001:db8::1"), ip("2001:db8:0:1::1"));
        assert_eq!(ip("::ffff:10.0.0.1"), ip("10.0.0.1"));
        let kind = Kind::Stranger(ip("10.0.0.1"));
        let first = connections.count(kind, 2).unwrap();
        let second = connections.count(kind, 2).unwrap();
        assert!(connections.count(kind, 2).is_none());
        assert!(connections.count(Kind::Stranger(ip("10.0.0.2")), 2).is_some());
        drop(first);
        assert!(connections.count(kind, 2).is_some());
        drop(second);
        assert!(connections.counts.lock().is_empty(), "nothing is left of those that are gone");
    }
}
