//! `distance` on files: labels, dense targets and predictions, and what they cannot be.

mod common;

use common::{bad, example, good, good_json, gpu, nifti, npy, npy_f32, read_f32};
use std::path::Path;

/// Runs `distance` with these arguments and returns the header and the values of its maps.
fn maps(folder: &Path, arguments: &[&str]) -> (String, Vec<f32>) {
    let out = folder.join("maps.npy");
    let out = out.to_str().unwrap();
    good(&[&["distance", "--out", out], arguments].concat());
    read_f32(out)
}

/// The error of such a run; no map may appear.
fn refused(folder: &Path, arguments: &[&str]) -> String {
    let out = folder.join("never.npy");
    let error = bad(&[&["distance", "--out", out.to_str().unwrap()], arguments].concat());
    assert!(!out.exists(), "a map was written");
    error
}

#[test]
fn labels_become_maps_of_every_kind() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let target = npy(at, "t.npy", "|u1", &[1, 6], &[0, 0, 1, 1, 1, 0]);
    let of = |kind: &str, more: &[&str]| {
        maps(at, &[&["--target", &target, "--kind", kind, "--classes", "1"], more].concat()).1
    };
    assert_eq!(of("outside", &[]), [2.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
    assert_eq!(of("inside", &[]), [0.0, 0.0, 1.0, 2.0, 1.0, 0.0]);
    assert_eq!(of("two-sided", &[]), [2.0, 1.0, 1.0, 2.0, 1.0, 1.0]);
    assert_eq!(of("signed", &[]), [2.0, 1.0, 0.0, -1.0, 0.0, 1.0]);
    assert_eq!(of("difference", &["--squared"]), [4.0, 1.0, -1.0, -4.0, -1.0, 1.0]);
    assert_eq!(of("difference", &["--spacing", "2.5"]), [5.0, 2.5, -2.5, -5.0, -2.5, 2.5]);

    let (header, values) = maps(at, &["--target", &target, "--kind", "inside", "--layout", "nvc"]);
    assert!(header.contains("(1, 6, 2, )"), "{header}");
    assert_eq!(values, [2.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 2.0, 0.0, 1.0, 1.0, 0.0]);
    let (header, values) = maps(at, &["--target", &target, "--kind", "outside", "--num-classes", "3"]);
    assert!(header.contains("(1, 3, 6, )"), "{header}");
    assert!(values[12..].iter().all(|x| *x == f32::INFINITY), "class 2 is empty");
    let (header, values) = maps(at, &["--target", &target, "--kind", "multi-label"]);
    assert!(header.contains("(1, 1, 6, )"), "{header}");
    assert_eq!(values, [2.0, 1.0, 1.0, 2.0, 1.0, 1.0]);
    assert_eq!(of("multi-label", &[]), of("inside", &[]));
    let ignored = maps(at, &["--target", &target, "--kind", "outside", "--ignore-label", "1"]).1;
    assert_eq!(ignored[..6], [0.0, 0.0, 1.0, 2.0, 1.0, 0.0]);
}

#[test]
fn volumes_with_spacing_and_nifti_files() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    // One voxel of class 1 at [0, 0, 0]; NIfTI has the first axis fastest.
    let mut voxels = [0u8; 24];
    voxels[0] = 1;
    let (c_order, file) =
        (npy(at, "t.npy", "|u1", &[1, 2, 3, 4], &voxels), nifti(at, "t.nii", &[2, 3, 4], 2, 8, &voxels));
    let arguments = ["--kind", "outside", "--spacing", "1,2,0.5", "--classes", "1"];
    let (header, values) = maps(at, &[&["--target", &c_order], &arguments[..]].concat());
    assert!(header.contains("(1, 1, 2, 3, 4, )"), "{header}");
    assert_eq!((values[0], values[1], values[4], values[12]), (0.0, 0.5, 2.0, 1.0));
    assert_eq!(values[23], (1.0f32 + 16.0 + 2.25).sqrt());
    assert_eq!(maps(at, &[&["--target", &file], &arguments[..]].concat()).1, values);
}

#[test]
fn dense_targets_and_predictions() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let dense = npy_f32(at, "d.npy", &[1, 2, 4], &[0.9, 0.5, 0.1, 0.0, 0.0, 1.0, 0.7, 0.0]);
    let outside = |arguments: &[&str]| maps(at, &[&["--kind", "outside"], arguments].concat()).1;
    assert_eq!(outside(&["--target", &dense, "--dense"]), [0.0, 1.0, 2.0, 3.0, 1.0, 0.0, 0.0, 1.0]);
    // The same numbers as logits: the last voxel is a tie, which the first class has.
    assert_eq!(outside(&["--pred", &dense]), [0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0]);
    let above = outside(&["--pred", &dense, "--activation", "none", "--threshold", "0.8"]);
    assert_eq!(above, [0.0, 1.0, 2.0, 3.0, 1.0, 0.0, 1.0, 2.0]);
    let sigmoid = outside(&["--pred", &dense, "--activation", "sigmoid", "--threshold", "0.7"]);
    assert_eq!(sigmoid, [0.0, 1.0, 2.0, 3.0, 1.0, 0.0, 1.0, 2.0]);
}

