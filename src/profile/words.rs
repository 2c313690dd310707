//! The values that keys of a profile take: sizes, rates, durations, counts, names. They are written as on the command
//! line.
//!
//! A [`Word`] knows how to read itself from text. [`Text`] keeps what was written beside what it means, so that
//! `bkfs config show` prints a profile as its author wrote it.

use std::{borrow::Cow, fmt, marker::PhantomData, time::Duration};

use bkfs_store::owner::retention::{Age, Count, Grouping, TagList};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, IntoDeserializer, SeqAccess, Visitor, value::SeqAccessDeserializer},
};

use super::{
    calendar::Schedule,
    hours::{Days, Hour},
};
use crate::values::{
    AlarmShare, MaxUnused, Subset, parse_duration, parse_host, parse_rate, parse_size, parse_tag, parse_target,
};

/// A value that is read from text.
pub trait Word: Sized {
    /// The name of its type in the schema.
    const NAME: &'static str;
    /// What it looks like, for the schema.
    const LIKE: &'static str;
    /// Whether a bare number means something.
    const IS_NUMBER: bool = false;

    /// Reads it.
    fn read(text: &str) -> Result<Self, String>;
}

/// A word, and how it was written.
#[derive(Clone, PartialEq, Eq)]
pub struct Text<T> {
    value: T,
    text: String,
}

impl<T: Word> Text<T> {
    /// Reads a word.
    pub fn read(text: &str) -> Result<Self, String> {
        Ok(Self { value: T::read(text)?, text: text.to_owned() })
    }

    /// Returns what it means.
    pub fn get(&self) -> &T {
        &self.value
    }
}

impl<T> Text<T> {
    /// Returns how it was written.
    #[cfg(test)]
    fn text(&self) -> &str {
        &self.text
    }
}

impl<T> fmt::Display for Text<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<T> fmt::Debug for Text<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

impl<T> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de, T: Word> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reads<T>(PhantomData<T>);
        impl<T: Word> Visitor<'_> for Reads<T> {
            type Value = Text<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "text like {}", T::LIKE)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Text<T>, E> {
                Text::read(text).map_err(E::custom)
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Text<T>, E> {
                Text::read(&number.to_string()).map_err(E::custom)
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Text<T>, E> {
                Text::read(&number.to_string()).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Reads(PhantomData))
    }
}

impl<T: Word> JsonSchema for Text<T> {
    fn schema_name() -> Cow<'static, str> {
        T::NAME.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let like = format!("Like {}", T::LIKE);
        match T::IS_NUMBER {
            true => json_schema!({ "type": ["string", "integer"], "description": like }),
            false => json_schema!({ "type": "string", "description": like }),
        }
    }
}

/// One value or a list of values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Many<T>(pub Vec<T>);

impl<T: Serialize> Serialize for Many<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Many<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reads<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Reads<T> {
            type Value = Many<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text or a list of texts")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Many<T>, E> {
                Ok(Many(vec![T::deserialize(text.into_deserializer())?]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Many<T>, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Many)
            }
        }
        deserializer.deserialize_any(Reads(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for Many<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}OrList", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [one, { "type": "array", "items": one }] })
    }
}

/// A size in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

impl Word for Size {
    const NAME: &'static str = "Size";
    const LIKE: &'static str = "500M or 2GiB";
    const IS_NUMBER: bool = true;

    fn read(text: &str) -> Result<Self, String> {
        parse_size(text).map(Self)
    }
}

/// A rate in bytes a second, or no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(pub Option<u64>);

impl Word for Rate {
    const NAME: &'static str = "Rate";
    const LIKE: &'static str = "500K or 2M (bytes a second), or off";
    const IS_NUMBER: bool = true;

    fn read(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self(None)),
            text => parse_rate(text).map(|rate| Self(Some(rate))),
        }
    }
}

impl Word for Duration {
    const NAME: &'static str = "Duration";
    const LIKE: &'static str = "90s, 30m, 1h, 2d or 3w";

    fn read(text: &str) -> Result<Self, String> {
        parse_duration(text)
    }
}

/// How often something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Every {
    /// At each run.
    Run,
    /// At the first run after this time.
    After(Duration),
    /// Never.
    Never,
}

