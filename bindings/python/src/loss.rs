//! `Loss`: an objective with its settings, and the plans of the shapes that it has met.

use crate::array::{Array, OnStream, Place, Role};
use crate::calls::{Call, Prepared};
use crate::catalogue::json;
use crate::cuda::{Layout, Stage};
use crate::error::{Kind, python};
use crate::fork;
use crate::settings::{self, Settings, Signature, word};
use pyo3::prelude::*;
use pyo3::sync::MutexExt;
use pyo3::types::{PyDict, PyList};
use segfuse::loss::Absent;
use segfuse::{Objective, Plan, Reduction};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Plans with memory of their own that a loss keeps; a training meets a handful of shapes, an evaluation may meet any number.
const PLANS_MAX: usize = 256;

/// An objective with its settings. `segfuse.Loss` is what people use.
///
/// Arrays are anything that speaks DLPack, `__array_interface__` or the buffer protocol; all of a call in host memory, or all on one
/// CUDA device. `stream` is the handle of a stream of that device, 0 its default stream.
#[pyclass(frozen, module = "segfuse._segfuse")]
pub(crate) struct Loss {
    objective: Objective,
    settings: Settings,
    plans: Mutex<HashMap<Signature, Arc<Prepared>>>,
}

type Object<'a, 'py> = &'a Bound<'py, PyAny>;

/// The arrays of a call, a tuple: prediction, target, mask, weights and map, of which the last three may be None.
#[derive(FromPyObject)]
struct Arrays<'py>(
    Bound<'py, PyAny>,
    Bound<'py, PyAny>,
    Option<Bound<'py, PyAny>>,
    Option<Bound<'py, PyAny>>,
    Option<Bound<'py, PyAny>>,
);

