//! One call: arrays that have been checked, and the work on them without the lock of the interpreter.

use crate::array::{Array, OnStream, Place, Role};
use crate::cuda::{OnDevice, Stage};
use crate::error::{Kind, python};
use crate::fork;
use crate::settings::{Axes, Frame, Signature};
use pyo3::prelude::*;
use segfuse::cpu::RawBuffers;
use segfuse::cuda::Buffers;
use segfuse::{Coefficients, Error, Evaluation, MomentTable, Plan, Slice, Target, cpu, exact};

/// A plan and where it runs.
pub(crate) struct Prepared {
    pub(crate) plan: Plan,
    runs: Runs,
}

enum Runs {
    Cpu,
    Cuda(OnDevice),
}

impl Prepared {
    /// To run where the arrays are.
    pub(crate) fn new(plan: Plan, place: &Place) -> Result<Prepared, Error> {
        let runs = match place {
            Place::Cuda(ordinal) => Runs::Cuda(OnDevice::new(*ordinal)?),
            Place::Host | Place::Other(_) => Runs::Cpu,
        };
        Ok(Prepared { plan, runs })
    }

    /// Whether there is something that [`Prepared::evict`] lets go of.
    pub(crate) fn is_evictable(&self) -> bool {
        match &self.runs {
            Runs::Cpu => true,
            Runs::Cuda(device) => device.has_workspaces(),
        }
    }

    /// Lets go of memory that a later call makes again. Whether the plan stays: on a device it does, since a captured graph reads
    /// the constants of its stages as long as it is replayed.
    pub(crate) fn evict(&self) -> bool {
        match &self.runs {
            Runs::Cpu => false,
            Runs::Cuda(device) => {
                device.free_workspaces();
                true
            }
        }
    }

    fn on_cpu(&self) -> PyResult<cpu::Executor> {
        match &self.runs {
            Runs::Cpu => Ok(fork::cpu()?.prepare(&self.plan)),
            Runs::Cuda(_) => Err(Kind::Device.error("arrays on a CUDA device have the stages of `cuda_layout`")),
        }
    }

    pub(crate) fn on_cuda(&self) -> PyResult<&OnDevice> {
        match &self.runs {
            Runs::Cuda(device) => Ok(device),
            Runs::Cpu => Err(Kind::Device.error("arrays of the host have the stages of `reduce`")),
        }
    }

    /// Moments, and coefficients, per sample and class.
    pub(crate) fn sizes(&self) -> (usize, usize) {
        let head = &self.plan.heads()[0];
        (head.moments().len(), head.slope_count())
    }

    /// Whether maps are made, each of whole samples, before the passes.
    pub(crate) fn makes_maps(&self) -> bool {
        !self.plan.heads()[0].maps().is_empty()
    }

    /// A table with these values.
    pub(crate) fn table(&self, moments: &Array) -> PyResult<MomentTable> {
        let mut table = MomentTable::zeros(&self.plan.heads()[0]);
        let values = moments.to_f64()?;
        if values.len() != table.values().len() {
            return Err(moments.misshapen(&format!("with {} elements, N·C·moments", table.values().len())));
        }
        table.values_mut().copy_from_slice(&values);
        Ok(table)
    }

    /// Loss and coefficients.
    pub(crate) fn finish(&self, table: MomentTable) -> PyResult<(Evaluation, Vec<f64>)> {
        let (evaluation, coefficients) = self.on_cpu()?.finish(&[table]).map_err(python)?;
        Ok((evaluation, coefficients[0].values().to_vec()))
    }
}

/// The arrays of a call.
pub(crate) struct Call {
    pub(crate) signature: Signature,
    prediction: Array,
    /// Target, mask, weights, map, gradient.
    others: [Option<Array>; 5],
    pub(crate) stream: OnStream,
}

/// Addresses, which may go to another thread.
#[derive(Clone, Copy)]
struct Addresses([usize; 6]);

impl Addresses {
    fn buffers(self) -> RawBuffers {
        let [prediction, target, mask, weights, map, gradient] = self.0;
        let mut buffers = RawBuffers::new(prediction as _, target as _, gradient as _);
        (buffers.mask, buffers.weights, buffers.map) = (mask as _, weights as _, map as _);
        buffers
    }
}

