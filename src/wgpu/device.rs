//! Adapters, devices, and what of them shapes the work.

use super::distance::DistanceExecutor;
use super::executor::Executor;
use super::geometry;
use super::pipeline::{Making, Pipelines};
use crate::distance::Distances;
use crate::error::Error;
use crate::plan::Plan;
use std::sync::{Arc, Mutex};
use wgpu::{Adapter, AdapterInfo, Features, Limits};
#[cfg(not(target_arch = "wasm32"))]
use wgpu::{Backends, DeviceType};

/// A device that wgpu reaches, with the pipelines made so far. Cheap to clone; clones share everything.
#[derive(Clone, Debug)]
pub struct Device {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) limits: geometry::Limits,
    /// Variants of a device share them: what makes two kernels differ stands in their text.
    pub(super) pipelines: Arc<Pipelines>,
    variant: Variant,
    /// Why the device was lost, where this library made it and so is told.
    lost: Arc<Mutex<Option<String>>>,
}

/// Which of the features of a device are used; the default is all that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variant {
    /// Sums over subgroups; otherwise through workgroup memory.
    pub subgroups: bool,
    /// f16 in shaders; otherwise halves are unpacked by bits.
    pub f16: bool,
    /// Bytes of a storage binding; buffers beyond it are bound in windows.
    pub binding: u64,
}

impl Device {
    /// Features that are used where a device has them: request those of them that the adapter offers.
    pub const FEATURES: Features =
        Features::SUBGROUP.union(Features::SHADER_F16).union(Features::TIMESTAMP_QUERY).union(Features::PIPELINE_CACHE);

    /// The limits to request of this adapter: WebGPU's defaults, with buffers and bindings as large as the adapter has them.
    /// The defaults alone do too; buffers beyond 128 MiB are then bound in windows.
    pub fn limits(adapter: &Adapter) -> Limits {
        let most = adapter.limits();
        Limits {
            max_buffer_size: most.max_buffer_size,
            max_storage_buffer_binding_size: most.max_storage_buffer_binding_size,
            min_storage_buffer_offset_alignment: most.min_storage_buffer_offset_alignment,
            min_uniform_buffer_offset_alignment: most.min_uniform_buffer_offset_alignment,
            ..Limits::defaults()
        }
    }

    /// Adopts a device and its queue.
    ///
    /// # Errors
    /// [`Error::DeviceLimit`] when it allows less than WebGPU's default of what the kernels need: 8 storage buffers per
    /// stage, 256 invocations and 16 KiB of memory per workgroup.
    pub fn from_wgpu(device: wgpu::Device, queue: wgpu::Queue) -> Result<Device, Error> {
        Device::adopt(device, queue, None, Arc::default())
    }

    /// As [`Device::from_wgpu`], with a pipeline cache of the caller, who may keep its data from one start to the next.
    ///
    /// # Errors
    /// As [`Device::from_wgpu`].
    pub fn with_pipeline_cache(
        device: wgpu::Device,
        queue: wgpu::Queue,
        cache: wgpu::PipelineCache,
    ) -> Result<Device, Error> {
        Device::adopt(device, queue, Some(cache), Arc::default())
    }

    fn adopt(
        device: wgpu::Device,
        queue: wgpu::Queue,
        cache: Option<wgpu::PipelineCache>,
        lost: Arc<Mutex<Option<String>>>,
    ) -> Result<Device, Error> {
        let (has, need) = (device.limits(), Limits::defaults());
        for (what, need, got) in [
            (
                "storage buffers per stage",
                need.max_storage_buffers_per_shader_stage,
                has.max_storage_buffers_per_shader_stage,
            ),
            (
                "invocations per workgroup",
                need.max_compute_invocations_per_workgroup,
                has.max_compute_invocations_per_workgroup,
            ),
            ("threads of a workgroup in x", need.max_compute_workgroup_size_x, has.max_compute_workgroup_size_x),
            (
                "bytes of workgroup memory",
                need.max_compute_workgroup_storage_size,
                has.max_compute_workgroup_storage_size,
            ),
        ] {
            if got < need {
                return Err(Error::DeviceLimit { what, need: need.into(), got: got.into() });
            }
        }
        let limits = geometry::Limits {
            binding: has.max_storage_buffer_binding_size.min(has.max_buffer_size),
            alignment: has.min_storage_buffer_offset_alignment.into(),
            workgroups: has.max_compute_workgroups_per_dimension.into(),
        };
        let features = device.features();
        let variant = Variant {
            subgroups: features.contains(Features::SUBGROUP) && device.adapter_info().subgroup_min_size >= SUBGROUP_MIN,
            f16: features.contains(Features::SHADER_F16),
            binding: limits.binding,
        };
        let pipelines = Arc::new(Pipelines::new(cache));
        Ok(Device { inner: Arc::new(Inner { device, queue, limits, pipelines, variant, lost }) })
    }