#[pymethods]
impl Loss {
    #[new]
    #[pyo3(signature = (
        spec, *, activation=None, layout="ncv", ignore_index=None, reduction="mean", class_weights=None, batch=false,
        background=true, absent="count", spacing=None
    ))]
    #[expect(clippy::too_many_arguments, reason = "the settings of a loss, by name")]
    fn new(
        spec: &str,
        activation: Option<&str>,
        layout: &str,
        ignore_index: Option<i64>,
        reduction: &str,
        class_weights: Option<Vec<f64>>,
        batch: bool,
        background: bool,
        absent: &str,
        spacing: Option<Vec<f64>>,
    ) -> PyResult<Loss> {
        const REDUCTIONS: [(&str, Reduction); 3] =
            [("mean", Reduction::Mean), ("sum", Reduction::Sum), ("none", Reduction::None)];
        const ABSENT: [(&str, Absent); 3] = [("count", Absent::Count), ("skip", Absent::Skip), ("zero", Absent::Zero)];
        let settings = Settings {
            activation: settings::activation(activation)?,
            axes: settings::axes(layout)?,
            ignore_index,
            reduction: word("reduction", reduction, &REDUCTIONS)?,
            class_weights,
            batch,
            background,
            absent: word("absent", absent, &ABSENT)?,
            spacing,
        };
        let objective = spec.parse().map_err(python)?;
        Ok(Loss { objective, settings, plans: Mutex::default() })
    }

    /// The objective, written out.
    #[getter]
    fn spec(&self) -> String {
        self.objective.to_string()
    }

    /// The loss: a float, or a list of one per sample with reduction 'none'. On a device it waits for the stream.
    #[pyo3(signature = (arrays, stream=0))]
    fn value<'py>(&self, py: Python<'py>, arrays: Arrays<'py>, stream: usize) -> PyResult<Bound<'py, PyAny>> {
        let (call, prepared) = self.call(&arrays, None, stream)?;
        self.reduced(py, &call.forward(py, &prepared)?.losses)
    }

    /// The loss, its terms, and how many voxels counted. On a device it waits for the stream.
    #[pyo3(signature = (arrays, stream=0))]
    fn evaluate<'py>(&self, py: Python<'py>, arrays: Arrays<'py>, stream: usize) -> PyResult<Bound<'py, PyDict>> {
        let (call, prepared) = self.call(&arrays, None, stream)?;
        let evaluation = call.forward(py, &prepared)?;
        let head = &evaluation.heads[0];
        let terms = PyList::empty(py);
        for term in &head.terms {
            let values = self.reduced(py, &term.values)?;
            terms.append((&term.name, term.weight, values, &term.groups))?;
        }
        let report = PyDict::new(py);
        report.set_item("loss", self.reduced(py, &evaluation.losses)?)?;
        report.set_item("terms", terms)?;
        report.set_item("valid_voxels", head.valid_voxels)?;
        report.set_item("invalid_labels", head.invalid_labels)?;
        Ok(report)
    }

    /// The loss; its gradient by the prediction goes to `gradient`, times `grad_output` (a number, or one per sample with
    /// reduction 'none'). On a device it waits for the stream.
    #[pyo3(signature = (arrays, gradient, grad_output=None, stream=0))]
    fn value_and_grad<'py>(
        &self,
        py: Python<'py>,
        arrays: Arrays<'py>,
        gradient: Object<'_, 'py>,
        grad_output: Option<Vec<f64>>,
        stream: usize,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (call, prepared) = self.call(&arrays, Some(gradient), stream)?;
        self.reduced(py, &call.forward_backward(py, &prepared, grad_output)?.losses)
    }

    /// How many moments, and how many coefficients, there are per sample and class; and whether maps are made, each of whole samples.
    fn sizes(&self, arrays: Arrays<'_>) -> PyResult<(usize, usize, bool)> {
        let (_, prepared) = self.call(&arrays, None, 0)?;
        let (moments, coefficients) = prepared.sizes();
        Ok((moments, coefficients, prepared.makes_maps()))
    }

    /// The sums of this loss over the arrays, in `moments` `[N, C, moments]` of float64.
    fn reduce<'py>(&self, py: Python<'py>, arrays: Arrays<'py>, moments: Object<'_, 'py>) -> PyResult<()> {
        let (call, prepared) = self.call(&arrays, None, 0)?;
        let moments = Array::new(Role::Moments, moments)?.compact()?.writable()?;
        moments.write(call.reduce(py, &prepared)?.values())
    }

    /// The loss in `losses` `[]` or `[N]`, and in `coefficients` `[N, C, coefficients]` of float64 what `gradient` needs of the
    /// sums.
    ///
    /// The sums are those of these arrays, or `moments` `[N', C, moments]`: of all samples of several processes, of which the N
    /// of these arrays begin at `first`.
    #[pyo3(signature = (arrays, losses, coefficients, moments=None, first=0))]
    fn forward<'py>(
        &self,
        py: Python<'py>,
        arrays: Arrays<'py>,
        losses: Object<'_, 'py>,
        coefficients: Object<'_, 'py>,
        moments: Option<Bound<'py, PyAny>>,
        first: usize,
    ) -> PyResult<()> {
        let (call, prepared) = self.call(&arrays, None, 0)?;
        let losses = Array::new(Role::Losses, losses)?.compact()?.writable()?;
        let coefficients = Array::new(Role::Coefficients, coefficients)?.compact()?.writable()?;
        let (evaluation, all) = match moments {
            None => prepared.finish(call.reduce(py, &prepared)?)?,
            Some(moments) => {
                let moments = Array::new(Role::Moments, &moments)?.compact()?;
                let samples = moments.shape.first().copied().unwrap_or(0);
                let whole = self.prepared(py, call.signature.with_samples(samples))?;
                let table = whole.table(&moments)?;
                whole.finish(table)?
            }
        };
        let (rows, samples) = (coefficients.len(), call.signature.samples);
        let start = first * (rows / samples.max(1));
        let own = all.get(start..start + rows).ok_or_else(|| coefficients.misshapen("[N, C, coefficients]"))?;
        coefficients.write(own)?;
        let all = &evaluation.losses;
        // With reduction none a process keeps the losses of its own samples.
        let own = if all.len() == losses.len() { Some(&all[..]) } else { all.get(first..first + losses.len()) };
        losses.write(own.ok_or_else(|| losses.misshapen("[] or [N]"))?)
    }

    /// The gradient by the prediction, from what `forward` left in `coefficients`, times `grad_output` `[]` or `[N]`.
    fn gradient<'py>(
        &self,
        py: Python<'py>,
        arrays: Arrays<'py>,
        coefficients: Object<'_, 'py>,
        grad_output: Object<'_, 'py>,
        gradient: Object<'_, 'py>,
    ) -> PyResult<()> {
        let (call, prepared) = self.call(&arrays, Some(gradient), 0)?;
        let coefficients = Array::new(Role::Coefficients, coefficients)?.compact()?.to_f64()?;
        let grad_output = Array::new(Role::GradOutput, grad_output)?.compact()?.to_f64()?;
        call.gradient(py, &prepared, coefficients, grad_output)
    }

    /// What a workspace of the stages on the device of the arrays is made of, for these samples or as many as `samples`.
    #[pyo3(signature = (arrays, samples=None))]
    fn cuda_layout(&self, py: Python<'_>, arrays: Arrays<'_>, samples: Option<usize>) -> PyResult<Layout> {
        let (_, prepared) = self.call_of(&arrays, samples, 0)?;
        prepared.on_cuda()?.layout(py, &prepared.plan)
    }

    /// Launches the first stage on `stream`: the sums, to the workspace. This and the stages after it wait for nothing.
    fn cuda_reduce<'py>(
        &self,
        py: Python<'py>,
        arrays: Arrays<'py>,
        workspace: Object<'_, 'py>,
        stream: usize,
    ) -> PyResult<()> {
        let (call, prepared) = self.call(&arrays, None, stream)?;
        call.launch(py, &prepared, Stage::Reduce(call.buffers()), &writable(Role::Workspace, workspace, stream)?)
    }

    /// Launches the second stage: the sums in the workspace, of these samples or as many as `samples`, to the result and the
    /// coefficients.
    #[pyo3(signature = (arrays, workspace, result, stream, samples=None))]
    fn cuda_finish<'py>(
        &self,
        py: Python<'py>,
        arrays: Arrays<'py>,
        workspace: Object<'_, 'py>,
        result: Object<'_, 'py>,
        stream: usize,
        samples: Option<usize>,
    ) -> PyResult<()> {
        let (call, prepared) = self.call_of(&arrays, samples, stream)?;
        let result = writable(Role::Result, result, stream)?;
        let result = prepared.on_cuda()?.result(py, &prepared.plan, &result)?;
        call.launch(py, &prepared, Stage::Finish(result), &writable(Role::Workspace, workspace, stream)?)
    }

    /// Launches the last stage: the gradient from the coefficients in the workspace.
    fn cuda_gradient<'py>(
        &self,
        py: Python<'py>,
        arrays: Arrays<'py>,
        workspace: Object<'_, 'py>,
        gradient: Object<'_, 'py>,
        stream: usize,
    ) -> PyResult<()> {
        let (call, prepared) = self.call(&arrays, Some(gradient), stream)?;
        call.launch(py, &prepared, Stage::Gradient(call.buffers()), &writable(Role::Workspace, workspace, stream)?)
    }

    /// What a call with such arrays does: as text, and as JSON.
    fn explain(&self, arrays: Arrays<'_>) -> PyResult<(String, String)> {
        let (_, prepared) = self.call(&arrays, None, 0)?;
        let explanation = prepared.plan.explain();
        Ok((explanation.to_string(), json(&explanation)?))
    }
}

