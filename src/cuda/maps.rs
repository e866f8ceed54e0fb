//! The stage `distance` of a plan: the maps that a head makes of target and prediction, before its passes.

use super::device::{Device, Text};
use super::distance::{Field, SidesParams, SidesRule, THREADS, Transform, grid};
use super::driver::{Entered, Function, Stream};
use super::erosion::Eroded;
use super::objects::Objects;
use super::params::MADE;
use crate::distance::transform::{Side, Squeezed, is_of_squares, sides};
use crate::distance::{Distances, Kind, Source};
use crate::dtype::DType;
use crate::error::Error;
use crate::plan::{Head, PlannedMap};
use crate::problem::{Activation, Layout, Target};
use crate::spec::VoxelInput;
use bytemuck::{Pod, Zeroable};
use std::sync::Arc;

/// Voxels of a part of a plane that a block takes at least, and most parts of a plane: each block reads what was found of all.
const PART_VOXELS: u64 = 1 << 14;
const PARTS_MAX: u64 = 256;
/// Each part of the memory of the stage begins at a multiple of this.
pub(super) const ALIGNMENT: u64 = 256;

/// `Contours` of `kernels/cuda/distance_contours.cu`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct ContoursParams {
    from: u64,
    to: u64,
    voxels: u64,
    planes: u64,
    extents: [u64; 3],
    are_labels: u32,
    unused: u32,
}

/// `Maps` of `kernels/cuda/distance_maps.cuh`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct MapsParams {
    from: u64,
    over: Field,
    to: u64,
    partials: u64,
    voxels: u64,
    part_voxels: u64,
    planes: u64,
    parts: u32,
    made: u32,
    made_of_from: u32,
    skipped: u32,
    first_class: u32,
    one_class: u32,
    operation: u32,
    unused: u32,
}

/// `MAP_…` of `kernels/cuda/distance_maps.cuh`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Signed = 0,
    Squared = 1,
    Closeness = 2,
    Mean = 3,
}

/// How a map comes about.
#[derive(Debug)]
enum Step {
    /// By a transform of the classes of a side, or of their contours.
    Transformed { of: Of, transform: Box<Transform> },
    /// From the squares of the target's two-sided transform, which lie in another map, or in this one.
    Derived { from: usize, operation: Operation },
    /// From squares of distances to the target's contours to their mean over those of the prediction.
    Averaged,
    /// By the two nearest objects of each voxel.
    Objects(Box<Objects>),
}

/// What a transform is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Target,
    Prediction,
    TargetContours,
}

/// Which voxels are of which class: as the caller's buffer says it, or in memory of the stage.
#[derive(Clone, Copy, Debug)]
struct Regions {
    /// i16 `[N, V]`, or else u8 `[N, C, V]`.
    are_labels: bool,
    /// Where they lie in the memory of the stage; `None` where the rows read the target itself.
    at: Option<u64>,
}

/// The kernels of the stage that are not the transform's.
#[derive(Debug)]
struct Kernels {
    sides: Arc<Function>,
    contours: Option<Arc<Function>>,
    extremes: Arc<Function>,
    maps: Arc<Function>,
}

/// The maps of a head: which there are, how each is made, and where.
#[derive(Debug)]
pub(super) struct MadeMaps {
    maps: Vec<PlannedMap>,
    /// Which map each step makes, in the order in which they run.
    steps: Vec<(usize, Step)>,
    /// Places in the memory of the stage, in bytes: of each map, of the parts of planes, and of the scratch memory of a transform.
    map_at: Vec<u64>,
    partials_at: u64,
    scratch_at: u64,
    bytes: u64,
    target: Option<Regions>,
    prediction: Option<Regions>,
    /// Contours of the target and of the prediction.
    contours_at: Option<[u64; 2]>,
    parts: u64,
    kernels: Kernels,
    eroded: Option<Eroded>,
}

/// What a launch of the stage is given: addresses of the caller's buffers, of the tables of all classes and of the weights of
/// erosions, and of the stage's memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sources {
    pub(super) prediction: u64,
    pub(super) target: u64,
    pub(super) mask: u64,
    pub(super) weights: u64,
    pub(super) classes: u64,
    pub(super) factors: u64,
    pub(super) base: u64,
}

