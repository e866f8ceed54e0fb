//! Plans on a device: what is allocated and loaded once, and what is launched per call.

use super::device::{Device, Preparation, Text};
use super::driver::{Entered, Function, Memory, Stream};
use super::finish::{Combine, FinishParams, Interpreter, THREADS};
use super::geometry::Geometry;
use super::maps::{MadeMaps, Sources};
use super::params::{OneBlockParams, VoxelParams};
use super::text::{self, Kernel};
use crate::error::Error;
use crate::explain;
use crate::plan::{Head, Plan, Schedule};
use crate::recipe::{self, ResultLayout};
use crate::role::Role;
use cudarc::driver::{CudaSlice, CudaStream, DevicePtr, DevicePtrMut};
use std::ops::Range;
use std::sync::{Arc, Mutex};

/// The buffers of one head: addresses of device memory, `CUdeviceptr` of any version of any binding.
///
/// Their types, lengths and layouts are those of the problem. Each is aligned to its element type, and to four elements where
/// the kernels of a plan read as many at once; [`Error::BufferAlignment`] says which and how many.
#[derive(Clone, Copy, Debug)]
pub struct Buffers {
    /// Logits or probabilities; with an executor of [`Device::prepare_in_place`] it takes the gradient.
    pub prediction: u64,
    /// Labels or dense values.
    pub target: u64,
    /// The mask, u8, 0 where a voxel does not count.
    pub mask: Option<u64>,
    /// Voxel weights, f32.
    pub weights: Option<u64>,
    /// The map, f32.
    pub map: Option<u64>,
    /// Takes ∂loss/∂prediction. Not needed for the loss alone, and in place none, or the prediction's address.
    pub gradient: Option<u64>,
}

impl Buffers {
    /// Prediction, target and gradient; the others are added as fields.
    pub fn new(prediction: u64, target: u64, gradient: Option<u64>) -> Buffers {
        Buffers { prediction, target, mask: None, weights: None, map: None, gradient }
    }

    /// Prediction, target and gradient in memory of cudarc, for a call on `stream`, which first waits for what cudarc's other streams
    /// do with them. What those do after the call must wait for it by an event: cudarc does not see the launches.
    pub fn of_slices<P, T, G>(
        prediction: &CudaSlice<P>,
        target: &CudaSlice<T>,
        gradient: Option<&mut CudaSlice<G>>,
        stream: &CudaStream,
    ) -> Buffers {
        let gradient = gradient.map(|gradient| gradient.device_ptr_mut(stream).0);
        Buffers::new(prediction.device_ptr(stream).0, target.device_ptr(stream).0, gradient)
    }

    fn of(&self, role: Role, in_place: bool) -> Option<u64> {
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

/// Memory of the caller for the sums, coefficients and made maps of a call: [`Executor::workspace_bytes`] bytes, aligned to 16.
/// It may hold anything when a call begins; calls that run at the same time need one each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workspace {
    /// Its device address.
    pub address: u64,
    /// Its length.
    pub bytes: u64,
}

/// What a call may be given beside its buffers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Call {
    /// Address of ∂(what is minimised)/∂loss on the device, f32, one number per loss of the plan; 1 where it is `None`.
    pub grad_output: Option<u64>,
    /// Address that the result goes to, see [`ResultLayout`], aligned to 8; [`Executor::result`] where it is `None`.
    pub result: Option<u64>,
    /// The workspace of the call; the executor's own where it is `None`.
    pub workspace: Option<Workspace>,
}

/// The sums of a head between the stages of a split call; see [`Executor::moments`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moments {
    /// Their device address.
    pub address: u64,
    /// How many f64 there are.
    pub count: u64,
}

/// The coefficients of a head between the stages of a split call; see [`Executor::coefficients`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coefficients {
    /// Their device address.
    pub address: u64,
    /// How many f32 there are.
    pub count: u64,
}

/// What is to be computed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    Forward,
    Both,
}

/// Bytes that a workspace and a result of the caller are aligned to.
pub(super) const WORKSPACE_ALIGNMENT: u64 = 16;
const RESULT_ALIGNMENT: u64 = 8;

