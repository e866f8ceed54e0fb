//! Devices, and the kernels that were loaded on them.

use super::driver::{self, Context, Function, Gpu};
use super::executor::Executor;
use super::text::{self, Source};
use crate::distance::BUDGET;
use crate::error::Error;
use crate::plan::Plan;
use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{Arc, Mutex};

/// A context of a CUDA device, with the kernels loaded so far. Cheap to clone; clones share everything.
#[derive(Clone, Debug)]
pub struct Device {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) context: Arc<Context>,
    /// Bytes of the last-level cache.
    pub(super) cache_bytes: u64,
    kernels: Mutex<HashMap<Text, Arc<Function>>>,
}

/// Kernels that stay loaded for later plans. With as many, those that no executor has are unloaded before another is loaded: the
/// constants of a loss are in the text, so that a sweep over them loads one after the other.
const KERNELS_KEPT: usize = 256;

/// What a kernel is made of; equal ones have equal texts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Text {
    /// A kernel over voxels, completed for a plan.
    Voxels(Box<Source>),
    /// A kernel as it is shipped.
    Plain(&'static str),
}

impl Text {
    fn entry(&self) -> &'static str {
        match self {
            Text::Voxels(source) => source.entry(),
            Text::Plain(name) => name,
        }
    }
    fn text(&self) -> String {
        match self {
            Text::Voxels(source) => source.text(),
            Text::Plain(name) => text::plain(name).into(),
        }
    }
}

/// How a plan is prepared; [`Device::prepare_as`]. The default is that of [`Device::prepare`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preparation {
    /// Gradients are written over their predictions.
    pub in_place: bool,
    /// The stages are launched one by one, with the caller's work between them.
    pub split: bool,
    /// The executor allocates a workspace of its own; without, every call brings one.
    pub workspace: bool,
    /// A head that is so small that one block does as well is one launch. The sums keep their order, and bits can differ only where the
    /// driver's compiler fuses a product and a sum in one kernel and not in the other; without, every stage is launched.
    pub one_block: bool,
    /// Bytes of the workspace for the planes that distance maps, objects and eroded errors are made of, beside the maps themselves: as many
    /// planes or samples are made together as fit, and one where none does. Classes, contours and weights of voxels, a few bytes each
    /// of all samples, are not among them. 1 GiB by default.
    pub memory_budget: u64,
}

impl Default for Preparation {
    fn default() -> Preparation {
        Preparation { in_place: false, split: false, workspace: true, one_block: true, memory_budget: BUDGET }
    }
}

impl Device {
    /// The device of this number in its primary context, which programs that use the CUDA runtime share.
    ///
    /// # Errors
    /// [`Error::DriverMissing`] and [`Error::DriverVersion`] where no kernel can run; [`Error::UnknownDevice`] when there are
    /// not as many devices, as the driver counts them (`CUDA_VISIBLE_DEVICES` applies).
    pub fn new(ordinal: usize) -> Result<Device, Error> {
        Device::of(Context::primary(Gpu::new(ordinal)?)?)
    }

    /// The device of the context that is current in this thread, in that context.
    ///
    /// # Errors
    /// As [`Device::new`]; [`Error::Device`] when no context is current.
    ///
    /// # Safety
    /// The context outlives the device and its executors.
    pub unsafe fn from_current_context() -> Result<Device, Error> {
        let raw = Context::current()?
            .ok_or_else(|| Error::Device { reason: "no context is current in this thread".into() })?;
        // SAFETY: it is a context, and the caller promises that it outlives the device.
        Device::of(unsafe { Context::adopt(raw)? })
    }

    /// The device of a context of the caller, a `CUcontext`, in that context.
    ///
    /// # Errors
    /// As [`Device::new`]; [`Error::Device`] where the driver does not know the context, [`Error::BufferNull`] where it is null.
    ///
    /// # Safety
    /// `raw` is a context, which outlives the device and its executors.
    pub unsafe fn from_context<T>(raw: *mut T) -> Result<Device, Error> {
        if raw.is_null() {
            return Err(Error::BufferNull { role: "the context" });
        }
        // SAFETY: the caller's promise.
        Device::of(unsafe { Context::adopt(raw.cast())? })
    }

