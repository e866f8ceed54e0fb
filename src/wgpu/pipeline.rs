//! Pipelines, made once per source.

use super::source::Source;
use crate::error::Error;
use std::collections::HashMap;
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

/// Every pipeline of a device, by source and constants.
#[derive(Debug, Default)]
pub(super) struct Pipelines {
    made: Mutex<HashMap<(Source, Vec<u64>), Pipeline>>,
    pub(super) cache: Option<wgpu::PipelineCache>,
}

impl Pipelines {
    pub(super) fn new(cache: Option<wgpu::PipelineCache>) -> Pipelines {
        Pipelines { made: Mutex::default(), cache }
    }

    /// The pipeline of a specification, made now or before.
    ///
    /// # Errors
    /// [`Error::Device`] when the device refuses it.
    pub(super) fn get(&self, device: &wgpu::Device, specification: Specification<'_>) -> Result<Pipeline, Error> {
        let key = (specification.source, specification.constants.iter().map(|(_, value)| value.to_bits()).collect());
        let mut made = self.made.lock().expect("nothing panics while it holds this");
        if let Some(pipeline) = made.get(&key) {
            return Ok(pipeline.clone());
        }
        let scopes = [wgpu::ErrorFilter::Validation, wgpu::ErrorFilter::OutOfMemory, wgpu::ErrorFilter::Internal]
            .map(|filter| device.push_error_scope(filter));
        let module = wgpu::ShaderModuleDescriptor {
            label: Some(specification.label),
            source: wgpu::ShaderSource::Wgsl(key.0.text().into()),
        };
        // Checks of every index would keep arrays of a known size out of the registers.
        let unchecked = wgpu::ShaderRuntimeChecks::unchecked();
        // SAFETY: the kernels index buffers by what the plan, the window and the size of the buffers were checked for, private
        // arrays by loops of constant bounds, and tables by labels that were classified; every loop has a bound that is a
        // constant or a number of the window.
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
            cache: self.cache.as_ref(),
        });
        // All of them first, in reverse: a scope that is left is one that wgpu finds out of order.
        let refused: Vec<_> = scopes.into_iter().rev().map(wgpu::ErrorScopeGuard::pop).collect();
        for error in refused {
            if let Some(error) = pollster::block_on(error) {
                return Err(refusal(error, specification.label));
            }
        }
        let pipeline = Pipeline { pipeline, layout };
        made.insert(key, pipeline.clone());
        Ok(pipeline)
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
