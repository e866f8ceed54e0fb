//! A training whose logits and gradient never leave the device.
//!
//! Two 3×3 convolutions with a ReLU between them learn to tell bright discs and dark boxes from noise. The model's passes and
//! its optimiser are compute shaders below; the loss is the library's, recorded into the same command encoder. Per report the
//! host reads a handful of numbers, and only at the end the logits of the held-out images.
//!
//! `cargo run --release --features wgpu --example train_wgpu`; it fails where the loss does not fall, and so is a test too.

use segfuse::wgpu::{Buffers, Call, Device, Executor};
use segfuse::{HardCounts, Inputs, Objective, Plan, Problem, Shape};
use std::error::Error;
use std::time::Instant;
use wgpu::util::{BufferInitDescriptor, DeviceExt};
use wgpu::{BindGroup, Buffer, BufferSlice, BufferUsages, CommandEncoder, ComputePipeline};

const LOSS: &str = "dice + 0.5*focal(gamma=2)";
const SIDE: usize = 48;
const PIXELS: usize = SIDE * SIDE;
const CLASSES: usize = 3;
/// Channels between the convolutions.
const HIDDEN: usize = 8;
/// Images of a step, steps before they come again, and so images of the training set.
const BATCH: usize = 4;
const BATCHES: usize = 8;
const IMAGES: usize = BATCH * BATCHES;
const STEPS: usize = 300;
const REPORT: usize = 50;

/// The parameters: weights and biases of the first convolution, then of the second.
const WEIGHTS_1: usize = HIDDEN * 9;
const WEIGHTS_2: usize = CLASSES * HIDDEN * 9;
const PARAMETERS: usize = WEIGHTS_1 + HIDDEN + WEIGHTS_2 + CLASSES;

/// The model. Its sums are in f32 and in a fixed order, so that a training repeats bit for bit on one device.
const MODEL: &str = r"
@group(0) @binding(0) var<storage, read> images: array<f32>;                // [BATCH, PIXELS]
@group(0) @binding(1) var<storage, read_write> parameters: array<f32>;
@group(0) @binding(2) var<storage, read_write> hidden: array<f32>;          // [BATCH, HIDDEN, PIXELS]
@group(0) @binding(3) var<storage, read_write> logits: array<f32>;          // [BATCH, CLASSES, PIXELS]
@group(0) @binding(4) var<storage, read_write> hidden_slopes: array<f32>;   // [BATCH, HIDDEN, PIXELS]
@group(0) @binding(5) var<storage, read_write> moments: array<vec4<f32>>;   // of Adam, per parameter

const BIAS_1 = WEIGHTS_1;
const BEGIN_2 = WEIGHTS_1 + HIDDEN;
const BIAS_2 = BEGIN_2 + WEIGHTS_2;
const GROUP = 64u;

// A tap's pixel in the plane, or -1 beyond the border, where the plane is taken as 0.
fn neighbour(pixel: u32, tap: u32) -> i32 {
    let y = i32(pixel / SIDE) + i32(tap / 3u) - 1;
    let x = i32(pixel % SIDE) + i32(tap % 3u) - 1;
    let inside = y >= 0 && y < i32(SIDE) && x >= 0 && x < i32(SIDE);
    return select(-1, y * i32(SIDE) + x, inside);
}

@compute @workgroup_size(GROUP)
fn forward_1(@builtin(global_invocation_id) id: vec3<u32>) {
    let pixel = id.x;
    let image = id.y;
    if pixel >= PIXELS {
        return;
    }
    var sums: array<f32, HIDDEN>;
    for (var k = 0u; k < HIDDEN; k++) {
        sums[k] = parameters[BIAS_1 + k];
    }
    for (var tap = 0u; tap < 9u; tap++) {
        let at = neighbour(pixel, tap);
        if at >= 0 {
            let x = images[image * PIXELS + u32(at)];
            for (var k = 0u; k < HIDDEN; k++) {
                sums[k] += parameters[k * 9u + tap] * x;
            }
        }
    }
    for (var k = 0u; k < HIDDEN; k++) {
        hidden[(image * HIDDEN + k) * PIXELS + pixel] = max(sums[k], 0.0);
    }
}