    fn of(context: Arc<Context>) -> Result<Device, Error> {
        let cache_bytes = context.device().cache_bytes()?;
        Ok(Device { inner: Arc::new(Inner { context, cache_bytes, kernels: Mutex::default() }) })
    }

    /// How many devices there are.
    ///
    /// # Errors
    /// [`Error::DriverMissing`], [`Error::DriverVersion`].
    pub fn count() -> Result<usize, Error> {
        driver::count()
    }

    /// What each device is, in words; none where there is no driver.
    pub(crate) fn descriptions() -> Vec<String> {
        let count = driver::count().unwrap_or(0);
        (0..count).map(|k| Gpu::new(k).and_then(describe).unwrap_or_else(|e| e.to_string())).collect()
    }

    /// Name, architecture and memory.
    pub fn description(&self) -> String {
        describe(self.inner.context.device()).unwrap_or_else(|e| e.to_string())
    }

    /// Its number, as the driver counts.
    pub fn ordinal(&self) -> i32 {
        self.inner.context.device().ordinal()
    }

    /// Its context, a `CUcontext`.
    pub fn context(&self) -> *mut c_void {
        self.inner.context.raw()
    }

    /// Has the driver compile the kernels of a plan, and allocates the workspace. Slow the first time; later plans of the same
    /// objective, types and layout find their kernels loaded. Not while a stream of the thread is captured.
    ///
    /// # Errors
    /// Whatever the device refuses: [`Error::Ptx`], [`Error::DeviceMemory`], [`Error::DeviceLimit`], [`Error::DeviceLost`].
    pub fn prepare(&self, plan: &Plan) -> Result<Executor, Error> {
        self.prepare_as(plan, Preparation::default())
    }

    /// As [`Device::prepare`], for calls whose gradients are written over their predictions.
    ///
    /// # Errors
    /// As [`Device::prepare`]; [`Error::BufferType`] when a gradient has another type than its prediction.
    pub fn prepare_in_place(&self, plan: &Plan) -> Result<Executor, Error> {
        self.prepare_as(plan, Preparation { in_place: true, ..Preparation::default() })
    }

    /// As [`Device::prepare`], for calls whose stages are launched one by one, with the caller's work between them:
    /// [`Executor::reduce`], [`Executor::finish`], [`Executor::gradient`].
    ///
    /// # Errors
    /// As [`Device::prepare`].
    pub fn prepare_split(&self, plan: &Plan) -> Result<Executor, Error> {
        self.prepare_as(plan, Preparation { split: true, ..Preparation::default() })
    }

    /// As [`Device::prepare`], in any way.
    ///
    /// # Errors
    /// As [`Device::prepare`] and [`Device::prepare_in_place`].
    pub fn prepare_as(&self, plan: &Plan, preparation: Preparation) -> Result<Executor, Error> {
        Executor::new(self, plan, preparation)
    }

    /// The kernel of a text, loaded now or before.
    pub(super) fn kernel(&self, text: Text) -> Result<Arc<Function>, Error> {
        // Held while the driver compiles: who waits wants most likely the same kernel.
        let mut kernels = self.inner.kernels.lock().expect("nothing panics while it holds this");
        if let Some(kernel) = kernels.get(&text) {
            return Ok(kernel.clone());
        }
        if kernels.len() >= KERNELS_KEPT {
            kernels.retain(|_, kernel| Arc::strong_count(kernel) > 1);
        }
        let kernel = Arc::new(Function::load(&self.inner.context, text.entry(), &text.text())?);
        kernels.insert(text, kernel.clone());
        Ok(kernel)
    }
}

fn describe(gpu: Gpu) -> Result<String, Error> {
    let version = driver::version()?;
    Ok(format!(
        "{} (sm_{}, CUDA {}.{}), {} MiB, cache of {} MiB",
        gpu.name()?,
        gpu.capability()?,
        version / 1000,
        version % 1000 / 10,
        gpu.memory()? >> 20,
        gpu.cache_bytes()? >> 20,
    ))
}
