//! Profiles: what `-P` supplies, and what `bkfs config` says about mistakes.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use crate::{common::program::Person, expect, make_source, text};

/// A person with a repository, a source, and a profile `home` for them. `more` follows in the file.
pub fn with_profile(more: &str) -> Person {
    let person = Person::with_repo();
    make_source(&person.path("home"));
    write(&person, "home.toml", &format!("{}{more}", home(&person)));
    person
}

/// The profile `home`.
pub fn home(person: &Person) -> String {
    let (repo, source) = (&person.repo, person.path("home"));
    format!("[profile.home]\nrepositories = '{repo}'\nsources = '{}'\ntarget = 'docs'\n", source.display())
}

/// Writes a file of profiles.
pub fn write(person: &Person, name: &str, profile: &str) {
    let path = person.path("config").join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, profile).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// The program with nothing in its environment but where its folders are.
pub fn bare(person: &Person) -> Command {
    let mut command = person.command();
    command.env_remove("BKFS_REPOSITORY").env_remove("BKFS_PASSWORD");
    command.env("BKFS_SYSTEM_CONFIG_DIR", person.path("etc"));
    command
}

fn output(mut command: Command, args: &[&str]) -> Output {
    command.args(args).output().unwrap()
}

fn json(output: &Output) -> serde_json::Value {
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_profile_supplies_what_is_not_typed() {
    let person = with_profile("tags = ['nightly']\nhost = 'alpha'\n[profile.home.exclude]\npatterns = 'hello'\n");
    fs::write(person.path("pass"), "correct horse battery staple\n").unwrap();
    let profile = fs::read_to_string(person.path("config/home.toml")).unwrap();
    let profile = profile.replace("tags", &format!("password-file = '{}'\ntags", person.path("pass").display()));
    write(&person, "home.toml", &profile);
    let pushed = json(&output(bare(&person), &["push", "-P", "home", "--json"]));
    assert_eq!((pushed["target"].as_str(), pushed["files"].as_u64()), (Some("docs"), Some(2)));
    let list = json(&output(bare(&person), &["snapshots", "-P", "home", "--json"]));
    assert_eq!((list[0]["tags"][0].as_str(), list[0]["host"].as_str()), (Some("nightly"), Some("alpha")));
    // By the environment. Options win.
    let mut command = bare(&person);
    command.env("BKFS_PROFILE", "home");
    let pushed = json(&output(command, &["push", "--json", "--target", "other", "--tag", "x", "--host", "beta"]));
    assert_eq!(pushed["target"].as_str(), Some("other"));
    let list = json(&output(bare(&person), &["snapshots", "-P", "home", "--json", "--target", "other"]));
    assert_eq!((list[0]["tags"][0].as_str(), list[0]["host"].as_str()), (Some("x"), Some("beta")));
    // A typed path replaces the sources.
    fs::create_dir(person.path("more")).unwrap();
    fs::write(person.path("more/a"), "a").unwrap();
    let more = person.path("more");
    let pushed = json(&output(bare(&person), &["push", "-P", "home", "--json", more.to_str().unwrap()]));
    assert_eq!(pushed["files"].as_u64(), Some(1));
    // A repository that is typed wins over the profile, and the profile over the environment.
    expect(&output(bare(&person), &["ls", "-P", "home", "-r", "/no/such", "latest"]), 10, &["/no/such"]);
    let mut command = bare(&person);
    command.env("BKFS_REPOSITORY", "/no/such");
    expect(&output(command, &["snapshots", "-P", "home"]), 0, &[]);
}

#[test]
fn a_profile_that_cannot_be_used_stops_the_command() {
    let person = with_profile("sorces = '/'\n");
    let found = output(bare(&person), &["push", "-P", "home"]);
    expect(&found, 1, &["the profile home cannot be used", "home.toml:5:", "is sources meant?", "config check"]);
    expect(&output(bare(&person), &["push", "-P", "hmoe"]), 1, &["no profile \"hmoe\"", "is home meant?"]);
    expect(&output(bare(&person), &["push"]), 1, &["no PATH was given"]);
    // Commands that use no repository do not care.
    let mut command = bare(&person);
    command.env("BKFS_PROFILE", "home");
    expect(&output(command, &["version"]), 0, &[]);
    write(&person, "home.toml", "[profile.home]\nrepositories = '/x'\n");
    expect(&output(bare(&person), &["push", "-P", "home"]), 1, &["the profile home has no sources"]);
}

#[test]
fn config_check_lists_every_mistake_with_its_line() {
    let person = with_profile("");
    fs::write(person.path("config/places.toml"), fs::read(person.path("config/places.toml")).unwrap()).unwrap();
    expect(&output(bare(&person), &["config", "check"]), 0, &[]);
    write(
        &person,
        "bad.toml",
        "[profile.a]\ninherits = 'b'\n[profile.b]\ninherits = 'a'\n[profile.c]\nsources = 'x'\n",
    );
    write(&person, "worse.toml", "[profile.d\n");
    let found = output(bare(&person), &["config", "check"]);
    expect(&found, 1, &["bad.toml:4: inherits: ", "a -> b -> a", "bad.toml:6: sources: ", "worse.toml:1: "]);
    assert!(text(&found.stdout).contains("home is right"), "{}", text(&found.stdout));
    // Only what was asked for, and as JSON.
    let found = person.output(["config", "check", "home", "c", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&found.stdout).unwrap();
    assert_eq!((found.status.code(), report["profiles"][0]["runs"].as_bool()), (Some(1), Some(true)));
    assert!(report["profiles"][1]["problems"][0].as_str().unwrap().contains("relative"));
    expect(&output(bare(&person), &["config", "check", "hmoe"]), 1, &["is home meant?"]);
    // What the disk says is a warning.
    fs::remove_file(person.path("config/worse.toml")).unwrap();
    fs::remove_dir_all(person.path("home")).unwrap();
    expect(&output(bare(&person), &["config", "check", "home"]), 0, &["warning: home: sources: ", "No such file"]);
}

#[test]
fn without_profiles_a_newcomer_learns_how_to_make_one() {
    let person = Person::with_repo();
    expect(&output(bare(&person), &["config", "check"]), 1, &["there is no profile in", "bkfs config sample"]);
    expect(&output(bare(&person), &["push", "-P", "x"]), 1, &["no profile \"x\"", "bkfs config sample"]);
    let sample = output(bare(&person), &["config", "sample"]);
    write(&person, "home.toml", &text(&sample.stdout));
    expect(&output(bare(&person), &["config", "check"]), 0, &[]);
    // Everybody's profiles, too.
    fs::rename(person.path("config/home.toml"), person.path("home.toml")).unwrap();
    fs::create_dir(person.path("etc")).unwrap();
    fs::rename(person.path("home.toml"), person.path("etc/home.toml")).unwrap();
    expect(&output(bare(&person), &["config", "check", "home"]), 0, &[]);
    fs::set_permissions(person.path("etc/home.toml"), fs::Permissions::from_mode(0o666)).unwrap();
    expect(&output(bare(&person), &["config", "check"]), 1, &["everybody can write it", "chmod o-w"]);
}

#[test]
fn config_show_resolves_and_hides() {
    let person = with_profile("");
    let base = "[profile.base]\nabstract = true\npassword = 'hunter2'\ninsecure-inline-password = true\n\
                [profile.base.notify]\nping = 'https://hc.example/my-secret'\n\
                [profile.base.retention]\nkeep-daily = 7\n\
                [profile.all]\ninherits = 'base'\nsources = '~'\n";
    write(&person, "base.toml", base);
    let shown = output(bare(&person), &["config", "show", "all"]);
    expect(&shown, 0, &[]);
    let shown = text(&shown.stdout);
    for words in ["base.toml:9, with what it inherits from base", "[profile.all]", "keep-daily = \"7\"", "(hidden)"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    assert!(!shown.contains("hunter2") && !shown.contains("my-secret") && !shown.contains("\"~\""), "{shown}");
    let report: serde_json::Value = serde_json::from_str(&person.run(["config", "show", "all", "--json"])).unwrap();
    assert_eq!(report["inherited"][0].as_str(), Some("base"));
    assert!(!report.to_string().contains("hunter2"));
    // Only if others cannot read the file.
    fs::set_permissions(person.path("config/base.toml"), fs::Permissions::from_mode(0o640)).unwrap();
    expect(&output(bare(&person), &["config", "show", "all"]), 1, &["base.toml:3: password: ", "chmod 600"]);
}

#[test]
fn the_passphrase_comes_from_where_the_profile_says() {
    let person = with_profile("password-command = 'echo correct horse battery staple'\n");
    // In place of the one in the environment.
    let mut command = bare(&person);
    command.env("BKFS_PASSWORD", "another");
    expect(&output(command, &["snapshots", "-P", "home"]), 0, &[]);
    let profile = fs::read_to_string(person.path("config/home.toml")).unwrap();
    write(&person, "home.toml", &profile.replace("'echo correct horse battery staple'", "'exit 3'"));
    expect(&output(bare(&person), &["snapshots", "-P", "home"]), 12, &["password-command of the profile", "code 3"]);
    let inline = "password = 'correct horse battery staple'\ninsecure-inline-password = true";
    write(&person, "home.toml", &profile.replace("password-command = 'echo correct horse battery staple'", inline));
    expect(&output(bare(&person), &["snapshots", "-P", "home"]), 0, &[]);
}

#[test]
fn a_shell_completes_names_of_profiles() {
    let person = with_profile("[profile.holidays]\n[profile.work]\n");
    let mut command = bare(&person);
    command.env("BKFS_COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", "2").env("_CLAP_IFS", "\n");
    let offered = output(command, &["--", "bkfs", "-P", "ho"]);
    assert_eq!(text(&offered.stdout).lines().collect::<Vec<_>>(), ["holidays", "home"]);
}

#[test]
fn the_schema_knows_every_key_of_the_sample() {
    let person = Person::new();
    let schema: serde_json::Value =
        serde_json::from_slice(&output(bare(&person), &["config", "schema"]).stdout).unwrap();
    let settings = schema["$defs"]["Settings"]["properties"].as_object().unwrap();
    for key in ["abstract", "inherits", "repositories", "password-command", "retention", "notify", "watch"] {
        assert!(settings[key]["description"].is_string(), "{key}: {schema}");
    }
    assert_eq!(schema["$defs"]["Settings"]["additionalProperties"].as_bool(), Some(false));
}

#[test]
fn the_example_of_the_documentation_is_right_and_has_every_key() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/PROFILES.md")).unwrap();
    let example = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let person = Person::new();
    write(&person, "example.toml", example);
    expect(&output(bare(&person), &["config", "check"]), 0, &[]);
    let schema: serde_json::Value =
        serde_json::from_slice(&output(bare(&person), &["config", "schema"]).stdout).unwrap();
    let without = ["password", "insecure-inline-password", "password-file"];
    for (name, table) in schema["$defs"].as_object().unwrap() {
        for key in table["properties"].as_object().into_iter().flat_map(|keys| keys.keys()) {
            let is_set = example
                .lines()
                .any(|line| line.starts_with(&format!("{key} = ")) || line.ends_with(&format!(".{key}]")));
            let is_set = is_set || example.contains(&format!(".{key}]]")) || without.contains(&key.as_str());
            assert!(is_set, "the example lacks {key} of {name}");
            assert!(page.contains(&format!("`{key}`")), "docs/PROFILES.md does not explain {key} of {name}");
        }
    }
}