@compute @workgroup_size(GROUP)
fn forward_2(@builtin(global_invocation_id) id: vec3<u32>) {
    let pixel = id.x;
    let image = id.y;
    if pixel >= PIXELS {
        return;
    }
    var sums: array<f32, CLASSES>;
    for (var c = 0u; c < CLASSES; c++) {
        sums[c] = parameters[BIAS_2 + c];
    }
    for (var tap = 0u; tap < 9u; tap++) {
        let at = neighbour(pixel, tap);
        if at >= 0 {
            for (var k = 0u; k < HIDDEN; k++) {
                let x = hidden[(image * HIDDEN + k) * PIXELS + u32(at)];
                for (var c = 0u; c < CLASSES; c++) {
                    sums[c] += parameters[BEGIN_2 + (c * HIDDEN + k) * 9u + tap] * x;
                }
            }
        }
    }
    for (var c = 0u; c < CLASSES; c++) {
        logits[(image * CLASSES + c) * PIXELS + pixel] = sums[c];
    }
}

// From here on `logits` holds the gradient by the logits.

@compute @workgroup_size(GROUP)
fn backward_2(@builtin(global_invocation_id) id: vec3<u32>) {
    let pixel = id.x;
    let image = id.y;
    if pixel >= PIXELS {
        return;
    }
    var sums: array<f32, HIDDEN>;
    for (var tap = 0u; tap < 9u; tap++) {
        // The transposed convolution: the tap that led there leads back as the opposite one.
        let at = neighbour(pixel, 8u - tap);
        if at >= 0 {
            for (var c = 0u; c < CLASSES; c++) {
                let slope = logits[(image * CLASSES + c) * PIXELS + u32(at)];
                for (var k = 0u; k < HIDDEN; k++) {
                    sums[k] += parameters[BEGIN_2 + (c * HIDDEN + k) * 9u + tap] * slope;
                }
            }
        }
    }
    for (var k = 0u; k < HIDDEN; k++) {
        let here = (image * HIDDEN + k) * PIXELS + pixel;
        hidden_slopes[here] = select(0.0, sums[k], hidden[here] > 0.0);
    }
}

// What a pixel of the batch adds to the gradient of a parameter: the slope of what it made, times what it was applied to.
fn share(parameter: u32, image: u32, pixel: u32) -> f32 {
    if parameter >= BIAS_2 {
        return logits[(image * CLASSES + parameter - BIAS_2) * PIXELS + pixel];
    }
    if parameter >= BIAS_1 && parameter < BEGIN_2 {
        return hidden_slopes[(image * HIDDEN + parameter - BIAS_1) * PIXELS + pixel];
    }
    let weight = select(parameter - BEGIN_2, parameter, parameter < BIAS_1);
    let at = neighbour(pixel, weight % 9u);
    if at < 0 {
        return 0.0;
    }
    let channel = weight / 9u;
    if parameter < BIAS_1 {
        return hidden_slopes[(image * HIDDEN + channel) * PIXELS + pixel] * images[image * PIXELS + u32(at)];
    }
    let slope = logits[(image * CLASSES + channel / HIDDEN) * PIXELS + pixel];
    return slope * hidden[(image * HIDDEN + channel % HIDDEN) * PIXELS + u32(at)];
}

var<workgroup> partial: array<f32, GROUP>;