impl Call {
    pub(crate) fn new(prediction: Array, others: [Option<Array>; 5], axes: Axes, stream: OnStream) -> PyResult<Call> {
        let (frame, mut signature) = Frame::new(&prediction, axes)?;
        for array in others.iter().flatten() {
            if array.place != prediction.place {
                let (role, place, other) = (array.role, &array.place, &prediction.place);
                return Err(Kind::Device
                    .error(format!("{role} is in the memory of {place}, the prediction in that of {other}")));
            }
            frame.add(array, &mut signature)?;
        }
        Ok(Call { signature, prediction, others, stream })
    }

    /// The addresses, for a device.
    pub(crate) fn buffers(&self) -> Buffers {
        let [target, mask, weights, map, gradient] =
            self.others.each_ref().map(|array| array.as_ref().map(|array| array.address as u64));
        Buffers {
            prediction: self.prediction.address as u64,
            target: target.unwrap_or(0),
            mask,
            weights,
            map,
            gradient,
        }
    }

    /// Launches a stage on the device of the arrays.
    pub(crate) fn launch(&self, py: Python<'_>, prepared: &Prepared, stage: Stage, workspace: &Array) -> PyResult<()> {
        if workspace.place != self.prediction.place {
            let (place, other) = (&workspace.place, &self.prediction.place);
            return Err(Kind::Device
                .error(format!("the workspace is in the memory of {place}, the prediction in that of {other}")));
        }
        // SAFETY: the arrays are of the types and lengths of the plan, which was made from them; that their memory is reused in the
        // order of the stream alone is the word of the modules of this package, which take it from torch.
        unsafe { prepared.on_cuda()?.launch(py, &prepared.plan, stage, workspace, self.stream) }
    }

    fn addresses(&self) -> Addresses {
        let mut all = [self.prediction.address, 0, 0, 0, 0, 0];
        for (address, array) in all[1..].iter_mut().zip(&self.others) {
            *address = array.as_ref().map_or(0, |array| array.address);
        }
        Addresses(all)
    }

    fn gradient_array(&self) -> PyResult<&Array> {
        self.others[4].as_ref().ok_or_else(|| Kind::Value.error(format!("{} is missing", Role::Gradient)))
    }

    /// Whether the gradient is the prediction's own buffer or shares memory with no input, as the executors have it.
    fn apart(&self) -> PyResult<()> {
        let gradient = self.gradient_array()?;
        let inputs = self.others[..4].iter().flatten();
        for input in std::iter::once(&self.prediction).chain(inputs).filter(|input| input.overlaps(gradient)) {
            if input.role != Role::Prediction || input.address != gradient.address {
                return Err(python(Error::Overlap { with: input.role.name() }));
            }
        }
        Ok(())
    }

    /// The loss alone.
    pub(crate) fn forward(&self, py: Python<'_>, prepared: &Prepared) -> PyResult<Evaluation> {
        let executor = match &prepared.runs {
            // SAFETY: the arrays are held by `self`, of the types and lengths of the plan, which was made from them.
            Runs::Cuda(device) => unsafe {
                return device.evaluate(py, &prepared.plan, self.buffers(), false, None, self.stream);
            },
            Runs::Cpu => prepared.on_cpu()?,
        };
        if self.signature.exact {
            let table = self.reduce(py, prepared)?;
            return executor.finish(&[table]).map(|(evaluation, _)| evaluation).map_err(python);
        }
        let addresses = self.addresses();
        // SAFETY: as above.
        py.detach(|| unsafe { executor.forward_raw(&[addresses.buffers()]) }).map_err(python)
    }

