//! `mount.bkfs`: the name under which mount(8) calls the program, for `mount -t bkfs` and for lines in /etc/fstab.
//!
//! ```text
//! mount.bkfs REPO MOUNTPOINT [-sfnvrw] [-t TYPE] [-N NAMESPACE] [-o OPTION,...]
//! bkfs://nas.lan:7443/alice  /mnt/backup  bkfs  nofail,_netdev,key-file=/root/alice.key,allow_other  0  0
//! ```
//!
//! It mounts in the background, as mount(8) expects. It accepts options that mount(8) handles itself, and options that
//! describe what a read-only mount does anyway. Unknown options are errors: a mistyped `snapshot=` would otherwise show
//! something else.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use anyhow::Result;
use bkfs_store::base::label;

use crate::{
    args::{GlobalArgs, RepoArgs, parse_host, parse_target},
    commands::mount::MountArgs,
    failure::Failure,
};

const NAME: &str = "mount.bkfs";
const USAGE: &str = "usage: mount.bkfs REPO MOUNTPOINT [-o OPTION,...]";

/// Options that are accepted and have no effect here.
const IGNORED: [&str; 22] = [
    "ro",
    "rw",
    "auto",
    "noauto",
    "user",
    "nouser",
    "users",
    "group",
    "owner",
    "defaults",
    "_netdev",
    "exec",
    "nosuid",
    "nodev",
    "atime",
    "noatime",
    "relatime",
    "norelatime",
    "nodiratime",
    "sync",
    "async",
    "default_permissions",
];

/// Returns whether the program was called by the helper's name.
pub fn is_called(args: &[OsString]) -> bool {
    args.first().and_then(|arg| Path::new(arg).file_name()).is_some_and(|name| name == NAME)
}

/// Parses the helper's arguments.
pub fn parse(args: Vec<OsString>) -> Result<(GlobalArgs, MountArgs)> {
    let mut operands: Vec<OsString> = Vec::new();
    let mut global = GlobalArgs::default();
    let mut mount = MountArgs { background: true, ..MountArgs::default() };
    let mut args = args.into_iter().skip(1);
    while let Some(arg) = args.next() {
        let bytes = arg.as_bytes();
        if !bytes.starts_with(b"-") || bytes == b"-" {
            operands.push(arg);
            continue;
        }
        let mut flags = bytes[1..].iter();
        while let Some(flag) = flags.next() {
            match flag {
                // -s sloppy, -n no mtab, -r read-only, -w read-write, -f fake, -v verbose.
                b's' | b'n' | b'r' | b'w' => {}
                b'f' => mount.fake = true,
                b'v' => global.verbose = global.verbose.saturating_add(1),
                b'o' | b't' | b'N' => {
                    let rest = flags.as_slice();
                    let value = match rest.is_empty() {
                        true => args.next().ok_or_else(|| usage("an option has no value"))?,
                        false => OsString::from_vec(rest.to_vec()),
                    };
                    if *flag == b'o' {
                        options(&value, &mut global, &mut mount)?;
                    }
                    break;
                }
                b'h' => return Err(usage("")),
                flag => return Err(usage(&format!("unknown flag -{}", flag.escape_ascii()))),
            }
        }
    }
    let [repository, mountpoint] =
        <[OsString; 2]>::try_from(operands).map_err(|_| usage("give a repository and a mountpoint"))?;
    let repository = repository.into_string().map_err(|_| usage("the repository's name is not UTF-8"))?;
    mount.repo = RepoArgs { repository: Some(repository) };
    mount.mountpoint = PathBuf::from(mountpoint);
    Ok((global, mount))
}