// A workgroup per parameter: its gradient, then Adam. No other workgroup reads the parameter here.
@compute @workgroup_size(GROUP)
fn update(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    var sum = 0.0;
    for (var image = 0u; image < BATCH; image++) {
        for (var pixel = thread; pixel < PIXELS; pixel += GROUP) {
            sum += share(group.x, image, pixel);
        }
    }
    partial[thread] = sum;
    for (var half = GROUP / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if thread < half {
            partial[thread] += partial[thread + half];
        }
    }
    if thread == 0u {
        let slope = partial[0];
        // Mean, mean square, and what both still have of the zeros that they began with.
        let next = mix(vec4<f32>(slope, slope * slope, 0.0, 0.0), moments[group.x], vec4<f32>(0.9, 0.99, 0.9, 0.99));
        moments[group.x] = next;
        let step = (next.x / (1.0 - next.z)) / (sqrt(next.y / (1.0 - next.w)) + 1e-8);
        parameters[group.x] -= 0.02 * step;
    }
}
";

fn main() -> Result<(), Box<dyn Error>> {
    // A software renderer is taken where there is nothing else: this is small.
    let device = Device::new().or_else(|_| Device::open(0))?;
    println!("{}", device.description());

    // The gradient takes the place of the logits, which nothing reads after the loss.
    let objective: Objective = LOSS.parse()?;
    let problem = Problem::new(Shape::new(BATCH, CLASSES, [SIDE, SIDE])?);
    let loss = device.prepare_in_place(&Plan::new(&objective, &problem)?)?;
    let model = Model::new(&device, &loss);

    println!("{:>6}{:>10}{:>10}{:>10}   {LOSS}", "step", "loss", "dice", "focal");
    let begin = Instant::now();
    let mut losses = Vec::new();
    for step in 0..=STEPS {
        // Every step is a submission of its own: a driver may stop one that takes seconds.
        let mut encoder = device.device().create_command_encoder(&Default::default());
        model.step(&mut encoder, &loss, step % BATCHES)?;
        device.queue().submit([encoder.finish()]);
        if step % REPORT == 0 {
            let result: Vec<f32> =
                bytemuck::pod_collect_to_vec(&model.read(loss.result(), loss.result_layout().doubles_at)?);
            println!("{step:>6}{:>10.5}{:>10.5}{:>10.5}   {:.1?}", result[0], result[1], result[2], begin.elapsed());
            losses.push(result[0]);
        }
    }

    let dice = model.held_out(&device)?;
    println!(
        "Dice of discs and boxes on {BATCH} images that the model has not seen: {:.3} and {:.3}",
        dice[0], dice[1]
    );
    let (first, last) = (losses[0], losses[losses.len() - 1]);
    assert!(last < 0.5 * first, "the loss should fall by half at least, and went from {first} to {last}");
    assert!(dice.iter().all(|&x| x > 0.7), "both classes should be found");
    Ok(())
}

/// The buffers and pipelines of the model.
struct Model {
    device: wgpu::Device,
    queue: wgpu::Queue,
    pipelines: [ComputePipeline; 4],
    /// One per batch of the training set, then that of the held-out images.
    groups: Vec<BindGroup>,
    labels: Buffer,
    logits: Buffer,
    held_out_labels: Vec<u8>,
}

impl Model {
    fn new(of: &Device, loss: &Executor) -> Model {
        let (device, queue) = (of.device().clone(), of.queue().clone());
        let mut random = Random(1);
        let (images, labels) = data(&mut random, IMAGES + BATCH);
        let (labels, held_out_labels) = labels.split_at(IMAGES * PIXELS);
        // He's scale, and half of it for the logits; no bias.
        let mut parameters = vec![0.0f32; PARAMETERS];
        let (first, second) = parameters.split_at_mut(WEIGHTS_1 + HIDDEN);
        first[..WEIGHTS_1].fill_with(|| random.normal() * (2.0f32 / 9.0).sqrt());
        second[..WEIGHTS_2].fill_with(|| random.normal() * (0.5f32 / (9 * HIDDEN) as f32).sqrt());
        let moments = [[0.0f32, 0.0, 1.0, 1.0]; PARAMETERS];

        let filled = |label, contents| {
            let usage = BufferUsages::STORAGE;
            device.create_buffer_init(&BufferInitDescriptor { label: Some(label), contents, usage })
        };
        let floats = |label, count: usize| {
            let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC;
            let size = 4 * count as u64;
            device.create_buffer(&wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false })
        };
        let images = filled("images", bytemuck::cast_slice(&images));
        let labels = filled("labels", labels);
        let logits = floats("logits", BATCH * CLASSES * PIXELS);
        let rest = [
            filled("parameters", bytemuck::cast_slice(&parameters)),
            floats("hidden", BATCH * HIDDEN * PIXELS),
            logits.clone(),
            floats("hidden slopes", BATCH * HIDDEN * PIXELS),
            filled("moments", bytemuck::cast_slice(&moments)),
        ];

