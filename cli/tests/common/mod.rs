//! Running the command.

#![allow(dead_code, reason = "each test file uses what it needs")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Path of a file of the example data.
pub(crate) fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/data").join(name);
    path.to_str().expect("a plain path").into()
}

/// Runs `segfuse` with these arguments, on the CPU where they name no device.
pub(crate) fn segfuse(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_segfuse"))
        .args(arguments)
        .env("SEGFUSE_DEVICE", "cpu")
        // Without it some Vulkan drivers have something to say on standard error.
        .env("XDG_RUNTIME_DIR", std::env::temp_dir())
        .output()
        .expect("it starts")
}

/// The first device that wgpu reaches, software renderers too; where there is none, the test has nothing to do.
pub(crate) fn gpu() -> Option<String> {
    let devices = good_json(&["devices", "--json"]);
    let name = devices.as_array()?.iter().find_map(|device| {
        let usable = device.get("adapter").is_some_and(|adapter| adapter.get("refused").is_none());
        usable.then(|| device["name"].as_str().map(String::from)).flatten()
    });
    if name.is_none() {
        eprintln!("skipped: there is no adapter");
    }
    name
}

/// Standard output of a run that must succeed.
pub(crate) fn good(arguments: &[&str]) -> String {
    let output = segfuse(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The same as JSON.
pub(crate) fn good_json(arguments: &[&str]) -> serde_json::Value {
    serde_json::from_str(&good(arguments)).expect("JSON")
}

/// The one line of standard error of a run that must end with exit code 2.
pub(crate) fn bad(arguments: &[&str]) -> String {
    let output = segfuse(arguments);
    let error = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
    assert!(output.stdout.is_empty(), "{arguments:?} printed something");
    assert!(error.starts_with("error: ") && error.trim_end().lines().count() == 1, "{arguments:?}: {error}");
    error
}

/// A little-endian `.npy` file in C order.
pub(crate) fn npy(folder: &Path, name: &str, descr: &str, shape: &[usize], data: &[u8]) -> String {
    let extents: String = shape.iter().map(|extent| format!("{extent}, ")).collect();
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({extents}), }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    file(folder, name, &bytes)
}

/// The same from f32.
pub(crate) fn npy_f32(folder: &Path, name: &str, shape: &[usize], values: &[f32]) -> String {
    let data: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    npy(folder, name, "<f4", shape, &data)
}

/// A little-endian NIfTI file; the values are in Fortran order.
pub(crate) fn nifti(folder: &Path, name: &str, dim: &[u16], code: i16, bits: i16, values: &[u8]) -> String {
    let mut bytes = vec![0; 352];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, &348_i32.to_le_bytes());
    put(40, &(dim.len() as u16).to_le_bytes());
    for axis in 0..7 {
        put(42 + 2 * axis, &dim.get(axis).copied().unwrap_or(1).to_le_bytes());
    }
    put(70, &code.to_le_bytes());
    put(72, &bits.to_le_bytes());
    put(108, &352_f32.to_le_bytes());
    put(344, b"n+1\0");
    bytes.extend(values);
    file(folder, name, &bytes)
}

pub(crate) fn file(folder: &Path, name: &str, bytes: &[u8]) -> String {
    let path: PathBuf = folder.join(name);
    std::fs::write(&path, bytes).expect("written");
    path.to_str().expect("a plain path").into()
}

/// The values of an f32 `.npy` file, and its header.
pub(crate) fn read_f32(path: &str) -> (String, Vec<f32>) {
    let bytes = std::fs::read(path).expect("read");
    let length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = String::from_utf8_lossy(&bytes[10..10 + length]).into_owned();
    let values = bytes[10 + length..].chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    (header, values.collect())
}
