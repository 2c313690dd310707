//! Passphrase slots: their record and its bounds. Only slots with the lowest cost are opened; others would take too
//! long. The full key's record, which is sealed in a slot, has its own target.

#![no_main]

use bkfs_fuzz::Input;
use bkfs_store::{
    base::id::SlotId,
    format::keys::{
        Slot,
        slot::{SlotParams, open_slot, slot_params},
    },
};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let slot = Slot { id: SlotId(input.array()), bytes: input.0.to_vec() };
    let Ok(params) = slot_params(&slot) else { return };
    let SlotParams { memory_kib, passes, lanes } = params;
    assert!(slot.bytes.len() <= 4096 && (8_192..=1_048_576).contains(&memory_kib) && (1..=64).contains(&lanes));
    assert!(passes >= 1 && u64::from(memory_kib) * u64::from(passes) <= 16_777_216);
    if params == SlotParams::LEAST {
        let _ = open_slot(&slot, b"correct horse");
    }
});
