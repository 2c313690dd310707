//! Settings that make the C library's allocator return unused memory.
//!
//! A push passes buffers of all lengths from many threads to a few. By default each thread gets its own arena, and a
//! threshold that grows with use keeps whole packs in it. With 43,000 files of /usr/share (565 MB) a push then peaked
//! at 195 MB. With two arenas, and large blocks returned immediately, the peak is 117 MB, in the same time. (mimalloc,
//! which returns memory late, peaked at 750 MB.)

/// Blocks of at least this many bytes are mapped one by one, and returned to the system when freed.
#[cfg(target_env = "gnu")]
const LARGE_BYTES: libc::c_int = 1 << 20;

/// Configures the allocator of the process. Call it at the start, before there are threads. Does nothing with other C
/// libraries than glibc.
pub fn configure() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt takes plain numbers, and is safe to call while there is only one thread. It ignores values that
    // it does not accept.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BYTES);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn allocating_still_works() {
        super::configure();
        let threads: Vec<_> =
            (1..20usize).map(|i| std::thread::spawn(move || vec![i as u8; i * 300_000].len())).collect();
        let total: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert_eq!(total, 190 * 300_000);
    }
}
