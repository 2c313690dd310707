//! Profiles: what to back up, to where and when, in TOML files.
//!
//! ```text
//! files -> (file) definitions, each with its lines -> (resolve) a profile with what it inherits -> (check) problems
//! ```
//!
//! [`file`] reads one file, and names each key that it does not know with its line and the nearest known key.
//! [`resolve`] follows `inherits`. [`check`] finds what is wrong with a whole profile. All of that is pure; only
//! [`load`] looks at the disk. The keys are in [`settings`], their values in [`words`].

mod calendar;
mod check;
mod file;
mod hours;
mod load;
mod rates;
mod resolve;
mod settings;
mod words;

pub use calendar::Schedule;
pub use file::check_name;
pub use hours::Moment;
pub use load::{Profiles, SAMPLE};
pub use rates::Rates;
pub use resolve::Profile;
pub use settings::{CommandFile, Notify, Retention, Settings};
pub use words::{Every, Many, Secret, Text};

#[cfg(test)]
impl Profile {
    /// Returns the profile `a` of a file.
    pub fn from_text(text: &str) -> Self {
        let (definitions, problems) = file::parse(std::path::Path::new("/p.toml"), text);
        assert_eq!(problems, []);
        let all = definitions.into_iter().map(|definition| (definition.name.clone(), definition)).collect();
        resolve::resolve(&all, "a", None).unwrap()
    }
}

/// Returns the JSON Schema of a profile file, for editors.
pub fn schema() -> serde_json::Value {
    file::schema()
}
