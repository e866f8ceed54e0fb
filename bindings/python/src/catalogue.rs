//! What there is: losses and devices.

use crate::error::Kind;
use pyo3::prelude::*;
use segfuse::Runtime;
use segfuse::loss::ENTRIES;
use serde::Serialize;

/// Every loss that a spec string can name, as JSON: name, aliases, source, doc and parameters (key, default, range, doc).
#[pyfunction]
pub(crate) fn list_losses() -> PyResult<String> {
    json(&ENTRIES)
}

/// The devices of this machine that this build reaches: pairs of name and description.
#[pyfunction]
pub(crate) fn devices() -> Vec<(String, String)> {
    Runtime::devices().into_iter().map(|device| (device.name, device.description)).collect()
}

pub(crate) fn json(value: &impl Serialize) -> PyResult<String> {
    serde_json::to_string(value).map_err(|error| Kind::Value.error(error))
}
