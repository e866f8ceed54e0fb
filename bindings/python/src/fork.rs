//! Processes that were forked. What the parent had stays behind: the threads that compute on the CPU, for which a child takes threads of
//! its own, and the contexts of CUDA devices, which nothing replaces.

use crate::error::{Kind, python};
use pyo3::prelude::*;
use segfuse::cpu;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// What a process has that a child of it has not.
struct Left {
    /// By this process, or one that it was forked from.
    used: AtomicBool,
    /// It is another process's.
    lost: AtomicBool,
}

impl Left {
    const fn new() -> Left {
        Left { used: AtomicBool::new(false), lost: AtomicBool::new(false) }
    }
    /// To be called before it is used: whether this process may.
    fn ours(&self) -> bool {
        let ours = !self.lost.load(Ordering::Relaxed);
        if ours {
            self.used.store(true, Ordering::Relaxed);
        }
        ours
    }
    fn fork(&self) {
        self.lost.fetch_or(self.used.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// Rayon's global pool, which a process starts once.
static POOL: Left = Left::new();
static CONTEXTS: Left = Left::new();
/// The threads of a child that has lost the pool.
static OWN: Mutex<Option<cpu::Device>> = Mutex::new(None);

/// The CPU, with threads that this process has.
pub(crate) fn cpu() -> PyResult<cpu::Device> {
    if POOL.ours() {
        return Ok(cpu::Device::new());
    }
    let mut own = OWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(device) = &*own {
        return Ok(device.clone());
    }
    Ok(own.insert(cpu::Device::with_threads(0).map_err(python)?).clone())
}

/// To be called before a CUDA device is used.
pub(crate) fn cuda() -> PyResult<()> {
    if CONTEXTS.ours() {
        return Ok(());
    }
    Err(Kind::Device.error(
        "this process was forked from one that had used a CUDA device, and cannot use one; start it by 'spawn' or 'forkserver', \
         or use the device in the children alone",
    ))
}

/// What Python calls in a child.
#[pyfunction]
pub(crate) fn after_fork() {
    POOL.fork();
    CONTEXTS.fork();
    // Its threads are the parent's: a destructor would wait for them forever.
    std::mem::forget(OWN.lock().unwrap_or_else(PoisonError::into_inner).take());
}
