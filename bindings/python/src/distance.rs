//! Distance maps.

use crate::array::{Array, OnStream, Place, Role};
use crate::error::{Kind, python};
use crate::settings::{Axes, activation, axes, word};
use crate::{cuda, fork};
use pyo3::prelude::*;
use segfuse::distance::{Distances, Hard, Kind as MapKind, Source};
use segfuse::{Activation, Layout, Shape};

/// Writes the distance maps of `source` to `maps`; `segfuse.distance` is what people use. On a CUDA device they are launched on
/// `stream`, a handle.
#[pyfunction]
#[pyo3(signature = (
    source, maps, *, of, num_classes, kind, activation_name, threshold, spacing, squared, classes, ignore_index, layout, stream
))]
#[expect(clippy::too_many_arguments, reason = "the settings of a transform, by name")]
pub(crate) fn distance(
    py: Python<'_>,
    source: &Bound<'_, PyAny>,
    maps: &Bound<'_, PyAny>,
    of: &str,
    num_classes: usize,
    kind: &str,
    activation_name: Option<&str>,
    threshold: Option<f64>,
    spacing: Option<Vec<f64>>,
    squared: bool,
    classes: Option<Vec<usize>>,
    ignore_index: Option<i64>,
    layout: &str,
    stream: usize,
) -> PyResult<()> {
    const KINDS: [(&str, MapKind); 6] = [
        ("outside", MapKind::Outside),
        ("inside", MapKind::Inside),
        ("two_sided", MapKind::TwoSided),
        ("signed", MapKind::Signed),
        ("difference", MapKind::Difference),
        ("multi_label", MapKind::MultiLabel),
    ];
    let kind = word("kind", kind, &KINDS)?;
    let axes = axes(layout)?;
    let stream = OnStream(stream);
    let source = Array::anywhere(Role::Source, source, stream)?.compact()?;
    let mut maps = Array::anywhere(Role::Maps, maps, stream)?.compact()?.writable()?;
    if source.place != maps.place {
        let (from, to) = (&source.place, &maps.place);
        let message = format!("the distance maps are in the memory of {to}, their source in that of {from}");
        return Err(Kind::Device.error(message));
    }
    let Some(dtype) = source.dtype() else {
        return Err(source.mistyped("bool, uint8, int16, int32, int64, float32, float16 or bfloat16"));
    };
    let labels = of == "labels";
    let mut voxels = source.shape.clone();
    if !labels && voxels.len() > 2 {
        let axis = if axes == Axes::Second { 1 } else { voxels.len() - 1 };
        if voxels[axis] != num_classes {
            return Err(source.misshapen(&format!("with {num_classes} classes")));
        }
        voxels.remove(axis);
    }
    if voxels.len() < 2 {
        let wanted = if labels { "[N, …]" } else { "[N, C, …]" };
        return Err(source.misshapen(&format!("{wanted} with at least one spatial axis")));
    }
    let shape = Shape::new(voxels[0], num_classes, &voxels[1..]).map_err(python)?;
    let default = if num_classes == 1 { Activation::Sigmoid } else { Activation::Softmax };
    let activation = activation(activation_name)?.unwrap_or(default);
    let hard = threshold.map_or(Hard::Argmax, Hard::Above);
    let kinds = [
        ("labels", Source::Labels(dtype)),
        ("dense", Source::Dense(dtype)),
        ("prediction", Source::Prediction(dtype, activation, hard)),
    ];
    let mut distances = Distances::new(&shape, word("of", of, &kinds)?).kind(kind).squared(squared);
    distances = distances.layout(if axes == Axes::Second { Layout::Planar } else { Layout::Interleaved });
    if let Some(dtype) = maps.dtype() {
        distances = distances.dtype(dtype);
    }
    if let Some(spacing) = spacing {
        distances = distances.spacing(spacing);
    }
    if let Some(classes) = classes {
        distances = distances.classes(classes);
    }
    if let Some(label) = ignore_index {
        distances = distances.ignore_label(label);
    }
    let mut wanted = voxels;
    wanted.insert(if axes == Axes::Second { 1 } else { wanted.len() }, distances.maps());
    if !maps.is(&wanted) {
        return Err(maps.misshapen(&crate::array::show(&wanted)));
    }
    if source.overlaps(&maps) {
        return Err(Kind::Value.error("the distance maps share memory with their source"));
    }
    if let Place::Cuda(ordinal) = source.place {
        fork::cuda()?;
        // SAFETY: shapes and types were seen to be those of the settings; the arrays' producers were told of the stream.
        return unsafe { cuda::distances(py, ordinal, &distances, &source, &maps, stream) };
    }
    let from = source.slice()?;
    let into = maps.slice_mut()?;
    let device = fork::cpu()?;
    py.detach(|| device.distances(&distances, from, into)).map_err(python)
}
