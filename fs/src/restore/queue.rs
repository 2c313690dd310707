//! The stack of tasks that the threads of a restore share.
//!
//! Last in, first out: the tree is walked depth first, and few tasks wait. The stack is finished when it is empty and
//! no thread works on a task that could add more.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// How often a waiting thread checks whether the restore was stopped.
const STOP_CHECK_EVERY: Duration = Duration::from_millis(100);

/// The stack.
pub(super) struct Queue<T> {
    state: Mutex<QueueState<T>>,
    changed: Condvar,
}

struct QueueState<T> {
    stack: Vec<T>,
    /// Guards alive: tasks in progress, and other work that may add tasks.
    working: usize,
    is_closed: bool,
}

impl<T> Queue<T> {
    /// Returns an empty stack.
    pub(super) fn new() -> Self {
        let state = QueueState { stack: Vec::new(), working: 0, is_closed: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Puts a task on top.
    pub(super) fn push(&self, task: T) {
        self.state.lock().stack.push(task);
        self.changed.notify_one();
    }

    /// Puts tasks on top; the first of them will be taken first.
    pub(super) fn push_all(&self, tasks: impl DoubleEndedIterator<Item = T>) {
        self.state.lock().stack.extend(tasks.rev());
        self.changed.notify_all();
    }

    /// Takes the top task, or waits for one. Returns none if all work is done or the queue was closed. The task counts
    /// as in progress until the returned guard is dropped. `is_stopped` is called now and then.
    pub(super) fn pop(&self, is_stopped: impl Fn() -> bool) -> Option<(T, Working<'_, T>)> {
        let mut state = self.state.lock();
        loop {
            if state.is_closed || is_stopped() {
                return None;
            }
            if let Some(task) = state.stack.pop() {
                state.working += 1;
                return Some((task, Working(self)));
            }
            if state.working == 0 {
                self.changed.notify_all();
                return None;
            }
            self.changed.wait_for(&mut state, STOP_CHECK_EVERY);
        }
    }

    /// Announces work that may add tasks: the stack is not finished until the returned guard is dropped.
    pub(super) fn working(&self) -> Working<'_, T> {
        self.state.lock().working += 1;
        Working(self)
    }

    /// Returns how many tasks wait.
    pub(super) fn waiting(&self) -> usize {
        self.state.lock().stack.len()
    }

    /// Makes every `pop` return none.
    pub(super) fn close(&self) {
        self.state.lock().is_closed = true;
        self.changed.notify_all();
    }
}

/// Work is in progress while this is alive. If its thread panics, the queue closes.
pub(super) struct Working<'a, T>(&'a Queue<T>);

impl<T> Drop for Working<'_, T> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.working -= 1;
        if std::thread::panicking() {
            state.is_closed = true;
        }
        if state.working == 0 || state.is_closed {
            self.0.changed.notify_all();
        }
    }
}