    /// Loss and gradient.
    pub(crate) fn forward_backward(
        &self,
        py: Python<'_>,
        prepared: &Prepared,
        grad_output: Option<Vec<f64>>,
    ) -> PyResult<Evaluation> {
        let executor = match &prepared.runs {
            // SAFETY: as in `forward`; the gradient is an array that may be written to.
            Runs::Cuda(device) => unsafe {
                let scale = grad_output.as_deref();
                return device.evaluate(py, &prepared.plan, self.buffers(), true, scale, self.stream);
            },
            Runs::Cpu => prepared.on_cpu()?,
        };
        if self.signature.exact {
            self.apart()?;
            let table = self.reduce(py, prepared)?;
            let (evaluation, coefficients) = prepared.finish(table)?;
            let scale = grad_output.unwrap_or_else(|| vec![1.0; prepared.plan.losses()]);
            self.gradient(py, prepared, coefficients, scale)?;
            return Ok(evaluation);
        }
        let addresses = self.addresses();
        let grad_output = grad_output.as_deref();
        // SAFETY: as above.
        py.detach(|| unsafe { executor.forward_backward_raw(&[addresses.buffers()], grad_output) }).map_err(python)
    }

    /// The sums.
    pub(crate) fn reduce(&self, py: Python<'_>, prepared: &Prepared) -> PyResult<MomentTable> {
        let executor = prepared.on_cpu()?;
        if self.signature.exact {
            let exact = Doubles::new(self)?;
            return py.detach(|| exact::reduce(&prepared.plan, 0, &exact.inputs())).map_err(python);
        }
        let addresses = self.addresses();
        // SAFETY: as in `forward`.
        py.detach(|| unsafe { executor.reduce_raw(0, &addresses.buffers()) }).map_err(python)
    }

    /// The gradient.
    pub(crate) fn gradient(
        &self,
        py: Python<'_>,
        prepared: &Prepared,
        coefficients: Vec<f64>,
        grad_output: Vec<f64>,
    ) -> PyResult<()> {
        let (executor, gradient) = (prepared.on_cpu()?, self.gradient_array()?);
        let coefficients = Coefficients::from_values(&prepared.plan.heads()[0], coefficients).map_err(python)?;
        if self.signature.exact {
            self.apart()?;
            let exact = Doubles::new(self)?;
            let mut values = vec![0.0; gradient.len()];
            let scale = Some(&grad_output[..]);
            py.detach(|| exact::gradient(&prepared.plan, 0, &exact.inputs(), &coefficients, &mut values, scale))
                .map_err(python)?;
            return gradient.write(&values);
        }
        let addresses = self.addresses();
        // SAFETY: as in `forward_backward`.
        py.detach(|| unsafe { executor.gradient_raw(0, &addresses.buffers(), &coefficients, Some(&grad_output)) })
            .map_err(python)
    }
}

/// The arrays of a call with a prediction of float64, copied.
struct Doubles {
    prediction: Vec<f64>,
    labels: Option<Vec<i64>>,
    dense: Vec<f64>,
    mask: Option<Vec<u8>>,
    weights: Option<Vec<f64>>,
    map: Option<Vec<f64>>,
}

impl Doubles {
    fn new(call: &Call) -> PyResult<Doubles> {
        let [target, mask, weights, map, _] = call.others.each_ref().map(Option::as_ref);
        let labels = matches!(call.signature.target_kind(), Target::Labels(_));
        Ok(Doubles {
            prediction: call.prediction.to_f64()?,
            labels: target.filter(|_| labels).map(Array::to_i64).transpose()?,
            dense: target.filter(|_| !labels).map(Array::to_f64).transpose()?.unwrap_or_default(),
            mask: mask.map(Array::to_u8).transpose()?,
            weights: weights.map(Array::to_f64).transpose()?,
            map: map.map(Array::to_f64).transpose()?,
        })
    }

    fn inputs(&self) -> exact::Inputs<'_> {
        let target = match &self.labels {
            Some(labels) => exact::Target::Labels(Slice::I64(labels)),
            None => exact::Target::Dense(&self.dense),
        };
        let mut inputs = exact::Inputs::new(&self.prediction, target);
        if let Some(mask) = &self.mask {
            inputs = inputs.mask(mask);
        }
        if let Some(weights) = &self.weights {
            inputs = inputs.weights(weights);
        }
        if let Some(map) = &self.map {
            inputs = inputs.map(map);
        }
        inputs
    }
}
