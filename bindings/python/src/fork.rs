//! Processes that were forked: the threads that compute stay behind in the parent, and a child that waits for them would wait forever.

use crate::error::Kind;
use pyo3::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether this process, or one that it was forked from, has computed something.
static USED: AtomicBool = AtomicBool::new(false);
/// Whether the threads are another process's.
static LOST: AtomicBool = AtomicBool::new(false);

/// To be called before anything is computed.
pub(crate) fn ready() -> PyResult<()> {
    if LOST.load(Ordering::Relaxed) {
        return Err(Kind::Device.error(
            "this process was forked from one that had used segfuse, and has none of its threads; start it by 'spawn' or \
             'forkserver', or use segfuse in the children alone",
        ));
    }
    USED.store(true, Ordering::Relaxed);
    Ok(())
}

/// What Python calls in a child.
#[pyfunction]
pub(crate) fn after_fork() {
    LOST.store(USED.load(Ordering::Relaxed), Ordering::Relaxed);
}
