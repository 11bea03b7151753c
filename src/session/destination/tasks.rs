//! The writing threads' queue. What is written into one directory is done by one thread at a time:
//! two would only wait for each other inside the kernel, which guards a directory by one lock and
//! burns the waiting thread's time (a first copy of 100,000 small files to ext4 took half as much
//! system time again).

use std::collections::VecDeque;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::path::RelPath;
use crate::protocol::queue::Queue;
use crate::session::destination::receive::Task;

/// Directories are told apart by so many values: enough that threads seldom meet by chance.
const SHARDS: usize = 256;

/// Work for the writing threads.
pub(super) struct Tasks {
    queue: Queue<Work>,
    shards: Vec<Mutex<Shard>>,
}

enum Work {
    Task(Box<Task>),
    /// A shard has tasks, and no thread is at them.
    Shard(usize),
}

#[derive(Default)]
struct Shard {
    waiting: VecDeque<Task>,
    /// A thread is at it, or it is queued.
    taken: bool,
}

impl Default for Tasks {
    fn default() -> Tasks {
        Tasks {
            queue: Queue::default(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }
}

impl Tasks {
    /// Adds a task that any thread may do at any time.
    pub(super) fn push(&self, task: Task) {
        self.queue.push(Work::Task(Box::new(task)));
    }

    /// Adds a task that writes into one directory.
    pub(super) fn push_into(&self, dir: &RelPath, task: Task) {
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        let index = hasher.hash_one(dir.as_bytes()) as usize % SHARDS;
        let mut shard = self.shard(index);
        shard.waiting.push_back(task);
        if !std::mem::replace(&mut shard.taken, true) {
            drop(shard);
            self.queue.push(Work::Shard(index));
        }
    }

    /// Hands tasks to `work` until the queue is closed, or a task fails.
    pub(super) fn run<E>(&self, mut work: impl FnMut(Task) -> Result<(), E>) -> Result<(), E> {
        while let Some(next) = self.queue.pop() {
            match next {
                Work::Task(task) => work(*task)?,
                Work::Shard(index) => {
                    while let Some(task) = self.next_in(index) {
                        work(task)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn next_in(&self, index: usize) -> Option<Task> {
        let mut shard = self.shard(index);
        let task = shard.waiting.pop_front();
        shard.taken = task.is_some();
        task
    }

    fn shard(&self, index: usize) -> MutexGuard<'_, Shard> {
        self.shards[index]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the threads do what is queued and go.
    pub(super) fn close(&self) {
        self.queue.close();
    }

    /// Drops what is queued and lets the threads go.
    pub(super) fn abort(&self) {
        self.queue.abort();
        for index in 0..SHARDS {
            self.shard(index).waiting.clear();
        }
    }
}
