//! Network identities: self-signed certificates, known by their fingerprints.

use bkfs_store::{
    Error, Result,
    base::{codec::Header, id::Hash},
};
use minicbor::{Decode, Encode};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::{Zeroize, Zeroizing};

/// Every server has this name in TLS. Nothing depends on it: a certificate is known by its fingerprint alone.
pub(crate) const SERVER_NAME: &str = "bkfs";

const HEADER: Header = Header { what: "the network identity", magic: *b"bkfsiden", version: 1 };

/// A certificate and its private key: what a client or a server is known by on the network.
///
/// The bytes of [`Identity::encode`] are secret. The caller keeps them in a file with mode 0600.
#[derive(Clone)]
pub struct Identity {
    certificate: CertificateDer<'static>,
    key: Zeroizing<Vec<u8>>,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct StoredIdentity {
    #[cbor(n(0), with = "minicbor::bytes")]
    certificate: Vec<u8>,
    #[cbor(n(1), with = "minicbor::bytes")]
    key: Vec<u8>,
}

impl Identity {
    /// Makes a new identity: an Ed25519 key and a self-signed certificate.
    pub fn generate() -> Result<Self> {
        let failed = |e: rcgen::Error| Error::Invalid(format!("cannot make a certificate: {e}"));
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).map_err(failed)?;
        let params = rcgen::CertificateParams::new(vec![SERVER_NAME.to_owned()]).map_err(failed)?;
        let certificate = params.self_signed(&key).map_err(failed)?.der().clone();
        Ok(Self { certificate, key: Zeroizing::new(key.serialize_der()) })
    }

    /// Returns the bytes to keep. They are secret.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut stored = StoredIdentity { certificate: self.certificate.to_vec(), key: self.key.to_vec() };
        let bytes = Zeroizing::new(HEADER.encode(&stored));
        stored.key.zeroize();
        bytes
    }

    /// Reads what [`Identity::encode`] returned.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let stored: StoredIdentity = HEADER.decode(bytes)?;
        Ok(Self { certificate: stored.certificate.into(), key: Zeroizing::new(stored.key) })
    }

    /// The BLAKE3 hash of the certificate, by which others know this identity.
    pub fn fingerprint(&self) -> Hash {
        fingerprint(&self.certificate)
    }

    /// The certificate, as TLS sends it.
    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.clone()]
    }

    /// The private key, as TLS takes it.
    pub(crate) fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.to_vec()).into()
    }

    /// The bytes of the private key, to derive further secrets from.
    pub(crate) fn secret(&self) -> &[u8] {
        &self.key
    }

    /// The error of TLS when it cannot use an identity.
    pub(crate) fn unusable(error: rustls::Error) -> Error {
        Error::damaged(HEADER.what, error)
    }

    /// An identity that is not one: neither the certificate nor the key decodes.
    #[cfg(test)]
    pub(crate) fn rubbish() -> Self {
        Self { certificate: vec![1, 2, 3].into(), key: Zeroizing::new(vec![4]) }
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({})", self.fingerprint())
    }
}

/// The BLAKE3 hash of a certificate's DER bytes.
pub(crate) fn fingerprint(certificate: &CertificateDer<'_>) -> Hash {
    Hash::of(&[certificate])
}

/// The fingerprint of the certificate that the other side of a connection showed.
pub(crate) fn peer_fingerprint(connection: &quinn::Connection) -> Option<Hash> {
    let identity = connection.peer_identity()?;
    let chain = identity.downcast_ref::<Vec<CertificateDer<'static>>>()?;
    chain.first().map(fingerprint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_keeps_its_fingerprint() {
        let identity = Identity::generate().unwrap();
        let again = Identity::decode(&identity.encode()).unwrap();
        assert_eq!(identity.fingerprint(), again.fingerprint());
        assert_ne!(identity.fingerprint(), Identity::generate().unwrap().fingerprint());
    }

    #[test]
    fn rubbish_is_not_an_identity() {
        assert!(Identity::decode(b"rubbish").is_err());
    }
}
