//! How results are printed.

use crate::error::CliError;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use std::io::Write;
use std::path::Path;

/// A table with these column titles.
pub(crate) fn table(titles: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(titles.to_vec());
    table
}

/// Writes a line to standard output. A reader that has gone is no error.
pub(crate) fn say(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// A value as JSON text. Numbers that are not finite become null.
pub(crate) fn json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap_or_else(|error| format!("{{\"error\": \"{error}\"}}"))
}

/// Writes a value as JSON to a file.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), CliError> {
    std::fs::write(path, json(value) + "\n").map_err(CliError::io(path))
}

/// Six digits, in scientific notation where the number is very small or large.
pub(crate) fn number(x: f64) -> String {
    let plain = x == 0.0 || !x.is_finite() || (1e-3..1e7).contains(&x.abs());
    if plain { format!("{x:.6}") } else { format!("{x:.5e}") }
}

/// A ratio, or a dash where it has none.
pub(crate) fn ratio(x: Option<f64>) -> String {
    x.map_or("–".into(), |x| format!("{x:.4}"))
}

/// `[2, 4, 96]`
pub(crate) fn shape(extents: &[usize]) -> String {
    let extents: Vec<String> = extents.iter().map(usize::to_string).collect();
    format!("[{}]", extents.join(", "))
}

/// A duration in a unit that suits it.
pub(crate) fn seconds(s: f64) -> String {
    if s < 1e-3 {
        format!("{:.1} µs", s * 1e6)
    } else if s < 1.0 {
        format!("{:.3} ms", s * 1e3)
    } else {
        format!("{s:.2} s")
    }
}

/// A number of bytes in a binary unit that suits it.
pub(crate) fn binary_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = (bytes.max(1).ilog2() / 10).min(UNITS.len() as u32 - 1);
    let scaled = bytes as f64 / f64::from(unit * 10).exp2();
    let digits = if scaled.fract() < 0.005 { 0 } else { 1 };
    format!("{scaled:.digits$} {}", UNITS[unit as usize])
}

/// Whether the arrays of a call are where the device has them.
pub(crate) fn is_cpu(device: &str) -> bool {
    device == "cpu"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_a_unit() {
        let of = |bytes| binary_bytes(bytes);
        assert_eq!([of(0), of(1023), of(16 << 10), of(128 << 20)], ["0 B", "1023 B", "16 KiB", "128 MiB"]);
        assert_eq!([of((2 << 30) - 4), of(u64::MAX)], ["2.0 GiB", "16777216 TiB"]);
    }
}
