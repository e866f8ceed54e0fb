//! `segfuse eval` on files.

mod common;

use common::{example, good, good_json, gpu, nifti, npy, npy_f32, read_f32, segfuse};
use std::collections::BTreeSet;

fn on_the_example(more: &[&str]) -> Vec<String> {
    let (pred, target) = (example("logits.npy"), example("mask.npy"));
    let arguments = ["eval", "--loss", "dice + ce", "--pred", &pred, "--target", &target, "--ignore-label", "255"];
    arguments.iter().chain(more).map(|argument| argument.to_string()).collect()
}

fn refs(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

#[test]
fn text_has_loss_terms_metrics_and_plan() {
    let text = good(&refs(&on_the_example(&["--metrics"])));
    for expected in
        ["dice", "ce", "loss", "precision", "recall", "35996 of 36864", "0 labels", "on cpu", "GB/s", "reduce"]
    {
        assert!(text.contains(expected), "no `{expected}` in\n{text}");
    }
}

#[test]
fn json_has_exactly_the_promised_keys() {
    let report = good_json(&refs(&on_the_example(&["--metrics", "--json"])));
    let keys: BTreeSet<&str> = report.as_object().unwrap().keys().map(String::as_str).collect();
    let promised = "loss terms groups valid_voxels invalid_labels metrics device bytes time_ms gb_per_s";
    assert_eq!(keys, promised.split(' ').collect());
    let terms = report["terms"].as_array().unwrap();
    let keys: BTreeSet<&str> = terms[0].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["name", "weight", "value"].into());
    let sum: f64 = terms.iter().map(|t| t["weight"].as_f64().unwrap() * t["value"].as_f64().unwrap()).sum();
    assert!((report["loss"].as_f64().unwrap() - sum).abs() < 1e-12);
    assert_eq!(report["metrics"].as_array().unwrap().len(), 4);
    assert_eq!(report["invalid_labels"], 0);
}

#[test]
fn a_gpu_says_the_same() {
    let Some(gpu) = gpu() else { return };
    let want = good_json(&refs(&on_the_example(&["--metrics", "--json"])));
    let got = good_json(&refs(&on_the_example(&["--metrics", "--json", "--device", &gpu])));
    assert_eq!(got["device"], *gpu);
    for key in ["valid_voxels", "invalid_labels", "metrics", "bytes"] {
        assert_eq!(got[key], want[key], "{key}");
    }
    let (got, want) = (got["loss"].as_f64().unwrap(), want["loss"].as_f64().unwrap());
    assert!((got - want).abs() <= 1e-6 * want, "{got} instead of {want}");
}

#[test]
fn without_the_ignore_label_the_rim_is_invalid() {
    let (pred, target) = (example("logits.npy"), example("mask.npy"));
    let report = good_json(&["eval", "--loss", "dice", "--pred", &pred, "--target", &target, "--json"]);
    assert_eq!(report["invalid_labels"], 868);
    assert_eq!(report["metrics"], serde_json::Value::Null);
}

#[test]
fn the_gradient_has_shape_and_type_of_the_prediction() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("g.npy");
    let path = path.to_str().unwrap();
    let text = good(&refs(&on_the_example(&["--grad", path])));
    assert!(text.contains("gradient"));
    let (header, gradient) = read_f32(path);
    assert!(header.contains("'<f4'") && header.contains("(1, 4, 192, 192,"), "{header}");
    // Softmax: the slopes of a voxel add up to 0. The first is outside, the corner far from the rim.
    let sum: f32 = (0..4).map(|class| gradient[class * 192 * 192]).sum();
    assert!(sum.abs() < 1e-9 && gradient.iter().any(|&g| g != 0.0));

    let twice = folder.path().join("twice.npy");
    let twice = twice.to_str().unwrap();
    good(&refs(&on_the_example(&["--grad", twice, "--grad-output", "-2"])));
    let (_, scaled) = read_f32(twice);
    let most = gradient.iter().fold(0.0_f32, |most, g| most.max(g.abs()));
    for (one, two) in gradient.iter().zip(scaled) {
        assert!((two + 2.0 * one).abs() <= 1e-6 * most);
    }
}

