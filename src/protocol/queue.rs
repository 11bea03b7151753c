//! How the threads of one end hand work to each other. Queues have no bound of their own: credit
//! bounds what can be in them.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A queue with many producers and many consumers.
#[derive(Debug)]
pub struct Queue<T> {
    inner: Mutex<Inner<T>>,
    wake: Condvar,
}

#[derive(Debug)]
struct Inner<T> {
    items: VecDeque<T>,
    closed: bool,
}

impl<T> Default for Queue<T> {
    fn default() -> Queue<T> {
        Queue {
            inner: Mutex::new(Inner {
                items: VecDeque::new(),
                closed: false,
            }),
            wake: Condvar::new(),
        }
    }
}

impl<T> Queue<T> {
    /// Adds an item at the end. Dropped when the queue is closed: nobody would take it.
    pub fn push(&self, item: T) {
        let mut inner = self.lock();
        if !inner.closed {
            inner.items.push_back(item);
            self.wake.notify_one();
        }
    }

    /// Adds an item to be taken next.
    pub fn push_front(&self, item: T) {
        let mut inner = self.lock();
        if !inner.closed {
            inner.items.push_front(item);
            self.wake.notify_one();
        }
    }

    /// Waits for an item; `None` once the queue is closed and empty.
    pub fn pop(&self) -> Option<T> {
        let mut inner = self.lock();
        loop {
            if let Some(item) = inner.items.pop_front() {
                return Some(item);
            }
            if inner.closed {
                return None;
            }
            inner = self
                .wake
                .wait(inner)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes the next item if it is there and fits.
    pub fn pop_if(&self, fits: impl FnOnce(&T) -> bool) -> Option<T> {
        let mut inner = self.lock();
        if inner.items.front().is_some_and(fits) {
            return inner.items.pop_front();
        }
        None
    }

    /// Whether nothing is queued at this moment.
    pub fn is_empty(&self) -> bool {
        self.lock().items.is_empty()
    }

    /// Lets consumers take what is queued and then go.
    pub fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_all();
    }

    /// Drops what is queued and lets consumers go.
    pub fn abort(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        inner.items.clear();
        self.wake.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place for one value that somebody waits for.
#[derive(Debug)]
pub struct Slot<T>(Queue<T>);

impl<T> Default for Slot<T> {
    fn default() -> Slot<T> {
        Slot(Queue::default())
    }
}

impl<T> Slot<T> {
    /// Fills the slot.
    pub fn put(&self, value: T) {
        self.0.push(value);
    }

    /// Waits for the value; `None` once the session ended without it.
    pub fn take(&self) -> Option<T> {
        self.0.pop()
    }

    /// Says that the value will not come.
    pub fn abort(&self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_queue_gives_what_it_has_and_ends() {
        let queue = Queue::default();
        queue.push(1);
        queue.close();
        queue.push(2);
        assert_eq!(queue.pop(), Some(1));
        assert_eq!(queue.pop(), None);
    }

    #[test]
    fn a_waiting_consumer_is_woken_by_abort() {
        let queue = Queue::<u8>::default();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| queue.pop());
            queue.abort();
            assert_eq!(waiting.join().unwrap(), None);
        });
    }
}
