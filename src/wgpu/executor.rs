//! A plan on a device: its pipelines, its workspace, and the commands of a call.

use super::device::Device;
use super::geometry::{self, Geometry, Staging, WORKGROUP, Window, WindowParams, WindowPlaces};
use super::maps::Maps;
use super::pipeline::{Making, Pipeline, Specification};
use super::source::{self, Bound, Kernel, Options};
use crate::error::Error;
use crate::plan::{Head, Plan, Schedule};
use crate::recipe::{self, ResultLayout};
use crate::role::{Role, roles};
use bytemuck::{Pod, Zeroable};
use wgpu::{
    BindGroup, BindGroupEntry, BindingResource, Buffer, BufferBinding, BufferBindingType, BufferSlice, BufferUsages,
    CommandEncoder, ComputePass, ComputePassTimestampWrites,
};

/// The device buffers of one head, in the types and layouts that its problem declares. Each slice begins at a multiple of the
/// device's storage offset alignment and holds its elements up to a whole word of 4 bytes; its buffer has the usage `STORAGE`.
/// Where the planes of one sample are beyond one binding of the device, those that have a value per class need `COPY_SRC` too,
/// and what takes the gradient `COPY_DST`; their planes are then multiples of 4 bytes.
#[derive(Clone, Copy, Debug)]
pub struct Buffers<'a> {
    /// The prediction.
    pub prediction: BufferSlice<'a>,
    /// The target.
    pub target: BufferSlice<'a>,
    /// The keep-mask, where the problem has one.
    pub mask: Option<BufferSlice<'a>>,
    /// The voxel weights, where the problem has them.
    pub weights: Option<BufferSlice<'a>>,
    /// The map, where the problem has one.
    pub map: Option<BufferSlice<'a>>,
    /// Where the gradient goes: another buffer than any input. `None` for a call without gradient, and in an executor of
    /// [`Device::prepare_in_place`], which writes it over the prediction.
    pub gradient: Option<BufferSlice<'a>>,
}

impl<'a> Buffers<'a> {
    /// Prediction, target and gradient.
    pub fn new(prediction: BufferSlice<'a>, target: BufferSlice<'a>, gradient: Option<BufferSlice<'a>>) -> Buffers<'a> {
        Buffers { prediction, target, mask: None, weights: None, map: None, gradient }
    }

    fn of(&self, role: Role, in_place: bool) -> Option<BufferSlice<'a>> {
        match role {
            Role::Prediction => Some(self.prediction),
            Role::Target => Some(self.target),
            Role::Mask => self.mask,
            Role::Weights => self.weights,
            Role::Map => self.map,
            Role::Gradient if in_place => Some(self.prediction),
            Role::Gradient => self.gradient,
            Role::Workspace | Role::Costs | Role::Made => None,
        }
    }
}

/// What a call may be given beside its buffers.
#[derive(Clone, Debug, Default)]
pub struct Call<'a> {
    /// ∂(what is minimised)/∂loss on the device, f32, one number per loss of the plan; 1 where it is `None`.
    pub grad_output: Option<BufferSlice<'a>>,
    /// Where the result goes, see [`ResultLayout`]; [`Executor::result`] where it is `None`.
    pub result: Option<BufferSlice<'a>>,
    /// Timestamps to write around the passes.
    pub timestamps: Option<ComputePassTimestampWrites<'a>>,
}

/// What is to be computed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    Forward,
    Both,
}

/// The uniform of `kernels/wgsl/combine.wgsl`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct CombineParams {
    pub(super) partials_at: u32,
    pub(super) partials: u32,
    pub(super) row: u32,
    pub(super) moments_at: u32,
    pub(super) first_slot: u32,
    pub(super) first_sample: u32,
    pub(super) samples: u32,
    pub(super) unused: u32,
}

/// A kernel over voxels, and the buffers that it binds.
#[derive(Debug)]
struct VoxelPipeline {
    pipeline: Pipeline,
    bound: Vec<Bound>,
}

/// What of a head is on the device.
#[derive(Debug)]
pub(super) struct DeviceHead {
    schedule: Schedule,
    windows: Vec<Window>,
    /// The windows' uniforms, each at a multiple of `stride`.
    params: Buffer,
    stride: u64,
    census: Option<VoxelPipeline>,
    reduce: VoxelPipeline,
    gradient: Option<VoxelPipeline>,
    one_pass: Option<VoxelPipeline>,
    combine: Vec<(BindGroup, [u32; 2])>,
    recipe: Buffer,
    costs: Option<Buffer>,
    maps: Option<Maps>,
    /// Where planes are gathered, for buffers beyond a binding.
    stages: Vec<(Role, Buffer)>,
    /// Word of the workspace at which the moments begin, and doubles of a sample.
    pub(super) moments_at: u64,
    pub(super) row: u64,
    pub(super) coefficients_at: u64,
}

