//! Clients that hide what they do from the operator.

use bkfs_store::{access::Manage, base::id::SlotId, crypto::random, format::keys::Slot};
use bkfs_transport::message::Call;

use crate::wire::{Attacker, server, until};

fn slot() -> Slot {
    Slot { id: SlotId(random()), bytes: vec![7; 100] }
}

#[test]
fn acts_whose_answer_nobody_waits_for_are_in_the_audit_log() {
    let (operator, server) = server(&[]);
    let attacker = Attacker::join(&server, "mallory");
    attacker.runtime.block_on(async {
        let connection = attacker.connect().await.unwrap();
        for _ in 0..24 {
            let (_send, mut receive) = attacker.send(&connection, "mallory", &Call::PutSlot(slot())).await;
            // The server has begun, as a rule, and waits for the disk.
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            receive.stop(0u32.into()).unwrap();
        }
        connection.close(0u32.into(), b"");
    });
    attacker.remote("mallory").put_slot(&slot()).unwrap();
    let folder = operator.path("data/accounts/mallory/mallory/slots");
    let stored = || std::fs::read_dir(&folder).unwrap().filter(|file| !is_copy(file)).count();
    let logged = || {
        let text = std::fs::read_to_string(operator.path("data/audit.log")).unwrap();
        text.lines().filter(|line| line.contains("\"put-slot\"") && line.contains("\"ok\"")).count()
    };
    until("each slot that was stored is in the audit log", || stored() == logged());
    assert!(stored() > 1, "the server dropped all that nobody waited for");
}

/// Whether a file is the second copy of a small object.
fn is_copy(file: &std::io::Result<std::fs::DirEntry>) -> bool {
    file.as_ref().unwrap().file_name().to_string_lossy().contains('.')
}
