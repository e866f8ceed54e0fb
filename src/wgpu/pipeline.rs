//! Pipelines, made once per source.

use super::device::Device;
use super::source::Source;
use crate::error::Error;
use std::cell::RefCell;
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Mutex;
use wgpu::{BindGroupLayout, BufferBindingType, ComputePipeline};

/// A pipeline and what it binds.
#[derive(Clone, Debug)]
pub(super) struct Pipeline {
    pub(super) pipeline: ComputePipeline,
    pub(super) layout: BindGroupLayout,
}

/// What a pipeline is made of.
#[derive(Debug)]
pub(super) struct Specification<'a> {
    pub(super) label: &'static str,
    pub(super) source: Source,
    pub(super) entry: &'a str,
    /// The bindings of group 0, from 0 on.
    pub(super) bindings: &'a [BufferBindingType],
    pub(super) constants: &'a [(&'a str, f64)],
}

/// Source and constants.
type Key = (Source, Vec<u64>);

/// Every pipeline of a device.
#[derive(Debug)]
pub(super) struct Pipelines {
    made: Mutex<HashMap<Key, Pipeline>>,
    cache: Option<wgpu::PipelineCache>,
}

impl Pipelines {
    pub(super) fn new(cache: Option<wgpu::PipelineCache>) -> Pipelines {
        Pipelines { made: Mutex::default(), cache }
    }
}

/// What the device says in the end of something that was begun; nothing is waited for in between. In a browser it says so only
/// when control goes back to it, elsewhere at once.
#[cfg(not(target_arch = "wasm32"))]
type Refusal = Pin<Box<dyn Future<Output = Option<wgpu::Error>> + Send>>;
#[cfg(target_arch = "wasm32")]
type Refusal = Pin<Box<dyn Future<Output = Option<wgpu::Error>>>>;

/// Something that the device may still refuse, and the pipeline that it is.
struct Begun {
    what: &'static str,
    pipeline: Option<(Key, Pipeline)>,
    refusal: Refusal,
}

/// The making of one plan's pipelines and buffers.
pub(super) struct Making<'d> {
    device: &'d Device,
    begun: RefCell<Vec<Begun>>,
}

impl<'d> Making<'d> {
    pub(super) fn new(device: &'d Device) -> Making<'d> {
        Making { device, begun: RefCell::default() }
    }

    /// The device that they are made on.
    pub(super) fn device(&self) -> &'d Device {
        self.device
    }

    /// Ends a scope; what it caught is an error of [`Making::settle`].
    pub(super) fn end(&self, scope: wgpu::ErrorScopeGuard, what: &'static str) {
        self.begun.borrow_mut().push(Begun { what, pipeline: None, refusal: Box::pin(scope.pop()) });
    }

    /// Whether all that was begun is made.
    ///
    /// # Errors
    /// The first thing that the device refused.
    pub(super) async fn settle(self) -> Result<(), Error> {
        let mut settled = Ok(());
        for begun in self.begun.into_inner() {
            match (begun.refusal.await, begun.pipeline) {
                (Some(error), _) => settled = settled.and(Err(refusal(error, begun.what))),
                (None, Some((key, pipeline))) => {
                    let mut made = self.device.inner.pipelines.made.lock().expect("nothing panics while it holds this");
                    made.insert(key, pipeline);
                }
                (None, None) => {}
            }
        }
        settled
    }

    /// The pipeline of a specification, begun now or made before.
    pub(super) fn pipeline(&self, specification: Specification<'_>) -> Pipeline {
        let key = (specification.source, specification.constants.iter().map(|(_, value)| value.to_bits()).collect());
        let pipelines = &self.device.inner.pipelines;
        if let Some(pipeline) = pipelines.made.lock().expect("nothing panics while it holds this").get(&key) {
            return pipeline.clone();
        }
        let same = |begun: &Begun| begun.pipeline.as_ref().filter(|(begun, _)| *begun == key).map(|(_, p)| p.clone());
        if let Some(pipeline) = self.begun.borrow().iter().find_map(same) {
            return pipeline;
        }
        let device = &self.device.inner.device;
        let scopes = [wgpu::ErrorFilter::Validation, wgpu::ErrorFilter::OutOfMemory, wgpu::ErrorFilter::Internal]
            .map(|filter| device.push_error_scope(filter));
        let module = wgpu::ShaderModuleDescriptor {
            label: Some(specification.label),
            source: wgpu::ShaderSource::Wgsl(key.0.text().into()),
        };
        // Checks of every index would keep arrays of a known size out of the registers.
        let unchecked = wgpu::ShaderRuntimeChecks::unchecked();
        // SAFETY: the kernels index buffers by what the plan, the window or the piece and the size of the buffers were checked for,
        // private arrays by loops of constant bounds, and tables by labels that were classified, or by numbers that the host
        // checked; every loop has a bound that is a constant or a number of the window or the piece, or clears a bit of a word in
        // each turn.
        let module = unsafe { device.create_shader_module_trusted(module, unchecked) };
        let entries: Vec<wgpu::BindGroupLayoutEntry> = specification
            .bindings
            .iter()
            .enumerate()
            .map(|(k, &ty)| wgpu::BindGroupLayoutEntry {
                binding: k as u32,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
                count: None,
            })
            .collect();
        let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some(specification.label),
            entries: &entries,
        });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(specification.label),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(specification.label),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some(specification.entry),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: specification.constants,
                // Every kernel writes its workgroup memory before it reads it.
                zero_initialize_workgroup_memory: false,
            },
            cache: pipelines.cache.as_ref(),
        });
        // All of them first, in reverse: a scope that is left is one that wgpu finds out of order.
        let refused: Vec<_> = scopes.into_iter().rev().map(wgpu::ErrorScopeGuard::pop).collect();
        let refusal = Box::pin(async {
            let mut first = None;
            for error in refused {
                first = first.or(error.await);
            }
            first
        });
        let pipeline = Pipeline { pipeline, layout };
        let begun = Begun { what: specification.label, pipeline: Some((key, pipeline.clone())), refusal };
        self.begun.borrow_mut().push(begun);
        pipeline
    }
}

/// The typed error of what wgpu reports.
pub(super) fn refusal(error: wgpu::Error, what: &'static str) -> Error {
    match error {
        wgpu::Error::OutOfMemory { .. } => Error::DeviceMemory { what },
        wgpu::Error::Validation { description, .. } | wgpu::Error::Internal { description, .. } => {
            Error::Device { reason: format!("{what}: {description}") }
        }
    }
}