#[test]
fn the_report_says_what_was_made() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let target = npy(at, "t.npy", "<i2", &[2, 2, 2], &[0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 1, 0, 1, 0, 1, 0]);
    let out = at.join("h.npy");
    let arguments = ["distance", "--target", &target, "--out", out.to_str().unwrap(), "--dtype", "f16"];
    let report = good_json(&[&arguments[..], &["--kind", "inside", "--classes", "1", "--json"]].concat());
    assert_eq!(report["kind"], "inside");
    assert_eq!((&report["dtype"], &report["device"]), (&"f16".into(), &"cpu".into()));
    assert_eq!(report["shape"], serde_json::json!([2, 1, 2, 2]));
    assert_eq!(report["spacing"], serde_json::json!([1.0, 1.0]));
    assert_eq!(report["maps"][0]["class"], 1);
    assert_eq!((&report["maps"][0]["finite"], &report["maps"][0]["largest"]), (&4.into(), &1.0.into()));
    // The class fills the second sample: there is nothing to measure to.
    assert_eq!((&report["maps"][1]["finite"], &report["maps"][1]["mean"]), (&0.into(), &serde_json::Value::Null));
    assert!(report["time_ms"].as_f64().unwrap() > 0.0 && report["workspace_bytes"].as_u64().unwrap() > 0);
    let bytes = std::fs::read(&out).unwrap();
    assert!(String::from_utf8_lossy(&bytes[..80]).contains("<f2"));
    let report = good_json(&[&arguments[..], &["--kind", "multi-label", "--json"]].concat());
    assert_eq!(
        (&report["shape"], &report["maps"][0]["class"]),
        (&serde_json::json!([2, 1, 2, 2]), &serde_json::Value::Null)
    );
    let twice = good_json(&[&arguments[..], &["--kind", "multi-label", "--classes", "1,1", "--json"]].concat());
    assert_eq!((&twice["shape"], &twice["maps"][0]["class"]), (&report["shape"], &1.into()));
    let text = good(&[&arguments[..], &["--classes", "0"]].concat());
    assert!(text.contains("two-sided") && text.contains("[2, 1, 2, 2]"), "{text}");
}

#[test]
fn a_gpu_makes_the_maps_of_the_cpu() {
    let Some(device) = gpu() else { return };
    let folder = tempfile::tempdir().unwrap();
    let target = example("mask.npy");
    let of = |device: &str, kind: &str| {
        let arguments = ["--target", &target, "--ignore-label", "255", "--kind", kind, "--device", device];
        maps(folder.path(), &arguments)
    };
    for kind in ["signed", "inside", "multi-label"] {
        assert_eq!(of(&device, kind), of("cpu", kind), "{kind}");
    }
    let out = folder.path().join("maps.npy");
    let arguments = ["distance", "--target", &target, "--out", out.to_str().unwrap(), "--device", &device];
    let report = good_json(&[&arguments[..], &["--json"]].concat());
    assert!(report["workspace_bytes"].as_u64().unwrap() > 0, "{report}");
    let text = good(&arguments);
    assert!(text.contains(&format!("on {device}, with")), "{text}");
}

#[test]
fn what_cannot_be_is_said_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let target = npy(at, "t.npy", "|u1", &[1, 2, 2], &[0, 1, 1, 0]);
    let floats = npy_f32(at, "f.npy", &[1, 2, 2], &[0.0; 4]);
    let has = |arguments: &[&str], parts: &[&str]| {
        let error = refused(at, arguments);
        parts.iter().for_each(|part| assert!(error.contains(part), "no `{part}` in: {error}"));
    };
    has(&["--target", &target, "--spacing", "1"], &["spacings", "2", "1"]);
    has(&["--target", &target, "--spacing", "1,-2"], &["axis 1", "-2"]);
    has(&["--target", &target, "--classes", "2"], &["class", "from 0 to 1", "2"]);
    has(&["--target", &target, "--dtype", "bf16"], &["bf16", "f32 or f16"]);
    let dense = npy_f32(at, "d.npy", &[1, 3, 2], &[0.0; 6]);
    has(
        &["--target", &dense, "--dense", "--kind", "multi-label"],
        &["one map of 3 classes", "labels", "largest value"],
    );
    has(&["--target", &floats], &["labels must be integers", "f32"]);
    has(&["--target", "missing.npy"], &["missing.npy"]);
    has(&["--target", &target, "--device", "wgpu:999"], &["wgpu:999", "available", "cpu"]);
    has(&["--pred", &floats, "--threshold", "2"], &["threshold", "from 0 to 1", "2"]);
    let deep = npy(at, "deep.npy", "|u1", &[1, 2, 1, 1, 2], &[0, 1, 1, 0]);
    has(&["--target", &deep], &["spatial dimensions", "from 1 to 3", "4"]);
    let line = npy(at, "line.npy", "|u1", &[4], &[0, 1, 1, 0]);
    has(&["--target", &line], &["[4]", "[N, …]"]);
    let error = bad(&["distance", "--target", &target, "--out", &target]);
    assert!(error.contains("--out would replace"), "{error}");

    let missing = common::segfuse(&["distance", "--out", "x.npy"]);
    assert_eq!(missing.status.code(), Some(2));
    let both = common::segfuse(&["distance", "--out", "x.npy", "--target", &target, "--pred", &example("logits.npy")]);
    assert_eq!(both.status.code(), Some(2));
}
