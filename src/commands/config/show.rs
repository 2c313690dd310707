//! `bkfs config show`: a profile as it counts, with all that it inherits.

use std::collections::BTreeMap;

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use serde_json::Value;

use crate::{
    completion,
    context::Context,
    output,
    profile::{Profile, Profiles},
};

/// Arguments of `config show`.
#[derive(Debug, Args)]
#[command(
    about = "Show a profile with all that it inherits",
    long_about = "Show a profile as it counts: with all that it inherits, and with ~ replaced. A passphrase is not \
        shown, and neither is what follows the server in the URLs of notifications, because it is secret.",
    after_help = "Example:\n  bkfs config show home"
)]
pub struct ShowArgs {
    /// The profile to show
    #[arg(value_name = "PROFILE", add = completion::profile())]
    profile: String,
}

#[derive(Serialize)]
struct ShowJson {
    name: String,
    file: String,
    line: usize,
    inherited: Vec<String>,
    /// The settings, by the names of the keys.
    settings: Value,
}

/// Runs `bkfs config show`.
pub fn run(context: &Context, args: &ShowArgs) -> Result<()> {
    let profile = Profiles::load(&context.folders).get(&args.profile)?;
    let settings = shown(&profile)?;
    let (file, line) = profile.place().map_or((String::new(), 0), |(file, line)| (file.display().to_string(), line));
    let inherited: Vec<String> = profile.inherited().map(str::to_owned).collect();
    if context.json {
        return output::json_pretty(&ShowJson { name: profile.name, file, line, inherited, settings });
    }
    let from = match inherited.is_empty() {
        true => String::new(),
        false => format!(", with what it inherits from {}", inherited.join(" and ")),
    };
    let whole = BTreeMap::from([("profile", BTreeMap::from([(&profile.name, settings)]))]);
    output::line(format!("# {file}:{line}{from}\n{}", toml::to_string(&whole)?.trim_end()))
}

/// Returns the settings that are set, without secrets.
fn shown(profile: &Profile) -> Result<Value> {
    let mut settings = without_nulls(serde_json::to_value(&profile.settings)?);
    if let Some(password) = settings.get_mut("password") {
        *password = "(hidden)".into();
    }
    for key in ["ping", "webhook"] {
        let url = settings.get_mut("notify").and_then(|notify| notify.get_mut(key));
        if let Some(Value::String(url)) = url {
            *url = hidden(url);
        }
    }
    Ok(settings)
}

/// Returns a URL without what follows the server.
fn hidden(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return "(hidden)".to_owned() };
    let (server, below) = rest.split_once(['/', '?', '#']).unwrap_or((rest, ""));
    let host = server.rsplit_once('@').map_or(server, |(_, host)| host);
    format!("{scheme}://{host}{}", if below.is_empty() { "" } else { "/(hidden)" })
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => map
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key, without_nulls(value)))
            .collect(),
        Value::Array(list) => list.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_of_a_url_is_hidden() {
        assert_eq!(hidden("https://hc-ping.com/0123-4567"), "https://hc-ping.com/(hidden)");
        assert_eq!(hidden("https://me:secret@h:8000/x/y?z"), "https://h:8000/(hidden)");
        assert_eq!(hidden("http://me:secret@h"), "http://h");
    }
}
