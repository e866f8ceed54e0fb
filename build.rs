//! Expands the `#import` lines of the WGSL kernels into one text per kernel; needs no GPU, no tool and no network.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// The kernels that are pipelines; what they import is in the same folder, or in `kernels/gen`.
const KERNELS: [&str; 23] = [
    "reduce",
    "gradient",
    "one_pass",
    "combine",
    "finish",
    "distance_sides",
    "distance_ends",
    "distance_rows",
    "distance_lines",
    "distance_carry",
    "distance_labels",
    "distance_share",
    "distance_contours",
    "distance_derive",
    "distance_extremes",
    "distance_mean",
    "distance_fill",
    "distance_objects",
    "distance_nearest",
    "erosion_errors",
    "erosion_sums",
    "erosion_spread",
    "erosion_backward",
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_WGPU").is_none() {
        return;
    }
    println!("cargo::rerun-if-changed=kernels");
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    for kernel in KERNELS {
        let mut text = String::new();
        expand(&root.join("kernels/wgsl"), kernel, &mut HashSet::new(), &mut text);
        fs::write(out.join(kernel).with_extension("wgsl"), text).expect("the output folder can be written");
    }
}

/// Appends a file with what it imports before it, each file once.
fn expand(folder: &Path, name: &str, seen: &mut HashSet<String>, text: &mut String) {
    if !seen.insert(name.into()) {
        return;
    }
    let path = match name.strip_prefix("gen/") {
        Some(generated) => folder.with_file_name("gen").join(generated),
        None => folder.join(name),
    };
    let path = path.with_extension("wgsl");
    let source = fs::read_to_string(&path).unwrap_or_else(|e| panic!("cannot read {}: {e}", path.display()));
    let mut own = String::new();
    for line in source.lines() {
        match line.strip_prefix("#import ") {
            Some(import) => expand(folder, import.trim(), seen, text),
            // A text is parsed whenever a pipeline is made; comments are for people.
            None if line.trim_start().starts_with("//") || line.trim().is_empty() => {}
            None => own += &format!("{line}\n"),
        }
    }
    *text += &own;
}
