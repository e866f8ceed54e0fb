//! `Loss`: an objective with its settings, and the plans of the shapes that it has met.

use crate::array::{Array, Role};
use crate::calls::{Call, Prepared};
use crate::catalogue::json;
use crate::error::{Kind, python};
use crate::fork;
use crate::settings::{self, Settings, Signature, word};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use segfuse::loss::Absent;
use segfuse::{Evaluation, Objective, Plan, Reduction, cpu};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Plans that a loss keeps; a training meets a handful of shapes, an evaluation may meet any number.
const PLANS_MAX: usize = 256;

/// An objective with its settings. `segfuse.Loss` is what people use.
///
/// Arrays are anything that speaks DLPack, `__array_interface__` or the buffer protocol, in host memory.
#[pyclass(frozen, module = "segfuse._segfuse")]
pub(crate) struct Loss {
    objective: Objective,
    settings: Settings,
    plans: Mutex<HashMap<Signature, Arc<Prepared>>>,
}

type Object<'a, 'py> = &'a Bound<'py, PyAny>;
type Optional<'a, 'py> = Option<&'a Bound<'py, PyAny>>;

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

    /// The loss: a float, or a list of one per sample with reduction 'none'.
    #[pyo3(signature = (prediction, target, mask=None, weights=None, map=None))]
    fn value<'py>(
        &self,
        py: Python<'py>,
        prediction: Object<'_, 'py>,
        target: Object<'_, 'py>,
        mask: Optional<'_, 'py>,
        weights: Optional<'_, 'py>,
        map: Optional<'_, 'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (call, prepared) = self.call(prediction, target, mask, weights, map, None)?;
        let evaluation = call.forward(py, &prepared)?;
        self.losses(py, &evaluation)
    }

    /// The loss, its terms, and how many voxels counted.
    #[pyo3(signature = (prediction, target, mask=None, weights=None, map=None))]
    fn evaluate<'py>(
        &self,
        py: Python<'py>,
        prediction: Object<'_, 'py>,
        target: Object<'_, 'py>,
        mask: Optional<'_, 'py>,
        weights: Optional<'_, 'py>,
        map: Optional<'_, 'py>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let (call, prepared) = self.call(prediction, target, mask, weights, map, None)?;
        let evaluation = call.forward(py, &prepared)?;
        let head = &evaluation.heads[0];
        let terms = PyList::empty(py);
        for term in &head.terms {
            let values = self.reduced(py, &term.values)?;
            terms.append((&term.name, term.weight, values, &term.groups))?;
        }
        let report = PyDict::new(py);
        report.set_item("loss", self.losses(py, &evaluation)?)?;
        report.set_item("terms", terms)?;
        report.set_item("valid_voxels", head.valid_voxels)?;
        report.set_item("invalid_labels", head.invalid_labels)?;
        Ok(report)
    }

    /// The loss; its gradient by the prediction goes to `gradient`, times `grad_output` (a number, or one per sample with
    /// reduction 'none').
    #[pyo3(signature = (prediction, target, gradient, mask=None, weights=None, map=None, grad_output=None))]
    #[expect(clippy::too_many_arguments, reason = "the arrays of a call")]
    fn value_and_grad<'py>(
        &self,
        py: Python<'py>,
        prediction: Object<'_, 'py>,
        target: Object<'_, 'py>,
        gradient: Object<'_, 'py>,
        mask: Optional<'_, 'py>,
        weights: Optional<'_, 'py>,
        map: Optional<'_, 'py>,
        grad_output: Option<Vec<f64>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (call, prepared) = self.call(prediction, target, mask, weights, map, Some(gradient))?;
        let evaluation = call.forward_backward(py, &prepared, grad_output)?;
        self.losses(py, &evaluation)
    }

    /// How many moments, and how many coefficients, there are per sample and class.
    #[pyo3(signature = (prediction, target, mask=None, weights=None, map=None))]
    fn sizes<'py>(
        &self,
        prediction: Object<'_, 'py>,
        target: Object<'_, 'py>,
        mask: Optional<'_, 'py>,
        weights: Optional<'_, 'py>,
        map: Optional<'_, 'py>,
    ) -> PyResult<(usize, usize)> {
        let (_, prepared) = self.call(prediction, target, mask, weights, map, None)?;
        Ok(prepared.sizes())
    }

    /// The sums of this loss over the arrays, in `moments` `[N, C, moments]` of float64.
    #[pyo3(signature = (prediction, target, mask, weights, map, moments))]
    #[expect(clippy::too_many_arguments, reason = "the arrays of a call")]
    fn reduce<'py>(
        &self,
        py: Python<'py>,
        prediction: Object<'_, 'py>,
        target: Object<'_, 'py>,
        mask: Optional<'_, 'py>,
        weights: Optional<'_, 'py>,
        map: Optional<'_, 'py>,
        moments: Object<'_, 'py>,
    ) -> PyResult<()> {
        let (call, prepared) = self.call(prediction, target, mask, weights, map, None)?;
        let moments = Array::new(Role::Moments, moments)?.compact()?.writable()?;
        moments.write(call.reduce(py, &prepared)?.values())
    }

    /// The loss in `losses` `[]` or `[N]`, and in `coefficients` `[N, C, coefficients]` of float64 what `gradient` needs of the
    /// sums.
    ///
    /// The sums are those of these arrays, or `moments` `[N', C, moments]`: of all samples of several processes, of which the N
    /// of these arrays begin at `first`.
    #[pyo3(signature = (prediction, target, mask, weights, map, losses, coefficients, moments=None, first=0))]
    #[expect(clippy::too_many_arguments, reason = "the arrays of a call")]
    fn forward<'py>(
        &self,
        py: Python<'py>,
        prediction: Object<'_, 'py>,
        target: Object<'_, 'py>,
        mask: Optional<'_, 'py>,
        weights: Optional<'_, 'py>,
        map: Optional<'_, 'py>,
        losses: Object<'_, 'py>,
        coefficients: Object<'_, 'py>,
        moments: Optional<'_, 'py>,
        first: usize,
    ) -> PyResult<()> {
        let (call, prepared) = self.call(prediction, target, mask, weights, map, None)?;
        let losses = Array::new(Role::Losses, losses)?.compact()?.writable()?;
        let coefficients = Array::new(Role::Coefficients, coefficients)?.compact()?.writable()?;
        let moments = Array::optional(Role::Moments, moments)?.map(Array::compact).transpose()?;
        let (evaluation, all) = match &moments {
            None => prepared.finish(call.reduce(py, &prepared)?)?,
            Some(moments) => {
                let samples = moments.shape.first().copied().unwrap_or(0);
                let whole = self.prepared(call.signature.with_samples(samples))?;
                let table = whole.table(moments)?;
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
    #[pyo3(signature = (prediction, target, mask, weights, map, coefficients, grad_output, gradient))]
    #[expect(clippy::too_many_arguments, reason = "the arrays of a call")]
    fn gradient<'py>(
        &self,
        py: Python<'py>,
        prediction: Object<'_, 'py>,
        target: Object<'_, 'py>,
        mask: Optional<'_, 'py>,
        weights: Optional<'_, 'py>,
        map: Optional<'_, 'py>,
        coefficients: Object<'_, 'py>,
        grad_output: Object<'_, 'py>,
        gradient: Object<'_, 'py>,
    ) -> PyResult<()> {
        let (call, prepared) = self.call(prediction, target, mask, weights, map, Some(gradient))?;
        let coefficients = Array::new(Role::Coefficients, coefficients)?.compact()?.to_f64();
        let grad_output = Array::new(Role::GradOutput, grad_output)?.compact()?.to_f64();
        call.gradient(py, &prepared, coefficients, grad_output)
    }

    /// What a call with such arrays does: as text, and as JSON.
    #[pyo3(signature = (prediction, target, mask=None, weights=None, map=None))]
    fn explain<'py>(
        &self,
        prediction: Object<'_, 'py>,
        target: Object<'_, 'py>,
        mask: Optional<'_, 'py>,
        weights: Optional<'_, 'py>,
        map: Optional<'_, 'py>,
    ) -> PyResult<(String, String)> {
        let (_, prepared) = self.call(prediction, target, mask, weights, map, None)?;
        let explanation = prepared.plan.explain();
        Ok((explanation.to_string(), json(&explanation)?))
    }
}

