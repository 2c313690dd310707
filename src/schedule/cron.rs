//! The user's crontab, read and written by crontab(1).

use anyhow::Result;

use super::{
    crontab::Crontab,
    outside::{reason, run},
};
use crate::failure::Failure;

/// The user's crontab.
#[derive(Debug, Clone, Copy)]
pub struct Cron;

impl Cron {
    /// Reads the crontab. Fails if it cannot be read for sure: it is written again as a whole.
    pub fn read(self) -> Result<Crontab> {
        let output = run("crontab", &["-l"], None)?;
        let why = reason(&output);
        // cron says the first, and busybox the second.
        let is_empty = ["no crontab for", "No such file or directory"].iter().any(|words| why.contains(words));
        let is_empty = is_empty && output.stdout.is_empty();
        if !output.status.success() && !is_empty {
            let hint = "nothing was changed; `crontab -l` must show the crontab";
            return Err(Failure::new(format!("`crontab -l` failed: {why}"), hint).into());
        }
        let hint = "nothing was changed; correct it with `crontab -e`";
        let text = String::from_utf8(output.stdout).map_err(|_| Failure::new("the crontab is not UTF-8", hint))?;
        Ok(Crontab::parse(&text).map_err(|why| Failure::new(why, hint))?)
    }

    /// Replaces the crontab.
    pub fn write(self, crontab: &Crontab) -> Result<()> {
        let output = run("crontab", &["-"], Some(&crontab.text()))?;
        match output.status.success() {
            true => Ok(()),
            false => {
                let what = format!("`crontab -` failed: {}", reason(&output));
                Err(Failure::new(
                    what,
                    "see with `crontab -l` whether it has changed; the system's administrator \
                    decides who may have a crontab",
                )
                .into())
            }
        }
    }
}
