//! A server that speaks the protocol and lies: it keeps a real repository, and a test changes what it replies.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bkfs_store::{
    Result,
    access::{Lease, Maintain, Manage, Open, Push, Read, SealedFrame},
    base::{
        codec,
        id::{Hash, PackId},
    },
    format::pack::PackUpload,
    repository::Repository,
};
use bkfs_transport::{
    Addresses, Permissions, Token,
    message::{CALL_MAX, Call, FrameHead, HEAD_MAX, LogBytes, Reply, RequestHead, to_bits},
    stream,
    wire_error::WireError,
};
use quinn::{Endpoint, RecvStream, SendStream};
use rustls::{
    DigitallySignedStruct, DistinguishedName, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use tokio::runtime::Runtime;

use crate::common::program::Person;

/// What a server replies, and the bulk bytes behind it.
pub struct Answer {
    pub reply: Reply,
    pub bulk: Vec<u8>,
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        Self { reply, bulk: Vec::new() }
    }
}

/// Replaces an honest answer. None leaves it as it is.
pub type Lie = dyn Fn(&Liar, &Call) -> Option<Answer> + Send + Sync;

/// The lying server's side of all connections.
pub struct Liar {
    /// What an honest server would answer from.
    pub store: Repository,
    lie: Mutex<Option<Arc<Lie>>>,
    /// Packs are taken, acknowledged and thrown away.
    pub swallows_packs: Mutex<bool>,
    /// The calls that were answered, by the names of their variants.
    pub calls: Mutex<Vec<String>>,
    /// All that clients sent: requests and packs.
    pub received: Mutex<Vec<u8>>,
}

/// A lying server that runs.
pub struct LyingServer {
    pub liar: Arc<Liar>,
    _runtime: Runtime,
    address: SocketAddr,
    fingerprint: Hash,
}

