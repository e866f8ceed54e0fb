//! Plans on CUDA devices: in their primary contexts, which PyTorch, JAX and CuPy use, on the caller's stream.

use crate::array::{Array, OnStream, Role};
use crate::error::{Kind, python};
use pyo3::prelude::*;
use segfuse::cuda::{Buffers, Call, Device, Executor, Preparation, Workspace};
use segfuse::distance::Distances;
use segfuse::{Error, Evaluation, Plan};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How the stages are prepared that `segfuse.torch` launches: every call brings memory of torch for the sums.
fn stages() -> Preparation {
    Preparation { split: true, workspace: false, one_block: false, ..Preparation::default() }
}

/// A plan on a device, prepared in each way that it was asked for.
pub(crate) struct OnDevice {
    device: Device,
    executors: Mutex<Vec<(Preparation, Arc<Executor>)>>,
}

/// Where the parts of a workspace of the stages lie, in bytes from its beginning.
#[derive(IntoPyObject)]
pub(crate) struct Layout {
    workspace_bytes: u64,
    result_bytes: u64,
    /// Sums `[N][row]` of float64; a row begins with the moments `[C][moments]`.
    moments_at: u64,
    row: u64,
    /// Coefficients `[N][C][coefficients]` of float32.
    coefficients_at: u64,
}

/// One of the stages of a call.
#[derive(Clone, Copy)]
pub(crate) enum Stage {
    Reduce(Buffers),
    /// To the result at this address.
    Finish(u64),
    Gradient(Buffers),
}

/// The device of this number; kernels that were loaded on it serve all calls of the process.
fn device(ordinal: usize) -> Result<Device, Error> {
    static DEVICES: Mutex<Option<HashMap<usize, Device>>> = Mutex::new(None);
    let mut devices = DEVICES.lock().unwrap_or_else(PoisonError::into_inner);
    let devices = devices.get_or_insert_default();
    match devices.get(&ordinal) {
        Some(device) => Ok(device.clone()),
        None => Ok(devices.entry(ordinal).or_insert(Device::new(ordinal)?).clone()),
    }
}

/// Distance maps on the device of this number: launches them, and waits for the device where it frees their workspace.
///
/// # Safety
/// The arrays are of the types and lengths of the settings, and their memory is reused in the order of the stream.
pub(crate) unsafe fn distances(
    py: Python<'_>,
    ordinal: usize,
    settings: &Distances,
    source: &Array,
    maps: &Array,
    OnStream(stream): OnStream,
) -> PyResult<()> {
    let (source, maps) = (source.address as u64, maps.address as u64);
    let launched = py.detach(|| {
        let executor = device(ordinal)?.prepare_distances(settings)?;
        // SAFETY: the caller's promise; the workspace is the executor's, which waits for the kernels where it is dropped.
        unsafe { executor.run(source, maps, None, stream) }
    });
    launched.map_err(python)
}

impl OnDevice {
    pub(crate) fn new(ordinal: usize) -> Result<OnDevice, Error> {
        Ok(OnDevice { device: device(ordinal)?, executors: Mutex::default() })
    }

    pub(crate) fn has_workspaces(&self) -> bool {
        self.executors().iter().any(|(preparation, _)| preparation.workspace)
    }

    /// Drops the executors with a workspace of their own: those of calls that wait, which no graph has captured.
    pub(crate) fn free_workspaces(&self) {
        self.executors().retain(|(preparation, _)| !preparation.workspace);
    }

    fn executors(&self) -> MutexGuard<'_, Vec<(Preparation, Arc<Executor>)>> {
        self.executors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The plan, prepared now or before. Slow the first time: the driver compiles its kernels.
    fn executor(&self, plan: &Plan, preparation: Preparation) -> Result<Arc<Executor>, Error> {
        let mut executors = self.executors();
        if let Some((_, executor)) = executors.iter().find(|(prepared, _)| *prepared == preparation) {
            return Ok(executor.clone());
        }
        let executor = Arc::new(self.device.prepare_as(plan, preparation)?);
        executors.push((preparation, executor.clone()));
        Ok(executor)
    }

    /// The loss, and with `gradient` its gradient: launches, waits for the stream and reads the result.
    ///
    /// # Safety
    /// The buffers are those of the plan's problem and live until this returns.
    pub(crate) unsafe fn evaluate(
        &self,
        py: Python<'_>,
        plan: &Plan,
        buffers: Buffers,
        gradient: bool,
        grad_output: Option<&[f64]>,
        OnStream(stream): OnStream,
    ) -> PyResult<Evaluation> {
        let in_place = gradient && buffers.gradient == Some(buffers.prediction);
        let evaluation = py.detach(|| {
            let executor = self.executor(plan, Preparation { in_place, ..Preparation::default() })?;
            // SAFETY: the caller's promise; the stream is what Python says, as `OnStream` has it.
            unsafe { executor.wait_for(&[buffers], gradient, grad_output, stream) }
        });
        evaluation.map_err(python)
    }

    /// Launches a stage, and waits for nothing.
    ///
    /// # Safety
    /// The buffers are those of the plan's problem. They and the workspace live until the stream has come to the end of the stage:
    /// memory of an allocator that reuses it in the order of the stream.
    pub(crate) unsafe fn launch(
        &self,
        py: Python<'_>,
        plan: &Plan,
        stage: Stage,
        workspace: &Array,
        OnStream(stream): OnStream,
    ) -> PyResult<()> {
        let workspace = Workspace { address: workspace.address as u64, bytes: workspace.bytes() as u64 };
        let launched = py.detach(|| {
            let executor = self.executor(plan, stages())?;
            let call = Call { workspace: Some(workspace), ..Call::default() };
            // SAFETY: the caller's promise; the stream is what Python says, as `OnStream` has it.
            unsafe {
                match stage {
                    Stage::Reduce(buffers) => executor.reduce(&[buffers], &call, stream),
                    Stage::Finish(result) => executor.finish(&Call { result: Some(result), ..call }, stream),
                    Stage::Gradient(buffers) => executor.gradient(&[buffers], &call, stream),
                }
            }
        });
        launched.map_err(python)
    }

    /// What a workspace of the stages is made of.
    pub(crate) fn layout(&self, py: Python<'_>, plan: &Plan) -> PyResult<Layout> {
        let layout = py.detach(|| {
            let executor = self.executor(plan, stages())?;
            let from_zero = Some(Workspace { address: 0, bytes: executor.workspace_bytes() });
            let moments = executor.moments(0, from_zero)?;
            let samples = plan.heads()[0].problem().shape().samples() as u64;
            Ok::<_, Error>(Layout {
                workspace_bytes: executor.workspace_bytes(),
                result_bytes: executor.result_layout().bytes,
                moments_at: moments.address,
                row: moments.count / samples,
                coefficients_at: executor.coefficients(0, from_zero)?.address,
            })
        });
        layout.map_err(python)
    }

    /// The address of memory for a result of the stages.
    pub(crate) fn result(&self, py: Python<'_>, plan: &Plan, result: &Array) -> PyResult<u64> {
        let (need, got) = (self.layout(py, plan)?.result_bytes, result.bytes() as u64);
        if got < need {
            return Err(Kind::Value.error(format!("{} needs {need} bytes, has {got}", Role::Result)));
        }
        Ok(result.address as u64)
    }
}
