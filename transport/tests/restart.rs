//! A client whose connection goes silent, as it does when a server was away for long: the client finds the server on a
//! second connection.

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
    Identity,
    client::{self, Remote},
    server,
};

/// Length of the connection ids of QUIC's short packets here.
const ID_LEN: usize = 8;

/// Forwards packets between a client and a server. Once it is cut, it drops the packets of all connections that it knew
/// until then, and goes on to forward those of new ones.
struct Relay {
    address: SocketAddr,
    is_cut: Arc<AtomicBool>,
    /// Connections that were begun.
    begun: Arc<AtomicUsize>,
}

impl Relay {
    fn start(server: SocketAddr) -> Self {
        let (front, back) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        let (is_cut, begun) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let relay = Self { address: front.local_addr().unwrap(), is_cut: is_cut.clone(), begun: begun.clone() };
        let (answers, to_client) = (back.try_clone().unwrap(), front.try_clone().unwrap());
        let client = Arc::new(std::sync::Mutex::new(None));
        let client_of_answers = client.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 65536];
            while let Ok((len, _)) = answers.recv_from(&mut buffer) {
                let client: Option<SocketAddr> = *client_of_answers.lock().unwrap();
                let _ = client.map(|client| to_client.send_to(&buffer[..len], client));
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

#[test]
fn a_silent_connection_is_replaced_before_it_times_out() {
    let folder = tempfile::tempdir().unwrap();
    server::init(folder.path(), "127.0.0.1:1", 0).unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let running = server::start(folder.path(), any, server::Options::default()).unwrap();
    let relay = Relay::start(running.local_addr());
    server::set_addresses(folder.path(), &relay.address.to_string().parse().unwrap()).unwrap();
    let hour = Duration::from_secs(3600);
    let token = server::invite(folder.path(), &"alice".parse().unwrap(), "all".parse().unwrap(), None, hour).unwrap();
    let identity = Identity::generate().unwrap();
    let url = client::join(&token, &identity).unwrap().url;
    let remote = Remote::connect(&url, &identity, token.fingerprint).unwrap();
    // There is no repository. That answer is as good as another.
    let answer = || remote.has(None, &[]).unwrap_err().kind();
    assert_eq!(answer(), bkfs_store::ErrorKind::NoRepository);
    // What the server repeats until it is acknowledged would not be silence.
    std::thread::sleep(Duration::from_millis(300));
    let before = relay.begun.load(Relaxed);
    relay.is_cut.store(true, Relaxed);
    // Without retries, the error of the old connection shows why it was given up: not because it timed out.
    remote.set_retry_timeout(Duration::ZERO);
    let lost = remote.has(None, &[]).unwrap_err().to_string();
    assert!(lost.contains("answers on a new connection"), "{lost}");
    assert!(relay.begun.load(Relaxed) > before, "it was not cut");
    assert_eq!(answer(), bkfs_store::ErrorKind::NoRepository);
    drop(remote);
    running.stop();
}