    /// The same device with other kernels: for tests, and for devices whose features disappoint. A feature that the device
    /// lacks, or a binding larger than it allows, is left as it is.
    pub fn with_variant(&self, wanted: Variant) -> Device {
        let Inner { device, queue, limits, variant, lost, .. } = &*self.inner;
        let variant = Variant {
            subgroups: wanted.subgroups && variant.subgroups,
            f16: wanted.f16 && variant.f16,
            binding: wanted.binding.min(limits.binding),
        };
        let inner = Inner {
            device: device.clone(),
            queue: queue.clone(),
            limits: geometry::Limits { binding: variant.binding, ..*limits },
            pipelines: self.inner.pipelines.clone(),
            variant,
            lost: lost.clone(),
        };
        Device { inner: Arc::new(inner) }
    }

    /// Which features are used.
    pub fn variant(&self) -> Variant {
        self.inner.variant
    }

    /// The best adapter of this machine: a discrete GPU before an integrated one before any other, never a software
    /// renderer; those [`Device::open`] gives by number.
    ///
    /// # Errors
    /// [`Error::UnknownDevice`] when there is none, or what the adapter refuses.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn new() -> Result<Device, Error> {
        let best = adapters().into_iter().filter_map(|a| rank(&a.get_info()).map(|rank| (rank, a))).min_by_key(|x| x.0);
        match best {
            Some((_, adapter)) => Device::of_adapter(&adapter),
            None => Err(unknown("wgpu")),
        }
    }

    /// The adapter of this number in [`Device::adapters`], software renderers too.
    ///
    /// # Errors
    /// [`Error::UnknownDevice`] when there are not as many, or what the adapter refuses.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn open(number: usize) -> Result<Device, Error> {
        let adapter = adapters().into_iter().nth(number).ok_or_else(|| unknown(&format!("wgpu:{number}")))?;
        Device::of_adapter(&adapter)
    }

    /// What adapters this machine has.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn adapters() -> Vec<AdapterInfo> {
        adapters().iter().map(Adapter::get_info).collect()
    }

    /// What each adapter is, in words; see [`Device::description`].
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn descriptions() -> Vec<String> {
        let described = |adapter: &Adapter| {
            let features = adapter.features();
            describe(
                &adapter.get_info(),
                features.contains(Features::SUBGROUP),
                features.contains(Features::SHADER_F16),
                adapter.limits().max_storage_buffer_binding_size,
            )
        };
        adapters().iter().map(described).collect()
    }

    /// A device of this adapter with [`Device::FEATURES`] as far as it has them, and [`Device::limits`].
    ///
    /// # Errors
    /// [`Error::Device`] when the adapter refuses.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn of_adapter(adapter: &Adapter) -> Result<Device, Error> {
        pollster::block_on(Device::of_adapter_async(adapter))
    }

    /// As [`Device::of_adapter`], for browsers, where nothing may block.
    ///
    /// # Errors
    /// As [`Device::of_adapter`].
    pub async fn of_adapter_async(adapter: &Adapter) -> Result<Device, Error> {
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("segfuse"),
            required_features: adapter.features() & Device::FEATURES,
            required_limits: Device::limits(adapter),
            ..Default::default()
        };
        let (device, queue) =
            adapter.request_device(&descriptor).await.map_err(|e| Error::Device { reason: e.to_string() })?;
        let lost: Arc<Mutex<Option<String>>> = Arc::default();
        let told = lost.clone();
        device.set_device_lost_callback(move |reason, message| {
            *told.lock().expect("nothing panics while it holds this") = Some(format!("{reason:?}: {message}"));
        });
        Device::adopt(device, queue, None, lost)
    }

    /// What it is.
    pub fn info(&self) -> AdapterInfo {
        self.inner.device.adapter_info()
    }

    /// Name, kind, interface, and the limits that matter here.
    pub fn description(&self) -> String {
        let Variant { subgroups, f16, binding } = self.inner.variant;
        describe(&self.info(), subgroups, f16, binding)
    }

    /// The wgpu device.
    pub fn device(&self) -> &wgpu::Device {
        &self.inner.device
    }
    /// Its queue.
    pub fn queue(&self) -> &wgpu::Queue {
        &self.inner.queue
    }

    /// Makes the pipelines and the workspace of a plan. Slow the first time; later plans of the same objective, types and
    /// layout find their pipelines made.
    ///
    /// # Errors
    /// Whatever the device refuses: every error of a device but its loss shows here.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn prepare(&self, plan: &Plan) -> Result<Executor, Error> {
        pollster::block_on(self.prepare_async(plan))
    }

    /// As [`Device::prepare`], for browsers, where nothing may block. Elsewhere the future is ready when it is first polled.
    ///
    /// # Errors
    /// As [`Device::prepare`].
    pub async fn prepare_async(&self, plan: &Plan) -> Result<Executor, Error> {
        self.made(plan, false, false).await
    }

    /// As [`Device::prepare`], for calls whose gradients are written over their predictions.
    ///
    /// # Errors
    /// As [`Device::prepare`]; [`Error::BufferType`] when a gradient has another type than its prediction.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn prepare_in_place(&self, plan: &Plan) -> Result<Executor, Error> {
        pollster::block_on(self.prepare_in_place_async(plan))
    }

    /// As [`Device::prepare_in_place`] and [`Device::prepare_async`].
    ///
    /// # Errors
    /// As [`Device::prepare_in_place`].
    pub async fn prepare_in_place_async(&self, plan: &Plan) -> Result<Executor, Error> {
        self.made(plan, true, false).await
    }

    /// As [`Device::prepare`], for calls whose stages are recorded one by one, with the caller's work between them:
    /// [`Executor::encode_reduce`], [`Executor::encode_finish`], [`Executor::encode_gradient`].
    ///
    /// # Errors
    /// As [`Device::prepare`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn prepare_split(&self, plan: &Plan) -> Result<Executor, Error> {
        pollster::block_on(self.prepare_split_async(plan))
    }

    /// As [`Device::prepare_split`] and [`Device::prepare_async`].
    ///
    /// # Errors
    /// As [`Device::prepare_split`].
    pub async fn prepare_split_async(&self, plan: &Plan) -> Result<Executor, Error> {
        self.made(plan, false, true).await
    }

    /// Makes the pipelines and the workspace of distance maps.
    ///
    /// # Errors
    /// When the settings contradict each other; [`Error::DeviceLimit`] when a map, or a sample of the source, is beyond one
    /// storage binding, as are the interleaved maps of a sample; whatever the device refuses.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn prepare_distances(&self, distances: &Distances) -> Result<DistanceExecutor, Error> {
        pollster::block_on(self.prepare_distances_async(distances))
    }

    /// As [`Device::prepare_distances`] and [`Device::prepare_async`].
    ///
    /// # Errors
    /// As [`Device::prepare_distances`].
    pub async fn prepare_distances_async(&self, distances: &Distances) -> Result<DistanceExecutor, Error> {
        self.settled(|making| DistanceExecutor::new(making, distances)).await
    }

    async fn made(&self, plan: &Plan, in_place: bool, split: bool) -> Result<Executor, Error> {
        self.settled(|making| Executor::new(making, plan, in_place, split)).await
    }

    /// What is made, once the device has said what it refuses of it.
    async fn settled<T>(&self, make: impl FnOnce(&Making<'_>) -> Result<T, Error>) -> Result<T, Error> {
        let making = Making::new(self);
        let scope = self.inner.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let made = make(&making);
        making.end(scope, "a plan");
        let settled = making.settle().await;
        match made.and_then(|made| settled.map(|()| made)) {
            Ok(made) => Ok(made),
            Err(error) => Err(self.diagnosed(error).await),
        }
    }

    /// What a device refuses that no longer answers is that it is lost.
    pub(super) async fn diagnosed(&self, error: Error) -> Error {
        match error {
            Error::Device { reason } if self.is_lost().await => self.lost(reason),
            other => other,
        }
    }

    /// wgpu tells the loss of a device to one callback, which may be the caller's own, and to nobody else: a lost device makes
    /// buffers as before, but they cannot be written.
    async fn is_lost(&self) -> bool {
        let Inner { device, queue, .. } = &*self.inner;
        let memory = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let validation = device.push_error_scope(wgpu::ErrorFilter::Validation);
        let probe = self.buffer("probe", 4, wgpu::BufferUsages::COPY_DST);
        queue.write_buffer(&probe, 0, &[0; 4]);
        let (refused, full) = (validation.pop(), memory.pop());
        refused.await.is_some() && full.await.is_none()
    }

    /// The error of a device that no longer answers.
    pub(super) fn lost(&self, otherwise: String) -> Error {
        let told = self.inner.lost.lock().expect("nothing panics while it holds this").clone();
        Error::DeviceLost { reason: told.unwrap_or(otherwise) }
    }
}

