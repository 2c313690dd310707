//! A server that stops while a client is in the middle of a request, and what a client's requests mean for other
//! accounts. The client speaks the protocol by hand.

use bkfs_store::{
    access::{InitRequest, Lease, OpenRequest},
    base::{
        id::{ClientId, DomainId, PackId, RepoId},
        time::Time,
    },
    crypto::{DataKey, random},
    format::{
        config::ChunkerParams,
        frame::{ChunkKind, FrameBuilder},
        keys::FullKey,
        pack::PackWriter,
        roster::Roster,
    },
};

use super::{event::Event, *};
use crate::{
    message::{Call, REPLY_MAX, Reply, RequestHead},
    stream,
    url::Name,
};

/// A server, and a connection of a client that may do everything in the account `alice`.
struct Pair {
    _folder: tempfile::TempDir,
    server: RunningServer,
    runtime: Runtime,
    connection: quinn::Connection,
}

impl Pair {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        init(folder.path(), "127.0.0.1:1", 0).unwrap();
        let server = start(folder.path(), SocketAddr::from(([127, 0, 0, 1], 0)), Options::default()).unwrap();
        let can = "all".parse().unwrap();
        let token = invite(folder.path(), &account(), can, None, Duration::from_secs(60)).unwrap();
        let identity = Identity::generate().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let connection = runtime.block_on(async {
            let (config, _) = tls::client_config(&identity, &[token.fingerprint]).unwrap();
            let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(config).unwrap();
            let mut config = quinn::ClientConfig::new(Arc::new(crypto));
            config.transport_config(quic::transport(true));
            let endpoint = Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
            endpoint.connect_with(config, server.local_addr(), crate::identity::SERVER_NAME).unwrap().await.unwrap()
        });
        let pair = Self { _folder: folder, server, runtime, connection };
        assert!(matches!(pair.call(Call::Join(token.secret.clone())), Reply::Joined(_)));
        pair
    }

    fn call(&self, call: Call) -> Reply {
        self.runtime.block_on(async {
            let (mut send, mut receive) = self.connection.open_bi().await.unwrap();
            send.write_all(&request(&call)).await.unwrap();
            send.finish().unwrap();
            stream::receive(&mut receive, REPLY_MAX).await.unwrap()
        })
    }

    /// Makes a repository. Returns a pack for it.
    fn init(&self) -> (PackId, Vec<u8>) {
        let full = FullKey::random(RepoId(random()));
        let now = Time { secs: 1_000_000_000, nanos: 0 };
        let (push, client) = full.new_client("host", None, DomainId::OWNER, now);
        let roster = full.sign_roster(&Roster { repo: full.repo, number: 1, clients: vec![client] });
        let config = full.config(now, ChunkerParams::default());
        assert!(matches!(self.call(Call::Init(InitRequest { config, roster, slots: vec![] })), Reply::Done));
        let key = DataKey::random();
        let mut writer = PackWriter::new(ChunkKind::Data, push.repo, &push.signing);
        writer.add_wrap(&push.seal().unwrap().wrap(push.repo, &key));
        let (mut chunk, mut frame) = (vec![0; 500_000], FrameBuilder::new());
        blake3::Hasher::new().finalize_xof().fill(&mut chunk);
        frame.push(&chunk);
        writer.add(&frame.seal(push.repo, ChunkKind::Data, &key, 1), &[push.ids().data_id(&chunk)]);
        let pack = writer.finish();
        (pack.id, pack.bytes.to_vec())
    }

    fn lease(&self) -> Lease {
        let Reply::Opened(opened) = self.call(Call::Open(OpenRequest::default(), None)) else { panic!("not opened") };
        opened.lease
    }
}

fn account() -> Name {
    "alice".parse().unwrap()
}

fn request(call: &Call) -> Vec<u8> {
    let repository = crate::DEFAULT_REPOSITORY.parse().unwrap();
    let head = RequestHead { account: account(), repository, call: call.number() };
    [stream::encode(&head), stream::encode(call)].concat()
}

#[test]
fn a_pack_that_is_on_its_way_is_stored_before_the_server_stops() {
    let pair = Pair::new();
    let (id, bytes) = pair.init();
    let call = Call::PutPack(id, bytes.len() as u64, pair.lease());
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let Pair { _folder, server, runtime, connection } = pair;
    let (mut send, mut receive) = runtime.block_on(async {
        let (mut send, mut receive) = connection.open_bi().await.unwrap();
        send.write_all(&request(&call)).await.unwrap();
        assert!(matches!(stream::receive(&mut receive, REPLY_MAX).await.unwrap(), Reply::SendFrom(0)));
        send.write_all(first).await.unwrap();
        (send, receive)
    });
    let stopping = server.state.stopping.subscribe();
    let stop = std::thread::spawn(move || server.stop());
    runtime.block_on(async move {
        let mut stopping = stopping;
        // An error means that the server has stopped already.
        let _ = stopping.wait_for(|is_stopping| *is_stopping).await;
        assert!(connection.close_reason().is_none(), "the pack is still on its way");
        send.write_all(second).await.unwrap();
        send.finish().unwrap();
        assert!(matches!(stream::receive(&mut receive, REPLY_MAX).await.unwrap(), Reply::Done));
        let quinn::ConnectionError::ApplicationClosed(end) = connection.closed().await else { panic!("not closed") };
        assert_eq!(end.error_code, connection::STOPPED);
    });
    stop.join().unwrap();
}

#[test]
fn a_client_without_requests_is_told_at_once_that_the_server_stops() {
    let Pair { _folder, server, runtime, connection } = Pair::new();
    // Nobody will ever send the rest of this request. The server does not wait for it.
    let (mut send, _receive) = runtime.block_on(connection.open_bi()).unwrap();
    runtime.block_on(send.write_all(&[9, 0, 0, 0, 1])).unwrap();
    server.stop();
    let quinn::ConnectionError::ApplicationClosed(end) = runtime.block_on(connection.closed()) else {
        panic!("not closed")
    };
    assert_eq!(end.error_code, connection::STOPPED);
}

#[test]
fn what_a_client_revokes_has_no_other_account_measured_again() {
    let pair = Pair::new();
    pair.init();
    let (state, bob): (_, Name) = (&pair.server.state, "bob".parse().unwrap());
    invite(&state.data, &bob, "push".parse().unwrap(), None, Duration::from_secs(60)).unwrap();
    state.registry.follow().unwrap();
    drop(state.ledger.reserve(&**state, &bob, Amount::default()).unwrap());
    let Reply::Revoked(revoked) = pair.call(Call::RevokeHolders(ClientId([7; 16]))) else { panic!("refused") };
    assert!(revoked.is_empty() && !state.ledger.is_stale(&account()) && !state.ledger.is_stale(&bob));
    let client = state.registry.ask(|accounts| *accounts.account(&account()).unwrap().clients.keys().next().unwrap());
    let record = |event| state.registry.change(None, |_| Ok(((), vec![event]))).unwrap();
    record(Event::Revoke { account: account(), client });
    state.close_sessions();
    assert!(!state.ledger.is_stale(&bob), "nothing that is stored has changed");
    record(Event::Remove { account: account() });
    state.close_sessions();
    assert!(state.ledger.is_stale(&bob), "it may have shared limits with the account that was removed");
}