/// An array to be written to, dense.
fn writable(role: Role, object: &Bound<'_, PyAny>, stream: usize) -> PyResult<Array> {
    Array::anywhere(role, object, OnStream(stream))?.compact()?.writable()
}

impl Loss {
    /// The arrays of a call, and their plan.
    fn call(
        &self,
        arrays: &Arrays<'_>,
        gradient: Option<Object<'_, '_>>,
        stream: usize,
    ) -> PyResult<(Call, Arc<Prepared>)> {
        let call = self.arrays(arrays, gradient, stream)?;
        let prepared = self.prepared(arrays.0.py(), call.signature.clone())?;
        Ok((call, prepared))
    }

    /// The arrays of a call, and their plan for as many samples.
    fn call_of(&self, arrays: &Arrays<'_>, samples: Option<usize>, stream: usize) -> PyResult<(Call, Arc<Prepared>)> {
        let call = self.arrays(arrays, None, stream)?;
        let signature = call.signature.with_samples(samples.unwrap_or(call.signature.samples));
        let prepared = self.prepared(arrays.0.py(), signature)?;
        Ok((call, prepared))
    }

    fn arrays(&self, arrays: &Arrays<'_>, gradient: Option<Object<'_, '_>>, stream: usize) -> PyResult<Call> {
        let stream = OnStream(stream);
        let Arrays(prediction, target, mask, weights, map) = arrays;
        let array = |role, object: &Bound<'_, PyAny>| Array::anywhere(role, object, stream);
        let optional =
            |role, object: &Option<Bound<'_, PyAny>>| object.as_ref().map(|object| array(role, object)).transpose();
        let others = [
            Some(array(Role::Target, target)?),
            optional(Role::Mask, mask)?,
            optional(Role::Weights, weights)?,
            optional(Role::Map, map)?,
            gradient.map(|gradient| array(Role::Gradient, gradient)?.writable()).transpose()?,
        ];
        Call::new(array(Role::Prediction, prediction)?, others, self.settings.axes, stream)
    }

    fn prepared(&self, py: Python<'_>, signature: Signature) -> PyResult<Arc<Prepared>> {
        if let Place::Cuda(_) = signature.place {
            fork::cuda()?;
        }
        if let Some(prepared) = self.plans.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner).get(&signature)
        {
            return Ok(prepared.clone());
        }
        let problem = signature.problem(&self.settings)?;
        // A context of a device takes long to make, and memory long to free.
        let prepared = py.detach(|| {
            let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
            // Another thread may have been here meanwhile.
            if let Some(prepared) = plans.get(&signature) {
                return Ok(prepared.clone());
            }
            let plan = Plan::new(&self.objective, &problem)?;
            let prepared = Arc::new(Prepared::new(plan, &signature.place)?);
            if plans.values().filter(|prepared| prepared.is_evictable()).count() >= PLANS_MAX {
                plans.retain(|_, prepared| prepared.evict());
            }
            plans.insert(signature, prepared.clone());
            Ok(prepared)
        });
        prepared.map_err(python)
    }

    /// A float, or a list with reduction 'none'.
    fn reduced<'py>(&self, py: Python<'py>, values: &[f64]) -> PyResult<Bound<'py, PyAny>> {
        if self.settings.reduction == Reduction::None {
            return Ok(values.into_pyobject(py)?.into_any());
        }
        match values {
            [value] => Ok(value.into_pyobject(py)?.into_any()),
            _ => Err(Kind::Value.error(format!("a loss of one number has {}", values.len()))),
        }
    }
}
