//! Bad input: one clear line, exit code 2, no file.

mod common;

use common::{bad, example, file, nifti, npy, npy_f32, segfuse};
use std::path::Path;

/// Evaluates `loss` on two files and returns the error; no gradient may appear.
fn eval(folder: &Path, loss: &str, pred: &str, target: &str, more: &[&str]) -> String {
    let out = folder.join("never.npy");
    let arguments = ["eval", "--loss", loss, "--pred", pred, "--target", target, "--grad", out.to_str().unwrap()];
    let error = bad(&[&arguments[..], more].concat());
    assert!(!out.exists(), "a gradient was written");
    error
}

#[track_caller]
fn has(error: &str, parts: &[&str]) {
    for part in parts {
        assert!(error.contains(part), "no `{part}` in: {error}");
    }
}

#[test]
fn mistakes_in_the_spec() {
    let folder = tempfile::tempdir().unwrap();
    let (pred, target) = (example("logits.npy"), example("mask.npy"));
    let eval = |loss: &str| eval(folder.path(), loss, &pred, &target, &[]);
    has(&eval("dise"), &["no loss `dise`", "dice"]);
    has(&eval("dice(gama=2)"), &["no parameter `gama`"]);
    has(&eval("dice(smooth_nr=-1)"), &["smooth_nr", "at least 0", "-1"]);
    has(&eval("dice +"), &["byte 6"]);
    let spaced = |spacing: &str| self::eval(folder.path(), "boundary", &pred, &target, &["--spacing", spacing]);
    has(&spaced("1,0"), &["spacing along axis 1", "above 0", "got 0"]);
    has(&spaced("1"), &["spacings", "got 1"]);
}

#[test]
fn files_that_are_not_what_they_should_be() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let (pred, target) = (example("logits.npy"), example("mask.npy"));
    has(&eval(at, "dice", "missing.npy", &target, &[]), &["missing.npy"]);
    has(&eval(at, "dice", &file(at, "x.txt", b""), &target, &[]), &[".npy, .nii or .nii.gz"]);
    has(&eval(at, "dice", &file(at, "x.npy", b"hello"), &target, &[]), &["x.npy", "NUMPY"]);
    let cut = npy(at, "cut.npy", "<f4", &[1, 4, 192, 192], &[0; 100]);
    has(&eval(at, "dice", &cut, &target, &[]), &["cut short", "589824"]);
    let objects = npy(at, "o.npy", "|O", &[1], &[0; 100]);
    has(&eval(at, "dice", &objects, &target, &[]), &["object"]);
    has(&eval(at, "dice", &pred, &file(at, "x.nii", b"hello"), &[]), &["x.nii"]);
    let cut = nifti(at, "cut.nii", &[4, 4, 4], 2, 8, &[0; 10]);
    has(&eval(at, "dice", &pred, &cut, &[]), &["cut short", "64", "10"]);
}

#[test]
fn shapes_that_do_not_match() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let (pred, target) = (example("logits.npy"), example("mask.npy"));
    let small = npy(at, "small.npy", "|u1", &[1, 190, 192], &[0; 190 * 192]);
    has(&eval(at, "dice", &pred, &small, &[]), &["[1, 190, 192]", "[1, 192, 192]", "[1, 4, 192, 192]"]);
    let volume = nifti(at, "t.nii", &[4, 4, 4], 2, 8, &[0; 64]);
    has(&eval(at, "dice", &pred, &volume, &[]), &["[1, 4, 4, 4]", "[1, 192, 192]"]);
    has(&eval(at, "dice", &pred, &target, &["--mask", &small]), &["the mask", "[1, 190, 192]"]);
    let dense = npy(at, "dense.npy", "|u1", &[1, 4, 192, 192], &vec![1; 4 * 192 * 192]);
    has(&eval(at, "dice", &pred, &target, &["--mask", &dense]), &["one value per voxel"]);
    let flat = npy_f32(at, "flat.npy", &[4, 4], &[0.0; 16]);
    has(&eval(at, "dice", &flat, &target, &[]), &["[4, 4]", "at least one spatial axis"]);
    let empty = npy_f32(at, "empty.npy", &[1, 0, 4], &[]);
    has(&eval(at, "dice", &empty, &target, &[]), &["number of classes", "0"]);
    let two = nifti(at, "two.nii", &[2, 2, 2, 2, 2], 16, 32, &[0; 128]);
    has(&eval(at, "dice", &two, &target, &[]), &["one sample", "[2, 2, 2, 2, 2]"]);
    has(&eval(at, "dice", &pred, &target, &["--class-weights", "1,2"]), &["need 4", "got 2"]);
    has(&eval(at, "dice", &pred, &target, &["--grad-output", "1,2,3"]), &["1", "got 3"]);
}

