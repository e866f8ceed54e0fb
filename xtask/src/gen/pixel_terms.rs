//! The pixel terms of every loss as functions of a voxel, with their derivatives.

use super::header;
use segfuse::Objective;
use segfuse::loss::{ENTRIES, Part};
use segfuse::spec::{Context, Id, Language, PIXEL_TERMS_MAX, Recorder, Voxel, VoxelInput, lower};
use std::cell::Cell;
use std::fmt::Write;

/// Most parameters that the pixel terms of one loss take.
const PARAMETERS_MAX: usize = 4;

/// Losses whose terms change shape by a setting, besides the defaults.
const VARIANTS: [(&str, &str); 2] =
    [("distance_ce_unet", "distance_ce(map=unet)"), ("unified_focal_symmetric", "unified_focal(symmetric=true)")];

pub(super) fn text() -> String {
    let mut text =
        header("The pixel terms of the losses: values, and slopes of Σ c[k]·value[k] by p, ln p, q and ln q.");
    text += &format!(
        "#pragma once\n\n#define PIXEL_TERMS_MAX {PIXEL_TERMS_MAX}\n#define PIXEL_PARAMETERS_MAX {PARAMETERS_MAX}\n\n\
         struct Voxel {{\n    float {};\n}};\n\n\
         struct PixelSlopes {{\n    float p, ln_p, q, ln_q;\n}};\n",
        VoxelInput::ALL.map(field).join(", ")
    );
    let defaults = ENTRIES.iter().map(|entry| (entry.name.to_string(), entry.default_loss()));
    let variants = VARIANTS.iter().map(|(name, spec)| {
        let objective: Objective = spec.parse().expect("the table holds valid specs");
        (name.to_string(), objective.terms()[0].loss.clone())
    });
    for (name, loss) in defaults.chain(variants) {
        for (form, categorical) in [("categorical", true), ("binary", false)] {
            let context = Context { classes: if categorical { 2 } else { 1 }, categorical, given_map: false };
            for (index, part) in loss.parts(context).iter().enumerate() {
                text += &functions(&format!("{name}_{index}_{form}"), part, context);
            }
        }
    }
    text
}

/// The field of a voxel.
fn field(input: VoxelInput) -> &'static str {
    match input {
        VoxelInput::P => "p",
        VoxelInput::LnP => "ln_p",
        VoxelInput::Q => "q",
        VoxelInput::LnQ => "ln_q",
        VoxelInput::G => "g",
        VoxelInput::Map => "map",
        VoxelInput::SignedDistance => "signed_distance",
        VoxelInput::TargetSquared => "target_squared",
        VoxelInput::PredictionSquared => "prediction_squared",
        VoxelInput::Closeness => "closeness",
        VoxelInput::ContourDistance => "contour_distance",
        VoxelInput::ObjectDistances => "object_distances",
    }
}

/// The two functions of a part, or nothing where it has no pixel term.
fn functions(name: &str, part: &Part, context: Context) -> String {
    let slots = VoxelInput::ALL.len();
    let recorder = Recorder::new();
    let inputs = VoxelInput::ALL.map(|slot| recorder.input(slot as u8));
    // The inputs first, so that their ids are their slots.
    for input in inputs {
        recorder.id(input);
    }
    let parameters = Cell::new(0usize);
    let parameter = |_: f64| {
        parameters.set(parameters.get() + 1);
        recorder.input((slots + parameters.get() - 1) as u8)
    };
    let nodes = part.pixel_nodes(&Voxel::new(inputs, context, &parameter));
    let values: Vec<Id> = nodes.into_iter().map(|node| recorder.id(node)).collect();
    if values.is_empty() {
        return String::new();
    }
    assert!(parameters.get() <= PARAMETERS_MAX, "{name} has {} parameters", parameters.get());
    let seeds: Vec<(Id, Id)> = values
        .iter()
        .enumerate()
        .map(|(k, &value)| (value, recorder.id(recorder.input((slots + PARAMETERS_MAX + k) as u8))))
        .collect();
    let mut graph = recorder.finish();
    let by: Vec<Id> = VoxelInput::PREDICTED.iter().map(|&slot| slot as Id).collect();
    let slopes = graph.adjoint(&seeds, &by);
    let input = |slot: u8| {
        let slot = slot as usize;
        match VoxelInput::ALL.get(slot) {
            Some(&input) => format!("v.{}", field(input)),
            None if slot < slots + PARAMETERS_MAX => format!("parameter[{}]", slot - slots),
            None => format!("c[{}]", slot - slots - PARAMETERS_MAX),
        }
    };
    let value_body = lower(&graph, &values, Language::Cuda, &input, &|k| format!("value[{k}]"))
        .expect("the constants of the losses are finite");
    let fields = ["p", "ln_p", "q", "ln_q"];
    let slope_body = lower(&graph, &slopes, Language::Cuda, &input, &|k| format!("slope.{}", fields[k]))
        .expect("the constants of the losses are finite");
    let mut text = String::new();
    let head = "__device__ __forceinline__";
    let arguments = "const Voxel v, const float (&parameter)[PIXEL_PARAMETERS_MAX]";
    writeln!(text, "\n{head} void pixel_{name}({arguments}, float (&value)[PIXEL_TERMS_MAX]) {{\n{value_body}}}")
        .expect("writing to a string");
    writeln!(
        text,
        "\n{head} PixelSlopes pixel_{name}_slopes({arguments}, const float (&c)[PIXEL_TERMS_MAX]) {{\n    \
         PixelSlopes slope;\n{slope_body}    return slope;\n}}"
    )
    .expect("writing to a string");
    text
}
