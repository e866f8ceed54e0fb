//! The easy way: choose a device, hand in slices, get loss and gradient back.
//!
//! On a GPU every call uploads its inputs, waits, and downloads loss and gradient. Who holds buffers on the device takes
//! `cuda::Device::prepare` and `cuda::Executor::forward_backward`, or `wgpu::Device::prepare` and `wgpu::Executor::encode`.

#[cfg(feature = "cpu")]
use crate::cpu;
#[cfg(feature = "cuda")]
use crate::cuda;
use crate::distance::Distances;
use crate::dtype::{Slice, SliceMut};
use crate::error::Error;
use crate::evaluation::{Evaluation, Gradient, Inputs};
use crate::plan::Plan;
#[cfg(feature = "wgpu")]
use crate::wgpu;

/// The environment variable that chooses the device: `auto`, `cpu`, `cuda`, `cuda:` and a number, `wgpu`, or `wgpu:` and the number
/// of an adapter.
pub const DEVICE_VARIABLE: &str = "SEGFUSE_DEVICE";

/// A device of this machine that a plan can run on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct DeviceInfo {
    /// The name that `SEGFUSE_DEVICE` and [`Runtime::on`] take.
    pub name: String,
    /// What it is.
    pub description: String,
}

/// A chosen device, with slices of the host. A GPU makes the pipelines of a plan in its first call and keeps them.
#[derive(Clone, Debug)]
pub struct Runtime {
    backend: Backend,
    name: String,
}

#[derive(Clone, Debug)]
enum Backend {
    #[cfg(feature = "cpu")]
    Cpu(cpu::Device),
    #[cfg(feature = "cuda")]
    Cuda(cuda::Device),
    #[cfg(feature = "wgpu")]
    Wgpu(wgpu::Device),
}

impl Runtime {
    /// The device that `SEGFUSE_DEVICE` names, or the best of this machine.
    ///
    /// # Errors
    /// [`Error::UnknownDevice`] when the variable names a device that is not there.
    pub fn auto() -> Result<Runtime, Error> {
        let name = std::env::var(DEVICE_VARIABLE).unwrap_or_default();
        Runtime::on(if name.is_empty() { "auto" } else { &name })
    }

    /// The device of this name: one of [`Runtime::devices`]; `cuda`, the first GPU of CUDA; `wgpu`, the best GPU that wgpu
    /// reaches; or `auto`, the first of those that is there, or else the CPU. A software renderer is chosen by its number alone.
    ///
    /// # Errors
    /// [`Error::UnknownDevice`] when it is not there or not in this build, [`Error::DriverMissing`] where CUDA is not, and what a
    /// GPU refuses.
    pub fn on(name: &str) -> Result<Runtime, Error> {
        match name {
            "auto" => {
                #[cfg(feature = "cuda")]
                if let Ok(gpu) = Runtime::on("cuda") {
                    return Ok(gpu);
                }
                #[cfg(feature = "wgpu")]
                if let Ok(gpu) = Runtime::on("wgpu") {
                    return Ok(gpu);
                }
                Runtime::on("cpu")
            }
            #[cfg(feature = "cpu")]
            "cpu" => Ok(Runtime { backend: Backend::Cpu(cpu::Device::new()), name: "cpu".into() }),
            #[cfg(feature = "cuda")]
            "cuda" => Ok(Runtime::of_cuda(cuda::Device::new(0).map_err(|e| Runtime::unknown(name, e))?, name)),
            #[cfg(feature = "wgpu")]
            "wgpu" => Ok(Runtime::of_wgpu(wgpu::Device::new().map_err(|e| Runtime::unknown(name, e))?, name)),
            _ => {
                #[cfg(feature = "cuda")]
                if let Some(Ok(number)) = name.strip_prefix("cuda:").map(str::parse) {
                    let device = cuda::Device::new(number).map_err(|e| Runtime::unknown(name, e))?;
                    return Ok(Runtime::of_cuda(device, name));
                }
                #[cfg(feature = "wgpu")]
                if let Some(Ok(number)) = name.strip_prefix("wgpu:").map(str::parse) {
                    let device = wgpu::Device::open(number).map_err(|e| Runtime::unknown(name, e))?;
                    return Ok(Runtime::of_wgpu(device, name));
                }
                Err(Runtime::unknown(name, Error::UnknownDevice { name: name.into(), available: vec![] }))
            }
        }
    }

    /// A device of the caller.
    #[cfg(feature = "cuda")]
    pub fn with_cuda(device: cuda::Device) -> Runtime {
        Runtime::of_cuda(device, "cuda")
    }

    #[cfg(feature = "cuda")]
    fn of_cuda(device: cuda::Device, name: &str) -> Runtime {
        Runtime { backend: Backend::Cuda(device), name: name.into() }
    }

    /// A device of the caller.
    #[cfg(feature = "wgpu")]
    pub fn with_wgpu(device: wgpu::Device) -> Runtime {
        Runtime::of_wgpu(device, "wgpu")
    }

    #[cfg(feature = "wgpu")]
    fn of_wgpu(device: wgpu::Device, name: &str) -> Runtime {
        Runtime { backend: Backend::Wgpu(device), name: name.into() }
    }

    /// A device that is not there, with the names of those that are; any other error as it is.
    fn unknown(name: &str, error: Error) -> Error {
        match error {
            Error::UnknownDevice { .. } => {
                let available = Runtime::devices().into_iter().map(|d| d.name).collect();
                Error::UnknownDevice { name: name.into(), available }
            }
            other => other,
        }
    }