/// What of a head is on the device.
#[derive(Debug)]
pub(super) struct DeviceHead {
    schedule: Schedule,
    /// Samples that are reduced and differentiated together.
    samples_at_once: u64,
    geometry: Geometry,
    /// The kernel of the whole head, which then has no other.
    one_block: Option<Arc<Function>>,
    census: Option<Arc<Function>>,
    reduce: Option<Arc<Function>>,
    gradient: Option<Arc<Function>>,
    one_pass: Option<Arc<Function>>,
    interpreter: Interpreter,
    /// The maps that are made before the passes.
    maps: Option<MadeMaps>,
    /// Addresses of the recipe, of the cost matrix, of the table of all classes and of the weights of erosions.
    recipe: u64,
    costs: u64,
    classes: u64,
    factors: u64,
    /// Places in the workspace, in words.
    pub(super) moments_at: u64,
    pub(super) coefficients_at: u64,
}

/// Where the parts of a workspace lie that all heads use one after the other, in words. The rows begin it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shared {
    partials: u64,
    ticket: u64,
    pub(super) result: u64,
    /// The memory of the stage `distance`: made maps, and what they are made in.
    maps: u64,
    words: u64,
}

/// A plan on a device. It is `Send` and `Sync`, and a call allocates, copies and waits for nothing on the device, so that it can
/// be captured into a CUDA graph. Calls that run on the device at the same time need a workspace each ([`Call::workspace`]);
/// calls that follow each other on a stream do not.
///
/// Dropping it waits for the kernels that use its memory. Neither that nor preparing one disturbs a capture of another thread, in
/// whatever mode.
#[derive(Debug)]
pub struct Executor {
    /// Recipes and cost matrices.
    constants: Memory,
    pub(super) workspace: Option<Memory>,
    pub(super) heads: Vec<DeviceHead>,
    combine: Option<Arc<Function>>,
    /// Where a head is more than one block.
    finish: Option<Arc<Function>>,
    pub(super) shared: Shared,
    preparation: Preparation,
    pub(super) device: Device,
    pub(super) plan: Plan,
    /// Calls with slices of the host take turns: they share the workspace and the default stream.
    pub(super) turn: Mutex<()>,
}

impl Executor {
    pub(super) fn new(device: &Device, plan: &Plan, preparation: Preparation) -> Result<Executor, Error> {
        for head in plan.heads() {
            let (need, got) = (head.problem.prediction, head.problem.gradient_dtype());
            if preparation.in_place && need != got {
                return Err(Error::BufferType { role: "a gradient in place", need, got });
            }
        }
        let at_once: Vec<u64> = plan.heads().iter().map(|head| samples_at_once(device, head, preparation)).collect();
        let geometries: Vec<Geometry> =
            plan.heads().iter().zip(&at_once).map(|(head, &at_once)| Geometry::new(head, at_once)).collect();
        let maps = plan.heads().iter().map(|head| MadeMaps::new(device, head, preparation.memory_budget));
        let maps = maps.collect::<Result<Vec<_>, _>>()?;
        let map_bytes = maps.iter().flatten().map(MadeMaps::bytes).max().unwrap_or(0);
        let (shared, places) = places(plan, &geometries, map_bytes)?;
        let mut constants = Constants::default();
        let mut heads = Vec::new();
        for (k, ((head, geometry), maps)) in plan.heads().iter().zip(geometries).zip(maps).enumerate() {
            let schedule = if preparation.split { Schedule::TwoPass } else { head.schedule };
            let one_pass = matches!(schedule, Schedule::OnePass { .. });
            let samples = head.problem.shape.samples() as u64;
            let one_block =
                preparation.one_block && !preparation.split && at_once[k] == samples && geometry.is_one_block();
            let voxels = |kernel| -> Result<Arc<Function>, Error> {
                let source = text::voxels(head, &geometry, kernel, preparation.in_place)?;
                device.kernel(Text::Voxels(Box::new(source)))
            };
            let wanted = |wanted: bool, kernel: Kernel| {
                (wanted && one_block == (kernel == Kernel::OneBlock)).then(|| voxels(kernel)).transpose()
            };
            let words = recipe::recipe(plan, k, &places[k]);
            heads.push(DeviceHead {
                schedule,
                samples_at_once: at_once[k],
                one_block: wanted(true, Kernel::OneBlock)?,
                census: wanted(schedule == Schedule::OnePass { census: true }, Kernel::Census)?,
                reduce: wanted(true, Kernel::Reduce)?,
                gradient: wanted(!one_pass, Kernel::Gradient)?,
                one_pass: wanted(one_pass, Kernel::OnePass)?,
                interpreter: Interpreter::new(plan, head, words.len()),
                recipe: constants.take(bytemuck::cast_slice(&words)),
                costs: head.cost_matrix.as_ref().map_or(NO_OFFSET, |matrix| {
                    let single: Vec<f32> = matrix.iter().map(|&x| x as f32).collect();
                    constants.take(bytemuck::cast_slice(&single))
                }),
                classes: maps.as_ref().map_or(NO_OFFSET, |_| {
                    let classes: Vec<u32> = (0..head.problem.shape.classes() as u32).collect();
                    constants.take(bytemuck::cast_slice(&classes))
                }),
                factors: head.erosions.map_or(NO_OFFSET, |by| {
                    let factors: Vec<f64> = (1..=by.count).map(|erosion| by.weight(erosion)).collect();
                    constants.take(bytemuck::cast_slice(&factors))
                }),
                maps,
                moments_at: places[k].moments.into(),
                coefficients_at: places[k].coefficients.into(),
                geometry,
            });
        }
        let context = &device.inner.context;
        let constants = Memory::of(context, "the recipes of a plan", &constants.0)?;
        for head in &mut heads {
            head.recipe += constants.address();
            for place in [&mut head.costs, &mut head.classes, &mut head.factors] {
                *place = if *place == NO_OFFSET { 0 } else { constants.address() + *place };
            }
        }
        let workspace =
            preparation.workspace.then(|| Memory::new(context, "the workspace", 4 * shared.words)).transpose()?;
        let finish = heads.iter().any(|head| head.one_block.is_none());
        Ok(Executor {
            constants,
            workspace,
            heads,
            combine: preparation.split.then(|| device.kernel(Text::Plain("combine"))).transpose()?,
            finish: finish.then(|| device.kernel(Text::Plain("finish"))).transpose()?,
            shared,
            preparation,
            device: device.clone(),
            plan: plan.clone(),
            turn: Mutex::new(()),
        })
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }
    /// Whether gradients are written over their predictions.
    pub fn is_in_place(&self) -> bool {
        self.preparation.in_place
    }
    /// Bytes that a workspace has: sums, coefficients and a result; the maps that the plan makes, and what they are made in.
    pub fn workspace_bytes(&self) -> u64 {
        4 * self.shared.words
    }
    /// Bytes of device memory that the executor holds: its workspace, if it has one, and the recipes of its finish step.
    pub fn device_bytes(&self) -> u64 {
        self.constants.bytes() + self.workspace.as_ref().map_or(0, Memory::bytes)
    }
    /// Where the numbers of a result lie.
    pub fn result_layout(&self) -> ResultLayout {
        ResultLayout::new(&self.plan)
    }

