//! When a schedule runs, in the words of systemd (`OnCalendar=`) and of cron.
//!
//! An interval becomes times of the calendar, because systemd catches up only what a calendar says: a monotonic timer
//! stands still while the machine sleeps. Days and hours are divided from their beginning (`every 5h`: 0, 5, 10, 15, 20
//! o'clock, and 0 again), so a run may come earlier than the interval says, and never later. Minutes are whole.

use std::time::Duration;

use crate::profile::Schedule;

/// How much later than at a named time of day systemd may start a run: not every machine at the same second.
const NAMED_DELAY: Duration = Duration::from_secs(300);
/// The same, at most, for a schedule that names no time of day.
const DELAY_MAX: Duration = Duration::from_secs(3600);
/// The hour at which cron runs what names none. Cron catches up nothing, and most machines are awake at noon.
const NOON: u32 = 12;

/// The days on which something runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Day {
    Each,
    /// The first of a month, and each nth day after it.
    EachNth(u32),
    /// A day of the week. 0 is Monday.
    Week(u8),
    /// A day of the month.
    Month(u8),
}

/// The hours of a day, or the minutes of an hour.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Any,
    /// 0, and each nth after it.
    EachNth(u32),
    At(Vec<u32>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Time {
    day: Day,
    hours: Part,
    minutes: Part,
}

/// When a schedule runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Times {
    times: Vec<Time>,
    /// Whether the schedule names a time of day.
    is_named: bool,
    interval: Duration,
}

impl Times {
    /// Returns the times of a schedule.
    pub fn of(schedule: Schedule) -> Self {
        let (day, hour) = match schedule {
            Schedule::Every(every) => {
                return Self { times: every_minutes(every.as_secs() / 60), is_named: false, interval: every };
            }
            Schedule::Hourly => {
                let time = Time { day: Day::Each, hours: Part::Any, minutes: Part::At(vec![0]) };
                return Self { times: vec![time], is_named: false, interval: schedule.interval() };
            }
            Schedule::Daily(hour) => (Day::Each, hour),
            Schedule::Weekly(day, hour) => (Day::Week(day.unwrap_or(0)), hour),
            Schedule::Monthly(day, hour) => (Day::Month(day.unwrap_or(1)), hour),
        };
        let (at_hour, at_minute) = hour.map_or((0, 0), |hour| hour.parts());
        let [hours, minutes] = [at_hour, at_minute].map(|at| Part::At(vec![u32::from(at)]));
        Self { times: vec![Time { day, hours, minutes }], is_named: hour.is_some(), interval: schedule.interval() }
    }

    /// Returns the values of `OnCalendar=`.
    pub fn on_calendar(&self) -> Vec<String> {
        self.times.iter().map(Time::on_calendar).collect()
    }

    /// Returns the value of `RandomizedDelaySec=`, in seconds.
    pub fn delay_secs(&self) -> u64 {
        match self.is_named {
            true => NAMED_DELAY.as_secs(),
            false => (self.interval / 10).min(DELAY_MAX).as_secs(),
        }
    }

    /// Returns the five fields of crontab lines. Cron knows no random delay: `spread`, any number, chooses the minute
    /// if the schedule names none.
    pub fn cron(&self, spread: u32) -> Vec<String> {
        let field = |time: &Time| {
            let mut time = time.clone();
            let zero = Part::At(vec![0]);
            if !self.is_named && self.times.len() == 1 {
                if time.hours == zero {
                    time.hours = Part::At(vec![NOON]);
                }
                if time.minutes == zero {
                    time.minutes = Part::At(vec![spread % 60]);
                }
            }
            time.cron()
        };
        self.times.iter().map(field).collect()
    }
}

/// Returns the times of an interval.
fn every_minutes(minutes: u64) -> Vec<Time> {
    const DAY: u32 = 24 * 60;
    let minutes = u32::try_from(minutes).unwrap_or(u32::MAX).max(1);
    let zero = || Part::At(vec![0]);
    if minutes >= DAY {
        let day = match minutes / DAY {
            1 => Day::Each,
            // From the 31st day on there is no second one in a month.
            days @ 2..=30 => Day::EachNth(days),
            _ => Day::Month(1),
        };
        return vec![Time { day, hours: zero(), minutes: zero() }];
    }
    if minutes < 60 {
        return vec![Time { day: Day::Each, hours: Part::Any, minutes: Part::EachNth(minutes) }];
    }
    if minutes % 60 == 0 {
        return vec![Time { day: Day::Each, hours: Part::EachNth(minutes / 60), minutes: zero() }];
    }
    // One line for each minute of the hour, with its hours.
    let mut times: Vec<Time> = Vec::new();
    for at in (0..DAY).step_by(minutes as usize) {
        let (hour, minute) = (at / 60, Part::At(vec![at % 60]));
        match times.iter_mut().find(|time| time.minutes == minute).map(|time| &mut time.hours) {
            Some(Part::At(hours)) => hours.push(hour),
            _ => times.push(Time { day: Day::Each, hours: Part::At(vec![hour]), minutes: minute }),
        }
    }
    times
}