        let storage = |binding: u32| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: wgpu::BufferBindingType::Storage { read_only: binding == 0 },
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            count: None,
        };
        let entries: Vec<_> = (0..=rest.len() as u32).map(storage).collect();
        let layout = device
            .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some("model"), entries: &entries });
        let groups = (0..=BATCHES)
            .map(|batch| {
                let part = of_batch(&images, batch, 4);
                let part = wgpu::BufferBinding {
                    buffer: part.buffer(),
                    offset: part.offset(),
                    size: wgpu::BufferSize::new(part.size()),
                };
                let mut entries =
                    vec![wgpu::BindGroupEntry { binding: 0, resource: wgpu::BindingResource::Buffer(part) }];
                let rest = (1..).zip(&rest);
                entries
                    .extend(rest.map(|(binding, b)| wgpu::BindGroupEntry { binding, resource: b.as_entire_binding() }));
                device.create_bind_group(&wgpu::BindGroupDescriptor {
                    label: Some("model"),
                    layout: &layout,
                    entries: &entries,
                })
            })
            .collect();

        let sizes = [
            ("SIDE", SIDE),
            ("PIXELS", PIXELS),
            ("BATCH", BATCH),
            ("CLASSES", CLASSES),
            ("HIDDEN", HIDDEN),
            ("WEIGHTS_1", WEIGHTS_1),
            ("WEIGHTS_2", WEIGHTS_2),
        ];
        let sizes: String = sizes.iter().map(|(name, size)| format!("const {name} = {size}u;\n")).collect();
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some("model"),
            source: wgpu::ShaderSource::Wgsl((sizes + MODEL).into()),
        });
        let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some("model"),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let pipelines = ["forward_1", "forward_2", "backward_2", "update"].map(|entry| {
            device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(entry),
                layout: Some(&layout),
                module: &module,
                entry_point: Some(entry),
                compilation_options: Default::default(),
                cache: None,
            })
        });
        assert!(loss.is_in_place(), "the backward pass reads the gradient where the logits were");
        Model { device, queue, pipelines, groups, labels, logits, held_out_labels: held_out_labels.to_vec() }
    }

    /// One step of the training: model, loss with gradient, backward pass and update, in this order in one encoder.
    fn step(&self, encoder: &mut CommandEncoder, loss: &Executor, batch: usize) -> Result<(), segfuse::Error> {
        self.forward(encoder, batch);
        let buffers = Buffers::new(self.logits.slice(..), of_batch(&self.labels, batch, 1), None);
        loss.encode(encoder, &[buffers], &Call::default())?;
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_bind_group(0, &self.groups[batch], &[]);
        pass.set_pipeline(&self.pipelines[2]);
        pass.dispatch_workgroups(PIXELS.div_ceil(64) as u32, BATCH as u32, 1);
        pass.set_pipeline(&self.pipelines[3]);
        pass.dispatch_workgroups(PARAMETERS as u32, 1, 1);
        Ok(())
    }

    fn forward(&self, encoder: &mut CommandEncoder, batch: usize) {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_bind_group(0, &self.groups[batch], &[]);
        for pipeline in &self.pipelines[..2] {
            pass.set_pipeline(pipeline);
            pass.dispatch_workgroups(PIXELS.div_ceil(64) as u32, BATCH as u32, 1);
        }
    }

    /// Dice of the hard prediction of discs and of boxes, over all held-out images.
    fn held_out(&self, device: &Device) -> Result<[f64; 2], Box<dyn Error>> {
        let mut encoder = self.device.create_command_encoder(&Default::default());
        self.forward(&mut encoder, BATCHES);
        self.queue.submit([encoder.finish()]);
        let logits: Vec<f32> = bytemuck::pod_collect_to_vec(&self.read(&self.logits, self.logits.size())?);
        // The easy way, with slices of the host: another plan, that counts.
        let problem = Problem::new(Shape::new(BATCH, CLASSES, [SIDE, SIDE])?).hard_counts();
        let executor = device.prepare(&Plan::new(&LOSS.parse()?, &problem)?)?;
        let evaluation = executor.forward(&[Inputs::new(&logits, &self.held_out_labels)])?;
        let counts = evaluation.heads[0].hard_counts.as_ref().ok_or("the problem asks for counts")?;
        Ok([1, 2].map(|class| {
            let mut all = HardCounts::default();
            counts.iter().skip(class).step_by(CLASSES).for_each(|&sample| all += sample);
            let hits = 2.0 * all.true_positives as f64;
            hits / (hits + (all.false_positives + all.false_negatives) as f64)
        }))
    }

    fn read(&self, buffer: &Buffer, size: u64) -> Result<Vec<u8>, Box<dyn Error>> {
        let usage = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
        let staging =
            self.device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false });
        let mut encoder = self.device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, size);
        self.queue.submit([encoder.finish()]);
        staging.map_async(wgpu::MapMode::Read, .., |mapped| mapped.expect("the device is there"));
        self.device.poll(wgpu::PollType::wait_indefinitely())?;
        Ok(staging.get_mapped_range(..)?.to_vec())
    }
}

