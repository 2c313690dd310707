//! Key files: a push key or a full key as text, for folders that only their owner can read.
//!
//! ```text
//! -----BEGIN BKFS PUSH KEY-----
//! # repository 6a..., client 91..., label alpha
//! <base64 of the record, lines of 64 characters> <check of the line>
//! -----CHECKSUM <16 hexadecimal digits>-----
//! -----END BKFS PUSH KEY-----
//! ```
//!
//! The record is CBOR behind a magic and a version. Lines that begin with `#` are for people. The checksum is the first
//! 8 bytes of the record's BLAKE3. It and the checks of the lines find copying errors and protect against nothing else.
//! Key files have no passphrase: anyone who has the file has the key.

use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

use super::{
    armour,
    fields::{LABEL_MAX, URL_MAX, read_secret},
    full::FullKey,
    push::PushKey,
    typed,
};
use crate::{
    base::{
        codec::Header,
        error::{Error, Result},
        id::RepoId,
    },
    crypto::{SealNumber, SealPublic, SigningKey, VerifyingKey},
};

/// The longest key file in bytes.
const FILE_MAX: usize = 64 * 1024;
/// How many bad lines a message names.
const BAD_MAX: usize = 3;
/// The context of the checks of lines.
const LINE_CONTEXT: &str = "bkfs v1 key file line";

/// The contents of a key file.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant)] // A program holds one or two of them.
pub enum KeyFile {
    /// The key of a client that can only push.
    Push(PushKey),
    /// The owner's key, and the key of the client that uses this file.
    Full {
        /// The owner's key.
        full: FullKey,
        /// The client's own push key.
        push: PushKey,
    },
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct PushRecord<'a> {
    #[n(0)]
    repo: RepoId,
    #[cbor(b(1), with = "minicbor::bytes")]
    id_key: &'a [u8],
    #[cbor(b(2), with = "minicbor::bytes")]
    seal_public: &'a [u8],
    #[cbor(b(3), with = "minicbor::bytes")]
    admin_public: &'a [u8],
    #[cbor(b(4), with = "minicbor::bytes")]
    signing: &'a [u8],
    #[b(5)]
    label: &'a str,
    #[b(6)]
    url: Option<&'a str>,
}

/// The record of a full key file. The full key determines the rest of the client's push key.
#[derive(Encode, Decode)]
#[cbor(map)]
struct FullRecord<'a> {
    #[cbor(b(0), with = "minicbor::bytes")]
    full: &'a [u8],
    #[cbor(b(1), with = "minicbor::bytes")]
    signing: &'a [u8],
    #[b(2)]
    label: &'a str,
    #[b(3)]
    url: Option<&'a str>,
}

impl KeyFile {
    /// Magic and version of a push key's record.
    pub const PUSH: Header = Header { what: "the push key file", magic: *b"bkfspush", version: 1 };
    /// Magic and version of a full key file's record.
    pub const FULL: Header = Header { what: "the full key file", magic: *b"bkfsfkey", version: 1 };

    /// Returns the client's push key, which both kinds contain.
    pub fn push(&self) -> &PushKey {
        match self {
            KeyFile::Push(push) | KeyFile::Full { push, .. } => push,
        }
    }

    /// Returns the owner's key, if the file contains it.
    pub fn full(&self) -> Option<&FullKey> {
        match self {
            KeyFile::Push(_) => None,
            KeyFile::Full { full, .. } => Some(full),
        }
    }

