//! Leaving processor and disk to others.

/// How nice the program is: the kernel's scale goes to 19.
const NICE: i32 = 10;
/// `IOPRIO_CLASS_IDLE` in the kernel's encoding (linux/ioprio.h): the class is above 13 bits of data.
const IDLE: libc::c_int = 3 << 13;
/// `IOPRIO_WHO_PROCESS`: the calling thread.
const WHO_PROCESS: libc::c_int = 1;

/// Lowers the priority of this thread and of those that it starts. If it cannot be lowered, it stays.
pub fn lower_priority() {
    if let Err(error) = rustix::process::nice(NICE) {
        tracing::debug!("the priority cannot be lowered: {error}");
    }
    // SAFETY: the call takes plain numbers, and changes only the priority of this thread.
    let done = unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, IDLE) };
    if done != 0 {
        tracing::debug!("the priority on disks cannot be lowered: {}", std::io::Error::last_os_error());
    }
}
