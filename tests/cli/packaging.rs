//! The files that are shipped beside the program: settings, units of systemd, and what monitoring reads.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use serde_json::Value;

use crate::{skip, text};

/// The worst exposure that a unit may have, by `systemd-analyze security`.
const EXPOSURE_MAX: f64 = 2.0;

fn shipped(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Returns the names of metrics in a text.
fn metrics(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !is_part(c)).filter(|word| word.starts_with("bkfs_"));
    words.map(str::to_owned).collect()
}

/// Returns the names of the metrics that the server offers.
fn offered() -> BTreeSet<String> {
    let sources = [
        "transport/src/server/metrics.rs",
        "transport/src/server/monitor.rs",
        "transport/src/server/monitor/survey.rs",
    ];
    let texts = sources.map(|name| fs::read_to_string(shipped(name)).unwrap());
    // A quoted name that is nothing else.
    let quoted = texts.iter().flat_map(|text| text.split('"')).filter(|part| part.starts_with("bkfs_"));
    quoted.map(str::to_owned).collect()
}

#[test]
fn dashboard_and_alerts_use_only_metrics_that_there_are() {
    let dashboard = fs::read_to_string(shipped("examples/monitoring/grafana.json")).unwrap();
    let parsed: Value = serde_json::from_str(&dashboard).unwrap();
    let panels = parsed["panels"].as_array().unwrap();
    let expressions: Vec<&str> = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().unwrap())
        .map(|target| target["expr"].as_str().unwrap())
        .collect();
    let alerts = fs::read_to_string(shipped("examples/monitoring/alerts.yml")).unwrap();
    let rules: Vec<&str> = alerts.lines().filter_map(|line| line.trim().strip_prefix("expr: ")).collect();
    assert!(expressions.len() > 9 && rules.len() > 7);
    let offered = offered();
    for expression in expressions.into_iter().chain(rules) {
        for metric in metrics(expression) {
            assert!(offered.contains(&metric), "{metric} in {expression}");
        }
    }
    let docs = fs::read_to_string(shipped("docs/OPERATIONS.md")).unwrap();
    let documented = metrics(&docs);
    assert!(offered.is_subset(&documented), "{:?}", offered.difference(&documented));
}

#[test]
fn prometheus_accepts_the_alerts() {
    let output =
        Command::new("promtool").args(["check", "rules"]).arg(shipped("examples/monitoring/alerts.yml")).output();
    let Ok(output) = output else { skip!("there is no promtool") };
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}

#[test]
fn units_are_hardened() {
    for unit in ["bkfs-server.service", "bkfs-push@.service"] {
        let output = Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--no-pager"])
            .arg(shipped("packaging/systemd").join(unit))
            .output();
        let Ok(output) = output else { skip!("there is no systemd-analyze") };
        let shown = text(&output.stdout);
        if shown.is_empty() {
            skip!("this systemd-analyze cannot judge a file: {}", text(&output.stderr));
        }
        let line = shown.lines().find(|line| line.contains("Overall exposure level")).unwrap();
        let level: f64 = line.split(": ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        assert!(level < EXPOSURE_MAX, "{line}");
    }
}
