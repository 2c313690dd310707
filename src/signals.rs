//! Signals that end the program.
//!
//! From its start, the program catches every signal whose default action is to end a process. A command that has
//! something to finish or to take away names it with [`on_stop`]: the first signal runs that, and the command ends
//! where it is safe. Without it, and at the second signal, the process ends at once. In both cases it ends *by the
//! signal*, as its parent sees it: a shell shows 128 plus the number and leaves its loop, and a service manager sees an
//! ordinary stop.
//!
//! Not caught: SIGKILL and SIGSTOP, which cannot be; the signals of faults (SIGSEGV and its kind), after which nothing
//! can be relied on; and SIGPIPE, which Rust ignores, so that the write fails instead. A signal that was ignored when
//! the program started stays ignored: `nohup` and shells ask for that.

use std::{
    io::Write,
    os::fd::AsFd,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI32, Ordering},
    },
};

use anyhow::{Context, Result};
use rustix::termios::{OptionalActions, Termios, tcsetattr};
use signal_hook::{consts::signal as number, iterator::Signals};

use crate::failure::Exit;

/// The signals that ask to stop.
const STOPPING: [i32; 13] = [
    number::SIGHUP,
    number::SIGINT,
    number::SIGQUIT,
    number::SIGTERM,
    number::SIGUSR1,
    number::SIGUSR2,
    number::SIGALRM,
    number::SIGVTALRM,
    number::SIGPROF,
    // The kernel sends it at the soft limit of processor time. The hard limit kills.
    number::SIGXCPU,
    number::SIGIO,
    rustix::process::Signal::POWER.as_raw(),
    rustix::process::Signal::STKFLT.as_raw(),
];

/// The signals with which users and service managers end a program that runs until it is told to end.
const USUAL: [i32; 3] = [number::SIGHUP, number::SIGINT, number::SIGTERM];

type Action = Box<dyn FnOnce() + Send>;
type Repeated = Box<dyn Fn() + Send>;

/// What the first signal runs.
static ON_STOP: Mutex<Option<Action>> = Mutex::new(None);
/// What each hangup runs, instead of stopping the command.
static ON_HANGUP: Mutex<Option<Repeated>> = Mutex::new(None);
/// The first signal that arrived; 0 if none did.
static RECEIVED: AtomicI32 = AtomicI32::new(0);
/// How the terminal was, while a prompt hides what is typed.
static TERMINAL: Mutex<Option<Termios>> = Mutex::new(None);

/// Catches the signals from now on. Called once, when the program starts.
pub fn catch() -> Result<()> {
    let ignored = ignored_at_start();
    let is_ignored = |signal: i32| ignored >> (signal - 1) & 1 == 1;
    // A write beyond the limit of file sizes then fails, as on a full disk, and is reported.
    let caught = STOPPING.into_iter().chain([number::SIGXFSZ]).filter(|signal| !is_ignored(*signal));
    let mut signals = Signals::new(caught.collect::<Vec<_>>()).context("catching signals")?;
    let watch = move || {
        for signal in signals.forever().filter(|signal| *signal != number::SIGXFSZ) {
            if signal == number::SIGHUP
                && let Some(action) = &*lock(&ON_HANGUP)
            {
                action();
                continue;
            }
            let is_first = RECEIVED.compare_exchange(0, signal, Ordering::AcqRel, Ordering::Acquire).is_ok();
            let action = lock(&ON_STOP).take();
            match action {
                Some(action) if is_first => action(),
                _ => end(signal),
            }
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(watch).context("starting a thread")?;
    Ok(())
}

/// Runs `action` on the thread of the signals when the first signal arrives. The next one ends the process at once.
pub fn on_stop(action: impl FnOnce() + Send + 'static) {
    *lock(&ON_STOP) = Some(Box::new(action));
}

/// Runs `action` on the thread of the signals at each hangup, which then stops nothing.
pub fn on_hangup(action: impl Fn() + Send + 'static) {
    *lock(&ON_HANGUP) = Some(Box::new(action));
}

/// Runs `ask`, which waits for a person. Meanwhile the first signal ends the process at once: nothing can end the wait.
pub fn while_asking<T>(ask: impl FnOnce() -> T) -> T {
    let kept = lock(&ON_STOP).take();
    let answer = ask();
    *lock(&ON_STOP) = kept;
    answer
}

/// Returns the exit code of a command that runs until a signal ends it, after it has ended: to be ended in the usual
/// way is success.
pub fn exit_after_stop() -> Exit {
    match RECEIVED.load(Ordering::Acquire) {
        0 => Exit::Success,
        signal if USUAL.contains(&signal) => Exit::Success,
        _ => Exit::Interrupted,
    }
}

/// Returns whether a signal has asked to stop. For work in several steps: it may come between two of them.
pub fn is_stopping() -> bool {
    RECEIVED.load(Ordering::Acquire) != 0
}

/// Ends the process by the signal that stopped it, if one did. Called when everything is done.
pub fn end_if_stopped() {
    match RECEIVED.load(Ordering::Acquire) {
        0 => {}
        signal => end(signal),
    }
}

/// Ends the process by a signal, with the signal's default action.
pub fn end(signal: i32) -> ! {
    if let Some(terminal) = lock(&TERMINAL).take() {
        let _ = std::fs::File::open("/dev/tty").map(|tty| tcsetattr(tty.as_fd(), OptionalActions::Now, &terminal));
        eprintln!();
    }
    let _ = std::io::stdout().flush();
    // Returns for signals that it does not know.
    let _ = signal_hook::low_level::emulate_default_handler(signal);
    std::process::exit(128 + signal)
}

/// Returns whether a signal is one that asks to stop.
pub fn asks_to_stop(signal: i32) -> bool {
    STOPPING.contains(&signal)
}

/// Remembers how the terminal is, and restores it if a signal ends the process before this is dropped.
pub struct TerminalGuard(());

impl TerminalGuard {
    /// Remembers the state of the terminal, if there is one.
    pub fn new() -> Self {
        let state = std::fs::File::open("/dev/tty").ok().and_then(|tty| rustix::termios::tcgetattr(tty).ok());
        *lock(&TERMINAL) = state;
        Self(())
    }
}

impl Drop for TerminalGuard {
    fn drop(&mut self) {
        *lock(&TERMINAL) = None;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the signals that this process ignores, one bit each, the lowest for signal 1.
fn ignored_at_start() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
