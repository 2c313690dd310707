//! Reasons to wait: the battery, and a network that costs by the byte.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// How long an answer holds.
const ASK_EVERY: Duration = Duration::from_secs(20);
/// Where the kernel shows batteries and mains.
const POWER: &str = "/sys/class/power_supply";

/// Looks for reasons to wait.
pub struct Holds {
    on_battery: bool,
    on_metered: bool,
    asked: Option<Instant>,
    reason: Option<&'static str>,
}

impl Holds {
    /// Waits for these reasons.
    pub fn new(on_battery: bool, on_metered: bool) -> Self {
        Self { on_battery, on_metered, asked: None, reason: None }
    }

    /// The reason to wait, if there is one.
    pub fn reason(&mut self) -> Option<&'static str> {
        if self.asked.is_none_or(|asked| asked.elapsed() >= ASK_EVERY) {
            self.reason = match () {
                () if self.on_battery && is_on_battery(Path::new(POWER)) => Some("the machine runs on its battery"),
                () if self.on_metered && is_metered() => Some("the network is metered"),
                () => None,
            };
            self.asked = Some(Instant::now());
        }
        self.reason
    }
}

/// Whether a battery is being used up, and no mains is there.
fn is_on_battery(folder: &Path) -> bool {
    let read = |path: &Path, name: &str| fs::read_to_string(path.join(name)).unwrap_or_default().trim().to_owned();
    let supplies: Vec<_> = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    let is_mains = |path: &Path| read(path, "type") != "Battery" && read(path, "online") == "1";
    // A mouse has a battery, too, and says that it is a device's.
    let is_draining = |path: &Path| {
        read(path, "type") == "Battery" && read(path, "status") == "Discharging" && read(path, "scope") != "Device"
    };
    supplies.iter().any(|path| is_draining(path)) && !supplies.iter().any(|path| is_mains(path))
}

/// Asks NetworkManager. Where there is none, nothing is metered.
fn is_metered() -> bool {
    let name = "org.freedesktop.NetworkManager";
    let asked = Command::new("busctl")
        .args(["--system", "--timeout=5", "get-property", name, "/org/freedesktop/NetworkManager", name, "Metered"])
        .stdin(Stdio::null())
        .output();
    asked.is_ok_and(|output| output.status.success() && says_metered(&output.stdout))
}

/// Whether a reply is one of NetworkManager's two words for yes: 1 is certain, 3 is a guess.
fn says_metered(reply: &[u8]) -> bool {
    matches!(reply.trim_ascii(), b"u 1" | b"u 3")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_battery_that_drains_without_mains_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let set = |supply: &str, values: &[(&str, &str)]| {
            fs::create_dir_all(dir.path().join(supply)).unwrap();
            for (name, value) in values {
                fs::write(dir.path().join(supply).join(name), format!("{value}\n")).unwrap();
            }
        };
        assert!(!is_on_battery(dir.path()) && !is_on_battery(Path::new("/nonexistent")));
        set("mouse", &[("type", "Battery"), ("status", "Discharging"), ("scope", "Device")]);
        assert!(!is_on_battery(dir.path()), "a mouse");
        set("BAT0", &[("type", "Battery"), ("status", "Discharging")]);
        set("AC", &[("type", "Mains"), ("online", "0")]);
        assert!(is_on_battery(dir.path()));
        set("AC", &[("online", "1")]);
        assert!(!is_on_battery(dir.path()), "mains");
        set("AC", &[("online", "0")]);
        set("BAT0", &[("status", "Full")]);
        assert!(!is_on_battery(dir.path()), "full");
    }

    #[test]
    fn replies_of_networkmanager_are_understood() {
        assert!(says_metered(b"u 1\n") && says_metered(b"u 3\n"));
        for no in [&b"u 0\n"[..], b"u 2", b"u 4\n", b"", b"u 11"] {
            assert!(!says_metered(no), "{no:?}");
        }
    }
}
