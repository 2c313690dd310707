//! What is wrong with a whole profile: what no single key shows.

use std::{collections::BTreeSet, path::Path, time::Duration};

use super::{file::Problem, resolve::Profile};
use crate::{failure::Failure, place::Place, values::check_stream_name};

/// Returns what is wrong with a profile. Nothing outside of it is looked at.
pub(super) fn check(profile: &Profile) -> Vec<Problem> {
    let mut found = Vec::new();
    paths(profile, &mut found);
    keys(profile, &mut found);
    values(profile, &mut found);
    found
}

/// Paths must mean the same wherever the program is started.
fn paths(profile: &Profile, found: &mut Vec<Problem>) {
    let settings = &profile.settings;
    let relative = |key: &str, path: &Path| {
        let message = || format!("{path:?} is relative; write a path that begins with / or ~/");
        (!path.is_absolute()).then(|| profile.problem(key, message()))
    };
    // Below a folder of the profile, they may be.
    let sources = settings.sources.iter().flat_map(|sources| &sources.0).filter(|_| settings.directory.is_none());
    found.extend(sources.filter_map(|path| relative("sources", path)));
    let exclude = settings.exclude.as_ref().and_then(|exclude| exclude.files.as_ref());
    found.extend(exclude.iter().flat_map(|files| &files.0).filter_map(|path| relative("exclude.files", path)));
    let sendmail = settings.notify.as_ref().and_then(|notify| notify.sendmail.as_ref());
    for (key, path) in [
        ("directory", settings.directory.as_ref()),
        ("key-file", settings.key_file.as_ref()),
        ("password-file", settings.password_file.as_ref()),
        ("notify.sendmail", sendmail),
    ] {
        found.extend(path.and_then(|path| relative(key, path)));
    }
    for repository in settings.repositories.iter().flat_map(|repositories| &repositories.0) {
        match Place::parse(Some(repository)) {
            Ok(Place::Path(_)) => found.extend(relative("repositories", Path::new(repository))),
            Ok(Place::Url(_)) => {}
            Err(error) => {
                let hint = error.downcast_ref::<Failure>().map_or_else(String::new, |why| format!("; {}", why.hint));
                found.push(profile.problem("repositories", format!("{error}{hint}")));
            }
        }
    }
    for (key, is_empty) in [
        ("sources", settings.sources.as_ref().is_some_and(|sources| sources.0.is_empty())),
        ("repositories", settings.repositories.as_ref().is_some_and(|repositories| repositories.0.is_empty())),
    ] {
        if is_empty {
            found.push(profile.problem(key, "the list is empty; without the key, the inherited one counts"));
        }
    }
}

/// One source of the passphrase, and a passphrase in the file only on demand.
fn keys(profile: &Profile, found: &mut Vec<Problem>) {
    let settings = &profile.settings;
    let given: Vec<&str> = [
        ("password-file", settings.password_file.is_some()),
        ("password-command", settings.password_command.is_some()),
        ("password", settings.password.is_some()),
    ]
    .into_iter()
    .filter_map(|(key, is_given)| is_given.then_some(key))
    .collect();
    if let [first, .., last] = given[..] {
        found.push(profile.problem(last, format!("{first} is given, too; keep one of them")));
    }
    if settings.password.is_none() {
        return;
    }
    if settings.insecure_inline_password != Some(true) {
        let message = "a passphrase in a file is in every copy of the file; use password-file or password-command, or \
                       insist with insecure-inline-password = true";
        found.push(profile.problem("password", message));
    } else if profile.definition_of("password").is_some_and(|definition| !definition.is_private) {
        let message = "others can read the file; run `chmod 600` on it, or use password-file or password-command";
        found.push(profile.problem("password", message));
    }
}

fn values(profile: &Profile, found: &mut Vec<Problem>) {
    let settings = &profile.settings;
    if settings.compression.is_some_and(|level| !(1..=19).contains(&level)) {
        found.push(profile.problem("compression", "give a level from 1 (fast) to 19 (small)"));
    }
    if settings.retention.as_ref().is_some_and(|retention| retention.policy().is_empty()) {
        let message = "it keeps nothing, so it would forget every snapshot; give keep-daily or another rule";
        found.push(profile.problem("retention", message));
    }
    if let Some(watch) = &settings.watch {
        let get = |value: &Option<super::words::Text<Duration>>| value.as_ref().map(|value| *value.get());
        if let (Some(settle), Some(at_most)) = (get(&watch.settle), get(&watch.at_most))
            && settle > at_most
        {
            found.push(profile.problem("watch.settle", "it is longer than at-most, which would always come first"));
        }
    }
    if let Some(hooks) = &settings.hooks {
        for (key, commands) in [
            ("hooks.before", &hooks.before),
            ("hooks.after", &hooks.after),
            ("hooks.failed", &hooks.failed),
            ("hooks.finally", &hooks.finally),
        ] {
            if commands.iter().flat_map(|commands| &commands.0).any(|command| command.trim().is_empty()) {
                found.push(profile.problem(key, "a command is empty"));
            }
        }
    }
    let mut names = BTreeSet::new();
    for command in profile.commands() {
        if let Err(why) = check_stream_name(&command.name) {
            found.push(profile.problem("command.name", why));
        } else if !names.insert(&command.name) {
            found.push(profile.problem("command.name", format!("two commands have the name {:?}", command.name)));
        }
        if command.run.trim().is_empty() {
            found.push(profile.problem("command.run", "the command is empty"));
        }
    }
    let Some(notify) = &settings.notify else { return };
    for (key, url) in [("notify.ping", &notify.ping), ("notify.webhook", &notify.webhook)] {
        if let Some(url) = url
            && let Err(why) = check_url(url)
        {
            found.push(profile.problem(key, why));
        }
    }
    for address in notify.mail.iter().flat_map(|mail| &mail.0) {
        let is_plain = |c: char| !c.is_control() && !c.is_whitespace() && !"<>,;()\"".contains(c);
        if address.is_empty() || address.starts_with('-') || !address.chars().all(is_plain) {
            let message = format!("{address:?} is not an address; give one like me@example.org");
            found.push(profile.problem("notify.mail", message));
        }
    }
    let zero = |value: &Option<super::words::Text<Duration>>| value.as_ref().is_some_and(|value| value.get().is_zero());
    for (key, is_zero) in
        [("notify.timeout", zero(&notify.timeout)), ("notify.overdue-after", zero(&notify.overdue_after))]
    {
        if is_zero {
            found.push(profile.problem(key, "give more than 0"));
        }
    }
}