/// A plan on a device. It has a workspace of its own: two calls that run on the device at the same time need two executors;
/// calls that follow each other on a queue do not.
#[derive(Debug)]
pub struct Executor {
    pub(super) device: Device,
    pub(super) plan: Plan,
    in_place: bool,
    pub(super) heads: Vec<DeviceHead>,
    pub(super) workspace: Buffer,
    result: Buffer,
    /// `grad_output` of calls that give none.
    ones: Buffer,
    combine: Pipeline,
    finish: FinishPipelines,
}

#[derive(Debug)]
struct FinishPipelines {
    result: Pipeline,
    /// Result and coefficients.
    both: Option<Pipeline>,
    /// Coefficients from the sums of the census.
    coefficients: Option<Pipeline>,
    /// Coefficients from the shape alone.
    known: Option<Pipeline>,
}

/// Results are copied out; `fill_workspace` copies in.
const COPIES: BufferUsages = BufferUsages::COPY_SRC.union(BufferUsages::COPY_DST);
pub(super) const STORAGE: BufferBindingType = BufferBindingType::Storage { read_only: false };
pub(super) const READ_ONLY: BufferBindingType = BufferBindingType::Storage { read_only: true };

impl Executor {
    pub(super) fn new(making: &Making<'_>, plan: &Plan, in_place: bool, split: bool) -> Result<Executor, Error> {
        let device = making.device();
        for head in plan.heads() {
            let (need, got) = (head.problem.prediction, head.problem.gradient_dtype());
            if in_place && need != got {
                return Err(Error::BufferType { role: "a gradient in place", need, got });
            }
        }
        let inner = &device.inner;
        let geometries: Vec<Geometry> = plan.heads().iter().map(|head| Geometry::new(head, &inner.limits)).collect();
        // The rows of partial sums are one head's at a time; what follows them is each head's own.
        let row_words =
            |(g, head): (&Geometry, &Head)| 2 * g.rows * u64::from(g.row) * head.problem.shape.samples() as u64;
        let mut words = geometries.iter().zip(plan.heads()).map(row_words).max().expect("a plan has a head");
        // Each begins where it can be bound.
        let mut take = |count: u64| {
            let at = words.next_multiple_of((inner.limits.alignment / 4).max(2));
            words = at + count;
            at
        };
        let mut places = Vec::new();
        for (head, geometry) in plan.heads().iter().zip(&geometries) {
            let samples = head.problem.shape.samples() as u64;
            let moments = take(2 * samples * u64::from(geometry.row));
            let coefficients = take((head.groups() * head.slope_count()) as u64);
            let scratch = take(recipe::scratch_words(head));
            places.push([moments, coefficients, scratch]);
        }
        let bytes = 4 * words.next_multiple_of(2);
        if bytes > inner.limits.binding || words > u64::from(u32::MAX) {
            let got = inner.limits.binding.min(4 * u64::from(u32::MAX));
            return Err(Error::DeviceLimit { what: "bytes of workspace in one storage binding", need: bytes, got });
        }
        let scope = inner.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let workspace = device.buffer("workspace", bytes, BufferUsages::STORAGE | COPIES);
        let layout = ResultLayout::new(plan);
        let result = device.buffer("result", layout.bytes, BufferUsages::STORAGE | COPIES);
        let ones = device.filled("ones", bytemuck::cast_slice(&vec![1.0f32; plan.losses()]), BufferUsages::STORAGE);
        let combine = making.pipeline(Specification {
            label: "segfuse combine",
            source: source::plain(include_str!(concat!(env!("OUT_DIR"), "/combine.wgsl")), &[]),
            entry: "combine",
            bindings: &[STORAGE, BufferBindingType::Uniform],
            constants: &[],
        });
        let schedules: Vec<Schedule> =
            plan.heads().iter().map(|head| if split { Schedule::TwoPass } else { head.schedule }).collect();
        let finish = FinishPipelines::new(making, plan, &schedules);
        let mut heads = Vec::new();
        for (k, (geometry, &[moments, coefficients, scratch])) in geometries.iter().zip(&places).enumerate() {
            let at = recipe::Places {
                moments: moments as u32,
                scratch: scratch as u32,
                coefficients: coefficients as u32,
                first: k == 0,
            };
            heads.push(DeviceHead::new(making, plan, k, schedules[k], geometry, &at, &workspace, &combine, in_place)?);
        }
        making.end(scope, "the workspace");
        Ok(Executor {
            device: device.clone(),
            plan: plan.clone(),
            in_place,
            heads,
            workspace,
            result,
            ones,
            combine,
            finish,
        })
    }