    /// The device address that takes the result of calls that name no other: in the workspace given, or the executor's own.
    ///
    /// # Errors
    /// [`Error::BufferMissing`] where neither is there.
    pub fn result(&self, workspace: Option<Workspace>) -> Result<u64, Error> {
        Ok(self.base(workspace)? + 4 * self.shared.result)
    }

    /// The sums of a head between the stages of a split call: f64 `[N][row]`; a row holds the moments `[C][moments]` in the order
    /// of [`Head::moments`], then true positives, false positives and false negatives `[C][3]` where the problem asks for hard
    /// counts, then the voxels that counted and the labels out of range. All of it may be added up over devices.
    ///
    /// # Errors
    /// [`Error::BufferMissing`] where there is no workspace, [`Error::OtherPlan`] where there are not as many heads.
    pub fn moments(&self, head: usize, workspace: Option<Workspace>) -> Result<Moments, Error> {
        let on_device = self.head(head)?;
        let samples = self.plan.heads()[head].problem.shape.samples() as u64;
        let address = self.base(workspace)? + 4 * on_device.moments_at;
        Ok(Moments { address, count: on_device.geometry.row() * samples })
    }

    /// What [`Executor::finish`] leaves of a head to [`Executor::gradient`], `grad_output` multiplied in: f32
    /// `[N][C][Head::slope_count]`, in the order of the last moments of [`Head::moments`]. A caller that has slopes of its own by
    /// the sums writes them here, and needs no finish.
    ///
    /// # Errors
    /// As [`Executor::moments`].
    pub fn coefficients(&self, head: usize, workspace: Option<Workspace>) -> Result<Coefficients, Error> {
        let address = self.base(workspace)? + 4 * self.head(head)?.coefficients_at;
        let head = &self.plan.heads()[head];
        Ok(Coefficients { address, count: (head.groups() * head.slope_count()) as u64 })
    }

    fn head(&self, number: usize) -> Result<&DeviceHead, Error> {
        let need = self.heads.len();
        self.heads.get(number).ok_or(Error::OtherPlan { what: "the number of a head", need, got: number })
    }

