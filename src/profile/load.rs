//! Finds the files of profiles: those of everybody in `/etc/bkfs`, and those of this user in the configuration folder.
//! A user's profile replaces one of everybody's with the same name.

use std::{
    collections::BTreeMap,
    env, fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use anyhow::Result;

use super::{
    check::check,
    file::{Definition, Problem, nearest, parse},
    resolve::{Profile, resolve},
};
use crate::{
    config::{Folders, read_optional},
    failure::Failure,
};

/// A file that explains itself.
pub const SAMPLE: &str = include_str!("sample.toml");

/// The folder of everybody's profiles.
const SYSTEM_FOLDER: &str = "/etc/bkfs";
/// The variable that names another folder in its place.
const SYSTEM_VARIABLE: &str = "BKFS_SYSTEM_CONFIG_DIR";
/// Files in these folders that hold something else: what bkfs writes itself, and the settings of a server.
const OTHER_FILES: [&str; 2] = ["places.toml", "server.toml"];
/// The most files that are read in a folder.
const FILES_MAX: usize = 1000;

/// The profiles of this user.
#[derive(Debug, Default)]
pub struct Profiles {
    all: BTreeMap<String, Definition>,
    /// What is wrong with files, outside of profiles.
    problems: Vec<Problem>,
    /// The folders that were searched, everybody's first.
    folders: Vec<PathBuf>,
}

impl Profiles {
    /// Reads the profiles. A file that cannot be used is a problem, and the other files count.
    pub fn load(folders: &Folders) -> Self {
        let system = env::var_os(SYSTEM_VARIABLE).filter(|value| !value.is_empty());
        let system = system.map_or_else(|| PathBuf::from(SYSTEM_FOLDER), PathBuf::from);
        let mut profiles = Self { folders: vec![system, folders.config.clone()], ..Self::default() };
        for folder in profiles.folders.clone() {
            profiles.read_folder(&folder);
        }
        profiles
    }

    fn read_folder(&mut self, folder: &Path) {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) => return self.problem(folder, format!("cannot be read: {error}")),
        };
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let is_file = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.ends_with(".toml") && !name.starts_with('.') && !OTHER_FILES.contains(&name) && !path.is_dir()
        };
        let mut paths: Vec<PathBuf> = paths.filter(is_file).take(FILES_MAX + 1).collect();
        if paths.len() > FILES_MAX {
            return self.problem(folder, format!("there are more than {FILES_MAX} files of profiles"));
        }
        paths.sort();
        let mut here: BTreeMap<String, Definition> = BTreeMap::new();
        for path in paths {
            let (text, is_private) = match read(&path) {
                Ok(read) => read,
                Err(why) => {
                    self.problem(&path, why);
                    continue;
                }
            };
            let (definitions, problems) = parse(&path, &text);
            self.problems.extend(problems);
            for definition in definitions {
                let Some(first) = here.get_mut(&definition.name) else {
                    here.insert(definition.name.clone(), Definition { is_private, ..definition });
                    continue;
                };
                let message = format!(
                    "the profile {:?} is already at {}:{}; give one of them another name",
                    definition.name,
                    first.file.display(),
                    first.line
                );
                first.problems.push(Problem { file: definition.file, line: definition.line, message });
            }
        }
        self.all.extend(here);
    }

    fn problem(&mut self, file: &Path, message: String) {
        self.problems.push(Problem { file: file.to_owned(), line: 0, message });
    }

    /// Returns the names of all profiles.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.all.keys().map(String::as_str)
    }

    /// Returns what is wrong with files, outside of profiles.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Returns where profiles are looked for, for people.
    pub fn places(&self) -> String {
        let places: Vec<String> =
            self.folders.iter().rev().map(|folder| format!("{}/*.toml", folder.display())).collect();
        places.join(" and ")
    }

    /// Returns the profile with this name, with all that it inherits. Fails with everything that is wrong with it.
    pub fn resolve(&self, name: &str) -> Result<Profile, Vec<Problem>> {
        let profile = resolve(&self.all, name, env::home_dir().as_deref().filter(|home| home.is_absolute()))?;
        let problems = check(&profile);
        if problems.is_empty() { Ok(profile) } else { Err(problems) }
    }

    /// Returns the profile with this name, for a command.
    pub fn get(&self, name: &str) -> Result<Profile> {
        if !self.all.contains_key(name) {
            let hint = match nearest(name, self.names()) {
                Some(meant) => format!("is {meant} meant? `bkfs config check` lists the profiles"),
                None if self.all.is_empty() => {
                    format!("there are none in {}; `bkfs config sample` prints one to begin with", self.places())
                }
                None => format!("the profiles are {}", self.names().collect::<Vec<_>>().join(", ")),
            };
            // It may stand in a file that could not be read.
            let lines: Vec<String> = self.problems.iter().map(|problem| format!("\n      {problem}")).collect();
            return Err(
                Failure::new(format!("there is no profile {name:?}"), format!("{hint}{}", lines.concat())).into()
            );
        }
        self.resolve(name).map_err(|problems| failure(name, &problems).into())
    }
}