    /// The buffer that takes the result of calls that name no other; usages `STORAGE` and `COPY_SRC`.
    pub fn result(&self) -> &Buffer {
        &self.result
    }
    /// Where the numbers lie in it.
    pub fn result_layout(&self) -> ResultLayout {
        ResultLayout::new(&self.plan)
    }
    /// Whether gradients are written over their predictions.
    pub fn is_in_place(&self) -> bool {
        self.in_place
    }
    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }
    /// Bytes of device memory that the executor holds: for sums, coefficients and results, and for planes that are gathered
    /// because a sample is beyond one binding.
    pub fn workspace_bytes(&self) -> u64 {
        let stages = self.heads.iter().flat_map(|head| &head.stages).map(|(_, buffer)| buffer.size());
        let maps = self.heads.iter().filter_map(|head| head.maps.as_ref()).map(Maps::bytes);
        self.workspace.size() + self.result.size() + stages.sum::<u64>() + maps.sum::<u64>()
    }

    /// Fills workspace and result with a word, for tests that what an earlier call left there does not matter.
    #[doc(hidden)]
    pub fn fill_workspace(&self, word: u32) {
        let maps = self.heads.iter().filter_map(|head| head.maps.as_ref()).flat_map(Maps::scratch);
        for buffer in [&self.workspace, &self.result].into_iter().chain(maps) {
            self.device.fill(buffer, word);
        }
    }

    /// Records loss and gradient into `encoder`, one set of buffers per head; nothing is submitted.
    ///
    /// # Errors
    /// When a buffer does not fit the plan or the device; nothing is recorded then.
    pub fn encode(&self, encoder: &mut CommandEncoder, heads: &[Buffers<'_>], call: &Call<'_>) -> Result<(), Error> {
        self.record(encoder, heads, call, Pass::Both)
    }

    /// Records the loss alone.
    ///
    /// # Errors
    /// As [`Executor::encode`].
    pub fn encode_forward(
        &self,
        encoder: &mut CommandEncoder,
        heads: &[Buffers<'_>],
        call: &Call<'_>,
    ) -> Result<(), Error> {
        self.record(encoder, heads, call, Pass::Forward)
    }

    /// The first stage of a split call: the sums of every head, to [`Executor::moments`].
    ///
    /// # Errors
    /// As [`Executor::encode`].
    pub fn encode_reduce(&self, encoder: &mut CommandEncoder, heads: &[Buffers<'_>]) -> Result<(), Error> {
        self.check(heads, &Call::default(), Pass::Forward)?;
        let mut recorder = Recorder::new(encoder, None);
        for ((head, on_device), buffers) in self.plan.heads().iter().zip(&self.heads).zip(heads) {
            self.make_maps(&mut recorder, on_device, buffers, false);
            self.dispatch(&mut recorder, head, on_device, &on_device.reduce, buffers);
            self.sum_up(&mut recorder, on_device);
        }
        recorder.end();
        Ok(())
    }

    /// The second stage: [`Executor::moments`], reduced over devices or tiles meanwhile, to the result and the coefficients.
    /// It looks at no buffer of the heads.
    ///
    /// # Errors
    /// As [`Executor::encode`]; [`Error::Problem`] where a head of the plan takes one pass and the executor is not of
    /// [`Device::prepare_split`].
    pub fn encode_finish(&self, encoder: &mut CommandEncoder, call: &Call<'_>) -> Result<(), Error> {
        self.check_split()?;
        self.check_call(&[], call)?;
        let mut recorder = Recorder::new(encoder, call.timestamps.as_ref());
        for on_device in &self.heads {
            self.finish(&mut recorder, on_device, made(&self.finish.both), call);
        }
        recorder.end();
        Ok(())
    }

    /// The last stage: the gradients from the coefficients of [`Executor::encode_finish`].
    ///
    /// # Errors
    /// As [`Executor::encode_finish`].
    pub fn encode_gradient(&self, encoder: &mut CommandEncoder, heads: &[Buffers<'_>]) -> Result<(), Error> {
        self.check_split()?;
        self.check(heads, &Call::default(), Pass::Both)?;
        let mut recorder = Recorder::new(encoder, None);
        for ((head, on_device), buffers) in self.plan.heads().iter().zip(&self.heads).zip(heads) {
            // Of these buffers: the sums may have come from several calls, of tiles, and the maps at hand are of the last.
            self.make_maps(&mut recorder, on_device, buffers, true);
            self.dispatch(&mut recorder, head, on_device, made(&on_device.gradient), buffers);
        }
        recorder.end();
        Ok(())
    }

    /// The sums of a head between the stages of a split call: doubles, the low word of each first, `[N][row]`; a row holds the
    /// moments `[C][moments]` in the order of [`Head::moments`], then true positives, false positives and false negatives
    /// `[C][3]` where the problem asks for hard counts, then the voxels that counted and the labels out of range. The usages
    /// of its buffer are `STORAGE`, `COPY_SRC` and `COPY_DST`; all of it may be added up over devices.
    ///
    /// # Panics
    /// When there are not as many heads.
    pub fn moments(&self, head: usize) -> BufferSlice<'_> {
        let samples = self.plan.heads()[head].problem.shape.samples() as u64;
        let DeviceHead { moments_at, row, .. } = self.heads[head];
        self.workspace.slice(4 * moments_at..4 * moments_at + 8 * row * samples)
    }

    fn check_split(&self) -> Result<(), Error> {
        let one_pass = |head: &DeviceHead| matches!(head.schedule, Schedule::OnePass { .. });
        if !self.heads.iter().any(one_pass) {
            return Ok(());
        }
        Err(Error::Problem("a plan of one pass is split only where it was prepared so: Device::prepare_split".into()))
    }

    fn record(
        &self,
        encoder: &mut CommandEncoder,
        heads: &[Buffers<'_>],
        call: &Call<'_>,
        pass: Pass,
    ) -> Result<(), Error> {
        self.check(heads, call, pass)?;
        let mut recorder = Recorder::new(encoder, call.timestamps.as_ref());
        let recorder = &mut recorder;
        for ((head, on_device), buffers) in self.plan.heads().iter().zip(&self.heads).zip(heads) {
            self.make_maps(recorder, on_device, buffers, pass == Pass::Both);
            let mut voxels = |pipeline: &VoxelPipeline| self.dispatch(recorder, head, on_device, pipeline, buffers);
            match (pass, on_device.schedule) {
                (Pass::Forward, _) => {
                    voxels(&on_device.reduce);
                    self.sum_up(recorder, on_device);
                    self.finish(recorder, on_device, &self.finish.result, call);
                }
                (Pass::Both, Schedule::OnePass { .. }) => {
                    let one_pass = made(&on_device.one_pass);
                    if let Some(census) = &on_device.census {
                        voxels(census);
                        self.sum_up(recorder, on_device);
                        self.finish(recorder, on_device, made(&self.finish.coefficients), call);
                    } else {
                        self.finish(recorder, on_device, made(&self.finish.known), call);
                    }
                    self.dispatch(recorder, head, on_device, one_pass, buffers);
                    self.sum_up(recorder, on_device);
                    self.finish(recorder, on_device, &self.finish.result, call);
                }
                // Chunks of samples are a plan for a cache whose size is known; here all are reduced, then differentiated.
                (Pass::Both, Schedule::TwoPass | Schedule::Chunked { .. }) => {
                    voxels(&on_device.reduce);
                    self.sum_up(recorder, on_device);
                    self.finish(recorder, on_device, made(&self.finish.both), call);
                    let gradient = made(&on_device.gradient);
                    self.dispatch(recorder, head, on_device, gradient, buffers);
                }
            }
        }
        recorder.end();
        Ok(())
    }

    /// Everything about the buffers of a call that could be wrong.
    fn check(&self, heads: &[Buffers<'_>], call: &Call<'_>, pass: Pass) -> Result<(), Error> {
        let need = self.plan.heads().len();
        if heads.len() != need {
            return Err(Error::OtherPlan { what: "heads", need, got: heads.len() });
        }
        let check = |role, slice: &BufferSlice<'_>, bytes| self.device.check(role, slice, bytes);
        for ((head, on_device), buffers) in self.plan.heads().iter().zip(&self.heads).zip(heads) {
            let problem = &head.problem;
            for (role, wanted) in [
                (Role::Prediction, true),
                (Role::Target, true),
                (Role::Mask, problem.mask),
                (Role::Weights, problem.weights),
                (Role::Map, problem.map.is_some()),
                (Role::Gradient, pass == Pass::Both && !self.in_place),
            ] {
                match (wanted, buffers.of(role, false)) {
                    (true, Some(slice)) => {
                        check(role.title(), &slice, geometry::whole_words(role, problem))?;
                        let staged = on_device.windows[0].staging.is_some() && role.is_per_class(problem);
                        let written = role == Role::Gradient || (self.in_place && role == Role::Prediction);
                        for (usage, need, wanted) in [
                            (BufferUsages::COPY_SRC, "COPY_SRC", role != Role::Gradient),
                            (BufferUsages::COPY_DST, "COPY_DST", written && pass == Pass::Both),
                        ] {
                            if staged && wanted && !slice.buffer().usage().contains(usage) {
                                return Err(Error::BufferUsage { role: role.title(), need });
                            }
                        }
                    }
                    (true, None) => return Err(Error::BufferMissing { role: role.title() }),
                    // A call without gradient may be given the same buffers as one with.
                    (false, Some(_)) if role == Role::Gradient && !self.in_place => {}
                    (false, Some(_)) => return Err(Error::BufferUnexpected { role: role.title() }),
                    (false, None) => {}
                }
            }
            let written = buffers.of(Role::Gradient, self.in_place).filter(|_| pass == Pass::Both);
            if let Some(gradient) = written {
                for role in [Role::Prediction, Role::Target, Role::Mask, Role::Weights, Role::Map] {
                    let same = buffers.of(role, false).is_some_and(|other| other.buffer() == gradient.buffer());
                    if same && !(self.in_place && role == Role::Prediction) {
                        return Err(Error::BufferShared { role: "the gradient", other: role.title() });
                    }
                }
            }
        }
        if pass == Pass::Both {
            self.check_written(heads, call)?;
        }
        self.check_call(heads, call)
    }

    /// What one head writes is no buffer of another, and not `grad_output`: heads are computed one after the other.
    fn check_written(&self, heads: &[Buffers<'_>], call: &Call<'_>) -> Result<(), Error> {
        const ROLES: [Role; 6] = [Role::Prediction, Role::Target, Role::Mask, Role::Weights, Role::Map, Role::Gradient];
        let all = || self.plan.heads().iter().zip(heads).enumerate();
        let apart = |gradient: &BufferSlice<'_>, bytes: u64, other: &BufferSlice<'_>, other_bytes: u64| {
            gradient.buffer() != other.buffer()
                || gradient.offset() + bytes <= other.offset()
                || other.offset() + other_bytes <= gradient.offset()
        };
        for (k, (head, buffers)) in all() {
            let Some(gradient) = buffers.of(Role::Gradient, self.in_place) else { continue };
            let bytes = geometry::whole_words(Role::Gradient, &head.problem);
            for (_, (other_head, other_buffers)) in all().filter(|(other, _)| *other != k) {
                for role in ROLES {
                    let Some(other) = other_buffers.of(role, false) else { continue };
                    if !apart(&gradient, bytes, &other, geometry::whole_words(role, &other_head.problem)) {
                        return Err(Error::BufferShared { role: "the gradient", other: role.title() });
                    }
                }
            }
            let losses = 4 * self.plan.losses() as u64;
            if call.grad_output.is_some_and(|other| !apart(&gradient, bytes, &other, losses)) {
                return Err(Error::BufferShared { role: "the gradient", other: "grad_output" });
            }
        }
        Ok(())
    }

    /// What a call is given beside its buffers.
    fn check_call(&self, heads: &[Buffers<'_>], call: &Call<'_>) -> Result<(), Error> {
        let check = |role, slice: &BufferSlice<'_>, bytes| self.device.check(role, slice, bytes);
        let result = call.result.map_or(&self.result, |slice| slice.buffer());
        if let Some(slice) = &call.grad_output {
            check("grad_output", slice, 4 * self.plan.losses() as u64)?;
            if slice.buffer() == result {
                return Err(Error::BufferShared { role: "the result", other: "grad_output" });
            }
            if *slice.buffer() == self.workspace {
                return Err(Error::BufferShared { role: "the workspace", other: "grad_output" });
            }
        }
        if *result == self.workspace {
            return Err(Error::BufferShared { role: "the workspace", other: "the result" });
        }
        if let Some(slice) = &call.result {
            check("the result", slice, self.result_layout().bytes)?;
            // In one buffer with others it may lie apart from them: it is bound in passes of its own.
            let end = slice.offset() + self.result_layout().bytes;
            for (head, buffers) in self.plan.heads().iter().zip(heads) {
                for role in [Role::Prediction, Role::Target, Role::Mask, Role::Weights, Role::Map, Role::Gradient] {
                    let overlaps = |other: BufferSlice<'_>| {
                        let other_end = other.offset() + geometry::whole_words(role, &head.problem);
                        other.buffer() == slice.buffer() && other.offset() < end && slice.offset() < other_end
                    };
                    if buffers.of(role, self.in_place).is_some_and(overlaps) {
                        return Err(Error::BufferShared { role: "the result", other: role.title() });
                    }
                }
            }
        }
        Ok(())
    }

    /// One pass over the voxels of a head.
    fn dispatch(
        &self,
        recorder: &mut Recorder<'_, '_>,
        head: &Head,
        on_device: &DeviceHead,
        voxels: &VoxelPipeline,
        buffers: &Buffers<'_>,
    ) {
        let problem = &head.problem;
        for (k, window) in on_device.windows.iter().enumerate() {
            let of = |role| buffers.of(role, self.in_place).expect("checked");
            let staged = |bound: &Bound| -> Option<(Staging, &Buffer, u64)> {
                let staging = window.staging?;
                let buffer = on_device.stages.iter().find(|(role, _)| *role == bound.role).map(|(_, buffer)| buffer)?;
                Some((staging, buffer, bound.role.dtype(problem).size()))
            };
            for bound in &voxels.bound {
                // What is only written needs no copy; in place, the prediction is read from where the gradient goes.
                if let Some((staging, buffer, size)) = staged(bound)
                    && (bound.read_only || self.in_place)
                {
                    let slice = of(bound.role);
                    for [from, to, bytes] in staging.copies(size) {
                        recorder.copy(slice.buffer(), slice.offset() + from, buffer, to, bytes);
                    }
                }
            }
            let params = BufferBinding {
                buffer: &on_device.params,
                offset: k as u64 * on_device.stride,
                size: wgpu::BufferSize::new(size_of::<WindowParams>() as u64),
            };
            let mut entries = vec![BindGroupEntry { binding: 0, resource: BindingResource::Buffer(params) }];
            for (k, bound) in voxels.bound.iter().enumerate() {
                let resource = match bound.role {
                    Role::Workspace => self.workspace.as_entire_binding(),
                    Role::Costs => on_device.costs.as_ref().expect("made with the plan").as_entire_binding(),
                    role => match staged(bound) {
                        Some((_, buffer, _)) => buffer.as_entire_binding(),
                        None => {
                            let span = window.spans.iter().find(|s| s.role == role).expect("a window has all buffers");
                            let slice = match (role, &on_device.maps) {
                                (Role::Made, Some(maps)) => maps.made().slice(..),
                                _ => of(role),
                            };
                            BindingResource::Buffer(BufferBinding {
                                buffer: slice.buffer(),
                                offset: slice.offset() + span.offset,
                                size: wgpu::BufferSize::new(span.size),
                            })
                        }
                    },
                };
                entries.push(BindGroupEntry { binding: k as u32 + 1, resource });
            }
            let group = self.device.bind_group(&voxels.pipeline, &entries);
            recorder.dispatch(&voxels.pipeline, &group, window.grid);
            for bound in voxels.bound.iter().filter(|bound| bound.role == Role::Gradient) {
                if let Some((staging, buffer, size)) = staged(bound) {
                    let slice = of(bound.role);
                    for [to, from, bytes] in staging.copies(size) {
                        recorder.copy(buffer, from, slice.buffer(), slice.offset() + to, bytes);
                    }
                }
            }
        }
    }

    /// The maps that the passes of a head read, those of slopes where there is a gradient.
    fn make_maps(&self, recorder: &mut Recorder<'_, '_>, head: &DeviceHead, buffers: &Buffers<'_>, gradient: bool) {
        if let Some(maps) = &head.maps {
            maps.record(&self.device, recorder, buffers, gradient);
        }
    }

    /// Rows of partial sums to moments.
    fn sum_up(&self, recorder: &mut Recorder<'_, '_>, head: &DeviceHead) {
        for (group, grid) in &head.combine {
            recorder.dispatch(&self.combine, group, *grid);
        }
    }

    fn finish(&self, recorder: &mut Recorder<'_, '_>, head: &DeviceHead, pipeline: &Pipeline, call: &Call<'_>) {
        let grad_output = match &call.grad_output {
            Some(slice) => bounded(slice, 4 * self.plan.losses() as u64),
            None => self.ones.as_entire_buffer_binding(),
        };
        let result = match &call.result {
            Some(slice) => bounded(slice, self.result_layout().bytes),
            None => self.result.as_entire_buffer_binding(),
        };
        let entries = [
            BindGroupEntry { binding: 0, resource: self.workspace.as_entire_binding() },
            BindGroupEntry { binding: 1, resource: head.recipe.as_entire_binding() },
            BindGroupEntry { binding: 2, resource: BindingResource::Buffer(grad_output) },
            BindGroupEntry { binding: 3, resource: BindingResource::Buffer(result) },
        ];
        recorder.dispatch(pipeline, &self.device.bind_group(pipeline, &entries), [1, 1]);
    }
}

/// Commands of one call: a compute pass that is opened when there is something to dispatch, and closed for a copy.
pub(super) struct Recorder<'e, 't> {
    encoder: &'e mut CommandEncoder,
    pass: Option<ComputePass<'static>>,
    timestamps: Option<&'t ComputePassTimestampWrites<'t>>,
    begun: bool,
}

impl<'e, 't> Recorder<'e, 't> {
    pub(super) fn new(encoder: &'e mut CommandEncoder, timestamps: Option<&'t ComputePassTimestampWrites<'t>>) -> Self {
        Recorder { encoder, pass: None, timestamps, begun: false }
    }

    fn begin(&mut self, beginning: bool, end: bool) -> ComputePass<'static> {
        let timestamp_writes = self.timestamps.and_then(|writes| {
            let first = writes.beginning_of_pass_write_index.filter(|_| beginning);
            let last = writes.end_of_pass_write_index.filter(|_| end);
            // Writes of nothing are refused.
            (first.is_some() || last.is_some()).then_some(ComputePassTimestampWrites {
                query_set: writes.query_set,
                beginning_of_pass_write_index: first,
                end_of_pass_write_index: last,
            })
        });
        let descriptor = wgpu::ComputePassDescriptor { label: Some("segfuse"), timestamp_writes };
        self.encoder.begin_compute_pass(&descriptor).forget_lifetime()
    }

    pub(super) fn dispatch(&mut self, pipeline: &Pipeline, group: &BindGroup, grid: [u32; 2]) {
        if self.pass.is_none() {
            let first = !std::mem::replace(&mut self.begun, true);
            self.pass = Some(self.begin(first, false));
        }
        let pass = self.pass.as_mut().expect("opened above");
        pass.set_pipeline(&pipeline.pipeline);
        pass.set_bind_group(0, group, &[]);
        pass.dispatch_workgroups(grid[0], grid[1], 1);
    }

    fn copy(&mut self, from: &Buffer, from_offset: u64, to: &Buffer, to_offset: u64, bytes: u64) {
        self.pass = None;
        self.encoder.copy_buffer_to_buffer(from, from_offset, to, to_offset, bytes);
    }

    /// Fills a buffer with zeros.
    pub(super) fn clear(&mut self, buffer: &Buffer) {
        self.pass = None;
        self.encoder.clear_buffer(buffer, 0, None);
    }

    /// Closes the last pass; the closing timestamp is that of an empty pass after it.
    pub(super) fn end(&mut self) {
        self.pass = None;
        if self.timestamps.is_some_and(|writes| writes.end_of_pass_write_index.is_some()) {
            drop(self.begin(false, true));
        }
    }
}

/// A pipeline that the schedule of a head asks for.
fn made<T>(pipeline: &Option<T>) -> &T {
    pipeline.as_ref().expect("an executor makes what the schedules of its plan ask for")
}

/// The first bytes of a slice.
fn bounded<'a>(slice: &BufferSlice<'a>, bytes: u64) -> BufferBinding<'a> {
    BufferBinding { buffer: slice.buffer(), offset: slice.offset(), size: wgpu::BufferSize::new(bytes) }
}

impl FinishPipelines {
    fn new(making: &Making<'_>, plan: &Plan, schedules: &[Schedule]) -> FinishPipelines {
        // Few sizes, so that plans share their pipelines.
        let registers = recipe::registers(plan).next_power_of_two().max(32);
        let make = |coefficients: bool, result: bool, known: bool| {
            let constants = [
                ("WRITE_COEFFICIENTS", f64::from(u8::from(coefficients))),
                ("WRITE_RESULT", f64::from(u8::from(result))),
                ("KNOWN_COUNTS", f64::from(u8::from(known))),
            ];
            let specification = Specification {
                label: "segfuse finish",
                source: source::plain(
                    include_str!(concat!(env!("OUT_DIR"), "/finish.wgsl")),
                    &[("REGISTERS", registers)],
                ),
                entry: "finish",
                bindings: &[STORAGE, READ_ONLY, READ_ONLY, STORAGE],
                constants: &constants,
            };
            making.pipeline(specification)
        };
        let any = |wanted: &dyn Fn(Schedule) -> bool| schedules.iter().any(|&schedule| wanted(schedule));
        let one_pass = |census| any(&|schedule| schedule == Schedule::OnePass { census });
        let two_pass = any(&|schedule| !matches!(schedule, Schedule::OnePass { .. }));
        FinishPipelines {
            result: make(false, true, false),
            both: two_pass.then(|| make(true, true, false)),
            coefficients: one_pass(true).then(|| make(true, false, false)),
            known: one_pass(false).then(|| make(true, false, true)),
        }
    }
}

impl DeviceHead {
    #[expect(clippy::too_many_arguments, reason = "one head with all that it is made of")]
    fn new(
        making: &Making<'_>,
        plan: &Plan,
        number: usize,
        schedule: Schedule,
        geometry: &Geometry,
        places: &recipe::Places,
        workspace: &Buffer,
        combine: &Pipeline,
        in_place: bool,
    ) -> Result<DeviceHead, Error> {
        let head = &plan.heads()[number];
        let device = making.device();
        let inner = &device.inner;
        let at = WindowPlaces { rows_at: 0, coefficients_at: places.coefficients };
        let windows = geometry.windows(head, &inner.limits, &at)?;
        let alignment = u64::from(inner.device.limits().min_uniform_buffer_offset_alignment);
        let stride = (size_of::<WindowParams>() as u64).next_multiple_of(alignment);
        let mut params = vec![0u8; (stride * windows.len() as u64) as usize];
        for (window, bytes) in windows.iter().zip(params.chunks_exact_mut(stride as usize)) {
            bytes[..size_of::<WindowParams>()].copy_from_slice(bytemuck::bytes_of(&window.params));
        }
        let params = device.filled("windows", &params, BufferUsages::UNIFORM);
        let voxels = |kernel| -> Result<VoxelPipeline, Error> {
            let options =
                Options { kernel, in_place, subgroups: device.variant().subgroups, f16: device.variant().f16 };
            let bound = source::bound(head, options);
            let got = u64::from(inner.device.limits().max_storage_buffers_per_shader_stage);
            if bound.len() as u64 > got {
                let what = "storage buffers per stage";
                return Err(Error::DeviceLimit { what, need: bound.len() as u64, got });
            }
            let mut bindings = vec![BufferBindingType::Uniform];
            bindings.extend(bound.iter().map(|b| if b.read_only { READ_ONLY } else { STORAGE }));
            let specification = Specification {
                label: "segfuse voxels",
                source: source::voxels(head, geometry, options)?,
                entry: "main",
                bindings: &bindings,
                constants: &[],
            };
            Ok(VoxelPipeline { pipeline: making.pipeline(specification), bound })
        };
        let wanted = |wanted: bool, kernel| wanted.then(|| voxels(kernel)).transpose();
        let one_pass = matches!(schedule, Schedule::OnePass { .. });
        let costs = head.cost_matrix.as_ref().map(|matrix| {
            let single: Vec<f32> = matrix.iter().map(|&x| x as f32).collect();
            device.filled("costs", bytemuck::cast_slice(&single), BufferUsages::STORAGE)
        });
        let words = recipe::recipe(plan, number, places);
        let staged = windows.iter().filter_map(|window| window.staging).next();
        let stages = staged.into_iter().flat_map(|staging| {
            let roles = roles(&head.problem).into_iter().filter(|role| role.is_per_class(&head.problem));
            roles.map(move |role| (role, staging.bytes(role.dtype(&head.problem).size())))
        });
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        let stages = stages.map(|(role, bytes)| (role, device.buffer("stage", bytes, usage))).collect();
        Ok(DeviceHead {
            schedule,
            params,
            stride,
            census: wanted(schedule == Schedule::OnePass { census: true }, Kernel::Census)?,
            reduce: voxels(Kernel::Reduce)?,
            gradient: wanted(!one_pass, Kernel::Gradient)?,
            one_pass: wanted(one_pass, Kernel::OnePass)?,
            combine: combine_groups(device, head, geometry, places, workspace, combine),
            recipe: device.filled("recipe", bytemuck::cast_slice(&words), BufferUsages::STORAGE),
            costs,
            maps: Maps::new(making, head)?,
            stages,
            moments_at: places.moments.into(),
            row: geometry.row.into(),
            coefficients_at: places.coefficients.into(),
            windows,
        })
    }
}

/// The dispatches that add up the rows of a head; grids beyond the limit are several.
fn combine_groups(
    device: &Device,
    head: &Head,
    geometry: &Geometry,
    places: &recipe::Places,
    workspace: &Buffer,
    combine: &Pipeline,
) -> Vec<(BindGroup, [u32; 2])> {
    let most = device.inner.limits.workgroups as u32;
    let samples = head.problem.shape.samples() as u32;
    let mut groups = Vec::new();
    for first_sample in (0..samples).step_by(most as usize) {
        for first_slot in (0..geometry.row).step_by(most as usize) {
            let params = CombineParams {
                partials_at: 0,
                partials: geometry.rows as u32,
                row: geometry.row,
                moments_at: places.moments,
                first_slot,
                first_sample,
                samples,
                unused: 0,
            };
            let params = device.filled("combine", bytemuck::bytes_of(&params), BufferUsages::UNIFORM);
            let entries = [
                BindGroupEntry { binding: 0, resource: workspace.as_entire_binding() },
                BindGroupEntry { binding: 1, resource: params.as_entire_binding() },
            ];
            let grid = [most.min(geometry.row - first_slot), most.min(samples - first_sample)];
            groups.push((device.bind_group(combine, &entries), grid));
        }
    }
    groups
}

impl Device {
    pub(super) fn buffer(&self, label: &str, size: u64, usage: BufferUsages) -> Buffer {
        let size = size.next_multiple_of(4).max(4);
        self.inner.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size,
            usage,
            mapped_at_creation: false,
        })
    }

    /// A buffer that holds these bytes.
    pub(super) fn filled(&self, label: &str, bytes: &[u8], usage: BufferUsages) -> Buffer {
        let buffer = self.buffer(label, bytes.len() as u64, usage | BufferUsages::COPY_DST);
        self.inner.queue.write_buffer(&buffer, 0, bytes);
        buffer
    }

    /// Fills a buffer with a word.
    pub(super) fn fill(&self, buffer: &Buffer, word: u32) {
        let words = vec![word; (buffer.size() / 4) as usize];
        self.inner.queue.write_buffer(buffer, 0, bytemuck::cast_slice(&words));
    }

    pub(super) fn bind_group(&self, pipeline: &Pipeline, entries: &[BindGroupEntry<'_>]) -> BindGroup {
        self.inner.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("segfuse"),
            layout: &pipeline.layout,
            entries,
        })
    }

    pub(super) fn check(&self, role: &'static str, slice: &BufferSlice<'_>, need: u64) -> Result<(), Error> {
        if !slice.buffer().usage().contains(BufferUsages::STORAGE) {
            return Err(Error::BufferUsage { role, need: "STORAGE" });
        }
        let alignment = self.inner.limits.alignment;
        if !slice.offset().is_multiple_of(alignment) {
            return Err(Error::BufferOffset { role, need: alignment, got: slice.offset() });
        }
        if slice.size() < need {
            return Err(Error::BufferBytes { role, need, got: slice.size() });
        }
        Ok(())
    }
}

const _: () = assert!(WORKGROUP == 256, "WebGPU's default of invocations per workgroup");
