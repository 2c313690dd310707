//! A group of snapshots.

use std::fmt;

use crate::{base::id::ClientId, format::snapshot::PathBytes};

/// What the snapshots of a group have in common. A property that the grouping ignores is `None`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group {
    /// The client.
    pub client: Option<ClientId>,
    /// The name of the client's machine.
    pub host: Option<String>,
    /// The target.
    pub target: Option<String>,
    /// The paths, sorted, each once.
    pub paths: Option<Vec<PathBytes>>,
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        match (&self.host, self.client) {
            (Some(host), Some(client)) => parts.push(format!("host {host:?} (client {})", client.short())),
            (_, Some(client)) => parts.push(format!("client {}", client.short())),
            _ => {}
        }
        if let Some(target) = &self.target {
            parts.push(format!("target {target:?}"));
        }
        if let Some(paths) = &self.paths {
            let paths: Vec<_> = paths.iter().map(|p| format!("{:?}", String::from_utf8_lossy(&p.0))).collect();
            parts.push(format!("paths {}", paths.join(" ")));
        }
        match parts.is_empty() {
            true => f.write_str("the repository"),
            false => f.write_str(&parts.join(", ")),
        }
    }
}