    /// Encodes the file's text.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let (kind, record) = match self {
            KeyFile::Push(push) => ("PUSH", encode_push(push)),
            KeyFile::Full { full, push } => ("FULL", encode_full(full, push)),
        };
        let push = self.push();
        let mut text = Zeroizing::new(String::with_capacity(1024 + record.len() * 2));
        text.push_str(&format!("-----BEGIN BKFS {kind} KEY-----\n"));
        // A label may contain any character. Control characters could end the comment line.
        let label: String = push.label.chars().filter(|c| !c.is_control()).collect();
        text.push_str(&format!("# repository {}, client {}, label {label}\n", push.repo, push.client_id()));
        armour::base64_lines(LINE_CONTEXT, &record, &mut text);
        text.push_str(&format!("-----CHECKSUM {}-----\n", checksum(&record)));
        text.push_str(&format!("-----END BKFS {kind} KEY-----\n"));
        Zeroizing::new(text.as_bytes().to_vec())
    }

    /// Decodes a file's text.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let what = "the key file";
        if bytes.len() > FILE_MAX {
            return Err(Error::TooLarge { what, size: bytes.len() as u64, limit: FILE_MAX as u64 });
        }
        let damaged = |reason: &str| Error::damaged(what, reason);
        let text = std::str::from_utf8(bytes).map_err(|_| damaged("it is not text"))?;
        let mut lines = typed::lines(text);
        let kind = match lines.next() {
            Some((_, "-----BEGIN BKFS PUSH KEY-----")) => "PUSH",
            Some((_, "-----BEGIN BKFS FULL KEY-----")) => "FULL",
            None => return Err(damaged("it is empty")),
            _ => return Err(damaged("it does not begin with a line like -----BEGIN BKFS PUSH KEY-----")),
        };
        let mut record = Zeroizing::new(Vec::with_capacity(bytes.len()));
        let mut bad = Vec::new();
        let mut at = 0;
        let sum = loop {
            let (number, line) = lines.next().ok_or_else(|| damaged("it is cut off"))?;
            if let Some(sum) = line.strip_prefix("-----CHECKSUM ").and_then(|l| l.strip_suffix("-----")) {
                break sum;
            }
            match armour::from_base64_line(LINE_CONTEXT, at, line, &mut record) {
                Ok(()) => {}
                Err(armour::BadLine::Damaged) => bad.push(format!("line {number} is damaged")),
                // From here on, every line is in the wrong place.
                Err(armour::BadLine::OneLater) => {
                    bad.push(format!("before line {number}, a line is missing"));
                    at += 1;
                }
                Err(armour::BadLine::Earlier) => {
                    bad.push(format!("line {number} is there twice"));
                    continue;
                }
            }
            at += 1;
        };
        let is_end = |line: Option<(usize, &str)>| {
            line.is_some_and(|(_, line)| line == format!("-----END BKFS {kind} KEY-----"))
        };
        if !is_end(lines.next()) || lines.next().is_some() {
            return Err(damaged("it does not end with the matching line -----END BKFS ... KEY-----"));
        }
        if !bad.is_empty() {
            // If every line is bad, the file is another thing, and a list of them helps nobody.
            let more = bad.len().saturating_sub(BAD_MAX);
            bad.truncate(BAD_MAX);
            let more = if more > 0 { format!("; and {more} more") } else { String::new() };
            return Err(damaged(&(bad.join("; ") + &more)));
        }
        if checksum(&record) != sum {
            return Err(damaged("its checksum does not match: it was not copied completely"));
        }
        match kind {
            "PUSH" => decode_push(&record).map(KeyFile::Push),
            _ => decode_full(&record).map(|(full, push)| KeyFile::Full { full, push }),
        }
    }
}

fn checksum(record: &[u8]) -> String {
    blake3::hash(record).to_hex()[..16].to_owned()
}

fn encode_record<T: Encode<()>>(header: &Header, record: &T) -> Zeroizing<Vec<u8>> {
    // Reserved in advance: a vector that grows leaves copies of secrets in freed memory.
    let mut bytes = Zeroizing::new(Vec::with_capacity(8 * 1024));
    bytes.extend_from_slice(&header.magic);
    bytes.extend_from_slice(&header.version.to_le_bytes());
    minicbor::Encoder::new(&mut *bytes).encode(record).expect("encoding into memory");
    bytes
}

fn encode_push(push: &PushKey) -> Zeroizing<Vec<u8>> {
    encode_record(
        &KeyFile::PUSH,
        &PushRecord {
            repo: push.repo,
            id_key: push.id_key.bytes(),
            seal_public: &push.seal_public,
            admin_public: &push.admin_public.0,
            signing: push.signing.seed().bytes(),
            label: &push.label,
            url: push.url.as_deref(),
        },
    )
}

fn encode_full(full: &FullKey, push: &PushKey) -> Zeroizing<Vec<u8>> {
    encode_record(
        &KeyFile::FULL,
        &FullRecord {
            full: &full.encode(),
            signing: push.signing.seed().bytes(),
            label: &push.label,
            url: push.url.as_deref(),
        },
    )
}

fn decode_push(bytes: &[u8]) -> Result<PushKey> {
    let what = KeyFile::PUSH.what;
    let record: PushRecord<'_> = KeyFile::PUSH.decode(bytes)?;
    check_texts(what, record.label, record.url)?;
    SealPublic::from_bytes(record.seal_public, SealNumber::FIRST)?;
    Ok(PushKey {
        repo: record.repo,
        id_key: read_secret(what, record.id_key)?,
        seal_public: record.seal_public.to_vec(),
        seal_number: SealNumber::FIRST,
        admin_public: VerifyingKey::from_slice(record.admin_public)
            .ok_or_else(|| Error::damaged(what, "the admin's public key has the wrong length"))?,
        signing: SigningKey::from_seed(read_secret(what, record.signing)?),
        label: record.label.to_owned(),
        url: record.url.map(str::to_owned),
    })
}

fn decode_full(bytes: &[u8]) -> Result<(FullKey, PushKey)> {
    let what = KeyFile::FULL.what;
    let record: FullRecord<'_> = KeyFile::FULL.decode(bytes)?;
    check_texts(what, record.label, record.url)?;
    let full = FullKey::decode(record.full)?;
    let signing = SigningKey::from_seed(read_secret(what, record.signing)?);
    let push = full.push_key(signing, record.label, record.url.map(str::to_owned));
    Ok((full, push))
}

fn check_texts(what: &str, label: &str, url: Option<&str>) -> Result<()> {
    if label.len() > LABEL_MAX || url.is_some_and(|u| u.len() > URL_MAX) {
        return Err(Error::damaged(what, "its label or address is too long"));
    }
    Ok(())
}