    /// Launches loss and gradient on `stream`, one set of buffers per head, and returns before they are done.
    ///
    /// # Errors
    /// When a buffer does not fit the plan or the device; nothing is launched then. [`Error::Launch`] where the driver refuses.
    ///
    /// # Safety
    /// Until the stream has come to the end of the call, every buffer of `heads` and `call` is there, holds the elements that the
    /// plan says, and is neither written by others nor, where this call writes it, read; `stream` is a stream. The same holds of the
    /// workspace, the executor's own where the call names none: no other call uses it meanwhile, [`Executor::evaluate`] included.
    /// Where the stream is captured, all of this holds for every launch of the graph, and the executor outlives the graph.
    pub unsafe fn forward_backward(
        &self,
        heads: &[Buffers],
        call: &Call,
        stream: impl Into<Stream>,
    ) -> Result<(), Error> {
        // SAFETY: the caller's promise.
        unsafe { self.run(heads, call, stream.into(), Pass::Both) }
    }

    /// Launches the loss alone.
    ///
    /// # Errors
    /// As [`Executor::forward_backward`].
    ///
    /// # Safety
    /// As [`Executor::forward_backward`]; gradients are not looked at.
    pub unsafe fn forward(&self, heads: &[Buffers], call: &Call, stream: impl Into<Stream>) -> Result<(), Error> {
        // SAFETY: the caller's promise.
        unsafe { self.run(heads, call, stream.into(), Pass::Forward) }
    }

    /// The first stage of a split call: the sums of every head, to [`Executor::moments`].
    ///
    /// # Errors
    /// As [`Executor::finish`].
    ///
    /// # Safety
    /// As [`Executor::forward`].
    pub unsafe fn reduce(&self, heads: &[Buffers], call: &Call, stream: impl Into<Stream>) -> Result<(), Error> {
        let stream = stream.into();
        let combine = self.split()?;
        let entered = self.device.inner.context.enter()?;
        let base = self.check(&entered, heads, call, stream, Pass::Forward)?;
        for (number, buffers) in heads.iter().enumerate() {
            let launch = self.launch(&entered, number, Some(buffers), call, base, stream);
            // SAFETY: checked above as far as it can be, and promised by the caller.
            unsafe {
                launch.distance(false)?;
                launch.voxels(made(&self.heads[number].reduce), Kernel::Reduce, launch.all())?;
                let params = launch.combined(launch.all(), false);
                combine.launch(&entered, [params.pieces(), 1, 1], THREADS, 0, stream, params)?;
            }
        }
        Ok(())
    }

    /// The second stage: [`Executor::moments`], reduced over devices or tiles meanwhile, to the result and the coefficients.
    ///
    /// # Errors
    /// As [`Executor::forward_backward`]; [`Error::Problem`] where the executor is not of [`Device::prepare_split`].
    ///
    /// # Safety
    /// As [`Executor::forward_backward`]; it looks at no buffer of the heads.
    pub unsafe fn finish(&self, call: &Call, stream: impl Into<Stream>) -> Result<(), Error> {
        let stream = stream.into();
        self.split()?;
        let entered = self.device.inner.context.enter()?;
        let base = self.check_call(&entered, call, stream)?;
        apart(&self.spans(call, base))?;
        for number in 0..self.heads.len() {
            let launch = self.launch(&entered, number, None, call, base, stream);
            let finish = Finish { combines: None, coefficients: true, result: true, ..launch.whole() };
            // SAFETY: checked above as far as it can be, and promised by the caller.
            unsafe { launch.finish(finish)? };
        }
        Ok(())
    }

    /// The last stage: the gradients from the coefficients of [`Executor::finish`].
    ///
    /// # Errors
    /// As [`Executor::finish`].
    ///
    /// # Safety
    /// As [`Executor::forward_backward`].
    pub unsafe fn gradient(&self, heads: &[Buffers], call: &Call, stream: impl Into<Stream>) -> Result<(), Error> {
        let stream = stream.into();
        self.split()?;
        let entered = self.device.inner.context.enter()?;
        let base = self.check(&entered, heads, call, stream, Pass::Both)?;
        for (number, buffers) in heads.iter().enumerate() {
            let launch = self.launch(&entered, number, Some(buffers), call, base, stream);
            // SAFETY: checked above as far as it can be, and promised by the caller.
            unsafe {
                // Of these buffers: the sums may have come from several calls, of tiles, and the maps at hand are of the last, or of
                // another head.
                launch.distance(true)?;
                launch.voxels(made(&self.heads[number].gradient), Kernel::Gradient, launch.all())?;
            }
        }
        Ok(())
    }

