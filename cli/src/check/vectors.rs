//! The test vectors: problems whose answers were computed elsewhere.

use super::case::{Case, TargetValues, Want};
use crate::error::CliError;
use segfuse::loss::Absent;
use segfuse::{Activation, Map, Reduction, Shape};
use serde::Deserialize;
use std::path::Path;

const EMBEDDED: &str = include_str!("../../../test_vectors/vectors.json");

#[derive(Deserialize)]
struct Vectors {
    cases: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    name: String,
    spec: String,
    shape: Vec<usize>,
    activation: String,
    prediction: Vec<f64>,
    target: VectorTarget,
    ignore_label: Option<i64>,
    mask: Option<Vec<u8>>,
    weights: Option<Vec<f64>>,
    map: Option<VectorMap>,
    spacing: Option<Vec<f64>>,
    class_weights: Option<Vec<f64>>,
    reduction: String,
    loss: Vec<f64>,
    gradient: Vec<f64>,
    valid_voxels: u64,
    invalid_labels: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum VectorTarget {
    Labels(Vec<i64>),
    Dense(Vec<f64>),
}

#[derive(Deserialize)]
struct VectorMap {
    per_class: bool,
    values: Vec<f64>,
}

/// The vectors of a file, or those of this build.
pub(super) fn read(path: Option<&Path>) -> Result<Vec<Case>, CliError> {
    let (shown, text) = match path {
        None => (Path::new("test vectors"), EMBEDDED.to_string()),
        Some(path) => (path, std::fs::read_to_string(path).map_err(CliError::io(path))?),
    };
    let wrong = |what: String| CliError::file(shown, what);
    let vectors: Vectors = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    vectors.cases.into_iter().map(|vector| vector.case().map_err(wrong)).collect()
}

impl Vector {
    fn case(self) -> Result<Case, String> {
        let of = |what: &str| format!("{}: {what}", self.name);
        let [samples, classes, spatial @ ..] = self.shape.as_slice() else {
            return Err(of("a shape has at least three numbers"));
        };
        let shape = Shape::new(*samples, *classes, spatial).map_err(|error| of(&error.to_string()))?;
        let elements = shape.elements() as usize;
        if self.prediction.len() != elements || self.gradient.len() != elements {
            return Err(of("prediction and gradient must have as many numbers as the shape says"));
        }
        let activation = match self.activation.as_str() {
            "none" => Activation::None,
            "sigmoid" => Activation::Sigmoid,
            "softmax" => Activation::Softmax,
            other => return Err(of(&format!("there is no activation `{other}`"))),
        };
        let reduction = match self.reduction.as_str() {
            "mean" => Reduction::Mean,
            "sum" => Reduction::Sum,
            "none" => Reduction::None,
            other => return Err(of(&format!("there is no reduction `{other}`"))),
        };
        if let VectorTarget::Dense(values) = &self.target
            && values.len() != elements
        {
            return Err(of("a dense target must have as many numbers as the shape says"));
        }
        if let Some(map) = &self.map
            && map.per_class
            && map.values.len() != elements
        {
            return Err(of("a map per class must have as many numbers as the shape says"));
        }
        Ok(Case {
            name: self.name,
            spec: self.spec,
            shape,
            activation,
            prediction: self.prediction,
            target: match self.target {
                VectorTarget::Labels(labels) => TargetValues::Labels(labels),
                VectorTarget::Dense(values) => TargetValues::Dense(values),
            },
            ignore_label: self.ignore_label,
            mask: self.mask,
            weights: self.weights,
            map: self.map.map(|m| (if m.per_class { Map::PerClass } else { Map::Shared }, m.values)),
            spacing: self.spacing,
            class_weights: self.class_weights,
            reduction,
            batch: false,
            background: true,
            absent: Absent::Count,
            want: Want {
                loss: self.loss,
                gradient: Some(self.gradient),
                valid_voxels: self.valid_voxels,
                invalid_labels: self.invalid_labels,
            },
        })
    }
}
