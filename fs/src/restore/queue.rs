//! The stack of tasks that the threads of a restore share.
//!
//! Last in, first out: the walk goes depth first, and what waits stays few. The stack is finished when it is empty and
//! no thread is at work on something that could add to it.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// The stack.
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    stack: Vec<T>,
    working: usize,
    closed: bool,
}

impl<T> Queue<T> {
    /// An empty one.
    pub(super) fn new() -> Self {
        Self { state: Mutex::new(State { stack: Vec::new(), working: 0, closed: false }), changed: Condvar::new() }
    }

    /// Puts a task on top.
    pub(super) fn push(&self, task: T) {
        self.state.lock().stack.push(task);
        self.changed.notify_one();
    }

    /// Puts tasks on top so that the first is taken first.
    pub(super) fn push_all(&self, tasks: impl DoubleEndedIterator<Item = T>) {
        self.state.lock().stack.extend(tasks.rev());
        self.changed.notify_all();
    }

    /// Takes the top task, waiting for one; none when all is done or the queue was closed. The task counts as being
    /// worked on until the returned guard is dropped. `stopped` is asked now and then.
    pub(super) fn pop(&self, stopped: impl Fn() -> bool) -> Option<(T, Working<'_, T>)> {
        let mut state = self.state.lock();
        loop {
            if state.closed || stopped() {
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
            self.changed.wait_for(&mut state, Duration::from_millis(100));
        }
    }

    /// Says that somebody is at work who may put tasks on top, until the returned guard is dropped.
    pub(super) fn working(&self) -> Working<'_, T> {
        self.state.lock().working += 1;
        Working(self)
    }

    /// How many tasks wait.
    pub(super) fn waiting(&self) -> usize {
        self.state.lock().stack.len()
    }

    /// Makes every `pop` answer none.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
    }
}

/// Says that a thread is at work on a task.
pub(super) struct Working<'a, T>(&'a Queue<T>);

impl<T> Drop for Working<'_, T> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.working -= 1;
        if std::thread::panicking() {
            state.closed = true;
        }
        if state.working == 0 || state.closed {
            self.0.changed.notify_all();
        }
    }
}
