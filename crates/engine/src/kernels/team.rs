//! Threads that share the work of one step.
//!
//! A step takes some ten microseconds, so a thread that sleeps is woken too late: between steps the workers spin, and only after
//! a while without work they sleep. Who does what is fixed beforehand, and every element of a result is computed by one thread
//! alone, in the order of one thread; so results do not depend on how many there are.

use std::cell::UnsafeCell;
use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// How often a worker looks for work before it sleeps: about 100 µs where a pause takes 140 cycles, as on recent Intel CPUs.
const SPINS: usize = 2000;

/// The same where there are fewer cores than threads: who spins keeps another from working.
const SPINS_CROWDED: usize = 20;

/// Threads, the calling one included.
pub(crate) struct Team {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    turn: Mutex<()>,
}

struct Shared {
    /// Grows by one with every job.
    job: AtomicUsize,
    task: UnsafeCell<Task>,
    /// Workers that have not finished the job.
    open: AtomicUsize,
    asleep: Vec<AtomicBool>,
    failed: AtomicBool,
    stop: AtomicBool,
    spins: usize,
}

/// A closure by its address.
#[derive(Clone, Copy)]
struct Task {
    closure: *const (),
    call: unsafe fn(*const (), usize),
    shares: usize,
}

// SAFETY: `task` is written only while no worker looks at it: before `job` grows, and after all workers of the job before have
// counted themselves off in `open`. The closure behind it is `Sync` (see `Team::run`), and outlives the job.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

impl std::fmt::Debug for Team {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Team of {}", self.threads())
    }
}

impl Team {
    /// Starts `threads − 1` workers, on the cores that the calling thread may use.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn new(threads: usize) -> std::io::Result<Self> {
        let workers = threads.saturating_sub(1);
        let crowded = thread::available_parallelism().map_or(1, usize::from) < threads;
        let shared = Arc::new(Shared {
            job: AtomicUsize::new(0),
            task: UnsafeCell::new(Task { closure: std::ptr::null(), call: nothing, shares: 0 }),
            open: AtomicUsize::new(0),
            asleep: (0..workers).map(|_| AtomicBool::new(false)).collect(),
            failed: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            spins: if crowded { SPINS_CROWDED } else { SPINS },
        });
        let mut team = Self { shared, workers: Vec::with_capacity(workers), turn: Mutex::new(()) };
        for i in 0..workers {
            let shared = Arc::clone(&team.shared);
            team.workers.push(thread::Builder::new().name(format!("engine {}", i + 1)).spawn(move || shared.work(i))?);
        }
        Ok(team)
    }

    /// How many threads there are.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `work(i)` for every `i` below `shares`: on the threads of `team`, or one after the other where there is none.
    ///
    /// # Panics
    /// As [`Team::run`].
    pub fn spread<F: Fn(usize) + Sync>(team: Option<&Self>, shares: usize, work: F) {
        match team {
            Some(team) => team.run(shares, work),
            None => (0..shares).for_each(work),
        }
    }

    /// Calls `work(i)` for every `i` below `shares`, at most as many as there are threads, each on its own thread; 0 on the
    /// calling one. Returns when all have returned.
    ///
    /// # Panics
    /// One of the calls panics; more shares than threads.
    pub fn run<F: Fn(usize) + Sync>(&self, shares: usize, work: F) {
        unsafe fn call<F: Fn(usize)>(closure: *const (), share: usize) {
            // SAFETY: `closure` is the address of the `F` that `run` keeps alive.
            unsafe { (*closure.cast::<F>())(share) }
        }
        assert!(shares <= self.threads());
        if shares <= 1 {
            (0..shares).for_each(work);
            return;
        }
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let s = &*self.shared;
        // SAFETY: no job is open, so no worker reads the task.
        unsafe { *s.task.get() = Task { closure: (&raw const work).cast(), call: call::<F>, shares } };
        s.failed.store(false, SeqCst);
        s.open.store(self.workers.len(), SeqCst);
        s.job.fetch_add(1, SeqCst);
        for (asleep, worker) in s.asleep.iter().zip(&self.workers) {
            if asleep.load(SeqCst) {
                worker.thread().unpark();
            }
        }
        // Waits on unwinding, too: the workers use what this frame owns.
        let waiting = Waiting(s);
        work(0);
        drop(waiting);
        assert!(!s.failed.load(SeqCst), "a thread of the engine panicked");
    }
}