#[test]
fn f16_predictions_and_f32_gradients() {
    let folder = tempfile::tempdir().unwrap();
    let halves: Vec<u8> = [0x3c00_u16, 0xbc00, 0x3800, 0x0000].iter().flat_map(|x| x.to_le_bytes()).collect();
    let pred = npy(folder.path(), "p.npy", "<f2", &[1, 2, 2], &halves);
    let target = npy(folder.path(), "t.npy", "<i8", &[1, 2], &[0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    let out = folder.path().join("g.npy");
    let out = out.to_str().unwrap();
    good(&["eval", "--loss", "ce", "--pred", &pred, "--target", &target, "--grad", out]);
    assert!(String::from_utf8_lossy(&std::fs::read(out).unwrap()).contains("'<f2'"));
    good(&["eval", "--loss", "ce", "--pred", &pred, "--target", &target, "--grad", out, "--grad-dtype", "f32"]);
    let (header, gradient) = read_f32(out);
    assert!(header.contains("'<f4'") && header.contains("(1, 2, 2,"), "{header}");
    // Voxel 0: logits 1 and 0.5, label 0.
    let p = 1.0 / (1.0 + (-0.5_f32).exp());
    assert!((gradient[0] - (p - 1.0) / 2.0).abs() < 1e-6);
}

#[test]
fn f64_is_narrowed_with_a_note() {
    let folder = tempfile::tempdir().unwrap();
    let doubles: Vec<u8> = [0.5_f64, 0.25].iter().flat_map(|x| x.to_le_bytes()).collect();
    let pred = npy(folder.path(), "p.npy", "<f8", &[1, 1, 2], &doubles);
    let target = npy(folder.path(), "t.npy", "|b1", &[1, 2], &[1, 0]);
    let output =
        segfuse(&["eval", "--loss", "bce", "--pred", &pred, "--target", &target, "--activation", "none", "--json"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("f64 narrowed to f32"));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["notes"].as_array().unwrap().len(), 1);
    let want = -(0.5_f64.ln() + 0.75_f64.ln()) / 2.0;
    assert!((report["loss"].as_f64().unwrap() - want).abs() < 1e-6);
}

#[test]
fn layouts_agree_and_reduction_none_gives_a_list() {
    let folder = tempfile::tempdir().unwrap();
    let planar: Vec<f32> = (0..24).map(|i| ((i * 7) % 11) as f32 / 4.0 - 1.0).collect();
    // [2, 3, 4] to [2, 4, 3]
    let interleaved: Vec<f32> = (0..24).map(|i| planar[i / 12 * 12 + i % 3 * 4 + i / 3 % 4]).collect();
    let a = npy_f32(folder.path(), "a.npy", &[2, 3, 4], &planar);
    let b = npy_f32(folder.path(), "b.npy", &[2, 4, 3], &interleaved);
    let target = npy(folder.path(), "t.npy", "|u1", &[2, 4], &[0, 1, 2, 0, 1, 1, 2, 0]);
    let weights = npy_f32(folder.path(), "w.npy", &[2, 4], &[1.0, 0.5, 2.0, 1.0, 1.0, 1.0, 0.0, 1.0]);
    let mask = npy(folder.path(), "m.npy", "|u1", &[2, 4], &[1, 1, 1, 0, 1, 1, 1, 1]);
    let map = npy_f32(folder.path(), "d.npy", &[2, 4], &[0.5; 8]);
    let run = |pred: &str, layout: &str| {
        let more = ["--weights", &weights, "--mask", &mask, "--distance", &map, "--class-weights", "1,2,0.5"];
        let mut arguments = vec!["eval", "--loss", "dice + boundary", "--pred", pred, "--target", &target];
        arguments.extend(more);
        arguments.extend(["--layout", layout, "--reduction", "none", "--absent", "skip", "--no-background", "--json"]);
        good_json(&arguments)
    };
    let (a, b) = (run(&a, "ncv"), run(&b, "nvc"));
    assert_eq!(a["loss"].as_array().unwrap().len(), 2);
    assert_eq!(a["valid_voxels"], 7);
    for sample in 0..2 {
        let (a, b) = (a["loss"][sample].as_f64().unwrap(), b["loss"][sample].as_f64().unwrap());
        assert!((a - b).abs() < 1e-6);
    }
}

#[test]
fn nifti_and_npy_agree() {
    let folder = tempfile::tempdir().unwrap();
    // [x, y, z, C] = [2, 3, 2, 2], x fastest; the same as [1, C, x, y, z] in C order.
    let at = |x: usize, y: usize, z: usize, c: usize| ((x * 5 + y * 3 + z * 7 + c * 11) % 13) as f32 / 4.0;
    let label = |x: usize, y: usize, z: usize| (x + y + z) % 2;
    let mut fortran = Vec::new();
    let mut labels = Vec::new();
    for c in 0..2 {
        for z in 0..2 {
            for y in 0..3 {
                for x in 0..2 {
                    fortran.extend(at(x, y, z, c).to_le_bytes());
                    if c == 0 {
                        labels.extend((label(x, y, z) as f32).to_le_bytes());
                    }
                }
            }
        }
    }
    let (mut planar, mut plain) = (Vec::new(), Vec::new());
    for c in 0..2 {
        for x in 0..2 {
            for y in 0..3 {
                for z in 0..2 {
                    planar.push(at(x, y, z, c));
                    if c == 0 {
                        plain.push(label(x, y, z) as u8);
                    }
                }
            }
        }
    }
    let pred = nifti(folder.path(), "p.nii", &[2, 3, 2, 2], 16, 32, &fortran);
    let vector = nifti(folder.path(), "v.nii", &[2, 3, 2, 1, 2], 16, 32, &fortran);
    let target = nifti(folder.path(), "t.nii", &[2, 3, 2], 16, 32, &labels);
    let pred_npy = npy_f32(folder.path(), "p.npy", &[1, 2, 2, 3, 2], &planar);
    let target_npy = npy(folder.path(), "t.npy", "|u1", &[1, 2, 3, 2], &plain);
    let out = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let run = |pred: &str, target: &str, layout: &str, grad: &str| {
        let arguments = ["eval", "--loss", "dice + ce", "--pred", pred, "--target", target];
        good_json(&[&arguments[..], &["--layout", layout, "--grad", grad, "--json"]].concat())["loss"].as_f64().unwrap()
    };
    let want = run(&pred_npy, &target_npy, "ncv", &out("a.npy"));
    for (pred, target, layout) in [
        (&pred, &target, "ncv"),
        (&pred, &target, "nvc"),
        (&vector, &target, "ncv"),
        (&pred_npy, &target, "ncv"),
        (&pred, &target_npy, "nvc"),
    ] {
        let got = run(pred, target, layout, &out("b.npy"));
        assert!((got - want).abs() < 1e-6, "{pred} {target} {layout}: {got} instead of {want}");
    }
    // The gradient of a NIfTI prediction lies in the axes of its file.
    let (_, planar) = read_f32(&out("a.npy"));
    run(&pred, &target, "ncv", &out("b.npy"));
    let (header, of_file) = read_f32(&out("b.npy"));
    assert!(header.contains("(2, 3, 2, 2,"), "{header}");
    for voxel in 0..12 {
        for class in 0..2 {
            assert_eq!(of_file[voxel * 2 + class], planar[class * 12 + voxel]);
        }
    }
}