impl Loss {
    /// The arrays of a call, and their plan.
    fn call(
        &self,
        prediction: Object<'_, '_>,
        target: Object<'_, '_>,
        mask: Optional<'_, '_>,
        weights: Optional<'_, '_>,
        map: Optional<'_, '_>,
        gradient: Optional<'_, '_>,
    ) -> PyResult<(Call, Arc<Prepared>)> {
        let inputs = [
            Some(Array::new(Role::Target, target)?),
            Array::optional(Role::Mask, mask)?,
            Array::optional(Role::Weights, weights)?,
            Array::optional(Role::Map, map)?,
            Array::optional(Role::Gradient, gradient)?.map(Array::writable).transpose()?,
        ];
        let call = Call::new(Array::new(Role::Prediction, prediction)?, inputs, self.settings.axes)?;
        let prepared = self.prepared(call.signature.clone())?;
        Ok((call, prepared))
    }

    fn prepared(&self, signature: Signature) -> PyResult<Arc<Prepared>> {
        fork::ready()?;
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(prepared) = plans.get(&signature) {
            return Ok(prepared.clone());
        }
        let problem = signature.problem(&self.settings)?;
        let plan = Plan::new(&self.objective, &problem).map_err(python)?;
        let executor = cpu::Device::new().prepare(&plan);
        if plans.len() == PLANS_MAX {
            plans.clear();
        }
        let prepared = Arc::new(Prepared { plan, executor });
        plans.insert(signature, prepared.clone());
        Ok(prepared)
    }

    fn losses<'py>(&self, py: Python<'py>, evaluation: &Evaluation) -> PyResult<Bound<'py, PyAny>> {
        self.reduced(py, &evaluation.losses)
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
