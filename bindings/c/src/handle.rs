//! Handles: numbers that stand for objects, so that a stale one can be told from a live one.

use crate::status::{Failure, segfuse_status::SEGFUSE_INVALID_HANDLE};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

/// The numbers that handles get. None is given twice, over all kinds.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// The objects of one kind. A call keeps the object that it works on, so that another thread may destroy it meanwhile.
pub(crate) struct Table<T> {
    kind: &'static str,
    objects: LazyLock<RwLock<HashMap<u64, Arc<T>>>>,
}

impl<T> Table<T> {
    pub(crate) const fn new(kind: &'static str) -> Table<T> {
        Table { kind, objects: LazyLock::new(RwLock::default) }
    }

    pub(crate) fn insert(&self, object: T) -> u64 {
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        self.objects.write().unwrap_or_else(PoisonError::into_inner).insert(id, Arc::new(object));
        id
    }

    pub(crate) fn get(&self, id: u64) -> Result<Arc<T>, Failure> {
        let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner);
        objects.get(&id).cloned().ok_or_else(|| self.stale(id))
    }

    /// A handle of 0, which stands for no object, is left alone.
    pub(crate) fn remove(&self, id: u64) -> Result<(), Failure> {
        if id == 0 {
            return Ok(());
        }
        let removed = self.objects.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
        removed.map(drop).ok_or_else(|| self.stale(id))
    }

    fn stale(&self, id: u64) -> Failure {
        let kind = self.kind;
        let why = if id == 0 { "is 0: none was made" } else { "is not there: destroyed, or of another kind" };
        Failure::new(SEGFUSE_INVALID_HANDLE, format!("{kind} {id} {why}"))
    }
}
