//! Clients of a server that was away for long, or is slow.

#![allow(clippy::unwrap_used)]

use std::{
    collections::HashSet,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bkfs_store::access::Push;
use bkfs_transport::{
    Identity, Token,
    client::{self, Remote},
    server,
};
use tempfile::TempDir;

/// Length of the connection ids of QUIC's short packets here.
const ID_LEN: usize = 8;

/// Forwards packets between a client and a server. Once it is cut, it drops the packets of all connections that it knew
/// until then, and goes on to forward those of new ones. Answers of the server arrive after a time.
struct Relay {
    address: SocketAddr,
    is_cut: Arc<AtomicBool>,
    /// Connections that were begun.
    begun: Arc<AtomicUsize>,
}

impl Relay {
    fn start(server: SocketAddr, delay: Duration) -> Self {
        let (front, back) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        let (is_cut, begun) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let relay = Self { address: front.local_addr().unwrap(), is_cut: is_cut.clone(), begun: begun.clone() };
        let (answers, to_client) = (back.try_clone().unwrap(), front.try_clone().unwrap());
        let client = Arc::new(std::sync::Mutex::new(None));
        let client_of_answers = client.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 65536];
            while let Ok((len, _)) = answers.recv_from(&mut buffer) {
                let Some(client) = *client_of_answers.lock().unwrap() else { continue };
                let (to_client, answer) = (to_client.try_clone().unwrap(), buffer[..len].to_vec());
                let deliver = move || {
                    std::thread::sleep(delay);
                    let _ = to_client.send_to(&answer, client);
                };
                match delay.is_zero() {
                    true => deliver(),
                    false => drop(std::thread::spawn(deliver)),
                }
            }
        });
        std::thread::spawn(move || {
            let (mut buffer, mut known, mut firsts) = ([0; 65536], HashSet::new(), HashSet::new());
            while let Ok((len, from)) = front.recv_from(&mut buffer) {
                *client.lock().unwrap() = Some(from);
                let packet = &buffer[..len];
                let is_long = packet[0] & 0x80 != 0;
                let id = &packet[if is_long { 6 } else { 1 }..][..ID_LEN];
                match is_long {
                    // The first packets of a connection carry an id of the client's choice.
                    true if packet[0] & 0x30 == 0 && firsts.insert(id.to_vec()) => drop(begun.fetch_add(1, Relaxed)),
                    false if !is_cut.load(Relaxed) => drop(known.insert(id.to_vec())),
                    false if known.contains(id) => continue,
                    _ => {}
                }
                let _ = back.send_to(packet, server);
            }
        });
        relay
    }
}

/// A server that is not running yet, and what a client needs to connect to it.
struct Place {
    folder: TempDir,
    identity: Identity,
    token: Token,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        server::init(folder.path(), "127.0.0.1:1", 0).unwrap();
        let (account, hour) = ("alice".parse().unwrap(), Duration::from_secs(3600));
        let token = server::invite(folder.path(), &account, "all".parse().unwrap(), None, hour).unwrap();
        Self { folder, identity: Identity::generate().unwrap(), token }
    }

    fn start(&self, listen: impl Into<server::Listen>) -> server::RunningServer {
        server::start(self.folder.path(), listen, server::Options::default()).unwrap()
    }

    /// Connects to the server at an address, which the client joins first.
    fn connect(&self, address: SocketAddr) -> Remote {
        let token = Token { addresses: address.to_string().parse().unwrap(), ..self.token.clone() };
        let url = client::join(&token, &self.identity).unwrap().url;
        Remote::connect(&url, &self.identity, token.fingerprint).unwrap()
    }
}

/// Asserts that the server answers. There is no repository, which is as good an answer as another.
fn assert_answers(remote: &Remote) {
    assert_eq!(remote.has(None, &[]).unwrap_err().kind(), bkfs_store::ErrorKind::NoRepository);
}

fn any_port() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

#[test]
fn a_silent_connection_is_replaced_before_it_times_out() {
    let place = Place::new();
    let running = place.start(any_port());
    let relay = Relay::start(running.local_addr(), Duration::ZERO);
    let remote = place.connect(relay.address);
    assert_answers(&remote);
    // What the server repeats until it is acknowledged would not be silence.
    std::thread::sleep(Duration::from_millis(300));
    let before = relay.begun.load(Relaxed);
    relay.is_cut.store(true, Relaxed);
    // Without retries, the error of the old connection shows why it was given up: not because it timed out.
    remote.set_retry_timeout(Duration::ZERO);
    let lost = remote.has(None, &[]).unwrap_err().to_string();
    assert!(lost.contains("answers on a new connection"), "{lost}");
    assert!(relay.begun.load(Relaxed) > before, "it was not cut");
    assert_answers(&remote);
    drop(remote);
    running.stop();
}

#[test]
fn a_server_that_begins_to_answer_late_is_reached() {
    let place = Place::new();
    // Packets wait in the socket, as they do for a server that has more to do than it can.
    let socket = UdpSocket::bind(any_port()).unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::scope(|threads| {
        let connecting = threads.spawn(|| place.connect(address));
        std::thread::sleep(Duration::from_secs(8));
        assert!(!connecting.is_finished(), "nobody answers yet");
        let running = place.start(socket);
        let remote = connecting.join().unwrap();
        assert_answers(&remote);
        drop(remote);
        running.stop();
    });
}

#[test]
fn a_slow_server_is_reached() {
    let place = Place::new();
    let running = place.start(any_port());
    let relay = Relay::start(running.local_addr(), Duration::from_secs(7));
    drop(place.connect(relay.address));
    running.stop();
}
