//! HTTP requests: with the same TLS library as everything else, and the certificates that the system trusts.
//!
//! URLs of such services are secrets, so no error shows one.

use std::{sync::Arc, time::Duration};

use ureq::{
    Agent,
    tls::{RootCerts, TlsConfig, TlsProvider},
};

/// Sends requests.
pub(super) struct Http {
    agent: Agent,
}

impl Http {
    /// Prepares for requests that take at most `timeout` each.
    pub(super) fn new(timeout: Duration) -> Result<Self, String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .root_certs(RootCerts::PlatformVerifier)
            .unversioned_rustls_crypto_provider(provider)
            .build();
        let config = Agent::config_builder()
            .timeout_global(Some(timeout))
            .user_agent(concat!("bkfs/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls)
            .build();
        Ok(Self { agent: config.into() })
    }

    /// Gets a URL with something at the end of its path.
    pub(super) fn get(&self, url: &str, end: &str) -> Result<(), String> {
        self.agent.get(with_end(url, end)).call().map(drop).map_err(|error| explain(&error))
    }

    /// Posts to a URL with something at the end of its path.
    pub(super) fn post(&self, url: &str, end: &str, content_type: &str, body: &str) -> Result<(), String> {
        let request = self.agent.post(with_end(url, end)).header("content-type", content_type);
        request.send(body).map(drop).map_err(|error| explain(&error))
    }
}

fn explain(error: &ureq::Error) -> String {
    match error {
        ureq::Error::StatusCode(code) => format!("the server replied with status {code}"),
        ureq::Error::Timeout(_) => "the server did not reply in time".to_owned(),
        ureq::Error::HostNotFound => "the name of the server was not found".to_owned(),
        ureq::Error::BadUri(_) => "the URL is not one".to_owned(),
        other => format!("the server cannot be reached: {other}"),
    }
}

/// Adds to the path of a URL, before a query.
fn with_end(url: &str, end: &str) -> String {
    let url = url.split('#').next().unwrap_or_default();
    let (path, query) = match url.find('?') {
        Some(at) => url.split_at(at),
        None => (url, ""),
    };
    match end.is_empty() {
        true => url.to_owned(),
        false => format!("{}{end}{query}", path.strip_suffix('/').unwrap_or(path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_goes_before_a_query() {
        assert_eq!(with_end("https://h/id", "/start"), "https://h/id/start");
        assert_eq!(with_end("https://h/id/?a=b#c", "/fail"), "https://h/id/fail?a=b");
        assert_eq!(with_end("https://h/id/", ""), "https://h/id/");
    }
}
