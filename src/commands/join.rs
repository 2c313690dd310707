//! `bkfs join`: enrols this machine with a server.

use std::{
    io::{BufRead, IsTerminal, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use bkfs_store::format::keys::{FullKey, KeyFile, PushKey};
use bkfs_transport::{
    Permissions, Token,
    client::{self, Joined},
};
use clap::Args;
use serde::Serialize;

use crate::{
    ask,
    context::Context,
    failure::{Exit, Failure},
    output, session, signals,
};

/// How many bytes of a token are read at most.
const TOKEN_MAX: u64 = 64 << 10;

/// Arguments of `join`.
#[derive(Debug, Args)]
#[command(
    about = "Enrol this machine with a server",
    long_about = "Enrol this machine with a server. The server's operator creates the token with `bkfs server \
        invite`.\n\n\
        This machine remembers the fingerprint of the server's certificate, and from then on accepts no other server \
        at that address. Prints the URL of the account, for -r or BKFS_REPOSITORY. A machine that joins an account \
        again keeps what it may do there, and gets what the new token allows.",
    after_help = "Examples:\n  bkfs join bkfs1k5v...\n  bkfs join bkfs1k5v... --push-key laptop.key\n  \
        bkfs join - < token.txt"
)]
pub struct JoinArgs {
    /// The token of the invitation; `-` reads it from standard input, where other users do not see it
    #[arg(value_name = "TOKEN", allow_hyphen_values = true)]
    token: String,
    /// Use this push key on this machine; `bkfs key export-push` writes the file
    #[arg(long, value_name = "FILE")]
    push_key: Option<PathBuf>,
    /// Accept a server with another certificate at an address that this machine knows
    #[arg(long)]
    replace_pin: bool,
}

#[derive(Serialize)]
struct JoinJson {
    url: String,
    server: String,
    can: String,
}

/// Runs `bkfs join`.
pub fn run(context: &Context, args: JoinArgs) -> Result<Exit> {
    let token = match &*args.token {
        "-" => Token::parse(read_token()?.trim())?,
        token => Token::parse(token)?,
    };
    // All questions come first: an answer of no, or a key file that cannot be used, must not use up the invitation.
    let key = args.push_key.as_deref().map(|path| read_push_key(context, path)).transpose()?;
    let has_key = key.is_some();
    let Joined { url, can } = enrol(context, &token, key, args.replace_pin)?;
    if context.json {
        let server = token.fingerprint.to_string();
        output::json(&JoinJson { url: url.to_string(), server, can: can.to_string() })?;
        return Ok(Exit::Success);
    }
    output::line(url.to_string())?;
    if !context.quiet {
        output::note(format!(
            "joined account {} of the server at {} (fingerprint {}); this machine may: {can}",
            url.account,
            url.server(),
            token.fingerprint
        ));
        output::note(next_step(&url.to_string(), can, has_key));
    }
    Ok(Exit::Success)
}

/// Enrols this machine, and remembers the server and the push key. Asks before it replaces a known server.
pub fn enrol(context: &Context, token: &Token, key: Option<PushKey>, is_pin_confirmed: bool) -> Result<Joined> {
    check_pin(context, token, is_pin_confirmed)?;
    let joined = client::join(token, &session::identity(context)?)?;
    let (url, places) = (&joined.url, context.folders.places());
    places.set_addresses(token.fingerprint, &in_order(token, &url.server()))?;
    places.add_account(token.fingerprint, url.account.as_str())?;
    if let Some(key) = key {
        let repo = key.repo;
        context.folders.repository(repo).set_push_key(&KeyFile::Push(key).encode())?;
        places.set_repository(&url.to_string(), repo)?;
    }
    Ok(joined)
}

/// Reads a token. Arguments of a program are shown to every user of the machine; its input is not.
pub fn read_token() -> Result<String> {
    let (input, mut text) = (std::io::stdin(), String::new());
    let mut line = input.lock().take(TOKEN_MAX);
    if input.is_terminal() {
        eprint!("Token: ");
    }
    // Empty lines before it are skipped. What follows it is not read: a person need not end the input.
    while text.trim().is_empty() {
        let count = signals::while_asking(|| line.read_line(&mut text));
        if count.context("reading the token from standard input")? == 0 {
            break;
        }
    }
    match text.trim().is_empty() {
        false => Ok(text),
        true => Err(Failure::new("standard input holds no token", "for example: bkfs join - < token.txt").into()),
    }
}

/// Reads the push key for this machine. Only the push key is kept, even if the file has a full key. Fails if this
/// machine has another push key for the same repository: it would be lost.
pub fn read_push_key(context: &Context, path: &Path) -> Result<PushKey> {
    let bytes = session::read_key_file(path)?;
    let decoded = KeyFile::decode(&bytes).map_err(|error| {
        let is_sheet = std::str::from_utf8(&bytes).is_ok_and(FullKey::looks_like_recovery_text);
        let hint = match is_sheet {
            true => "this is a recovery sheet: join without --push-key, then name the sheet in BKFS_KEY_FILE",
            false => "`bkfs key export-push` writes such a file",
        };
        Failure::new(format!("{}: {error}", path.display()), hint)
    })?;
    let key = decoded.push().clone();
    let folder = context.folders.repository(key.repo);
    let Some(bytes) = folder.push_key()? else { return Ok(key) };
    let kept = KeyFile::decode(&bytes).with_context(|| folder.push_key_path().display().to_string())?;
    match kept.push().client_id() == key.client_id() {
        true => Ok(key),
        false => Err(Failure::new(
            format!(
                "this machine has a push key for repository {} already, as client {}",
                key.repo.short(),
                kept.push().client_id().short()
            ),
            "leave out --push-key to join with the key that it has; `bkfs key enrol --push-key FILE` replaces the key \
             of a client that was removed",
        )
        .into()),
    }
}

/// Returns the addresses of a token, the one that answered first.
fn in_order(token: &Token, answered: &str) -> Vec<String> {
    let others = token.addresses.iter().filter(|address| *address != answered);
    [answered].into_iter().chain(others.map(String::as_str)).map(str::to_owned).collect()
}

/// Fails if this machine knows another server at an address of the token, and nobody confirms that it was replaced.
fn check_pin(context: &Context, token: &Token, is_confirmed: bool) -> Result<()> {
    for address in token.addresses.iter() {
        let Some(known) = context.folders.places().server_at(address)? else { continue };
        if known.fingerprint == token.fingerprint || is_confirmed {
            continue;
        }
        let what = format!(
            "the token is for another server at {address} than the one that this machine knows\n      \
             known:     {}\n      the token: {}\n      \
             That is right only if the server was set up again, or another one took its place. Ask its operator, and \
             compare the fingerprints",
            known.fingerprint, token.fingerprint
        );
        ask::confirm(context, &what, "Replace the known server?", "--replace-pin")?;
    }
    Ok(())
}

/// Says what to do after joining.
fn next_step(url: &str, can: Permissions, has_key: bool) -> String {
    if has_key {
        return format!("next: `bkfs push -r {url} FOLDER`");
    }
    if can.contains(Permissions::ADMIN) {
        return format!("next: `bkfs init -r {url}` creates a repository there; if there is one, use it with -r {url}");
    }
    if can.contains(Permissions::READ) {
        return format!("next: use the repository with -r {url} and its passphrase");
    }
    format!(
        "next: this machine needs a push key for {url}; `bkfs key export-push FILE` writes one on a machine that can \
         read, and `bkfs key enrol --push-key FILE` uses it here"
    )
}