/// The part of a buffer that holds the images or labels of a batch; both begin at multiples of 256 bytes, as bindings must.
fn of_batch(buffer: &Buffer, batch: usize, bytes_of_pixel: usize) -> BufferSlice<'_> {
    let bytes = (BATCH * PIXELS * bytes_of_pixel) as u64;
    buffer.slice(batch as u64 * bytes..(batch as u64 + 1) * bytes)
}

const _: () = assert!((BATCH * PIXELS).is_multiple_of(256));

/// Images with a bright disc and a dark box each on noise as strong as they are, and their labels.
fn data(random: &mut Random, count: usize) -> (Vec<f32>, Vec<u8>) {
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let mut between = |least: f32, most: f32| least + random.uniform() * (most - least);
        let (radius, width, height) = (between(5.0, 10.0), between(8.0, 18.0), between(8.0, 18.0));
        let side = SIDE as f32;
        let (disc_y, disc_x) = (between(radius, side - radius), between(radius, side - radius));
        let (box_y, box_x) = (between(0.0, side - height), between(0.0, side - width));
        for pixel in 0..PIXELS {
            let (y, x) = ((pixel / SIDE) as f32, (pixel % SIDE) as f32);
            let label = if (y - disc_y).hypot(x - disc_x) < radius {
                1
            } else {
                let inside = (box_y..box_y + height).contains(&y) && (box_x..box_x + width).contains(&x);
                2 * u8::from(inside)
            };
            labels.push(label);
            images.push([0.0, 1.0, -1.0][usize::from(label)] + random.normal());
        }
    }
    (images, labels)
}

/// Xorshift.
struct Random(u32);

impl Random {
    fn uniform(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        (self.0 >> 8) as f32 / (1u32 << 24) as f32
    }
    /// Near enough: the sum of twelve, with mean 0 and variance 1.
    fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.uniform()).sum::<f32>() - 6.0
    }
}