#[test]
fn types_that_do_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let pred = npy_f32(at, "p.npy", &[1, 2, 2], &[0.0; 4]);
    let labels = npy(at, "t.npy", "|u1", &[1, 2], &[0, 1]);
    has(
        &eval(at, "dice", &npy(at, "i.npy", "|u1", &[1, 2, 2], &[0; 4]), &labels, &[]),
        &["must be f16, f32 or f64", "u8"],
    );
    let floats = npy_f32(at, "f.npy", &[1, 2], &[0.0, 1.0]);
    has(&eval(at, "dice", &pred, &floats, &[]), &["labels must be integers", "f32"]);
    let fractions: Vec<u8> = [0.0_f32, 0.5].iter().flat_map(|x| x.to_le_bytes()).collect();
    let soft = nifti(at, "f.nii", &[2, 1, 1], 16, 32, &fractions);
    let volume = npy_f32(at, "v.npy", &[1, 2, 2, 1, 1], &[0.0; 4]);
    has(&eval(at, "dice", &volume, &soft, &[]), &["labels must be integers", "not all values are whole"]);
    let integers = npy(at, "d.npy", "<i4", &[1, 2, 2], &[0; 16]);
    has(&eval(at, "dice", &pred, &integers, &[]), &["dense target", "i32"]);
    has(&eval(at, "dice", &pred, &labels, &["--mask", &floats]), &["mask", "f32"]);
    let negative = npy_f32(at, "w.npy", &[1, 2], &[1.0, -1.0]);
    has(&eval(at, "dice", &pred, &labels, &["--weights", &negative]), &["at least 0", "-1"]);
    has(&eval(at, "dice", &pred, &labels, &["--grad-dtype", "f16"]), &["gradient", "f16"]);
}

#[test]
fn devices_shapes_and_options_that_are_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let (pred, target) = (example("logits.npy"), example("mask.npy"));
    has(&eval(folder.path(), "dice", &pred, &target, &["--device", "abacus"]), &["abacus", "cpu"]);
    has(&bad(&["check", "--device", "abacus"]), &["abacus", "available", "cpu"]);
    has(&bad(&["bench", "--device", "wgpu:999"]), &["wgpu:999", "available", "cpu"]);
    has(
        &bad(&["eval", "--loss", "dice", "--pred", &pred, "--target", &target, "--device", "wgpu:x"]),
        &["wgpu:x", "cpu"],
    );
    has(&bad(&["check", "--vectors", "missing.json"]), &["missing.json"]);
    has(&bad(&["explain", "dice", "--shape", "2,3"]), &["spatial dimensions", "got 0"]);
    has(&bad(&["explain", "dice", "--shape", "2"]), &["--shape", "got 1"]);
    has(&bad(&["explain", "dice", "--shape", "2,3,0"]), &["spatial extent", "0"]);
    has(&bad(&["explain", "dice", "--shape", "1,2,4", "--bandwidth", "0"]), &["--bandwidth"]);
    has(&bad(&["list", "nothing_like_it"]), &["nothing_like_it"]);
    has(&bad(&["bench", "--filter", "nothing_like_it"]), &["nothing_like_it", "dice_ce_softmax"]);
    has(&bad(&["bench", "--definitions", "missing.toml"]), &["missing.toml"]);
    assert_eq!(segfuse(&["eval"]).status.code(), Some(2));
}

#[test]
fn a_gradient_that_cannot_be_written() {
    let (pred, target) = (example("logits.npy"), example("mask.npy"));
    let error =
        bad(&["eval", "--loss", "dice", "--pred", &pred, "--target", &target, "--grad", "no/such/folder/g.npy"]);
    has(&error, &["no/such/folder/g.npy"]);
    // Neither an input nor anything but an ordinary file is replaced.
    let error = bad(&["eval", "--loss", "dice", "--pred", &pred, "--target", &target, "--grad", &pred]);
    has(&error, &["--grad", "logits.npy"]);
    let folder = std::env::temp_dir();
    let folder = folder.to_str().expect("a UTF-8 path");
    let error = bad(&["eval", "--loss", "dice", "--pred", &pred, "--target", &target, "--grad", folder]);
    has(&error, &["not an ordinary file"]);
    let error = bad(&[
        "eval",
        "--loss",
        "dice",
        "--pred",
        &pred,
        "--target",
        &target,
        "--grad",
        "g.npy",
        "--grad-output",
        "nan",
    ]);
    has(&error, &["--grad-output", "finite"]);
}
