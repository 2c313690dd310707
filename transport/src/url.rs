//! Names of accounts and repositories, and `bkfs://HOST:PORT/ACCOUNT[/NAME]`, the address of a repository.

use std::{fmt, str::FromStr};

use bkfs_store::{Error, Result};
use minicbor::{Decode, Encode};

/// The name of a repository if a URL does not give one.
pub const DEFAULT_REPOSITORY: &str = "main";
/// The UDP port of a server if its address does not give one.
pub const DEFAULT_PORT: u16 = 7443;
const SCHEME: &str = "bkfs://";

/// The name of an account or a repository: 1 to 64 of `A-Z a-z 0-9 . _ -`. It begins with a letter or digit, and does
/// not end with a dot.
///
/// Names become folder names at the server. No name is a path, a hidden file or an option.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(String);

impl Name {
    /// The longest name in bytes.
    pub const LEN_MAX: usize = 64;

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// [`DEFAULT_REPOSITORY`] as a name.
    pub fn default_repository() -> Self {
        Self(DEFAULT_REPOSITORY.to_owned())
    }
}

impl FromStr for Name {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let ok = s.len() <= Self::LEN_MAX
            && s.starts_with(|c: char| c.is_ascii_alphanumeric())
            && s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
            && !s.ends_with('.');
        match ok {
            true => Ok(Self(s.to_owned())),
            false => Err(Error::Invalid(format!(
                "{s:?} is not a name for an account or repository: use 1 to {} letters, digits, '.', '_' or '-'; begin \
                 with a letter or digit, and do not end with '.'",
                Self::LEN_MAX
            ))),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<C> Encode<C> for Name {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.str(&self.0)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Name {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        d.str()?.parse().map_err(|_| minicbor::decode::Error::message("not a name"))
    }
}

/// The address of a repository: a server, an account on it, and the repository's name there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RepoUrl {
    /// Host name or IP address (IPv6 without brackets).
    pub host: String,
    /// UDP port.
    pub port: u16,
    /// The account.
    pub account: Name,
    /// The repository's name, if the URL gives one.
    pub name: Option<Name>,
}

impl RepoUrl {
    /// Whether the text is meant as a URL, valid or not, rather than as a path.
    pub fn is_url(text: &str) -> bool {
        text.starts_with(SCHEME)
    }

    /// `HOST:PORT`.
    pub fn server(&self) -> String {
        format_address(&self.host, self.port)
    }

    /// The repository's name, or [`DEFAULT_REPOSITORY`] if the URL gives none.
    pub fn repository(&self) -> Name {
        self.name.clone().unwrap_or_else(Name::default_repository)
    }

    /// The URL of an account at `HOST[:PORT]`.
    pub fn new(address: &str, account: Name) -> Result<Self> {
        let (host, port) = parse_address(address)?;
        Ok(Self { host, port, account, name: None })
    }
}

impl FromStr for RepoUrl {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let bad = |why: &str| {
            Error::Invalid(format!("{s:?} is not a repository URL: {why}; write bkfs://HOST:PORT/ACCOUNT[/NAME]"))
        };
        let rest = s.strip_prefix(SCHEME).ok_or_else(|| bad("it does not begin with bkfs://"))?;
        let (address, path) = rest.split_once('/').ok_or_else(|| bad("it names no account"))?;
        let (host, port) = parse_address(address)?;
        let path = path.strip_suffix('/').unwrap_or(path);
        let (account, name) = match path.split_once('/') {
            Some((account, name)) => (account, Some(name.parse()?)),
            None => (path, None),
        };
        Ok(Self { host, port, account: account.parse()?, name })
    }
}

impl fmt::Display for RepoUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.server(), self.account)?;
        self.name.iter().try_for_each(|name| write!(f, "/{name}"))
    }
}

fn format_address(host: &str, port: u16) -> String {
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

/// Splits `HOST`, `HOST:PORT`, `[IPV6]` or `[IPV6]:PORT`. The port defaults to [`DEFAULT_PORT`].
pub(crate) fn parse_address(address: &str) -> Result<(String, u16)> {
    let bad = || Error::Invalid(format!("{address:?} is not a server address; write HOST:PORT"));
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or_else(bad)?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| bad())?;
            (host, port.strip_prefix(':').or(port.is_empty().then_some("")).ok_or_else(bad)?)
        }
        None => {
            let (host, port) = address.split_once(':').unwrap_or((address, ""));
            let ok = !host.is_empty()
                && host.len() <= 253
                && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
            (ok.then_some(host).ok_or_else(bad)?, port)
        }
    };
    let port = match port {
        "" => DEFAULT_PORT,
        port if port.bytes().all(|b| b.is_ascii_digit()) => port.parse().map_err(|_| bad())?,
        _ => return Err(bad()),
    };
    Ok((host.to_owned(), port))
}

/// Returns the canonical form of a server's address.
pub(crate) fn normalize_address(address: &str) -> Result<String> {
    parse_address(address).map(|(host, port)| format_address(&host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_round_trip() {
        for text in ["bkfs://nas.lan:7443/alice", "bkfs://127.0.0.1:1/a/b", "bkfs://[::1]:9/alice/work.2"] {
            assert_eq!(text.parse::<RepoUrl>().unwrap().to_string(), text);
        }
        let url: RepoUrl = "bkfs://nas/alice".parse().unwrap();
        assert_eq!((url.port, url.repository().as_str()), (DEFAULT_PORT, DEFAULT_REPOSITORY));
    }

    #[test]
    fn path_tricks_are_not_names() {
        for name in ["", ".", "..", ".hidden", "-x", "a/b", "a\\b", "a\0", "a b", "ä", "a.", "~", "%2e%2e", "a\n"] {
            assert!(name.parse::<Name>().is_err(), "{name:?}");
        }
        assert!("a".repeat(65).parse::<Name>().is_err());
        assert!("a..b".parse::<Name>().is_ok(), "without a slash it escapes nothing");
    }

    #[test]
    fn path_tricks_are_not_urls() {
        for url in [
            "bkfs://h:1/../etc",
            "bkfs://h:1/a/../b",
            "bkfs://h:1/a/b/c",
            "bkfs://h:1//a",
            "bkfs://h:1/",
            "bkfs://h:1",
            "bkfs:///a",
            "bkfs://h:99999/a",
            "bkfs://h:+1/a",
            "bkfs://u@h:1/a",
            "bkfs://[::1/a",
            "bkfs://[h]:1/a",
            "http://h:1/a",
        ] {
            assert!(url.parse::<RepoUrl>().is_err(), "{url}");
        }
    }
}