    /// The kernel that only a split call needs, which tells one from others.
    fn split(&self) -> Result<&Function, Error> {
        self.combine.as_deref().ok_or_else(|| {
            Error::Problem("stages are launched one by one where a plan was prepared so: Device::prepare_split".into())
        })
    }

    /// # Safety
    /// As [`Executor::forward_backward`].
    unsafe fn run(&self, heads: &[Buffers], call: &Call, stream: Stream, pass: Pass) -> Result<(), Error> {
        let entered = self.device.inner.context.enter()?;
        let base = self.check(&entered, heads, call, stream, pass)?;
        for ((number, buffers), on_device) in heads.iter().enumerate().zip(&self.heads) {
            let launch = self.launch(&entered, number, Some(buffers), call, base, stream);
            let all = launch.all();
            let whole = launch.whole();
            // SAFETY: checked above as far as it can be, and promised by the caller.
            unsafe {
                // One block reads the slopes too, whatever the pass.
                launch.distance(pass == Pass::Both || on_device.one_block.is_some())?;
                if let Some(one_block) = &on_device.one_block {
                    launch.one_block(one_block, pass)?;
                    continue;
                }
                match (pass, on_device.schedule) {
                    (Pass::Forward, _) => {
                        launch.voxels(made(&on_device.reduce), Kernel::Reduce, all)?;
                        launch.finish(Finish { result: true, ..whole })?;
                    }
                    (Pass::Both, Schedule::OnePass { .. }) => {
                        if let Some(census) = &on_device.census {
                            launch.voxels(census, Kernel::Census, all.clone())?;
                            launch.finish(Finish { coefficients: true, census: true, ..whole.clone() })?;
                        } else {
                            let known = Finish { combines: None, known_counts: true, ..whole.clone() };
                            launch.finish(Finish { coefficients: true, ..known })?;
                        }
                        launch.voxels(made(&on_device.one_pass), Kernel::OnePass, all)?;
                        launch.finish(Finish { result: true, ..whole })?;
                    }
                    (Pass::Both, Schedule::TwoPass | Schedule::Chunked { .. }) => {
                        for first in all.clone().step_by(on_device.samples_at_once as usize) {
                            let chunk = first..(first + on_device.samples_at_once).min(all.end);
                            let last = chunk.end == all.end;
                            launch.voxels(made(&on_device.reduce), Kernel::Reduce, chunk.clone())?;
                            launch.finish(Finish {
                                combines: Some(chunk.clone()),
                                census: false,
                                coefficients: true,
                                result: last,
                                // The last chunk knows the sums of all samples, which the result wants.
                                there: if last { all.clone() } else { chunk.clone() },
                                known_counts: false,
                            })?;
                            launch.voxels(made(&on_device.gradient), Kernel::Gradient, chunk)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn launch<'a>(
        &'a self,
        entered: &'a Entered<'a>,
        number: usize,
        buffers: Option<&'a Buffers>,
        call: &'a Call,
        base: u64,
        stream: Stream,
    ) -> Launch<'a> {
        let (head, on_device) = (&self.plan.heads()[number], &self.heads[number]);
        Launch { executor: self, entered, head, on_device, buffers, call, base, stream }
    }

    /// Where the workspace of a call begins.
    fn base(&self, workspace: Option<Workspace>) -> Result<u64, Error> {
        match (workspace, &self.workspace) {
            (Some(workspace), _) => Ok(workspace.address),
            (None, Some(own)) => Ok(own.address()),
            (None, None) => Err(Error::BufferMissing { role: "the workspace" }),
        }
    }

    /// Everything about the buffers of a call that could be wrong; gives where its workspace begins.
    fn check(
        &self,
        entered: &Entered<'_>,
        heads: &[Buffers],
        call: &Call,
        stream: Stream,
        pass: Pass,
    ) -> Result<u64, Error> {
        let need = self.plan.heads().len();
        if heads.len() != need {
            return Err(Error::OtherPlan { what: "heads", need, got: heads.len() });
        }
        let base = self.check_call(entered, call, stream)?;
        let in_place = self.preparation.in_place;
        let mut spans = self.spans(call, base);
        for ((head, on_device), buffers) in self.plan.heads().iter().zip(&self.heads).zip(heads) {
            let problem = &head.problem;
            for (role, wanted) in [
                (Role::Prediction, true),
                (Role::Target, true),
                (Role::Mask, problem.mask),
                (Role::Weights, problem.weights),
                (Role::Map, problem.map.is_some()),
                (Role::Gradient, pass == Pass::Both && !in_place),
            ] {
                let title = role.title();
                match (wanted, buffers.of(role, false)) {
                    (true, Some(address)) => {
                        let elements = match role.is_per_class(problem) {
                            true => on_device.geometry.class_alignment(),
                            false => on_device.geometry.voxel_alignment(),
                        };
                        let bytes = role.bytes(problem);
                        check(entered, title, address, bytes, elements * role.dtype(problem).size())?;
                        let written = role == Role::Gradient || (in_place && role == Role::Prediction);
                        spans.push(Span {
                            role: title,
                            start: address,
                            end: address.checked_add(bytes).ok_or(Error::BufferForeign { role: title, address })?,
                            written: written && pass == Pass::Both,
                        });
                    }
                    (true, None) => return Err(Error::BufferMissing { role: title }),
                    // A call without gradient may be given the same buffers as one with.
                    (false, Some(address)) if role == Role::Gradient => {
                        if in_place && pass == Pass::Both && address != buffers.prediction {
                            return Err(Error::BufferUnexpected { role: title });
                        }
                    }
                    (false, Some(_)) => return Err(Error::BufferUnexpected { role: title }),
                    (false, None) => {}
                }
            }
        }
        apart(&spans)?;
        Ok(base)
    }

    /// What a call is given beside its buffers, one by one.
    fn check_call(&self, entered: &Entered<'_>, call: &Call, stream: Stream) -> Result<u64, Error> {
        entered.owns(stream)?;
        let base = self.base(call.workspace)?;
        if let Some(workspace) = call.workspace {
            let (role, need) = ("the workspace", self.workspace_bytes());
            if workspace.bytes < need {
                return Err(Error::BufferBytes { role, need, got: workspace.bytes });
            }
            check(entered, role, workspace.address, need, WORKSPACE_ALIGNMENT)?;
        }
        if let Some(address) = call.grad_output {
            check(entered, "grad_output", address, 4 * self.plan.losses() as u64, 4)?;
        }
        if let Some(address) = call.result {
            check(entered, "the result", address, self.result_layout().bytes, RESULT_ALIGNMENT)?;
        }
        Ok(base)
    }

    /// The memory of a call beside its buffers.
    fn spans(&self, call: &Call, base: u64) -> Vec<Span> {
        let of = |role, start, bytes, written| Span { role, start, end: start + bytes, written };
        let mut spans = vec![of("the workspace", base, self.workspace_bytes(), true)];
        spans.extend(call.result.map(|start| of("the result", start, self.result_layout().bytes, true)));
        spans.extend(call.grad_output.map(|start| of("grad_output", start, 4 * self.plan.losses() as u64, false)));
        spans
    }
}

/// Memory that a call reads or writes.
pub(super) struct Span {
    pub(super) role: &'static str,
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) written: bool,
}

/// What is written shares memory with nothing else.
pub(super) fn apart(spans: &[Span]) -> Result<(), Error> {
    for (k, span) in spans.iter().enumerate().filter(|(_, span)| span.written) {
        let shares = |other: &Span| span.start < other.end && other.start < span.end;
        if let Some((_, other)) = spans.iter().enumerate().find(|(number, other)| *number != k && shares(other)) {
            return Err(Error::Overlapping { role: span.role, other: other.role });
        }
    }
    Ok(())
}

/// An address against what the driver knows of it.
pub(super) fn check(
    entered: &Entered<'_>,
    role: &'static str,
    address: u64,
    bytes: u64,
    alignment: u64,
) -> Result<(), Error> {
    if address == 0 {
        return Err(Error::BufferNull { role });
    }
    if !address.is_multiple_of(alignment) {
        return Err(Error::BufferAlignment { role, need: alignment as usize, address: address as usize });
    }
    match entered.locate(role, address, bytes)? {
        Some(got) if got < bytes => Err(Error::BufferBytes { role, need: bytes, got }),
        _ => Ok(()),
    }
}

/// What one launch of `finish` does.
#[derive(Clone, Debug)]
struct Finish {
    /// The samples whose rows are added up first.
    combines: Option<Range<u64>>,
    /// They are rows of a census.
    census: bool,
    coefficients: bool,
    result: bool,
    /// The samples whose sums there are.
    there: Range<u64>,
    known_counts: bool,
}

/// The launches of one head of one call.
struct Launch<'a> {
    executor: &'a Executor,
    entered: &'a Entered<'a>,
    head: &'a Head,
    on_device: &'a DeviceHead,
    buffers: Option<&'a Buffers>,
    call: &'a Call,
    base: u64,
    stream: Stream,
}

impl Launch<'_> {
    /// Every sample.
    fn all(&self) -> Range<u64> {
        0..self.head.problem.shape.samples() as u64
    }

    /// The finish step over the rows of every sample; which writes nothing yet.
    fn whole(&self) -> Finish {
        Finish {
            combines: Some(self.all()),
            census: false,
            coefficients: false,
            result: false,
            there: self.all(),
            known_counts: false,
        }
    }

    fn combined(&self, samples: Range<u64>, census: bool) -> Combine {
        let DeviceHead { geometry, moments_at, .. } = self.on_device;
        let Shared { partials, ticket, .. } = self.executor.shared;
        let [partials, moments, ticket] = [partials, *moments_at, ticket].map(|word| self.base + 4 * word);
        Combine::new(self.head, geometry, samples, census, self.base, partials, moments, ticket)
    }

    /// The maps that the plan makes.
    ///
    /// # Safety
    /// As [`Executor::forward_backward`], after [`Executor::check`].
    unsafe fn distance(&self, gradient: bool) -> Result<(), Error> {
        let (Some(maps), Some(buffers)) = (&self.on_device.maps, self.buffers) else { return Ok(()) };
        let sources = Sources {
            prediction: buffers.prediction,
            target: buffers.target,
            mask: buffers.mask.unwrap_or(0),
            weights: buffers.weights.unwrap_or(0),
            classes: self.on_device.classes,
            factors: self.on_device.factors,
            base: self.base + 4 * self.executor.shared.maps,
        };
        // SAFETY: the workspace has room for the stage, and the rest was checked and promised.
        unsafe { maps.launch(self.entered, self.head, &sources, gradient, self.stream) }
    }

    fn voxel_params(&self, samples: Range<u64>) -> VoxelParams {
        let in_place = self.executor.preparation.in_place;
        let of = |role| self.buffers.and_then(|buffers| buffers.of(role, in_place)).unwrap_or(0);
        let (maps, at) = (self.on_device.maps.as_ref(), self.base + 4 * self.executor.shared.maps);
        VoxelParams {
            prediction: of(Role::Prediction),
            target: of(Role::Target),
            mask: of(Role::Mask),
            weights: of(Role::Weights),
            map: maps.and_then(|maps| maps.shared(at)).unwrap_or_else(|| of(Role::Map)),
            gradient: of(Role::Gradient),
            rows: self.base,
            coefficients: self.base + 4 * self.on_device.coefficients_at,
            costs: self.on_device.costs,
            ticket: self.base + 4 * self.executor.shared.ticket,
            made: maps.map_or_else(Default::default, |maps| maps.addresses(at)),
            first_sample: samples.start as u32,
            samples: (samples.end - samples.start) as u32,
            ..self.on_device.geometry.params()
        }
    }

    /// One pass over the voxels of some samples.
    ///
    /// # Safety
    /// As [`Executor::forward_backward`], after [`Executor::check`].
    unsafe fn voxels(&self, function: &Function, kernel: Kernel, samples: Range<u64>) -> Result<(), Error> {
        let geometry = &self.on_device.geometry;
        let params = self.voxel_params(samples.clone());
        let grid = geometry.grid(samples.end - samples.start);
        // SAFETY: the kernels of a plan take these numbers, and reach no further than its buffers do.
        unsafe {
            function.launch(self.entered, grid, geometry.threads(), geometry.shared_bytes(kernel), self.stream, params)
        }
    }

    /// The whole head.
    ///
    /// # Safety
    /// As [`Executor::forward_backward`], after [`Executor::check`].
    unsafe fn one_block(&self, function: &Function, pass: Pass) -> Result<(), Error> {
        let finish = Finish { coefficients: pass == Pass::Both, result: true, ..self.whole() };
        let params = OneBlockParams { voxels: self.voxel_params(self.all()), finish: self.finish_params(&finish) };
        let DeviceHead { geometry, interpreter, .. } = self.on_device;
        let shared_bytes = geometry.shared_bytes(Kernel::OneBlock).max(interpreter.shared_bytes);
        // SAFETY: as of the launches one by one.
        unsafe { function.launch(self.entered, [1; 3], geometry.threads(), shared_bytes, self.stream, params) }
    }

    fn finish_params(&self, what: &Finish) -> FinishParams {
        let Interpreter { lanes, registers, recipe_shared, .. } = self.on_device.interpreter;
        let combine = what.combines.clone().map(|samples| self.combined(samples, what.census));
        FinishParams {
            combine: combine.unwrap_or_default(),
            workspace: self.base,
            recipe: self.on_device.recipe,
            grad_output: self.call.grad_output.unwrap_or(0),
            result: self.call.result.unwrap_or(self.base + 4 * self.executor.shared.result),
            recipe_shared,
            lanes,
            registers,
            begin: what.there.start as u32,
            end: what.there.end as u32,
            combines: combine.is_some().into(),
            coefficients: what.coefficients.into(),
            has_result: what.result.into(),
            known_counts: what.known_counts.into(),
            unused: 0,
        }
    }

    /// The finish step.
    ///
    /// # Safety
    /// As [`Executor::forward_backward`], after [`Executor::check_call`].
    unsafe fn finish(&self, what: Finish) -> Result<(), Error> {
        let params = self.finish_params(&what);
        let grid = [if what.combines.is_some() { params.combine.pieces() } else { 1 }, 1, 1];
        let shared_bytes = self.on_device.interpreter.shared_bytes;
        // SAFETY: the recipe was made for this workspace, which is as large as it says.
        unsafe { made(&self.executor.finish).launch(self.entered, grid, THREADS, shared_bytes, self.stream, params) }
    }
}

/// A kernel that the schedule of a head asks for.
fn made(kernel: &Option<Arc<Function>>) -> &Function {
    kernel.as_deref().expect("an executor loads what the schedules of its plan ask for")
}

/// Samples that are reduced and differentiated together: as many as half of the last-level cache holds, where the plan allows
/// it. The other half is for what the gradient pass writes and for what others do.
fn samples_at_once(device: &Device, head: &Head, preparation: Preparation) -> u64 {
    let samples = head.problem.shape.samples() as u64;
    match head.schedule {
        Schedule::Chunked { .. } if !preparation.split => {
            (device.inner.cache_bytes / 2 / explain::sample_bytes(&head.problem, &head.maps).max(1)).clamp(1, samples)
        }
        _ => samples,
    }
}

/// Where everything lies in the workspace, the memory of the stage `distance` last.
pub(super) fn places(
    plan: &Plan,
    geometries: &[Geometry],
    map_bytes: u64,
) -> Result<(Shared, Vec<recipe::Places>), Error> {
    let each = || plan.heads().iter().zip(geometries).map(|(head, g)| (head, g, head.problem.shape.samples() as u64));
    // Rows and partial sums are one head's at a time; what follows them is each head's own.
    let rows = each().map(|(_, g, samples)| 2 * samples * g.rows() * g.row()).max().unwrap_or(0);
    let partials = each().map(|(_, g, samples)| 2 * Combine::partials(g, samples)).max().unwrap_or(0);
    let mut words = 0;
    let mut take = |count: u64| {
        // Each begins where 16 bytes can be read at once.
        let at = words;
        words = (at + count).next_multiple_of(4);
        at
    };
    take(rows);
    let partials = take(partials);
    let ticket = take(1);
    let result = take(recipe::result_words(plan));
    let each_head: Vec<[u64; 3]> = each()
        .map(|(head, g, samples)| {
            let moments = take(2 * samples * g.row());
            let coefficients = take((head.groups() * head.slope_count()) as u64);
            [moments, coefficients, take(recipe::scratch_words(head))]
        })
        .collect();
    if words > u64::from(u32::MAX) {
        return Err(Error::DeviceLimit { what: "bytes of workspace", need: 4 * words, got: 4 * u64::from(u32::MAX) });
    }
    let maps = words;
    let shared = Shared { partials, ticket, result, maps, words: maps + map_bytes.div_ceil(4) };
    let places = each_head.iter().enumerate().map(|(k, &[moments, coefficients, scratch])| recipe::Places {
        moments: moments as u32,
        scratch: scratch as u32,
        coefficients: coefficients as u32,
        first: k == 0,
    });
    Ok((shared, places.collect()))
}

/// An offset that stands for none.
const NO_OFFSET: u64 = u64::MAX;

/// Bytes that go to the device together; what is taken gives its offset.
#[derive(Default)]
struct Constants(Vec<u8>);

impl Constants {
    fn take(&mut self, bytes: &[u8]) -> u64 {
        let at = self.0.len().next_multiple_of(16);
        self.0.resize(at, 0);
        self.0.extend_from_slice(bytes);
        at as u64
    }
}
