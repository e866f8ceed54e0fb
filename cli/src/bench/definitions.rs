//! The definitions of what is measured.

use crate::args::{ActivationArg, FloatArg, KindArg, TargetArg};
use crate::error::CliError;
use clap::ValueEnum;
use segfuse::distance::{Distances, Source};
use segfuse::{Activation, DType, Plan, Problem, Shape, Target};
use serde::Deserialize;
use std::path::Path;

#[path = "../../../benches/objects/mod.rs"]
mod objects;

const EMBEDDED: &str = include_str!("../../../benches/definitions.toml");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    definition: Vec<LossDefinition>,
    #[serde(default)]
    distance: Vec<DistanceDefinition>,
}

/// A loss on a problem; the fields are explained in `benches/definitions.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LossDefinition {
    name: String,
    loss: String,
    shape: Vec<usize>,
    #[serde(default = "f32_name")]
    dtype: String,
    activation: Option<String>,
    #[serde(default = "u8_name")]
    target: String,
    object: Option<String>,
    #[serde(default = "yes")]
    gradient: bool,
}

/// Maps of labels; the fields are explained in `benches/distances.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DistanceDefinition {
    name: String,
    extents: Vec<usize>,
    object: String,
    classes: usize,
    kinds: Vec<String>,
}

/// One measurement.
#[derive(Clone, Debug)]
pub(super) struct Definition {
    pub(super) name: String,
    /// The loss, or the kind of the maps.
    pub(super) what: String,
    pub(super) shape: Vec<usize>,
    pub(super) dtype: String,
    /// What a call reads and writes.
    pub(super) bytes: u64,
    pub(super) work: Work,
}

/// What a call computes.
#[derive(Clone, Debug)]
pub(super) enum Work {
    Loss { plan: Plan, activation: Activation, labels: Option<Labels>, gradient: bool },
    Distance { maps: Distances, labels: Labels },
}

/// Labels that are made when they are measured.
#[derive(Clone, Debug)]
pub(super) struct Labels {
    object: String,
    extents: Vec<usize>,
    classes: usize,
}

impl Labels {
    /// # Errors
    /// Where there is no such object.
    fn new(definition: &str, object: &str, extents: &[usize], classes: usize) -> Result<Labels, CliError> {
        // A small one tells whether there is such an object.
        if classes < 2 || objects::labels(object, &[1], classes).is_none() {
            return Err(wrong(definition, "object", "one of ball, organs, cells, noise, of 2 classes at least"));
        }
        Ok(Labels { object: object.into(), extents: extents.into(), classes })
    }

    /// The labels; `None` where there is no such object.
    pub(super) fn make(&self) -> Option<Vec<u8>> {
        objects::labels(&self.object, &self.extents, self.classes)
    }
}

fn f32_name() -> String {
    "f32".into()
}
fn u8_name() -> String {
    "u8".into()
}
fn yes() -> bool {
    true
}

/// The definitions of a file, or those of this build.
pub(super) fn read(path: Option<&Path>) -> Result<Vec<Definition>, CliError> {
    let (shown, text) = match path {
        None => (Path::new("definitions"), EMBEDDED.to_string()),
        Some(path) => (path, std::fs::read_to_string(path).map_err(CliError::io(path))?),
    };
    let file: File = toml::from_str(&text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        CliError::file(shown, format!("line {line}: {}", error.message()))
    })?;
    let mut all = file.definition.iter().map(LossDefinition::definition).collect::<Result<Vec<_>, _>>()?;
    for maps in &file.distance {
        for kind in &maps.kinds {
            all.push(maps.definition(kind)?);
        }
    }
    Ok(all)
}