impl MadeMaps {
    /// `None` where the plan makes no map. What maps are made of stays within a budget, but for one plane or sample.
    pub(super) fn new(device: &Device, head: &Head, budget: u64) -> Result<Option<MadeMaps>, Error> {
        if head.maps.is_empty() {
            return Ok(None);
        }
        let (problem, shape) = (&head.problem, &head.problem.shape);
        let shared = head.maps.iter().filter(|map| map.is_shared()).count();
        let need = head.maps.len() - shared;
        if need > MADE {
            return Err(Error::Limit { what: "made maps of one plan on CUDA", need, limit: MADE });
        }
        // The voxel kernels read a shared map where they would read the caller's.
        let need = shared + usize::from(problem.map.is_some());
        if shared > 0 && need > 1 {
            return Err(Error::Limit { what: "maps that classes share, or of the caller, on CUDA", need, limit: 1 });
        }
        let reads = |side| head.maps.iter().any(|map| sides(map.input).contains(&side));
        let contoured = head.maps.iter().any(|map| map.input == VoxelInput::ContourDistance);
        let mut bytes = 0;
        let mut take = |count: u64| {
            let at = bytes;
            bytes = (bytes + count).next_multiple_of(ALIGNMENT);
            at
        };
        let map_at: Vec<u64> = head.maps.iter().map(|map| take(4 * planes(head, map) * shape.voxels())).collect();
        let region_bytes = |are_labels| if are_labels { 2 * shape.all_voxels() } else { shape.elements() };
        let mut regions =
            |are_labels, in_memory: bool| Regions { are_labels, at: in_memory.then(|| take(region_bytes(are_labels))) };
        // A mask is read by no row, and contours and objects are of what lies in the memory of the stage.
        let labels = matches!(problem.target, Target::Labels(_));
        let of_objects = head.maps.iter().any(|map| map.input == VoxelInput::ObjectDistances);
        let target = reads(Side::Target).then(|| regions(labels, problem.mask || contoured || of_objects));
        // No two classes have p > ½.
        let exclusive = problem.activation == Activation::Softmax;
        let prediction = reads(Side::Prediction).then(|| regions(exclusive, true));
        let contours_at = contoured.then(|| [labels, exclusive].map(|are_labels| take(region_bytes(are_labels))));
        let parts = parts(head);
        let most = head.maps.iter().map(|map| planes(head, map)).max().unwrap_or(0);
        let partials_at = take(16 * parts * most);
        let steps = steps(device, head, target, prediction, budget)?;
        let scratch = steps.iter().map(|(_, step)| match step {
            Step::Transformed { transform, .. } => transform.bytes(),
            Step::Objects(objects) => objects.bytes(),
            Step::Derived { .. } | Step::Averaged => 0,
        });
        // A transform and the erosions take turns.
        let scratch_at = take(0);
        let eroded = Eroded::new(device, head, scratch_at, budget)?;
        take(scratch.max().unwrap_or(0).max(eroded.as_ref().map_or(0, |eroded| eroded.end() - scratch_at)));
        let kernel = |name| device.kernel(Text::Plain(name));
        let kernels = Kernels {
            sides: kernel("distance_sides")?,
            contours: contoured.then(|| kernel("distance_contours")).transpose()?,
            extremes: kernel("distance_extremes")?,
            maps: kernel("distance_maps")?,
        };
        Ok(Some(MadeMaps {
            maps: head.maps.clone(),
            steps,
            map_at,
            partials_at,
            scratch_at,
            bytes,
            target,
            prediction,
            contours_at,
            parts,
            kernels,
            eroded,
        }))
    }

    /// Bytes of the memory of the stage.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The addresses of the maps, in the order of the head's.
    pub(super) fn addresses(&self, base: u64) -> [u64; MADE] {
        std::array::from_fn(|number| self.map_at.get(number).map_or(0, |at| base + at))
    }
    /// The address of the map that the classes share, if there is one.
    pub(super) fn shared(&self, base: u64) -> Option<u64> {
        self.maps.iter().position(PlannedMap::is_shared).map(|number| base + self.map_at[number])
    }