impl Time {
    fn on_calendar(&self) -> String {
        const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
        let day = match self.day {
            Day::Each => "*-*-*".to_owned(),
            Day::EachNth(days) => format!("*-*-01/{days}"),
            Day::Week(day) => format!("{} *-*-*", DAYS[usize::from(day) % 7]),
            Day::Month(day) => format!("*-*-{day:02}"),
        };
        let part = |part: &Part| match part {
            Part::Any => "*".to_owned(),
            Part::EachNth(each) => format!("00/{each}"),
            Part::At(all) => all.iter().map(|at| format!("{at:02}")).collect::<Vec<_>>().join(","),
        };
        format!("{day} {}:{}:00", part(&self.hours), part(&self.minutes))
    }

    fn cron(&self) -> String {
        let part = |part: &Part| match part {
            Part::Any | Part::EachNth(1) => "*".to_owned(),
            Part::EachNth(each) => format!("*/{each}"),
            Part::At(all) => all.iter().map(u32::to_string).collect::<Vec<_>>().join(","),
        };
        let (of_month, of_week) = match self.day {
            Day::Each => ("*".to_owned(), "*".to_owned()),
            Day::EachNth(days) => (format!("*/{days}"), "*".to_owned()),
            // 0 is Sunday here.
            Day::Week(day) => ("*".to_owned(), ((day + 1) % 7).to_string()),
            Day::Month(day) => (day.to_string(), "*".to_owned()),
        };
        format!("{} {} {of_month} * {of_week}", part(&self.minutes), part(&self.hours))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(schedule: &str) -> Times {
        Times::of(schedule.parse().unwrap())
    }

    /// Schedules, and what systemd and cron call them.
    const ALL: [(&str, &[&str], &[&str]); 15] = [
        ("hourly", &["*-*-* *:00:00"], &["17 * * * *"]),
        ("daily", &["*-*-* 00:00:00"], &["17 12 * * *"]),
        ("daily 03:05", &["*-*-* 03:05:00"], &["5 3 * * *"]),
        ("daily 00:00", &["*-*-* 00:00:00"], &["0 0 * * *"]),
        ("weekly", &["Mon *-*-* 00:00:00"], &["17 12 * * 1"]),
        ("weekly sun 03:00", &["Sun *-*-* 03:00:00"], &["0 3 * * 0"]),
        ("monthly 28", &["*-*-28 00:00:00"], &["17 12 28 * *"]),
        ("monthly 1 03:00", &["*-*-01 03:00:00"], &["0 3 1 * *"]),
        ("every 90s", &["*-*-* *:00/1:00"], &["* * * * *"]),
        ("every 20m", &["*-*-* *:00/20:00"], &["*/20 * * * *"]),
        ("every 4h", &["*-*-* 00/4:00:00"], &["17 */4 * * *"]),
        ("every 1h", &["*-*-* 00/1:00:00"], &["17 * * * *"]),
        ("every 36h", &["*-*-* 00:00:00"], &["17 12 * * *"]),
        ("every 3d", &["*-*-01/3 00:00:00"], &["17 12 */3 * *"]),
        ("every 5w", &["*-*-01 00:00:00"], &["17 12 1 * *"]),
    ];

    #[test]
    fn systemd_and_cron_run_it_as_often_as_the_schedule_says() {
        for (schedule, calendar, cron) in ALL {
            let times = times(schedule);
            let texts = |all: &[&str]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
            assert_eq!((times.on_calendar(), times.cron(77)), (texts(calendar), texts(cron)), "{schedule}");
        }
        let odd = times("every 90m");
        let hours = ["00,03,06,09,12,15,18,21", "01,04,07,10,13,16,19,22"];
        assert_eq!(odd.on_calendar(), [format!("*-*-* {}:00:00", hours[0]), format!("*-*-* {}:30:00", hours[1])]);
        assert_eq!(odd.cron(77), ["0 0,3,6,9,12,15,18,21 * * *", "30 1,4,7,10,13,16,19,22 * * *"]);
    }

    #[test]
    fn machines_do_not_all_start_at_once() {
        let delays = ["daily", "hourly", "every 4h", "every 1m", "daily 03:00"].map(|text| times(text).delay_secs());
        assert_eq!(delays, [3600, 360, 1440, 6, 300]);
    }

    #[test]
    fn systemd_understands_the_times() {
        let run = |text: &str| std::process::Command::new("systemd-analyze").args(["calendar", text]).output();
        for schedule in ["hourly", "daily", "weekly sun 03:00", "monthly 28", "every 20m", "every 90m", "every 30d"] {
            for text in times(schedule).on_calendar() {
                match run(&text) {
                    Ok(output) => assert!(output.status.success(), "{schedule}: {text}: {output:?}"),
                    Err(error) => return println!("skipped: systemd-analyze: {error}"),
                }
            }
        }
    }
}
