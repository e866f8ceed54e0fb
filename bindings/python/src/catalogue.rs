//! What there is: losses and devices.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use segfuse::Runtime;
use segfuse::loss::ENTRIES;

/// Every loss that a spec string can name: dicts of name, aliases, doc, source and parameters (key, default, range, doc).
#[pyfunction]
pub(crate) fn list_losses(py: Python<'_>) -> PyResult<Bound<'_, PyList>> {
    let losses = PyList::empty(py);
    for entry in ENTRIES {
        let parameters = PyList::empty(py);
        for parameter in entry.parameters() {
            let report = PyDict::new(py);
            report.set_item("key", parameter.key)?;
            report.set_item("default", parameter.default)?;
            report.set_item("range", parameter.range)?;
            report.set_item("doc", one_line(&parameter.doc))?;
            parameters.append(report)?;
        }
        let report = PyDict::new(py);
        report.set_item("name", entry.name)?;
        report.set_item("aliases", entry.aliases)?;
        report.set_item("doc", one_line(entry.doc))?;
        report.set_item("source", entry.source)?;
        report.set_item("parameters", parameters)?;
        losses.append(report)?;
    }
    Ok(losses)
}

/// A doc comment without its line breaks and its escaped brackets.
fn one_line(doc: &str) -> String {
    doc.replace('\\', "").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The devices of this machine that this build reaches: pairs of name and description.
#[pyfunction]
pub(crate) fn devices() -> Vec<(String, String)> {
    Runtime::devices().into_iter().map(|device| (device.name, device.description)).collect()
}
