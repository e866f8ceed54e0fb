//! `list`, `explain`, `devices`, `check` and `bench`.

mod common;

use common::{bad, file, good, good_json, gpu, segfuse};

#[test]
fn list_has_every_loss_with_its_parameters() {
    let text = good(&["list"]);
    for expected in ["tversky", "jaccard, iou", "gamma=2", "from 0 to 1", "class_weights"] {
        assert!(text.contains(expected), "no `{expected}` in\n{text}");
    }
    let losses = good_json(&["list", "--json"]);
    let losses = losses.as_array().unwrap();
    assert_eq!(losses.len(), segfuse::loss::ENTRIES.len());
    for loss in losses {
        assert!(!loss["source"].as_str().unwrap().is_empty() && !loss["doc"].as_str().unwrap().is_empty());
        assert!(loss["parameters"].is_array() && loss["aliases"].is_array());
    }
    assert_eq!(good_json(&["list", "iou", "--json"])[0]["name"], "jaccard");
}

#[test]
fn explain_tells_stages_and_floor() {
    let arguments = ["explain", "dice + ce", "--shape", "2,4,96,96,96"];
    let text = good(&[&arguments[..], &["--bandwidth", "10"]].concat());
    for expected in ["objective", "reduce", "gradient", "total", "floor", "10 GB/s"] {
        assert!(text.contains(expected), "no `{expected}` in\n{text}");
    }
    let report = good_json(&[&arguments[..], &["--bandwidth", "10", "--json"]].concat());
    let bytes = report["total_bytes"].as_f64().unwrap();
    assert!((report["floor_ms"].as_f64().unwrap() - bytes / 1e7).abs() < 1e-9);
    let half = good_json(&[&arguments[..], &["--dtype", "f16", "--mask", "--json"]].concat());
    assert_ne!(half["total_bytes"], report["total_bytes"]);
    assert!(half.get("floor_ms").is_none());
}

#[test]
fn explain_tells_the_maps_that_are_made() {
    let arguments = ["explain", "dice + 0.01*boundary + hausdorff_dt", "--shape", "1,2,8,9,10", "--spacing", "1,1,2.5"];
    let text = good(&arguments);
    for expected in ["distance ", "signed distance, squared distance of the target, squared distance of the prediction"]
    {
        assert!(text.contains(expected), "no `{expected}` in\n{text}");
    }
    let report = good_json(&[&arguments[..], &["--json"]].concat());
    assert_eq!(report["heads"][0]["stages"][0]["name"], "distance");
    assert_eq!(report["heads"][0]["maps"].as_array().unwrap().len(), 3);
    // A map of the caller's is not made.
    let given = good_json(&["explain", "boundary", "--shape", "1,2,8,9", "--distance", "shared", "--json"]);
    assert_eq!(given["heads"][0]["maps"].as_array().unwrap().len(), 0);
}

#[test]
fn devices_has_the_cpu() {
    assert!(good(&["devices"]).contains("cpu"));
    let devices = good_json(&["devices", "--json"]);
    let devices = devices.as_array().unwrap();
    assert!(devices.iter().any(|device| device["name"] == "cpu" && device.get("adapter").is_none()));
    // Every other device is one of wgpu, with its limits.
    for device in devices.iter().filter(|device| device["name"] != "cpu") {
        assert!(device["name"].as_str().unwrap().starts_with("wgpu:"), "{device}");
        let adapter = &device["adapter"];
        for key in ["binding_bytes", "buffer_bytes", "workgroup_bytes", "workgroup_invocations"] {
            assert!(adapter[key].as_u64().unwrap() > 0, "{key} of {device}");
        }
        for key in ["subgroups", "f16", "timestamps", "software"] {
            assert!(adapter[key].is_boolean(), "{key} of {device}");
        }
        assert!(adapter["driver"].is_string() && adapter["backend"].is_string());
    }
}