    /// Launches the stage, with the maps of slopes where the call has a gradient.
    ///
    /// # Safety
    /// As [`Function::launch`], of what the addresses reach.
    pub(super) unsafe fn launch(
        &self,
        entered: &Entered<'_>,
        head: &Head,
        sources: &Sources,
        gradient: bool,
        stream: Stream,
    ) -> Result<(), Error> {
        let launch = Launch { maps: self, head, entered, sources, stream };
        // SAFETY: the caller's promise; every place is in the memory of the stage.
        unsafe {
            if let Some(at) = self.target.and_then(|regions| regions.at) {
                launch.sides(Side::Target, at)?;
            }
            if let Some(at) = self.prediction.and_then(|regions| regions.at) {
                launch.sides(Side::Prediction, at)?;
            }
            if let (Some([of_target, of_prediction]), Some(target), Some(prediction)) =
                (self.contours_at, self.target, self.prediction)
            {
                launch.contours(target, of_target)?;
                launch.contours(prediction, of_prediction)?;
            }
            for (map, step) in &self.steps {
                match step {
                    Step::Transformed { of, transform } => launch.transform(*map, *of, transform)?,
                    Step::Derived { from, operation } => launch.derive(*map, *from, *operation)?,
                    Step::Averaged => launch.derive(*map, *map, Operation::Mean)?,
                    Step::Objects(objects) => launch.objects(*map, objects)?,
                }
            }
            if let Some(eroded) = &self.eroded {
                launch.erode(eroded, gradient)?;
            }
        }
        Ok(())
    }
}

/// Parts of a plane.
pub(super) fn parts(head: &Head) -> u64 {
    head.problem.shape.voxels().div_ceil(PART_VOXELS).min(PARTS_MAX)
}

/// Planes of a map.
fn planes(head: &Head, map: &PlannedMap) -> u64 {
    let shape = &head.problem.shape;
    (shape.samples() * map.planes(shape.classes())) as u64
}

/// How the maps are made. What several of them are made of is made once.
fn steps(
    device: &Device,
    head: &Head,
    target: Option<Regions>,
    prediction: Option<Regions>,
    budget: u64,
) -> Result<Vec<(usize, Step)>, Error> {
    let problem = &head.problem;
    let transformed = |map: usize, of: Of, kind: Kind, squared: bool| -> Result<(usize, Step), Error> {
        let regions = if of == Of::Prediction { prediction } else { target };
        let source = match regions.is_some_and(|regions| regions.are_labels) {
            true => Source::Labels(DType::I16),
            false => Source::Dense(DType::U8),
        };
        let classes: Vec<usize> = (head.maps[map].first_class..problem.shape.classes()).collect();
        let distances = Distances::new(&problem.shape, source)
            .kind(kind)
            .classes(classes)
            .spacing(problem.voxel_spacing())
            .squared(squared)
            .memory_budget(budget);
        Ok((map, Step::Transformed { of, transform: Box::new(Transform::new(device, &distances, 0)?) }))
    };
    let mut steps = Vec::new();
    // Functions of the target's two-sided transform.
    let shares = |map: &PlannedMap| is_of_squares(map.input);
    let sharing: Vec<usize> = (0..head.maps.len()).filter(|&map| shares(&head.maps[map])).collect();
    let operation = |map: usize| match head.maps[map].input {
        VoxelInput::SignedDistance => Operation::Signed,
        VoxelInput::TargetSquared => Operation::Squared,
        _ => Operation::Closeness,
    };
    match sharing[..] {
        [] => {}
        [only] if operation(only) == Operation::Signed => {
            steps.push(transformed(only, Of::Target, Kind::Signed, false)?);
        }
        [only] if operation(only) == Operation::Squared => {
            steps.push(transformed(only, Of::Target, Kind::TwoSided, true)?);
        }
        _ => {
            // The squares lie in a map that has a plane for every class that any of them has.
            let first_class = |map: &&usize| head.maps[**map].first_class;
            let base = *sharing.iter().min_by_key(first_class).expect("some share");
            steps.push(transformed(base, Of::Target, Kind::Difference, true)?);
            let others = sharing.iter().filter(|map| **map != base).chain([&base]);
            steps.extend(others.map(|&map| (map, Step::Derived { from: base, operation: operation(map) })));
        }
    }
    for map in 0..head.maps.len() {
        match head.maps[map].input {
            VoxelInput::PredictionSquared => steps.push(transformed(map, Of::Prediction, Kind::TwoSided, true)?),
            VoxelInput::ContourDistance => {
                steps.push(transformed(map, Of::TargetContours, Kind::Outside, true)?);
                steps.push((map, Step::Averaged));
            }
            VoxelInput::ObjectDistances => {
                steps.push((map, Step::Objects(Box::new(Objects::new(device, head, budget)?))))
            }
            _ => {}
        }
    }
    Ok(steps)
}