fn options(list: &OsStr, global: &mut GlobalArgs, mount: &mut MountArgs) -> Result<()> {
    for option in split(list.as_bytes()).into_iter().filter(|option| !option.is_empty()) {
        let (name, value) = match option.iter().position(|b| *b == b'=') {
            Some(at) => (&option[..at], Some(OsStr::from_bytes(&option[at + 1..]))),
            None => (&option[..], None),
        };
        // Options in fstab are written both ways.
        let name = String::from_utf8_lossy(name).replace('_', "-");
        let text = || -> Result<String> {
            match value.and_then(OsStr::to_str) {
                Some(text) if !text.is_empty() => Ok(text.to_owned()),
                _ => Err(usage(&format!("the option {name} needs a value: {name}=..."))),
            }
        };
        match name.as_str() {
            "snapshot" => {
                let selector = crate::selector::Selector::parse(OsStr::new(&text()?)).map_err(|e| usage(&e))?;
                mount.snapshot = Some(selector);
            }
            "nofail" => mount.nofail = true,
            "allow-other" => mount.allow_other = true,
            "dev" => mount.dev = true,
            "suid" => mount.suid = true,
            "noexec" => mount.noexec = true,
            "key-file" => global.key_file = Some(text()?.into()),
            "password-file" => global.password_file = Some(text()?.into()),
            "config-dir" => global.config_dir = Some(text()?.into()),
            "cache-dir" => global.cache_dir = Some(text()?.into()),
            "client" => mount.filters.client = Some(text()?),
            "host" => mount.filters.host = Some(parse_host(&text()?).map_err(|e| usage(&e))?),
            "target" => mount.filters.target = Some(parse_target(&text()?).map_err(|e| usage(&e))?),
            "tag" => mount.filters.tag.extend(label::tags(&text()?).map_err(|e| usage(&e.to_string()))?),
            "path" => mount.filters.path.push(text()?.into()),
            other if other.starts_with("x-") || other.starts_with("comment") => {}
            _ if IGNORED.iter().any(|known| known.replace('_', "-") == name) => {}
            _ => return Err(usage(&format!("unknown option {name}"))),
        }
    }
    Ok(())
}

/// Splits a list of options at its commas. As for mount(8), a comma in double quotes is part of a value; the default
/// name of a target with several paths has one. The quotes are dropped.
fn split(list: &[u8]) -> Vec<Vec<u8>> {
    let (mut options, mut is_quoted) = (vec![Vec::new()], false);
    for byte in list {
        match (byte, options.last_mut()) {
            (b'"', _) => is_quoted = !is_quoted,
            (b',', _) if !is_quoted => options.push(Vec::new()),
            (byte, Some(option)) => option.push(*byte),
            (_, None) => {}
        }
    }
    options
}

fn usage(problem: &str) -> anyhow::Error {
    let hint = "options: snapshot=S, allow_other, key-file=F, password-file=F, config-dir=D, cache-dir=D, client=C, \
        host=H, target=T, tag=T, path=P; a value with a comma is written in double quotes";
    let message = if problem.is_empty() { USAGE.to_owned() } else { format!("{NAME}: {problem}; {USAGE}") };
    Failure::new(message, hint).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<(GlobalArgs, MountArgs)> {
        let args = ["/sbin/mount.bkfs"].iter().chain(args).map(OsString::from).collect::<Vec<_>>();
        assert!(is_called(&args));
        parse(args)
    }

    #[test]
    fn arguments_from_mount_are_parsed() {
        let (global, mount) = parsed(&[
            "bkfs://h:1/a",
            "/mnt",
            "-o",
            "rw,noauto,snapshot=latest,allow_other,key_file=/k,x-systemd.automount",
        ])
        .unwrap();
        assert_eq!(mount.repo.repository.as_deref(), Some("bkfs://h:1/a"));
        assert_eq!(mount.mountpoint, Path::new("/mnt"));
        assert!(mount.allow_other && mount.background && mount.snapshot.is_some());
        assert_eq!(global.key_file.as_deref(), Some(Path::new("/k")));
        let (_, mount) =
            parsed(&["/repo", "/mnt", "-o", r#"nofail,target="h:/a,/b",tag=x,"tag=y,z",path=/a"#]).unwrap();
        assert_eq!((mount.nofail, mount.filters.target.as_deref()), (true, Some("h:/a,/b")));
        assert_eq!(
            (mount.filters.tag, mount.filters.path),
            (vec!["x".to_owned(), "y".into(), "z".into()], vec!["/a".into()])
        );
        let (global, mount) = parsed(&["-sv", "/repo", "-ohost=a", "/mnt", "-t", "bkfs"]).unwrap();
        assert_eq!((global.verbose, mount.filters.host.as_deref()), (1, Some("a")));
    }

    #[test]
    fn unknown_arguments_are_refused() {
        for bad in [
            &["/repo"][..],
            &["/a", "/b", "/c"],
            &["/a", "/b", "-o", "snapshto=x"],
            &["/a", "/b", "-o"],
            &["/a", "/b", "-o", "snapshot"],
            &["/a", "/b", "-Z"],
        ] {
            assert!(parsed(bad).is_err(), "{bad:?}");
        }
    }
}