#[test]
fn check_takes_a_gpu() {
    let Some(gpu) = gpu() else { return };
    let folder = tempfile::tempdir().unwrap();
    let vectors = file(folder.path(), "v.json", br#"{"cases": []}"#);
    let report = good_json(&["check", "--device", &gpu, "--vectors", &vectors, "--cases", "2", "--json"]);
    let rows = report["rows"].as_array().unwrap();
    assert!(rows.iter().all(|row| row["device"] == *gpu));
    assert_eq!(rows.last().unwrap()["cases"], 2);
}

#[test]
fn bench_times_a_gpu() {
    let Some(gpu) = gpu() else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let bench = |definition: &str| {
        let text = format!("[[definition]]\nname = \"it\"\n{definition}\n");
        file(folder.path(), "d.toml", text.as_bytes())
    };
    let definitions = bench("loss = \"dice\"\nshape = [1, 2, 33, 3]\ndtype = \"f16\"");
    let json = at("r.json");
    let arguments = ["bench", "--definitions", &definitions, "--seconds", "0.05", "--device", &gpu];
    let text = good(&[&arguments[..], &["--json", &json, "--plot", &at("r.svg")]].concat());
    assert!(text.contains("timestamps") && text.contains(&*gpu), "{text}");
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    assert_eq!(report["device"], *gpu);
    assert!(["timestamps", "wall"].contains(&report["clock"].as_str().unwrap()));
    let result = &report["results"][0];
    assert!(result["threads"].is_null() && result["median_ms"].as_f64().unwrap() > 0.0);
    for copy in [&result["copy_gb_per_s"], &report["copy_gb_per_s"]] {
        assert!(copy.as_f64().unwrap() > 0.0);
    }
    assert!(bad(&[&arguments[..], &["--threads"]].concat()).contains("CPU"));
    // Planes beyond a binding, and a prediction beyond a buffer of most devices.
    let definitions = bench("loss = \"dice\"\nshape = [1, 8, 4096, 4096, 64]");
    let error = bad(&["bench", "--definitions", &definitions, "--seconds", "0.05", "--device", &gpu]);
    assert!(error.contains("definition `it`: the device allows"), "{error}");
}

#[test]
fn check_passes_here() {
    let report = good_json(&["check", "--cases", "5", "--json"]);
    assert_eq!(report["passed"], true);
    let rows = report["rows"].as_array().unwrap();
    assert!(rows.len() >= 4 && rows[0]["cases"].as_u64().unwrap() > 500);
    assert_eq!(rows[3]["cases"], 5);
    assert!(rows.iter().any(|row| row["device"] == "cpu"));
}

#[test]
fn check_finds_a_wrong_answer() {
    let folder = tempfile::tempdir().unwrap();
    let vectors = r#"{"cases": [{"name": "wrong", "spec": "dice", "shape": [1, 1, 2], "activation": "none",
        "prediction": [0.5, 0.5], "target": {"labels": [0, 1]}, "ignore_label": null, "mask": null, "weights": null, "map": null,
        "class_weights": null, "reduction": "mean", "loss": [0.25], "gradient": [0, 0], "valid_voxels": 2, "invalid_labels": 0}]}"#;
    let path = file(folder.path(), "v.json", vectors.as_bytes());
    let output = segfuse(&["check", "--cases", "0", "--vectors", &path]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("FAIL (1)") && text.contains("wrong"), "{text}");
}

#[test]
fn bench_times_distance_maps() {
    let folder = tempfile::tempdir().unwrap();
    let maps = "extents = [16, 9]\nobject = \"organs\"\nclasses = 3\nkinds = [\"outside\", \"signed\"]";
    let text = format!("[[distance]]\nname = \"it\"\n{maps}\n");
    let definitions = file(folder.path(), "d.toml", text.as_bytes());
    let json = folder.path().join("r.json").to_str().unwrap().to_string();
    for device in [Some("cpu".to_string()), gpu()].into_iter().flatten() {
        let arguments = ["bench", "--definitions", &definitions, "--seconds", "0.05", "--device", &device];
        assert!(good(&[&arguments[..], &["--json", &json]].concat()).contains("signed maps"));
        let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
        let result = &report["results"][0];
        assert_eq!((&result["loss"], &result["shape"]), (&"outside maps".into(), &serde_json::json!([1, 3, 16, 9])));
        // A byte per label and four per voxel and map.
        assert_eq!(result["bytes"], 144 * 13);
        assert!(result["median_ms"].as_f64().unwrap() > 0.0 && result["gradient"] == false);
    }
}

#[test]
fn bench_measures_and_draws() {
    let folder = tempfile::tempdir().unwrap();
    let definitions =
        "[[definition]]\nname = \"tiny\"\nloss = \"dice\"\nshape = [2, 3, 64, 64]\ntarget = \"dense-u8\"\n";
    let definitions = file(folder.path(), "d.toml", definitions.as_bytes());
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (json, svg) = (at("r.json"), at("r.svg"));
    let text = good(&["bench", "--definitions", &definitions, "--seconds", "0.05", "--json", &json, "--plot", &svg]);
    assert!(text.contains("tiny") && text.contains("copy:"), "{text}");
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    assert!(report["copy_gb_per_s"].as_f64().unwrap() > 0.0);
    let result = &report["results"][0];
    assert!(result["min_ms"].as_f64().unwrap() <= result["median_ms"].as_f64().unwrap());
    let picture = std::fs::read_to_string(svg).unwrap();
    assert!(picture.starts_with("<svg") && picture.contains("tiny"));
}