/// Returns the error for a profile with problems.
fn failure(name: &str, problems: &[Problem]) -> Failure {
    let lines: Vec<String> = problems.iter().map(|problem| format!("\n      {problem}")).collect();
    Failure::new(
        format!("the profile {name} cannot be used:{}", lines.concat()),
        "`bkfs config check` checks all profiles; nothing was done",
    )
}

/// Reads a file, and tells whether only its owner can read it. A profile names commands that this user runs, so nobody
/// else may be able to write it.
fn read(path: &Path) -> Result<(String, bool), String> {
    let meta = fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?;
    if !meta.is_file() {
        return Err("is not a file".into());
    }
    let me = rustix::process::geteuid().as_raw();
    if meta.uid() != me && meta.uid() != 0 {
        return Err(
            "belongs to another user, who could make bkfs run any command; a profile belongs to you or to root".into(),
        );
    }
    if meta.mode() & 0o002 != 0 {
        return Err("everybody can write it, and so make bkfs run any command; run `chmod o-w` on it".into());
    }
    let bytes = read_optional(path).map_err(|error| format!("{error:#}"))?.unwrap_or_default();
    let text = String::from_utf8(bytes).map_err(|_| "is not UTF-8 text".to_owned())?;
    Ok((text, meta.mode() & 0o077 == 0))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn write(folder: &Path, name: &str, text: &str, mode: u32) {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join(name), text).unwrap();
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_users_profile_wins_and_other_files_are_none() {
        let dir = tempfile::tempdir().unwrap();
        let (system, user) = (dir.path().join("etc"), dir.path().join("config"));
        write(&system, "a.toml", "[profile.home]\nsources = '/etc'\n[profile.all]\nsources = '/srv'\n", 0o644);
        write(&user, "b.toml", "[profile.home]\nsources = '/home'\ninherits = 'all'\n", 0o600);
        write(&user, "places.toml", "repositories = 5\n", 0o600);
        write(&user, "notes.txt", "x", 0o600);
        fs::create_dir(user.join("c.toml")).unwrap();
        let mut profiles = Profiles { folders: vec![system.clone(), user.clone()], ..Profiles::default() };
        profiles.read_folder(&system);
        profiles.read_folder(&user);
        assert_eq!((profiles.names().collect::<Vec<_>>(), profiles.problems()), (vec!["all", "home"], &[][..]));
        let home = profiles.get("home").unwrap();
        assert_eq!(home.settings.sources.as_ref().unwrap().0, [PathBuf::from("/home")]);
        assert!(home.definition_of("sources").unwrap().is_private);
        let error = profiles.get("hmoe").unwrap_err();
        assert!(error.downcast_ref::<Failure>().unwrap().hint.contains("is home meant?"), "{error:?}");
        // Twice in one folder.
        write(&user, "d.toml", "\n[profile.home]\n", 0o600);
        profiles.read_folder(&user);
        assert!(
            format!("{:#}", profiles.get("home").unwrap_err()).contains("d.toml:2: the profile \"home\" is already")
        );
    }

    #[test]
    fn a_file_that_others_can_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "a.toml", "[profile.home]\n", 0o666);
        write(dir.path(), "b.toml", "[profile.b]\n", 0o664);
        write(dir.path(), "c.toml", "\u{fffd}", 0o600);
        fs::write(dir.path().join("c.toml"), b"\xff").unwrap();
        let mut profiles = Profiles::default();
        profiles.read_folder(dir.path());
        let problems: Vec<String> = profiles.problems().iter().map(ToString::to_string).collect();
        assert!(problems[0].contains("everybody can write it") && problems[1].contains("not UTF-8"), "{problems:?}");
        assert_eq!((problems.len(), profiles.names().collect::<Vec<_>>()), (2, vec!["b"]));
    }

    #[test]
    fn the_sample_is_right() {
        let (definitions, problems) = parse(Path::new("/sample.toml"), SAMPLE);
        assert_eq!(problems, []);
        let all: BTreeMap<String, Definition> =
            definitions.into_iter().map(|definition| (definition.name.clone(), definition)).collect();
        for name in all.keys() {
            let profile = resolve(&all, name, Some(Path::new("/home/x"))).unwrap();
            assert_eq!(check(&profile), [], "{name}");
        }
    }
}