impl LyingServer {
    /// Starts a server with an empty repository in memory. Until it is told to lie, it is honest.
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let params = rcgen::CertificateParams::new(vec!["bkfs".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        let fingerprint = Hash::of(&[&certificate]);
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(Arc::new(AnyClient(provider)))
            .with_single_cert(vec![certificate], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
            .unwrap();
        tls.alpn_protocols = vec![b"bkfs/1".to_vec()];
        let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(tls).unwrap();
        let endpoint = {
            let _entered = runtime.enter();
            let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
            Endpoint::server(config, ([127, 0, 0, 1], 0).into()).unwrap()
        };
        let address = endpoint.local_addr().unwrap();
        let liar = Arc::new(Liar {
            store: Repository::memory().unwrap(),
            lie: Mutex::default(),
            swallows_packs: Mutex::default(),
            calls: Mutex::default(),
            received: Mutex::default(),
        });
        runtime.spawn(accept(endpoint, liar.clone()));
        Self { liar, _runtime: runtime, address, fingerprint }
    }

    /// A person who has joined the server and made a repository there.
    pub fn person(&self) -> Person {
        let mut person = Person::new();
        person.repo = person.run(["join", &self.token()]).trim().to_owned();
        person.run(["init"]);
        person
    }

    /// A machine of this person that may only push.
    pub fn laptop_of(&self, person: &Person) -> Person {
        let key = person.path("laptop.key");
        person.run(["key", "export-push", key.to_str().unwrap(), "--label", "laptop"]);
        let mut laptop = Person::new();
        laptop.repo = laptop.run(["join", &self.token(), "--push-key", key.to_str().unwrap()]).trim().to_owned();
        laptop
    }

    /// A token for the account. The server lets everybody join.
    fn token(&self) -> String {
        let secret = codec::decode("a secret", &[&[0x50][..], &[7; 16]].concat()).unwrap();
        let addresses = Addresses::new(vec![self.address.to_string()]).unwrap();
        let account = "alice".parse().unwrap();
        Token { addresses, fingerprint: self.fingerprint, account, secret }.text().as_str().to_owned()
    }
}

impl Liar {
    /// Lies from now on.
    pub fn tell(&self, lie: impl Fn(&Liar, &Call) -> Option<Answer> + Send + Sync + 'static) {
        *self.lie.lock().unwrap() = Some(Arc::new(lie));
    }

    /// How many calls of this name were answered since the last time.
    pub fn count(&self, name: &str) -> usize {
        std::mem::take(&mut *self.calls.lock().unwrap()).iter().filter(|call| *call == name).count()
    }

    fn answer(&self, call: Call) -> Answer {
        let name = format!("{call:?}").split(['(', ' ']).next().unwrap_or_default().to_owned();
        self.calls.lock().unwrap().push(name);
        let lie = self.lie.lock().unwrap().clone();
        if let Some(answer) = lie.and_then(|lie| lie(self, &call)) {
            return answer;
        }
        self.honest(call).unwrap_or_else(|error| Reply::Failed(WireError::new(&error, "the liar")).into())
    }

    /// What an honest server answers.
    pub fn honest(&self, call: Call) -> Result<Answer> {
        let store = &self.store;
        let reply = match call {
            Call::Join(_) => Reply::Joined(Permissions::ALL),
            Call::Init(request) => store.init(&request).map(|()| Reply::Done)?,
            Call::Open(request, _) => Reply::Opened(Box::new(store.open(&request)?)),
            Call::Has(client, ids) => Reply::Has(to_bits(&store.has(client, &ids)?)),
            Call::Prove(client, challenges) => Reply::Proofs(store.prove(client, &challenges)?),
            Call::Places(ids) => Reply::Places(store.places(&ids)?),
            Call::Read(request) => {
                let read = store.read(&request)?;
                let head = |f: &SealedFrame| FrameHead { pack: f.pack, frame: f.frame, len: f.bytes.len() as u32 };
                let heads = read.frames.iter().map(head).collect();
                let bulk = read.frames.iter().flat_map(|frame| frame.bytes.to_vec()).collect();
                return Ok(Answer { reply: Reply::Frames(heads, read.done as u32, read.missing), bulk });
            }
            Call::ReadPack(id) => {
                let bulk = store.read_pack(id)?.to_vec();
                return Ok(Answer { reply: Reply::Pack(bulk.len() as u64), bulk });
            }
            Call::Wraps(keys) => Reply::Wraps(store.wraps(&keys)?),
            Call::Commit(lease, snapshot) => Reply::Committed(store.commit(lease, &snapshot)?),
            Call::Prune(request) => Reply::Pruned(store.prune(&request)?),
            Call::Snapshots(from, limit) => Reply::Snapshots(store.snapshots(from, limit)?),
            Call::Forget(request) => Reply::Forgotten(store.forget(&request)?),
            Call::Unforget(snapshots) => store.unforget(&snapshots).map(|()| Reply::Done)?,
            Call::Log(from, limit) => Reply::Log(store.log(from, limit)?.into_iter().map(LogBytes).collect()),
            Call::WaitLog(len, ms) => Reply::LogLen(store.wait_log(len, Duration::from_millis(ms.min(500).into()))?),
            Call::PutRoster(signed) => store.put_roster(&signed).map(|()| Reply::Done)?,
            Call::PutSealKeys(signed) => store.put_seal_keys(&signed).map(|()| Reply::Done)?,
            Call::PutSlot(slot) => store.put_slot(&slot).map(|()| Reply::Done)?,
            Call::RemoveSlot(id) => store.remove_slot(id).map(|()| Reply::Done)?,
            Call::Mend(id) => Reply::Mended(store.mend(id)?),
            Call::Repair(request) => Reply::Repaired(store.repair(&request)?),
            Call::Packs(after, limit) => Reply::Packs(store.packs(after, limit)?),
            Call::Judge(verdict) => store.judge(&verdict).map(|()| Reply::Done)?,
            Call::RevokeHolders(_) => Reply::Revoked(Vec::new()),
            Call::PutPack(..) => Reply::Done,
        };
        Ok(reply.into())
    }
}

async fn accept(endpoint: Endpoint, liar: Arc<Liar>) {
    while let Some(incoming) = endpoint.accept().await {
        let liar = liar.clone();
        tokio::spawn(async move {
            let Ok(connection) = incoming.await else { return };
            while let Ok((send, receive)) = connection.accept_bi().await {
                let liar = liar.clone();
                tokio::spawn(async move {
                    // A client may go away at any time.
                    let _ = serve(liar, send, receive).await;
                });
            }
        });
    }
}

async fn serve(liar: Arc<Liar>, mut send: SendStream, mut receive: RecvStream) -> Result<(), stream::StreamError> {
    let head: RequestHead = stream::receive(&mut receive, HEAD_MAX).await?;
    let call = stream::receive(&mut receive, CALL_MAX).await?;
    liar.received.lock().unwrap().extend([stream::encode(&head), stream::encode(&call)].concat());
    let answer = match call {
        Call::PutPack(id, len, lease) => put_pack(&liar, id, len, lease, &mut send, &mut receive).await?,
        call => tokio::task::spawn_blocking(move || liar.answer(call)).await?,
    };
    send.write_all(&stream::encode(&answer.reply)).await?;
    send.write_all(&answer.bulk).await?;
    Ok(send.finish()?)
}

async fn put_pack(
    liar: &Arc<Liar>,
    id: PackId,
    len: u64,
    lease: Lease,
    send: &mut SendStream,
    receive: &mut RecvStream,
) -> Result<Answer, stream::StreamError> {
    liar.calls.lock().unwrap().push("PutPack".to_owned());
    let lie = liar.lie.lock().unwrap().clone();
    if let Some(answer) = lie.and_then(|lie| lie(liar, &Call::PutPack(id, len, lease))) {
        return Ok(answer);
    }
    send.write_all(&stream::encode(&Reply::SendFrom(0))).await?;
    let mut bytes = Vec::new();
    stream::receive_rest(receive, &mut bytes, len as usize).await?;
    liar.received.lock().unwrap().extend_from_slice(&bytes);
    if *liar.swallows_packs.lock().unwrap() {
        return Ok(Reply::Done.into());
    }
    let stored = liar.store.put_pack(lease, &PackUpload { id, bytes: bytes.into() });
    Ok(stored.map_or_else(|error| Reply::Failed(WireError::new(&error, "the liar")), |()| Reply::Done).into())
}

/// Accepts the certificate of any client.
#[derive(Debug)]
struct AnyClient(Arc<CryptoProvider>);

impl ClientCertVerifier for AnyClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 only".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