    /// Every device of this machine that this build can use.
    pub fn devices() -> Vec<DeviceInfo> {
        // The best first.
        let mut devices: Vec<DeviceInfo> = Vec::new();
        #[cfg(feature = "cuda")]
        devices.extend(numbered("cuda", cuda::Device::descriptions()));
        #[cfg(feature = "wgpu")]
        devices.extend(numbered("wgpu", wgpu::Device::descriptions()));
        #[cfg(feature = "cpu")]
        devices.extend([DeviceInfo { name: "cpu".into(), description: cpu::Device::new().description() }]);
        devices
    }

    /// The name of the device, as it was asked for.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the device is.
    pub fn description(&self) -> String {
        match &self.backend {
            #[cfg(feature = "cpu")]
            Backend::Cpu(device) => device.description(),
            #[cfg(feature = "cuda")]
            Backend::Cuda(device) => device.description(),
            #[cfg(feature = "wgpu")]
            Backend::Wgpu(device) => device.description(),
        }
    }

    /// Loss and gradient, in buffers of the plan's types made here.
    ///
    /// # Errors
    /// When a buffer does not fit the plan; and on a GPU, when it refuses the plan, has no memory left or is lost.
    pub fn evaluate(&self, plan: &Plan, heads: &[Inputs<'_>]) -> Result<(Evaluation, Vec<Gradient>), Error> {
        let mut gradients: Vec<Gradient> = plan.heads().iter().map(Gradient::of).collect();
        let mut slices: Vec<SliceMut<'_>> = gradients.iter_mut().map(Gradient::as_slice_mut).collect();
        let evaluation = self.forward_backward(plan, heads, &mut slices, None)?;
        Ok((evaluation, gradients))
    }

    /// The loss alone.
    ///
    /// # Errors
    /// As [`Runtime::evaluate`].
    pub fn forward(&self, plan: &Plan, heads: &[Inputs<'_>]) -> Result<Evaluation, Error> {
        match &self.backend {
            #[cfg(feature = "cpu")]
            Backend::Cpu(device) => device.prepare(plan).forward(heads),
            #[cfg(feature = "cuda")]
            Backend::Cuda(device) => device.prepare(plan)?.evaluate_forward(heads),
            #[cfg(feature = "wgpu")]
            Backend::Wgpu(device) => device.prepare(plan)?.forward(heads),
        }
    }

    /// Loss and gradient, the gradient in the caller's buffers, one per head.
    ///
    /// `grad_output` is ∂(what is minimised)/∂loss, as many numbers as the plan has losses; 1 where it is `None`.
    ///
    /// # Errors
    /// As [`Runtime::evaluate`].
    pub fn forward_backward(
        &self,
        plan: &Plan,
        heads: &[Inputs<'_>],
        gradients: &mut [SliceMut<'_>],
        grad_output: Option<&[f64]>,
    ) -> Result<Evaluation, Error> {
        match &self.backend {
            #[cfg(feature = "cpu")]
            Backend::Cpu(device) => device.prepare(plan).forward_backward(heads, gradients, grad_output),
            #[cfg(feature = "cuda")]
            Backend::Cuda(device) => device.prepare(plan)?.evaluate_into(heads, gradients, grad_output),
            #[cfg(feature = "wgpu")]
            Backend::Wgpu(device) => device.prepare(plan)?.forward_backward(heads, gradients, grad_output),
        }
    }

    /// Distance maps of a source, in the caller's maps: both of the types and lengths that the settings say.
    ///
    /// # Errors
    /// When the settings contradict each other, or source or maps do not fit them, in which case nothing is written; and on a GPU,
    /// when it refuses them, has no memory left or is lost.
    pub fn distances<'a, 'b>(
        &self,
        distances: &Distances,
        source: impl Into<Slice<'a>>,
        maps: impl Into<SliceMut<'b>>,
    ) -> Result<(), Error> {
        let (source, maps) = (source.into(), maps.into());
        match &self.backend {
            #[cfg(feature = "cpu")]
            Backend::Cpu(device) => device.distances(distances, source, maps),
            #[cfg(feature = "cuda")]
            Backend::Cuda(device) => device.distances(distances, source, maps),
            #[cfg(feature = "wgpu")]
            Backend::Wgpu(device) => device.distances(distances, source, maps),
        }
    }

    /// Bytes of memory that [`Runtime::distances`] takes beside source and maps, there where the device has these.
    ///
    /// # Errors
    /// When the settings contradict each other; and on a GPU, when it refuses them, has no memory left or is lost.
    pub fn distances_workspace_bytes(&self, distances: &Distances) -> Result<u64, Error> {
        distances.check()?;
        match &self.backend {
            #[cfg(feature = "cpu")]
            Backend::Cpu(device) => Ok(device.distances_workspace_bytes(distances)),
            #[cfg(feature = "cuda")]
            Backend::Cuda(device) => Ok(device.prepare_distances_without_workspace(distances)?.workspace_bytes()),
            #[cfg(feature = "wgpu")]
            Backend::Wgpu(device) => Ok(device.prepare_distances(distances)?.workspace_bytes()),
        }
    }
}

/// The devices of a backend, by their numbers.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
fn numbered(backend: &str, descriptions: Vec<String>) -> impl Iterator<Item = DeviceInfo> {
    let named = move |(k, description)| DeviceInfo { name: format!("{backend}:{k}"), description };
    descriptions.into_iter().enumerate().map(named)
}