impl LossDefinition {
    fn definition(&self) -> Result<Definition, CliError> {
        let of = |error: segfuse::Error| CliError::Arguments(format!("definition `{}`: {error}", self.name));
        let [samples, classes, spatial @ ..] = self.shape.as_slice() else {
            return Err(wrong(&self.name, "shape", "N, C and at least one spatial extent"));
        };
        let mut problem = Problem::new(Shape::new(*samples, *classes, spatial).map_err(of)?);
        let dtype: DType = named::<FloatArg>(&self.name, "dtype", &self.dtype)?.into();
        problem = match named::<TargetArg>(&self.name, "target", &self.target)?.into() {
            Target::Labels(dtype) => problem.labels(dtype),
            Target::Dense(dtype) => problem.dense(dtype),
        };
        // As given, or softmax for several classes and sigmoid for one.
        let activation = match &self.activation {
            Some(name) => named::<ActivationArg>(&self.name, "activation", name)?.into(),
            None if *classes == 1 => Activation::Sigmoid,
            None => Activation::Softmax,
        };
        let labels = match &self.object {
            Some(_) if self.target != "u8" => return Err(wrong(&self.name, "target", "u8 where there is an object")),
            Some(object) => Some(Labels::new(&self.name, object, spatial, (*classes).max(2))?),
            None => None,
        };
        let objective = self.loss.parse().map_err(of)?;
        let plan = Plan::new(&objective, &problem.prediction(dtype, activation)).map_err(of)?;
        let explanation = plan.explain();
        Ok(Definition {
            name: self.name.clone(),
            what: self.loss.clone(),
            shape: self.shape.clone(),
            dtype: self.dtype.clone(),
            bytes: if self.gradient { explanation.total_bytes } else { explanation.forward_bytes },
            work: Work::Loss { plan, activation, labels, gradient: self.gradient },
        })
    }
}

impl DistanceDefinition {
    /// With two classes one map is made, of class 1; that of several labels is of all but 0.
    fn definition(&self, kind: &str) -> Result<Definition, CliError> {
        let of = |error: segfuse::Error| CliError::Arguments(format!("definition `{}`: {error}", self.name));
        let labels = Labels::new(&self.name, &self.object, &self.extents, self.classes)?;
        let shape = Shape::new(1, self.classes, &self.extents).map_err(of)?;
        let maps = Distances::new(&shape, Source::Labels(DType::U8));
        let maps = maps.kind(named::<KindArg>(&self.name, "kinds", kind)?.into());
        let is_one = self.classes == 2 || kind == "multi-label";
        let maps = if is_one { maps.classes((1..self.classes).collect::<Vec<_>>()) } else { maps };
        maps.check().map_err(of)?;
        Ok(Definition {
            name: self.name.clone(),
            what: format!("{kind} maps"),
            shape: [&[1, maps.maps()], &self.extents[..]].concat(),
            dtype: f32_name(),
            bytes: shape.voxels() + maps.elements() * DType::F32.size(),
            work: Work::Distance { maps, labels },
        })
    }
}

fn named<T: ValueEnum>(definition: &str, key: &str, name: &str) -> Result<T, CliError> {
    T::from_str(name, false).map_err(|_| {
        let names: Vec<String> =
            T::value_variants().iter().filter_map(|v| Some(v.to_possible_value()?.get_name().to_string())).collect();
        wrong(definition, key, &format!("one of {}", names.join(", ")))
    })
}

fn wrong(definition: &str, key: &str, expected: &str) -> CliError {
    CliError::Arguments(format!("definition `{definition}`: {key} must be {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISTANCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../benches/distances.toml");

    #[test]
    fn every_definition_of_the_repository_can_be_measured() {
        assert!(read(None).unwrap().len() >= 6);
        let distances = read(Some(Path::new(DISTANCES))).unwrap();
        assert!(distances.len() >= 10);
        for definition in &distances {
            assert!(matches!(definition.work, Work::Distance { .. }) && definition.shape.len() >= 4, "{definition:?}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        let refused = |text: &str, parts: &[&str]| {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
            let error = read(Some(file.path())).unwrap_err().line();
            parts.iter().for_each(|part| assert!(error.contains(part), "no `{part}` in: {error}"));
        };
        refused("[[definition]]\nname = \"x\"\nloss = \"dice\"\nsize = 3\n", &["line", "size"]);
        let loss = "[[definition]]\nname = \"x\"\nloss = \"dice\"\nshape = [1, 2, 8]\ntarget = \"f64\"\n";
        refused(loss, &["`x`", "target must be one of u8, i16"]);
        let of_object =
            |more: &str| format!("[[definition]]\nname = \"x\"\nloss = \"ce\"\nshape = [1, 2, 8]\n{more}\n");
        refused(&of_object("object = \"cube\""), &["`x`", "object", "ball"]);
        refused(&of_object("object = \"ball\"\ntarget = \"i64\""), &["`x`", "target must be u8"]);
        let maps = |object: &str, kind: &str| {
            format!(
                "[[distance]]\nname = \"x\"\nextents = [4, 4]\nobject = \"{object}\"\nclasses = 2\nkinds = [\"{kind}\"]\n"
            )
        };
        refused(&maps("cube", "inside"), &["`x`", "object", "ball"]);
        refused(&maps("ball", "nearest"), &["`x`", "kinds", "two-sided"]);
    }
}
