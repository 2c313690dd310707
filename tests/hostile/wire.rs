//! A client that speaks the protocol by itself: it sends what it likes, as slowly as it likes, and reads what it likes.
//! And what such a client costs a server.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bkfs_store::{
    access::{InitRequest, Manage},
    base::{
        id::{DomainId, Hash, RepoId},
        time::Time,
    },
    crypto::random,
    format::{
        config::ChunkerParams,
        keys::{FullKey, PushKey},
        roster::Roster,
    },
};
use bkfs_transport::{
    Identity, Name, RepoUrl, Token,
    client::{self, Remote},
    message::{Call, Reply, RequestHead},
    stream,
};
use quinn::{Connection, Endpoint, RecvStream, SendStream};
use tokio::runtime::Runtime;

use crate::common::program::{Person, Server};

/// How long something may take that must not be held up, on a machine that is busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(100);

/// A client that can do what no honest client does.
pub struct Attacker {
    pub runtime: Runtime,
    endpoint: Endpoint,
    pub identity: Identity,
    address: SocketAddr,
    fingerprint: Hash,
    pub url: RepoUrl,
}

impl Attacker {
    /// Joins an account of its own, with all permissions, and makes a repository there.
    pub fn join(server: &Server, account: &str) -> Self {
        let attacker = Self::stranger(server, account);
        let token = Token::parse(&server.invite(&Person::new(), account, "all")).unwrap();
        client::join(&token, &attacker.identity).unwrap();
        attacker.make_repository(account).unwrap();
        attacker
    }

    /// Knows the server's address and fingerprint, and nothing else.
    pub fn stranger(server: &Server, account: &str) -> Self {
        let token = Token::parse(&server.invite(&Person::new(), "somebody", "push")).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let endpoint = {
            let _entered = runtime.enter();
            Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap()
        };
        let url = RepoUrl::new(&server.address, account.parse().unwrap()).unwrap();
        Self {
            runtime,
            endpoint,
            identity: Identity::generate().unwrap(),
            address: server.address.parse().unwrap(),
            fingerprint: token.fingerprint,
            url,
        }
    }

    /// A client as others use it, with the attacker's identity, for a repository of the account.
    pub fn remote(&self, repository: &str) -> Remote {
        let url = RepoUrl { name: Some(repository.parse().unwrap()), ..self.url.clone() };
        Remote::connect(&url, &self.identity, self.fingerprint).unwrap()
    }

    /// Makes a repository in the account. Returns a key that may push to it.
    pub fn make_repository(&self, name: &str) -> bkfs_store::Result<PushKey> {
        let full = FullKey::random(RepoId(random()));
        let now = Time { secs: 1_700_000_000, nanos: 0 };
        let (push, entry) = full.new_client("attacker", None, DomainId::OWNER, now);
        let roster = full.sign_roster(&Roster { repo: full.repo, number: 1, clients: vec![entry] });
        let request = InitRequest { config: full.config(now, ChunkerParams::default()), roster, slots: vec![] };
        self.remote(name).init(&request).map(|()| push)
    }

    /// Connects.
    pub async fn connect(&self) -> Result<Connection, String> {
        self.connect_as(&self.identity).await
    }

    /// Connects as somebody else.
    pub async fn connect_as(&self, identity: &Identity) -> Result<Connection, String> {
        let mut config = client::quic_config(identity, self.fingerprint).unwrap();
        let mut transport = quinn::TransportConfig::default();
        transport.keep_alive_interval(Some(Duration::from_secs(2)));
        config.transport_config(Arc::new(transport));
        let connecting = self.endpoint.connect_with(config, self.address, "bkfs").map_err(|e| e.to_string())?;
        connecting.await.map_err(|e| e.to_string())
    }

    /// The head of a request, encoded.
    pub fn head(&self, repository: &str, call: u8) -> Vec<u8> {
        let (account, repository) = (self.url.account.clone(), repository.parse::<Name>().unwrap());
        stream::encode(&RequestHead { account, repository, call }).to_vec()
    }

    /// Opens a stream and sends a request, whole, and does not end the stream.
    pub async fn send(&self, connection: &Connection, repository: &str, call: &Call) -> (SendStream, RecvStream) {
        let (mut send, receive) = connection.open_bi().await.unwrap();
        let mut bytes = self.head(repository, call.number());
        bytes.extend_from_slice(&stream::encode(call));
        send.write_all(&bytes).await.unwrap();
        (send, receive)
    }
}

/// Receives a reply.
pub async fn reply(receive: &mut RecvStream) -> Result<Reply, String> {
    stream::receive(receive, 1 << 20).await.map_err(|error| error.0)
}

/// An honest person who pushes to an account of their own.
pub struct Honest(Person);

impl Honest {
    pub fn new(server: &Server) -> Self {
        let person = server.person("honest");
        let files = person.path("files");
        fs::create_dir(&files).unwrap();
        Self(person)
    }

    /// Pushes new data, a little more than a pack holds. Fails the test if that does not end.
    pub fn pushes(&self) {
        let number = fs::read_dir(self.0.path("files")).unwrap().count();
        let mut bytes = vec![0; 20 << 20];
        blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut bytes);
        fs::write(self.0.path("files").join(number.to_string()), bytes).unwrap();
        let mut child = self.0.command().arg("push").arg(self.0.path("files")).spawn().unwrap();
        let begin = Instant::now();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return assert!(status.success(), "an honest push fails");
            }
            if begin.elapsed() > PATIENCE {
                child.kill().unwrap();
                panic!("an honest push does not end");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Waits until something is true.
pub fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_true() {
        assert!(begin.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn status(server: &Server, field: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let line = text.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Bytes of memory that the server's process uses.
pub fn resident(server: &Server) -> u64 {
    status(server, "VmRSS:") * 1024
}

/// Threads of the server's process.
pub fn threads(server: &Server) -> u64 {
    status(server, "Threads:")
}

/// Open files of the server's process.
pub fn descriptors(server: &Server) -> usize {
    fs::read_dir(format!("/proc/{}/fd", server.id())).unwrap().count()
}

/// The time that the server's process has worked, in ticks.
pub fn worked(server: &Server) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/stat", server.id())).unwrap();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap().split_ascii_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// A server in a new folder.
pub fn server(extra: &[&str]) -> (Person, Server) {
    let operator = Person::new();
    let data = operator.path("data");
    let server = Server::start(&operator, &data);
    if extra.is_empty() {
        return (operator, server);
    }
    let address = server.address.clone();
    drop(server);
    let server = Server::run_with(&operator, Path::new(&data), &address, extra);
    (operator, server)
}
