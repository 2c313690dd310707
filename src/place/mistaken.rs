//! Texts that name no folder, though they could: an address with a typo, an address of another program, a path that a
//! shell did not expand. As a path, each of them would become a repository in an unexpected place, or seem to be empty.
//!
//! Only the text counts, never what is on the disk, so a text means the same every day. A folder with such a name can
//! be used: `./` before it makes it a path.

/// What is wrong with a text, and what to write instead.
pub struct Mistake {
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub instead: String,
}

const FORMS: &str = "a repository is the path of a folder, or bkfs://HOST:PORT/ACCOUNT[/NAME]";

/// Schemes of this and other programs that are recognised even if the colon after them is missing.
const SCHEMES: [&str; 22] = [
    "bkfs", "ssh", "sftp", "scp", "rsync", "rclone", "rest", "http", "https", "ftp", "ftps", "dav", "davs", "webdav",
    "webdavs", "s3", "b2", "gs", "azure", "swift", "smb", "nfs",
];

/// Returns why a text is not the path of a folder, if it looks like something else. It does not begin with `bkfs://`.
pub fn find(text: &str) -> Option<Mistake> {
    let mistake = |what: String, instead: String| Some(Mistake { what, instead });
    let as_path = format!("for a folder of that name, write ./{text}");
    if text.trim().is_empty() {
        return mistake("the name of the repository is empty".into(), FORMS.into());
    }
    if text.trim() != text || text.chars().any(char::is_control) {
        let what = format!("{text:?} begins or ends with a space, or has a control character");
        let instead = format!("write {:?}; for a folder of that name, write ./ before it or / after it", text.trim());
        return mistake(what, instead);
    }
    if let Some(quote) = text.chars().next().filter(|c| matches!(c, '"' | '\'')) {
        return mistake(format!("{text} begins with a {quote} character"), "write it without the quotes".into());
    }
    if text.starts_with('~') {
        let home = match (text, std::env::home_dir()) {
            ("~", Some(home)) => format!("write {}; ", home.display()),
            (text, Some(home)) if text.starts_with("~/") => format!("write {}{}; ", home.display(), &text[1..]),
            _ => String::new(),
        };
        return mistake(format!("no shell has replaced the ~ in {text}"), format!("{home}{as_path}"));
    }
    if text.starts_with('$') {
        return mistake(format!("no shell has replaced the variable in {text}"), as_path);
    }
    let (first, rest) = text.split_once('/').unwrap_or((text, ""));
    if first.is_empty() {
        // `/path` is a path. `//host/path` is an address in other programs.
        return match rest.starts_with('/') && !rest.starts_with("//") {
            true => mistake(
                format!("{text} looks like an address without a scheme"),
                format!("write bkfs:{text}, or for the folder {}", &text[1..]),
            ),
            false => None,
        };
    }
    let lower = first.to_ascii_lowercase();
    let scheme = lower.trim_end_matches(':');
    // After `scheme:/`, `scheme//` or `SCHEME://`.
    let after_scheme = rest.trim_start_matches('/');
    if scheme == "bkfs" && (first.contains(':') || rest.starts_with('/')) {
        return mistake(
            format!("{text} is not quite an address of bkfs"),
            format!("write bkfs://{after_scheme}; {as_path}"),
        );
    }
    if scheme == "file" && first.contains(':') {
        return mistake(format!("{text} is the address of a local file"), format!("write the path: /{after_scheme}"));
    }
    let is_known = |scheme: &str| SCHEMES.contains(&scheme);
    if (is_known(scheme) && rest.starts_with('/'))
        || is_known(lower.split(':').next().unwrap_or_default()) && first.contains(':')
    {
        return mistake(format!("{text} is an address of another program"), format!("{FORMS}; {as_path}"));
    }
    if text.contains("://") && first.ends_with(':') {
        return mistake(format!("{first}// is not a kind of repository that bkfs supports"), FORMS.into());
    }
    if let Some((host, port)) = first.split_once(':') {
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        let is_port = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        let instead = match is_port && !host.is_empty() && !rest.is_empty() {
            true => format!("write bkfs://{host}:{port}/{rest}; {as_path}"),
            false => format!("{FORMS}; {as_path}"),
        };
        return mistake(format!("{text} looks like an address, not like a folder"), instead);
    }
    if first.contains('@') {
        return mistake(format!("{text} looks like an address, not like a folder"), format!("{FORMS}; {as_path}"));
    }
    if text.contains('\\') && !text.contains('/') {
        return mistake(format!("{text} is written like a path of Windows"), as_path);
    }
    None
}
