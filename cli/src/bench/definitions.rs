//! The definitions of what is measured.

use crate::args::{ActivationArg, FloatArg, TargetArg};
use crate::error::CliError;
use clap::ValueEnum;
use segfuse::{Activation, DType, Plan, Problem, Shape, Target};
use serde::Deserialize;
use std::path::Path;

const EMBEDDED: &str = include_str!("../../../benches/definitions.toml");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    definition: Vec<Definition>,
}

/// One measurement; the fields are explained in `benches/definitions.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Definition {
    pub(super) name: String,
    pub(super) loss: String,
    pub(super) shape: Vec<usize>,
    #[serde(default = "f32_name")]
    pub(super) dtype: String,
    activation: Option<String>,
    #[serde(default = "u8_name")]
    target: String,
    #[serde(default = "yes")]
    pub(super) gradient: bool,
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
    Ok(file.definition)
}

impl Definition {
    /// The plan.
    pub(super) fn plan(&self) -> Result<Plan, CliError> {
        let of = |error: segfuse::Error| CliError::Arguments(format!("definition `{}`: {error}", self.name));
        let [samples, classes, spatial @ ..] = self.shape.as_slice() else {
            return Err(self.wrong("shape", "N, C and at least one spatial extent"));
        };
        let mut problem = Problem::new(Shape::new(*samples, *classes, spatial).map_err(of)?);
        let dtype: DType = self.named::<FloatArg>("dtype", &self.dtype)?.into();
        problem = match self.named::<TargetArg>("target", &self.target)?.into() {
            Target::Labels(dtype) => problem.labels(dtype),
            Target::Dense(dtype) => problem.dense(dtype),
        };
        let objective = self.loss.parse().map_err(of)?;
        Plan::new(&objective, &problem.prediction(dtype, self.activation()?)).map_err(of)
    }
    /// What a call reads and writes.
    pub(super) fn bytes(&self, plan: &Plan) -> u64 {
        let explanation = plan.explain();
        if self.gradient { explanation.total_bytes } else { explanation.forward_bytes }
    }
    /// The activation: as given, or softmax for several classes and sigmoid for one.
    pub(super) fn activation(&self) -> Result<Activation, CliError> {
        Ok(match &self.activation {
            Some(name) => self.named::<ActivationArg>("activation", name)?.into(),
            None if self.shape.get(1) == Some(&1) => Activation::Sigmoid,
            None => Activation::Softmax,
        })
    }
    fn named<T: ValueEnum>(&self, key: &str, name: &str) -> Result<T, CliError> {
        T::from_str(name, false).map_err(|_| {
            let names: Vec<String> = T::value_variants()
                .iter()
                .filter_map(|v| Some(v.to_possible_value()?.get_name().to_string()))
                .collect();
            self.wrong(key, &format!("one of {}", names.join(", ")))
        })
    }
    fn wrong(&self, key: &str, expected: &str) -> CliError {
        CliError::Arguments(format!("definition `{}`: {key} must be {expected}", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_definition_of_this_build_has_a_plan() {
        let definitions = read(None).unwrap();
        assert!(definitions.len() >= 6);
        for definition in definitions {
            definition.plan().unwrap();
        }
    }

    #[test]
    fn mistakes_are_named() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, b"[[definition]]\nname = \"x\"\nloss = \"dice\"\nsize = 3\n").unwrap();
        let error = read(Some(file.path())).unwrap_err().line();
        assert!(error.contains("line") && error.contains("size"), "{error}");
        let mut definition = read(None).unwrap().remove(0);
        definition.target = "f64".into();
        assert!(definition.plan().unwrap_err().line().contains("target must be one of u8, i16"));
    }
}
