//! Mail through sendmail, which every mail server provides.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use data_encoding::BASE64;

use super::{message::Message, process};

/// Where sendmail usually is.
const USUAL: [&str; 3] = ["/usr/sbin/sendmail", "/usr/lib/sendmail", "/usr/bin/sendmail"];
/// The longest line that a mail may have is 998 bytes; longer ones are encoded.
const LINE_MAX: usize = 900;

/// Sends a message to addresses.
pub(super) fn send(sendmail: Option<&Path>, to: &[String], message: &Message, timeout: Duration) -> Result<(), String> {
    let usual = || USUAL.iter().map(PathBuf::from).find(|path| path.exists());
    let Some(program) = sendmail.map(Path::to_owned).or_else(usual) else {
        return Err(format!("there is no sendmail at {}; install one, or set notify.sendmail", USUAL.join(", ")));
    };
    let mut command = Command::new(&program);
    // -t: the addresses are in the mail. -i: a line with one dot does not end it.
    command.args(["-t", "-i"]).env_remove("BKFS_PASSWORD").env_remove("BKFS_NEW_PASSWORD");
    process::feed(command, compose(to, message).as_bytes(), timeout)
        .map_err(|why| format!("{}: {why}", program.display()))
}

fn compose(to: &[String], message: &Message) -> String {
    let is_plain = message.text.is_ascii() && message.text.lines().all(|line| line.len() <= LINE_MAX);
    let (encoding, body) = match is_plain {
        true => ("7bit", message.text.clone()),
        false => ("base64", lines(&BASE64.encode(message.text.as_bytes()))),
    };
    let subject = header(&message.subject);
    format!(
        "To: {}\nSubject: {subject}\nAuto-Submitted: auto-generated\nMIME-Version: 1.0\nContent-Type: text/plain; \
         charset=utf-8\nContent-Transfer-Encoding: {encoding}\n\n{body}",
        to.join(", ")
    )
}

/// Encodes a header as RFC 2047 says, if it is not plain ASCII in one line.
fn header(text: &str) -> String {
    /// An encoded word has 75 characters at most: this many bytes, and what stands around them.
    const WORD_BYTES: usize = 45;
    if text.chars().all(|c| (' '..='~').contains(&c)) && text.len() <= LINE_MAX {
        return text.to_owned();
    }
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let (mut words, mut rest) = (Vec::new(), text.as_str());
    while !rest.is_empty() {
        let (word, left) = rest.split_at(rest.floor_char_boundary(WORD_BYTES));
        words.push(format!("=?UTF-8?B?{}?=", BASE64.encode(word.as_bytes())));
        rest = left;
    }
    words.join("\n ")
}

/// Cuts encoded text into lines.
fn lines(text: &str) -> String {
    let lines: Vec<&str> = text.as_bytes().chunks(76).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_cannot_begin_another() {
        assert_eq!(header("bkfs: backup home failed"), "bkfs: backup home failed");
        assert_eq!(header("a\nBcc: x"), "=?UTF-8?B?YSBCY2M6IHg=?=");
        assert_eq!(header("gr\u{fc}n"), "=?UTF-8?B?Z3LDvG4=?=");
        let long = header(&"\u{fc}".repeat(100));
        assert!(long.lines().count() > 3 && long.lines().all(|line| line.len() <= 76), "{long}");
    }
}
