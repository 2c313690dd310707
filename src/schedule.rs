//! Profiles that run without a person: as timers and services of systemd, or as lines of a crontab.
//!
//! [`times`] says in the words of systemd and of cron when a schedule runs, [`units`] and [`crontab`] are the texts
//! that are written. All of that is pure. [`systemd`] and [`cron`] read and write what the machine has.
//!
//! Only files with the first line that [`units::marker`] returns are ever replaced or removed, and only the lines
//! between two markers of a crontab.

mod cron;
mod crontab;
mod job;
mod outside;
mod systemd;
mod times;
mod units;

pub use cron::Cron;
pub use crontab::{Crontab, Entry};
pub use job::{Job, Kind, Program};
pub use systemd::Systemd;
pub use times::Times;
pub use units::{Scope, Unit, main_unit, units};
