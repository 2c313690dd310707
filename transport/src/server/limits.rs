//! What one client, one account and all of them together may take of a server. `docs/design/0024-server-limits.md` has
//! the reasons and says what an honest client sees at each limit.

use std::time::Duration;

use super::shares::Limits;

/// Memory for requests and replies that are being received, answered and sent, and for packs that are being stored: in
/// KiB of their encoded forms. Their decoded forms take at most about as much again.
pub(super) const MEMORY_KIB: Limits = Limits { client: 64 * 1024, account: 96 * 1024, total: 192 * 1024 };
/// Calls into the store, each on a thread of its own.
pub(super) const CALLS: Limits = Limits { client: 8, account: 16, total: 64 };
/// The server's threads for blocking work: for [`CALLS`], and as many for short accesses to files of uploads.
pub(super) const BLOCKING_THREADS: usize = 2 * CALLS.total as usize;
/// Packs whose bytes are arriving. They are in files; each takes [`UPLOAD_BUFFER`] of memory. A push sends two at a
/// time.
pub(super) const UPLOADS: Limits = Limits { client: 4, account: 16, total: 4096 };
/// The most bytes of an upload that are not in its file yet.
pub(super) const UPLOAD_BUFFER: usize = 512 * 1024;
/// The most files of uploads of one account, in progress or interrupted.
pub(super) const UPLOAD_FILES_MAX: usize = 24;
/// How long an interrupted upload is kept.
pub(super) const KEEP_UPLOAD: Duration = Duration::from_secs(900);
/// Requests that wait for a log to grow. They hold neither a thread nor memory to speak of.
pub(super) const WAITS: Limits = Limits { client: 64, account: 512, total: 16_384 };
/// How often the server looks whether another process has appended to a log that somebody waits for.
pub(super) const WAIT_POLL: Duration = Duration::from_secs(1);

/// Connections of one client at a time.
pub(super) const CONNECTIONS_PER_CLIENT: usize = 16;
/// Connections of strangers at a time, from one address and in all.
pub(super) const STRANGERS_PER_ADDRESS: usize = 16;
pub(super) const STRANGERS_MAX: usize = 128;
/// How long the connection of a stranger may last.
pub(super) const STRANGER_TIME: Duration = Duration::from_secs(10);
/// How long the connection of a stranger stays that has its reply, so that the stranger can close it.
pub(super) const STRANGER_GRACE: Duration = Duration::from_secs(1);
/// Requests to join that are answered at a time. A client that asks again and again waits for itself. The account is
/// not known before the token is looked up.
pub(super) const JOINS: Limits = Limits { client: 1, account: 4, total: 4 };
/// Handshakes at a time: of clients that have not proved their address, of those that have, and of one address.
pub(super) const HANDSHAKES_UNPROVED: usize = 64;
pub(super) const HANDSHAKES_PROVED: usize = 64;
pub(super) const HANDSHAKES_PER_ADDRESS: usize = 32;
/// How long a handshake may take.
pub(super) const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// Bytes that a client may send before the server has read them, and the other way round: on a client's first
/// connection, and on each further one.
pub(super) const WINDOW: u32 = 16 * 1024 * 1024;
pub(super) const FURTHER_WINDOW: u32 = 4 * 1024 * 1024;

/// Repositories of an account.
pub(super) const REPOSITORIES_PER_ACCOUNT: usize = 64;
/// Open repositories that nobody uses at the moment. Each takes about four descriptors and 64 GiB of address space.
pub(super) const OPEN_UNUSED_MAX: usize = 128;

/// How often progress is looked at.
pub(super) const TICK: Duration = Duration::from_secs(5);
/// Less than this in a tick is slow. A slow request is given up as soon as others wait for what it holds.
pub(super) const SLOW_BYTES: usize = 64 * 1024;
/// While somebody waits for room in the whole, an account with more than its fair part of it must move what a request
/// holds within this many ticks.
pub(super) const GREEDY_TICKS: usize = 12;
/// Less than this in a tick is nothing. A request that does nothing is given up after [`IDLE_TICKS`].
pub(super) const IDLE_BYTES: usize = 256;
pub(super) const IDLE_TICKS: u32 = 6;