/// Subgroups smaller than this are not used: workgroup memory is laid out for it.
const SUBGROUP_MIN: u32 = 4;

fn describe(info: &AdapterInfo, subgroups: bool, f16: bool, binding: u64) -> String {
    let has = |has: bool, what: &str| if has { format!(", {what}") } else { String::new() };
    format!(
        "{} ({:?}, {:?}), bindings of {} MiB{}{}",
        info.name,
        info.device_type,
        info.backend,
        binding >> 20,
        has(subgroups, "subgroups"),
        has(f16, "f16"),
    )
}

#[cfg(not(target_arch = "wasm32"))]
fn unknown(name: &str) -> Error {
    let available = (0..adapters().len()).map(|k| format!("wgpu:{k}")).collect();
    Error::UnknownDevice { name: name.into(), available }
}

/// Smaller is better; `None` for what is chosen by number alone.
#[cfg(not(target_arch = "wasm32"))]
fn rank(info: &AdapterInfo) -> Option<u8> {
    match info.device_type {
        DeviceType::DiscreteGpu => Some(0),
        DeviceType::IntegratedGpu => Some(1),
        DeviceType::VirtualGpu | DeviceType::Other => Some(2),
        DeviceType::Cpu => None,
    }
}

#[cfg(not(target_arch = "wasm32"))]
fn adapters() -> Vec<Adapter> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    pollster::block_on(instance.enumerate_adapters(Backends::all()))
}
