//! Who is who on the network: self-signed certificates, known by their fingerprints.
//!
//! TLS 1.3 only, with aws-lc-rs and the post-quantum hybrid key exchange first. There are no authorities: the client
//! accepts exactly the server certificate whose fingerprint it was given, and the server takes any client certificate
//! and looks its fingerprint up afterwards. In both directions TLS proves that the peer holds the certificate's key.
//! Names and dates in certificates mean nothing here. CA-verified servers are not supported yet.

use std::sync::Arc;

use bkfs_store::{
    Error, Result,
    base::{codec::Header, id::Hash},
};
use minicbor::{Decode, Encode};
use parking_lot::Mutex;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error as TlsError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use zeroize::{Zeroize, Zeroizing};

/// The protocol's name in TLS; another version of the protocol is another name.
pub const ALPN: &[u8] = b"bkfs/1";

/// A certificate and its key: a client's or a server's name on the network.
///
/// The bytes of [`Identity::encode`] are secret; keeping them (mode 0600) is up to the caller.
#[derive(Clone)]
pub struct Identity {
    certificate: CertificateDer<'static>,
    key: Zeroizing<Vec<u8>>,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Stored {
    #[cbor(n(0), with = "minicbor::bytes")]
    certificate: Vec<u8>,
    #[cbor(n(1), with = "minicbor::bytes")]
    key: Vec<u8>,
}

const HEADER: Header = Header { what: "the network identity", magic: *b"bkfsiden", version: 1 };

impl Identity {
    /// Makes a new one: an Ed25519 key and a self-signed certificate.
    pub fn generate() -> Result<Self> {
        let failed = |e: rcgen::Error| Error::Invalid(format!("cannot make a certificate: {e}"));
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).map_err(failed)?;
        let params = rcgen::CertificateParams::new(vec![SERVER_NAME.to_owned()]).map_err(failed)?;
        let certificate = params.self_signed(&key).map_err(failed)?.der().clone();
        Ok(Self { certificate, key: Zeroizing::new(key.serialize_der()) })
    }

    /// The bytes to keep. Secret.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut stored = Stored { certificate: self.certificate.to_vec(), key: self.key.to_vec() };
        let bytes = Zeroizing::new(HEADER.encode(&stored));
        stored.key.zeroize();
        bytes
    }

    /// Reads what [`Identity::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let stored: Stored = HEADER.decode(bytes)?;
        Ok(Self { certificate: stored.certificate.into(), key: Zeroizing::new(stored.key) })
    }

    /// The private key, to derive further secrets of.
    pub(crate) fn secret(&self) -> &[u8] {
        &self.key
    }

    /// BLAKE3 of the certificate: what others know this identity by.
    pub fn fingerprint(&self) -> Hash {
        fingerprint(&self.certificate)
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.to_vec()).into()
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({})", self.fingerprint())
    }
}

/// Every server goes by this name in TLS; its certificate is known by its fingerprint alone.
pub(crate) const SERVER_NAME: &str = "bkfs";

/// BLAKE3 of a certificate's DER bytes.
pub(crate) fn fingerprint(certificate: &CertificateDer<'_>) -> Hash {
    Hash::of(&[certificate])
}

/// What the client's side of the handshakes saw instead of the expected certificate, if it did.
pub(crate) type Mismatch = Arc<Mutex<Option<Hash>>>;

/// The client's configuration: it shows `identity` and accepts only the server certificate with this fingerprint.
pub(crate) fn client_config(identity: &Identity, fingerprint: Hash) -> Result<(rustls::ClientConfig, Mismatch)> {
    let provider = provider();
    let mismatch = Mismatch::default();
    let verifier = OneServer { provider: provider.clone(), fingerprint, mismatch: mismatch.clone() };
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(vec![identity.certificate.clone()], identity.key())
        .map_err(unusable)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // Nothing is sent before the client is authenticated, so tickets would buy nothing but state.
    config.resumption = rustls::client::Resumption::disabled();
    Ok((config, mismatch))
}

/// The server's configuration: it shows `identity` and asks for a certificate of any client.
pub(crate) fn server_config(identity: &Identity) -> Result<rustls::ServerConfig> {
    let provider = provider();
    let mut config = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?
        .with_client_cert_verifier(Arc::new(AnyClient { provider }))
        .with_single_cert(vec![identity.certificate.clone()], identity.key())
        .map_err(unusable)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn unusable(e: TlsError) -> Error {
    Error::damaged(HEADER.what, e)
}

#[derive(Debug)]
struct OneServer {
    provider: Arc<CryptoProvider>,
    fingerprint: Hash,
    mismatch: Mismatch,
}

impl ServerCertVerifier for OneServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let found = fingerprint(end_entity);
        if found == self.fingerprint {
            return Ok(ServerCertVerified::assertion());
        }
        *self.mismatch.lock() = Some(found);
        Err(TlsError::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[derive(Debug)]
struct AnyClient {
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for AnyClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn only_tls13() -> TlsError {
    TlsError::PeerIncompatible(rustls::PeerIncompatible::Tls12NotOffered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_keep_their_fingerprint() {
        let identity = Identity::generate().unwrap();
        let again = Identity::decode(&identity.encode()).unwrap();
        assert_eq!(identity.fingerprint(), again.fingerprint());
        assert_ne!(identity.fingerprint(), Identity::generate().unwrap().fingerprint());
        assert!(client_config(&again, Hash::default()).is_ok());
        assert!(server_config(&again).is_ok());
    }

    #[test]
    fn rubbish_is_no_identity() {
        assert!(Identity::decode(b"rubbish").is_err());
        let hollow = Identity { certificate: vec![1, 2, 3].into(), key: Zeroizing::new(vec![4]) };
        assert!(client_config(&hollow, Hash::default()).is_err());
    }
}
