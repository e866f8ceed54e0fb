//! A device to run kernels on, and the text of the kernels.

use std::path::Path;
use std::sync::OnceLock;
use wgpu::util::DeviceExt;

/// What a binding holds.
pub(super) enum Binding<'a> {
    /// Read only.
    Storage(&'a [u32]),
    /// Read and written; its contents come back.
    Out(&'a [u32]),
    /// A uniform buffer.
    Uniform(&'a [u32]),
}

/// An adapter with the lowest limits that any desktop has.
pub(super) struct Gpu {
    device: wgpu::Device,
    queue: wgpu::Queue,
}

impl Gpu {
    /// The adapter; `None` where there is none, which in CI is a failure.
    pub(super) fn get() -> Option<&'static Gpu> {
        static GPU: OnceLock<Option<Gpu>> = OnceLock::new();
        let gpu = GPU.get_or_init(Gpu::open).as_ref();
        if gpu.is_none() {
            assert!(!super::in_ci(), "no adapter was found");
            println!("skipped: no adapter");
        }
        gpu
    }

    fn open() -> Option<Gpu> {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
        let adapter = pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default())).ok()?;
        eprintln!("{} ({:?})", adapter.get_info().name, adapter.get_info().backend);
        let descriptor = wgpu::DeviceDescriptor {
            required_limits: wgpu::Limits::downlevel_defaults(),
            ..wgpu::DeviceDescriptor::default()
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).expect("a device can be had");
        Some(Gpu { device, queue })
    }

    /// A pipeline from the text of a kernel.
    pub(super) fn pipeline(&self, text: &str, entry: &str, constants: &[(&str, f64)]) -> wgpu::ComputePipeline {
        let module = self.device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(entry),
            source: wgpu::ShaderSource::Wgsl(text.into()),
        });
        self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(entry),
            layout: None,
            module: &module,
            entry_point: Some(entry),
            compilation_options: wgpu::PipelineCompilationOptions { constants, ..Default::default() },
            cache: None,
        })
    }

    /// Runs a kernel once; returns the contents of every [`Binding::Out`].
    pub(super) fn run(
        &self,
        pipeline: &wgpu::ComputePipeline,
        bindings: &[Binding<'_>],
        (x, y): (u32, u32),
    ) -> Vec<Vec<u32>> {
        let mut buffers = Vec::new();
        for binding in bindings {
            let (contents, usage) = match binding {
                Binding::Storage(contents) => (contents, wgpu::BufferUsages::STORAGE),
                Binding::Out(contents) => (contents, wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC),
                Binding::Uniform(contents) => (contents, wgpu::BufferUsages::UNIFORM),
            };
            let contents = bytemuck::cast_slice(contents);
            buffers.push(self.device.create_buffer_init(&wgpu::util::BufferInitDescriptor {
                label: None,
                contents,
                usage,
            }));
        }
        let entries: Vec<wgpu::BindGroupEntry<'_>> = (0..)
            .zip(&buffers)
            .map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
            .collect();
        let group = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries,
        });
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            pass.set_pipeline(pipeline);
            pass.set_bind_group(0, &group, &[]);
            pass.dispatch_workgroups(x, y, 1);
        }
        let mut copies = Vec::new();
        for (binding, buffer) in bindings.iter().zip(&buffers) {
            if let Binding::Out(_) = binding {
                let copy = self.device.create_buffer(&wgpu::BufferDescriptor {
                    label: None,
                    size: buffer.size(),
                    usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
                    mapped_at_creation: false,
                });
                encoder.copy_buffer_to_buffer(buffer, 0, &copy, 0, buffer.size());
                copies.push(copy);
            }
        }
        self.queue.submit([encoder.finish()]);
        for copy in &copies {
            copy.map_async(wgpu::MapMode::Read, .., |mapped| mapped.expect("a buffer can be read"));
        }
        self.device.poll(wgpu::PollType::wait_indefinitely()).expect("the device finishes");
        let read = |copy: &wgpu::Buffer| {
            let view = copy.get_mapped_range(..).expect("the buffer is mapped");
            bytemuck::pod_collect_to_vec(&view)
        };
        copies.iter().map(read).collect()
    }
}

/// The text of a kernel file, its imports expanded.
pub(super) fn kernel(name: &str) -> String {
    expand(&read(name))
}

/// `text` with each line `#import name` replaced by that file, the first time it is named.
pub(super) fn expand(text: &str) -> String {
    fn add(text: &str, seen: &mut Vec<String>, into: &mut String) {
        for line in text.lines() {
            match line.strip_prefix("#import ") {
                Some(name) if seen.iter().any(|known| known == name) => {}
                Some(name) => {
                    seen.push(name.into());
                    add(&read(name), seen, into);
                }
                None => *into += &format!("{line}\n"),
            }
        }
    }
    let mut expanded = String::new();
    add(text, &mut Vec::new(), &mut expanded);
    expanded
}

fn read(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
    let folder = if name.starts_with("gen/") { folder } else { folder.join("wgsl") };
    let path = folder.join(format!("{name}.wgsl"));
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
