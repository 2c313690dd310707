//! TLS on both sides: who accepts which certificate.
//!
//! TLS 1.3 only, with aws-lc-rs and the post-quantum hybrid key exchange first. There are no certificate authorities.
//! The client accepts only the server certificates with the fingerprints that it was given. The server accepts any
//! client certificate, and looks up its fingerprint afterwards. In both directions TLS proves that the peer holds the
//! certificate's key. Names and dates in certificates are ignored. CA-verified servers are not supported yet.

use std::sync::Arc;

use bkfs_store::{Result, base::id::Hash};
use parking_lot::Mutex;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error as TlsError, PeerIncompatible, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};

use crate::{
    PROTOCOL,
    identity::{self, Identity},
};

/// The protocol's name in TLS. Another version of the protocol is another name.
const ALPN: &[u8] = PROTOCOL.as_bytes();

/// The fingerprint of the last server certificate that the client rejected, if it rejected one.
pub(crate) type RejectedCertificate = Arc<Mutex<Option<Hash>>>;

/// The client's configuration: it shows `identity`, and accepts only server certificates with these fingerprints.
pub(crate) fn client_config(
    identity: &Identity,
    fingerprints: &[Hash],
) -> Result<(rustls::ClientConfig, RejectedCertificate)> {
    let provider = provider();
    let rejected = RejectedCertificate::default();
    let algorithms = provider.signature_verification_algorithms;
    let verifier = Verifier {
        algorithms,
        accepts: KnownServers { fingerprints: fingerprints.to_vec(), rejected: rejected.clone() },
    };
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(Identity::unusable)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(identity.chain(), identity.private_key())
        .map_err(Identity::unusable)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // Nothing is sent before the client is authenticated, so session tickets would only add state.
    config.resumption = rustls::client::Resumption::disabled();
    Ok((config, rejected))
}

/// The server's configuration: it shows `identity`, and asks every client for a certificate.
pub(crate) fn server_config(identity: &Identity) -> Result<rustls::ServerConfig> {
    let provider = provider();
    let verifier = Verifier { algorithms: provider.signature_verification_algorithms, accepts: AnyClient };
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(Identity::unusable)?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(identity.chain(), identity.private_key())
        .map_err(Identity::unusable)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Verifies the peer's certificate. `P` is the policy: which certificates are accepted.
///
/// rustls has a trait for each side. Both ask the same questions about signatures; `signature_checks!` answers them.
#[derive(Debug)]
struct Verifier<P> {
    algorithms: WebPkiSupportedAlgorithms,
    accepts: P,
}

/// The client's policy: certificates that are known by their fingerprints. Usually it is one.
#[derive(Debug)]
struct KnownServers {
    fingerprints: Vec<Hash>,
    rejected: RejectedCertificate,
}

/// The server's policy: the certificate of any client.
#[derive(Debug)]
struct AnyClient;

/// The methods that rustls' two verifier traits have in common.
macro_rules! signature_checks {
    () => {
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, TlsError> {
            Err(TlsError::PeerIncompatible(PeerIncompatible::Tls12NotOffered))
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, TlsError> {
            rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.algorithms.supported_schemes()
        }
    };
}

impl ServerCertVerifier for Verifier<KnownServers> {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let found = identity::fingerprint(end_entity);
        if self.accepts.fingerprints.contains(&found) {
            return Ok(ServerCertVerified::assertion());
        }
        *self.accepts.rejected.lock() = Some(found);
        Err(TlsError::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }

    signature_checks!();
}

impl ClientCertVerifier for Verifier<AnyClient> {
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

    signature_checks!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_use_an_identity() {
        let identity = Identity::generate().unwrap();
        assert!(client_config(&identity, &[Hash::default()]).is_ok());
        assert!(server_config(&identity).is_ok());
    }

    #[test]
    fn an_identity_of_rubbish_is_refused() {
        assert!(client_config(&Identity::rubbish(), &[Hash::default()]).is_err());
    }
}