impl Every {
    /// Returns whether it is due, if it was last done this long ago. `None`: it was never done.
    pub fn is_due(self, age: Option<Duration>) -> bool {
        /// A timer does not fire to the second, and a weekly task must not wait for another day for that.
        const SLACK: Duration = Duration::from_secs(3600);
        match (self, age) {
            (Every::Run, _) => true,
            (Every::Never, _) => false,
            (Every::After(_), None) => true,
            (Every::After(every), Some(age)) => age + SLACK.min(every / 8) >= every,
        }
    }
}

impl Word for Every {
    const NAME: &'static str = "Every";
    const LIKE: &'static str = "1d or 2w, or run (at each run), or never";

    fn read(text: &str) -> Result<Self, String> {
        match text {
            "run" => Ok(Self::Run),
            "never" => Ok(Self::Never),
            text => parse_duration(text).map(Self::After).map_err(|why| format!("{why}, run, or never")),
        }
    }
}

macro_rules! words {
    ($($type:ty, $name:literal, $like:literal, $number:literal;)*) => {$(
        impl Word for $type {
            const NAME: &'static str = $name;
            const LIKE: &'static str = $like;
            const IS_NUMBER: bool = $number;

            fn read(text: &str) -> Result<Self, String> {
                text.parse().map_err(|error| format!("{error}"))
            }
        }
    )*};
}

words! {
    Count, "Count", "7, or unlimited", true;
    Age, "Age", "2y5m7d3h", false;
    TagList, "TagList", "a,b", false;
    Grouping, "Grouping", "host,target,paths", false;
    Subset, "Subset", "5%, 2G, or 3/7 (the third of seven parts)", false;
    MaxUnused, "MaxUnused", "5%, 2G, or unlimited", false;
    AlarmShare, "AlarmShare", "5%, or off", false;
    Schedule, "Schedule", "hourly, every 4h, daily 03:00, weekly sun 03:00, or monthly 1 03:00", false;
    Hour, "Hour", "08:00", false;
    Days, "Days", "mon-fri or sat,sun", false;
}

macro_rules! labels {
    ($($type:ident, $parse:ident, $doc:literal, $like:literal;)*) => {$(
        #[doc = $doc]
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $type(pub String);

        impl Word for $type {
            const NAME: &'static str = stringify!($type);
            const LIKE: &'static str = $like;

            fn read(text: &str) -> Result<Self, String> {
                $parse(text).map(Self)
            }
        }
    )*};
}

labels! {
    Tag, parse_tag, "A tag of a snapshot.", "nightly";
    Target, parse_target, "The name of a series.", "documents";
    Host, parse_host, "The name of a machine.", "alpha";
}

/// A secret. It is never shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Returns the secret itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn something_is_due_a_little_early_rather_than_a_day_late() {
        let (day, hour) = (Duration::from_secs(86_400), Duration::from_secs(3600));
        let every = Every::After(7 * day);
        assert!(every.is_due(None) && every.is_due(Some(7 * day)) && every.is_due(Some(7 * day - hour)));
        assert!(!every.is_due(Some(6 * day)) && !every.is_due(Some(Duration::ZERO)));
        assert!(!Every::After(hour).is_due(Some(hour / 2)));
        assert!(Every::Run.is_due(Some(Duration::ZERO)) && !Every::Never.is_due(None));
    }

    #[test]
    fn words_keep_how_they_were_written() {
        let size: Text<Size> = serde_json::from_str("\"2GiB\"").unwrap();
        assert_eq!((size.get().0, size.text()), (2 << 30, "2GiB"));
        let count: Text<Count> = serde_json::from_str("7").unwrap();
        assert_eq!(serde_json::to_string(&count).unwrap(), "\"7\"");
        let error = serde_json::from_str::<Text<Rate>>("\"12\"").unwrap_err().to_string();
        assert!(error.contains("at least 1K"), "{error}");
        let many: Many<Text<Tag>> = serde_json::from_str("\"a\"").unwrap();
        assert_eq!(many, serde_json::from_str("[\"a\"]").unwrap());
        assert!(serde_json::from_str::<Many<Text<Tag>>>("[\"a,b\"]").is_err());
        assert!(!format!("{:?}", Secret("hunter2".into())).contains("hunter2"));
    }
}
