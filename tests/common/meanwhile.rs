//! Something that goes on while something else runs: a writer at the source, a reader or an
//! attacker at the destination.

use std::sync::atomic::{AtomicBool, Ordering};

/// Does `work` over and over, with the number of the round, until `main` has returned; gives
/// back what `main` did. A panic in either ends both and is passed on.
pub fn meanwhile<T>(mut work: impl FnMut(u64) + Send, main: impl FnOnce() -> T) -> T {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let rounds = (0..).take_while(|_| !is_over.load(Ordering::Relaxed));
            rounds.for_each(&mut work);
        });
        // Also when `main` panics: the scope would wait for the other thread for ever.
        let _end = EndsWhenDropped(&is_over);
        main()
    })
}

struct EndsWhenDropped<'a>(&'a AtomicBool);

impl Drop for EndsWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