/// The launches of one call.
struct Launch<'a> {
    maps: &'a MadeMaps,
    head: &'a Head,
    entered: &'a Entered<'a>,
    sources: &'a Sources,
    stream: Stream,
}

impl Launch<'_> {
    /// What a class of the target is read by.
    fn target(&self) -> Field {
        let problem = &self.head.problem;
        let (address, classes) = (self.sources.target, problem.shape.classes());
        match problem.target {
            Target::Labels(dtype) => Field::labels(address, dtype, classes, problem.ignore_label),
            Target::Dense(dtype) => Field::values(address, dtype, classes, problem.layout, 0.5),
        }
    }

    /// Regions in the memory of the stage.
    fn regions(&self, are_labels: bool, at: u64) -> Field {
        let (address, classes) = (self.sources.base + at, self.head.problem.shape.classes());
        match are_labels {
            true => Field::labels(address, DType::I16, classes, None),
            false => Field::values(address, DType::U8, classes, Layout::Planar, 0.5),
        }
    }

    /// Which voxels are of which class; none where they do not count.
    ///
    /// # Safety
    /// As [`MadeMaps::launch`].
    unsafe fn sides(&self, side: Side, at: u64) -> Result<(), Error> {
        let problem = &self.head.problem;
        let shape = &problem.shape;
        let (samples, classes) = (shape.samples() as u64, shape.classes());
        let labels = matches!(problem.target, Target::Labels(_));
        let values = |above| Field::values(self.sources.prediction, problem.prediction, classes, problem.layout, above);
        let (rule, field) = match side {
            Side::Target if labels => (SidesRule::Label, self.target()),
            Side::Target => (SidesRule::Above, self.target()),
            Side::Prediction => match problem.activation {
                Activation::Softmax => (SidesRule::Majority, values(0.5)),
                // p > ½ where the logit is above 0.
                Activation::Sigmoid => (SidesRule::Above, values(0.0)),
                Activation::None => (SidesRule::Above, values(0.5)),
            },
        };
        let of_samples = matches!(rule, SidesRule::Label | SidesRule::Majority);
        let count = if of_samples { samples } else { samples * classes as u64 };
        let params = SidesParams {
            field,
            counts: if labels { self.target() } else { Field::default() },
            keep: self.sources.mask,
            to: self.sources.base + at,
            classes_of_maps: 0,
            voxels: shape.voxels(),
            first: 0,
            count,
            maps: classes as u32,
            rule: rule as u32,
        };
        let blocks = grid((count * shape.voxels()).div_ceil(THREADS.into()));
        // SAFETY: the caller's promise; there is room for a number of every voxel, or of every voxel and class.
        unsafe { self.maps.kernels.sides.launch(self.entered, blocks, THREADS, 0, self.stream, params) }
    }

    /// # Safety
    /// As [`MadeMaps::launch`].
    unsafe fn contours(&self, regions: Regions, to: u64) -> Result<(), Error> {
        let (Some(contours), Some(from)) = (&self.maps.kernels.contours, regions.at) else { return Ok(()) };
        let shape = &self.head.problem.shape;
        let base = self.sources.base;
        let planes = shape.samples() as u64 * if regions.are_labels { 1 } else { shape.classes() as u64 };
        // Only the extents matter.
        let Squeezed { extents, .. } = Squeezed::new(&Distances::new(shape, Source::Labels(DType::I16)));
        let params = ContoursParams {
            from: base + from,
            to: base + to,
            voxels: shape.voxels(),
            planes,
            extents: extents.map(|extent| extent as u64),
            are_labels: regions.are_labels.into(),
            unused: 0,
        };
        let blocks = grid((planes * shape.voxels()).div_ceil(THREADS.into()));
        // SAFETY: the caller's promise; both places have room for the same regions.
        unsafe { contours.launch(self.entered, blocks, THREADS, 0, self.stream, params) }
    }

    /// # Safety
    /// As [`MadeMaps::launch`].
    unsafe fn transform(&self, map: usize, of: Of, transform: &Transform) -> Result<(), Error> {
        let maps = self.maps;
        let regions = if of == Of::Prediction { maps.prediction } else { maps.target };
        let field = match (of, regions, maps.contours_at) {
            (Of::TargetContours, Some(regions), Some([at, _])) => self.regions(regions.are_labels, at),
            (_, Some(Regions { are_labels, at: Some(at) }), _) => self.regions(are_labels, at),
            _ => self.target(),
        };
        let classes = self.sources.classes + 4 * self.maps.maps[map].first_class as u64;
        let (to, scratch) = (self.sources.base + maps.map_at[map], self.sources.base + maps.scratch_at);
        for group in transform.groups() {
            // SAFETY: the caller's promise; the map and the scratch memory have room for the transform.
            unsafe { transform.launch(self.entered, field, classes, to, scratch, group, self.stream)? };
        }
        Ok(())
    }

    /// # Safety
    /// As [`MadeMaps::launch`].
    unsafe fn erode(&self, eroded: &Eroded, gradient: bool) -> Result<(), Error> {
        let problem = &self.head.problem;
        let (dtype, classes) = (problem.prediction, problem.shape.classes());
        let prediction = Field::values(self.sources.prediction, dtype, classes, problem.layout, 0.0);
        let place = |input| self.maps.maps.iter().position(|map| map.input == input);
        let address = |index: usize| self.sources.base + self.maps.map_at[index];
        let values = place(VoxelInput::ErodedError).map_or(0, address);
        let slopes = place(VoxelInput::ErodedErrorSlope).filter(|_| gradient).map(address);
        let (entered, target) = (self.entered, self.target());
        // SAFETY: the caller's promise; the maps have a plane for every class that they are made for.
        unsafe { eroded.launch(entered, self.head, self.sources, target, prediction, (values, slopes), self.stream) }
    }

    /// # Safety
    /// As [`MadeMaps::launch`].
    unsafe fn objects(&self, map: usize, objects: &Objects) -> Result<(), Error> {
        let (maps, base) = (self.maps, self.sources.base);
        let Some(Regions { at: Some(regions), .. }) = maps.target else { return Ok(()) };
        let (regions, to, scratch) = (base + regions, base + maps.map_at[map], base + maps.scratch_at);
        // SAFETY: the caller's promise; the map and the scratch memory have room for the objects.
        unsafe { objects.launch(self.entered, regions, to, scratch, self.stream) }
    }

    /// # Safety
    /// As [`MadeMaps::launch`].
    unsafe fn derive(&self, map: usize, from: usize, operation: Operation) -> Result<(), Error> {
        let MadeMaps { maps, map_at, parts, kernels, .. } = self.maps;
        let (shape, base) = (&self.head.problem.shape, self.sources.base);
        let classes = shape.classes();
        let over = match (operation, self.maps.contours_at, self.maps.prediction) {
            (Operation::Mean, Some([_, at]), Some(regions)) => self.regions(regions.are_labels, at),
            _ => Field::default(),
        };
        let params = MapsParams {
            from: base + map_at[from],
            over,
            to: base + map_at[map],
            partials: base + self.maps.partials_at,
            voxels: shape.voxels(),
            part_voxels: shape.voxels().div_ceil(*parts),
            planes: planes(self.head, &maps[map]),
            parts: *parts as u32,
            made: (classes - maps[map].first_class) as u32,
            made_of_from: (classes - maps[from].first_class) as u32,
            skipped: (maps[map].first_class - maps[from].first_class) as u32,
            first_class: maps[map].first_class as u32,
            one_class: (classes == 1).into(),
            operation: operation as u32,
            unused: 0,
        };
        let blocks = grid(params.planes * parts);
        // SAFETY: the caller's promise; both maps have the planes that the numbers say, and each part of each has its place.
        unsafe {
            if matches!(operation, Operation::Closeness | Operation::Mean) {
                kernels.extremes.launch(self.entered, blocks, THREADS, 0, self.stream, params)?;
            }
            kernels.maps.launch(self.entered, blocks, THREADS, 0, self.stream, params)
        }
    }
}