/// Fails if a text is not the URL of a web server.
fn check_url(url: &str) -> Result<(), String> {
    let bad = |why: &str| Err(format!("{url:?} {why}; give one like https://hc-ping.com/ID"));
    let Some(rest) = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")) else {
        return bad("does not begin with https:// or http://");
    };
    if rest.split(['/', '?', '#']).next().is_none_or(str::is_empty) {
        return bad("names no server");
    }
    match url.chars().any(|c| c.is_whitespace() || c.is_control()) {
        true => bad("has a space in it"),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{file::parse, resolve::resolve};

    #[track_caller]
    fn problems(body: &str, is_private: bool) -> Vec<String> {
        let (mut definitions, problems) = parse(Path::new("/p.toml"), &format!("[profile.a]\n{body}"));
        assert_eq!(problems, []);
        definitions[0].is_private = is_private;
        let all = definitions.into_iter().map(|definition| (definition.name.clone(), definition)).collect();
        let profile = resolve(&all, "a", Some(Path::new("/home/x"))).unwrap();
        check(&profile).into_iter().map(|problem| problem.to_string()).collect()
    }

    #[test]
    fn what_cannot_work_is_found() {
        for (body, words) in [
            ("sources = 'docs'", "/p.toml:2: sources: \"docs\" is relative"),
            ("repositories = 'repo'", ":2: repositories: \"repo\" is relative"),
            ("repositories = 'sftp://h/x'", ":2: repositories: "),
            ("repositories = []", "the list is empty"),
            ("key-file = 'k'\npassword-file = '/p'", ":2: key-file: "),
            ("[profile.a.exclude]\nfiles = 'x'", ":3: exclude.files: "),
            ("password-file = '/p'\npassword-command = 'x'", ":3: password-command: password-file is given, too"),
            ("compression = 20", "from 1"),
            ("[profile.a.retention]\ngroup-by = 'host'", "it keeps nothing"),
            ("[profile.a.retention]\nkeep-daily = 0", "it keeps nothing"),
            ("[profile.a.watch]\nsettle = '1m'\nat-most = '30s'", ":3: watch.settle: "),
            ("[profile.a.hooks]\nbefore = ['true', ' ']", "a command is empty"),
            ("[[profile.a.command]]\nname = '../x'\nrun = 'true'", ":3: command.name: \"../x\" has .. in it"),
            ("[[profile.a.command]]\nname = 'x'\nrun = ' '", ":4: command.run: the command is empty"),
            ("command = [{ name = 'x', run = 'a' }, { name = 'x', run = 'b' }]", "two commands have the name \"x\""),
            ("[profile.a.notify]\nping = 'hc-ping.com/x'", "does not begin with https://"),
            ("[profile.a.notify]\nwebhook = 'https:///x'", "names no server"),
            ("[profile.a.notify]\nmail = ['a@b', 'x y']", ":3: notify.mail: \"x y\""),
            ("[profile.a.notify]\nmail = '-oQ/tmp'", "is not an address"),
            ("[profile.a.notify]\ntimeout = '0s'", "more than 0"),
        ] {
            let found = problems(body, false);
            assert!(matches!(&found[..], [one] if one.contains(words)), "{body}: {found:?}");
        }
        let good = "sources = ['~', '/etc']\nrepositories = ['~/repo', 'bkfs://h:1/a']\npassword-command = 'pass x'\n";
        assert_eq!(problems(good, false), [""; 0]);
        assert_eq!(problems("directory = '/srv'\nsources = '.'", false), [""; 0]);
    }

    #[test]
    fn a_passphrase_in_the_file_needs_a_private_file_and_insistence() {
        let insists = "password = 'x'\ninsecure-inline-password = true\n";
        assert!(problems("password = 'x'", true)[0].contains("insist with insecure-inline-password"));
        assert!(problems(insists, false)[0].contains("chmod 600"));
        assert_eq!(problems(insists, true), [""; 0]);
    }
}