/// A job of no work on `threads` threads of the engine, to see what handing it over takes.
///
/// # Errors
/// The system refuses a thread.
pub fn empty_job(threads: usize) -> std::io::Result<impl Fn()> {
    let team = Team::new(threads)?;
    Ok(move || team.run(team.threads(), |_| ()))
}

unsafe fn nothing(_: *const (), _: usize) {}

/// Until all workers have finished.
struct Waiting<'a>(&'a Shared);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut looks = 0;
        while self.0.open.load(SeqCst) > 0 {
            looks += 1;
            if looks < self.0.spins { spin_loop() } else { thread::yield_now() }
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        self.shared.job.fetch_add(1, SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker catches what its work panics with.
            let _ = worker.join();
        }
    }
}

impl Shared {
    /// The life of worker `i`.
    fn work(&self, i: usize) {
        let mut done = 0;
        loop {
            done = self.next_job(i, done);
            if self.stop.load(SeqCst) {
                return;
            }
            // SAFETY: the job that was just seen is open until this worker counts itself off, so nobody writes the task.
            let task = unsafe { *self.task.get() };
            if i + 1 < task.shares {
                // SAFETY: the closure outlives the job, and is `Sync`.
                let call = || unsafe { (task.call)(task.closure, i + 1) };
                if catch_unwind(AssertUnwindSafe(call)).is_err() {
                    self.failed.store(true, SeqCst);
                }
            }
            self.open.fetch_sub(1, SeqCst);
        }
    }

    /// Waits until there is another job than `done`.
    fn next_job(&self, i: usize, done: usize) -> usize {
        let mut looks = 0;
        loop {
            let job = self.job.load(SeqCst);
            if job != done {
                return job;
            }
            looks += 1;
            if looks < self.spins {
                spin_loop();
                continue;
            }
            self.asleep[i].store(true, SeqCst);
            // Whoever made a job since did not see that this one sleeps.
            if self.job.load(SeqCst) == done {
                thread::park();
            }
            self.asleep[i].store(false, SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn every_share_is_done_once_and_before_the_call_returns() {
        for threads in 1..5 {
            let team = Team::new(threads).expect("threads start");
            for round in 0..300 {
                if round == 150 {
                    // The workers are asleep by then.
                    thread::sleep(Duration::from_millis(20));
                }
                let counts: Vec<AtomicUsize> = (0..threads).map(|_| AtomicUsize::new(0)).collect();
                let shares = round % threads + 1;
                team.run(shares, |i| _ = counts[i].fetch_add(1, SeqCst));
                let expected: Vec<usize> = (0..threads).map(|i| usize::from(i < shares)).collect();
                assert_eq!(counts.iter().map(|c| c.load(SeqCst)).collect::<Vec<_>>(), expected);
            }
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_team_lives_on() {
        let team = Team::new(2).expect("a thread starts");
        for share in 0..2 {
            let caught = catch_unwind(AssertUnwindSafe(|| team.run(2, |i| assert_ne!(i, share, "as wanted"))));
            assert!(caught.is_err(), "share {share}");
        }
        let sum = AtomicUsize::new(0);
        team.run(2, |i| _ = sum.fetch_add(i + 1, SeqCst));
        assert_eq!(sum.load(SeqCst), 3);
    }

    #[test]
    fn several_callers_take_turns() {
        let team = Team::new(2).expect("a thread starts");
        let sum = AtomicUsize::new(0);
        thread::scope(|s| {
            for _ in 0..3 {
                s.spawn(|| (0..100).for_each(|_| team.run(2, |_| _ = sum.fetch_add(1, SeqCst))));
            }
        });
        assert_eq!(sum.load(SeqCst), 600);
    }
}
