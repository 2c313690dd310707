//! Follows `inherits`: a profile takes each key that it does not set from the one that it inherits.
//!
//! Tables are merged key by key. A list replaces the inherited list: what a profile says it backs up can be read in one
//! place.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{
    file::{Definition, Problem, nearest},
    settings::{CommandFile, Settings},
};

/// A profile with all that it inherits.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// Its settings. Paths that begin with `~/` are below the home folder.
    pub settings: Settings,
    /// The profiles that it is made of, itself first.
    chain: Vec<Definition>,
}

impl Profile {
    /// Returns the sources; none if the profile only names repositories.
    pub fn sources(&self) -> &[PathBuf] {
        self.settings.sources.as_ref().map_or(&[], |sources| &sources.0)
    }

    /// Returns the commands whose output becomes a file of the snapshot.
    pub fn commands(&self) -> impl Iterator<Item = &CommandFile> {
        self.settings.command.iter().flatten()
    }

    /// Returns whether there is anything to push.
    pub fn has_sources(&self) -> bool {
        !self.sources().is_empty() || self.commands().next().is_some()
    }

    /// Returns the repositories.
    pub fn repositories(&self) -> &[String] {
        self.settings.repositories.as_ref().map_or(&[], |repositories| &repositories.0)
    }

    /// Returns whether `bkfs run` runs it without being told its name.
    pub fn is_runnable(&self) -> bool {
        self.settings.is_abstract != Some(true) && self.has_sources() && !self.repositories().is_empty()
    }

    /// Returns the problem of a key, at the line of the profile that sets it.
    pub(super) fn problem(&self, key: &str, message: impl Into<String>) -> Problem {
        let message = format!("{key}: {}", message.into());
        let place = self.definition_of(key).map(|found| (found, found.lines.get(key).copied().unwrap_or(found.line)));
        match place.or(self.chain.first().map(|first| (first, first.line))) {
            Some((definition, line)) => Problem { file: definition.file.clone(), line, message },
            None => Problem { file: PathBuf::new(), line: 0, message },
        }
    }

    /// Returns the profile of the chain that sets a key.
    pub(super) fn definition_of(&self, key: &str) -> Option<&Definition> {
        self.chain.iter().find(|definition| definition.lines.contains_key(key))
    }

    /// Returns the file and the line of its own definition.
    pub fn place(&self) -> Option<(&Path, usize)> {
        self.chain.first().map(|first| (first.file.as_path(), first.line))
    }

    /// Returns the names of the profiles that it inherits, the nearest first.
    pub fn inherited(&self) -> impl Iterator<Item = &str> {
        self.chain.iter().skip(1).map(|definition| definition.name.as_str())
    }
}

/// Returns the profile with this name. Fails with all problems of the profiles that it is made of.
pub(super) fn resolve(
    all: &BTreeMap<String, Definition>,
    name: &str,
    home: Option<&Path>,
) -> Result<Profile, Vec<Problem>> {
    let mut chain: Vec<Definition> = Vec::new();
    let mut next = Some(name.to_owned());
    while let Some(name) = next {
        let at = |message| {
            let line = |last: &Definition| last.lines.get("inherits").copied().unwrap_or(last.line);
            chain.last().map(|last| Problem { file: last.file.clone(), line: line(last), message })
        };
        if chain.iter().any(|seen| seen.name == name) {
            let names: Vec<&str> = chain.iter().map(|seen| seen.name.as_str()).chain([name.as_str()]).collect();
            return Err(at(format!("inherits: a profile inherits itself: {}", names.join(" -> ")))
                .into_iter()
                .collect());
        }
        let Some(definition) = all.get(&name) else {
            let meant = nearest(&name, all.keys().map(String::as_str));
            let hint = meant.map_or_else(String::new, |meant| format!(": is {meant} meant?"));
            return Err(at(format!("inherits: there is no profile {name:?}{hint}")).into_iter().collect());
        };
        next = definition.settings.inherits.clone();
        chain.push(definition.clone());
    }
    let problems: Vec<Problem> = chain.iter().flat_map(|definition| definition.problems.clone()).collect();
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut settings = merged(&chain).map_err(|error| {
        let (file, line) = chain.first().map_or((PathBuf::new(), 0), |first| (first.file.clone(), first.line));
        vec![Problem { file, line, message: format!("cannot be merged with what it inherits: {error}") }]
    })?;
    let own = chain.first().map(|first| &first.settings);
    // What a profile is for is its own.
    (settings.is_abstract, settings.inherits) = own.map_or((None, None), |own| (own.is_abstract, own.inherits.clone()));
    if let Some(home) = home {
        expand(&mut settings, home);
    }
    Ok(Profile { name: name.to_owned(), settings, chain })
}

/// Merges the settings of a chain. Each value was read from text, and its text is what is merged.
fn merged(chain: &[Definition]) -> serde_json::Result<Settings> {
    let mut merged = Value::Object(serde_json::Map::new());
    for definition in chain.iter().rev() {
        merge(&mut merged, serde_json::to_value(&definition.settings)?);
    }
    serde_json::from_value(merged)
}

/// Writes what is set in `over` over `under`. Lists are values.
fn merge(under: &mut Value, over: Value) {
    match (under, over) {
        (_, Value::Null) => {}
        (Value::Object(under), Value::Object(over)) => {
            for (key, value) in over {
                merge(under.entry(key).or_insert(Value::Null), value);
            }
        }
        (under, over) => *under = over,
    }
}

/// Replaces `~` at the beginning of each path.
fn expand(settings: &mut Settings, home: &Path) {
    let path = |path: &mut PathBuf| {
        if let Ok(below) = path.strip_prefix("~") {
            *path = if below.as_os_str().is_empty() { home.to_owned() } else { home.join(below) };
        }
    };
    let exclude = settings.exclude.as_mut();
    settings.sources.iter_mut().flat_map(|sources| &mut sources.0).for_each(path);
    exclude.and_then(|exclude| exclude.files.as_mut()).into_iter().flat_map(|files| &mut files.0).for_each(path);
    let sendmail = settings.notify.as_mut().and_then(|notify| notify.sendmail.as_mut());
    let files = [settings.directory.as_mut(), settings.key_file.as_mut(), settings.password_file.as_mut(), sendmail];
    files.into_iter().flatten().for_each(path);
    for repository in settings.repositories.iter_mut().flat_map(|repositories| &mut repositories.0) {
        let mut folder = PathBuf::from(&*repository);
        path(&mut folder);
        if repository.starts_with('~')
            && let Some(folder) = folder.to_str()
        {
            *repository = folder.to_owned();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::file::parse;

    fn resolved(text: &str, name: &str) -> Result<Profile, Vec<Problem>> {
        let (definitions, problems) = parse(Path::new("/p.toml"), text);
        assert_eq!(problems, []);
        let all = definitions.into_iter().map(|definition| (definition.name.clone(), definition)).collect();
        resolve(&all, name, Some(Path::new("/home/x")))
    }

    const THREE: &str = "\
        [profile.base]\nabstract = true\nrepositories = '~/repo'\ncompression = 9\n\
        [profile.base.exclude]\ncaches = true\npatterns = ['*.o', '*.tmp']\n\
        [profile.base.retention]\nkeep-daily = 7\nkeep-weekly = 5\n\
        [profile.middle]\ninherits = 'base'\nschedule = 'daily'\nkey-file = '~/key'\n\
        [profile.top]\ninherits = 'middle'\nsources = ['~', '~/a', '/etc', '~b']\n\
        [profile.top.exclude]\npatterns = '*.bak'\n\
        [profile.top.retention]\nkeep-daily = 14\n";

    #[test]
    fn a_profile_takes_what_it_does_not_set() {
        let top = resolved(THREE, "top").unwrap();
        let own: Settings = toml::from_str(
            "inherits = 'middle'\nrepositories = ['/home/x/repo']\ncompression = 9\nschedule = 'daily'\n\
             sources = ['/home/x', '/home/x/a', '/etc', '~b']\nkey-file = '/home/x/key'\n\
             [exclude]\ncaches = true\npatterns = ['*.bak']\n\
             [retention]\nkeep-daily = 14\nkeep-weekly = 5\n",
        )
        .unwrap();
        assert_eq!(top.settings, own);
        assert_eq!(top.inherited().collect::<Vec<_>>(), ["middle", "base"]);
        // A problem is shown where the key is set.
        assert_eq!(top.problem("exclude.caches", "x").line, 6);
        assert_eq!(top.problem("exclude.patterns", "x").line, 19);
        assert_eq!(top.problem("tags", "x").line, 15);
    }

    #[test]
    fn cycles_and_missing_profiles_are_errors() {
        let error = |text, name| resolved(text, name).unwrap_err().remove(0);
        let cycle = error("[profile.a]\ninherits = 'b'\n[profile.b]\ninherits = 'a'\n", "a");
        assert_eq!((cycle.line, cycle.message.contains("a -> b -> a")), (4, true), "{cycle}");
        let own = error("[profile.a]\ninherits = 'a'\n", "a");
        assert!(own.message.contains("a -> a"), "{own}");
        let typo = error("[profile.home]\n[profile.a]\ninherits = 'hmoe'\n", "a");
        assert_eq!((typo.line, typo.message.contains("is home meant?")), (3, true), "{typo}");
        assert_eq!(error("[profile.home]\nx = 1\n[profile.a]\ninherits = 'home'\n", "a").line, 2);
    }
}
