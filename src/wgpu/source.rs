//! The text of a kernel for one head: the file of `kernels/wgsl`, its `#if` lines decided, after a preamble of constants,
//! buffers and the pixel terms of the objective.
//!
//! Specialised by text and not by pipeline-overridable constants: those can size no array outside of workgroup memory, choose
//! no type and leave no binding out.

use super::geometry::{Geometry, WORKGROUP};
use super::maps;
use crate::dtype::DType;
use crate::error::Error;
use crate::plan::Head;
use crate::problem::{Activation, Map, Problem, Target};
use crate::role::Role;
use crate::spec::{Graph, Id, Moment, VoxelInput, lower};
use std::collections::BTreeSet;
use std::fmt::Write;

/// A kernel that reads voxels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kernel {
    /// The sums over the target alone.
    Census,
    Reduce,
    Gradient,
    OnePass,
}

impl Kernel {
    fn source(self) -> &'static str {
        match self {
            Kernel::Census | Kernel::Reduce => include_str!(concat!(env!("OUT_DIR"), "/reduce.wgsl")),
            Kernel::Gradient => include_str!(concat!(env!("OUT_DIR"), "/gradient.wgsl")),
            Kernel::OnePass => include_str!(concat!(env!("OUT_DIR"), "/one_pass.wgsl")),
        }
    }
    fn sums(self) -> bool {
        self != Kernel::Gradient
    }
    fn writes_gradient(self) -> bool {
        matches!(self, Kernel::Gradient | Kernel::OnePass)
    }
}

/// What the text depends on beside the head.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub(super) kernel: Kernel,
    /// The gradient is written over the prediction.
    pub(super) in_place: bool,
    /// The device has operations over subgroups.
    pub(super) subgroups: bool,
    /// The device has f16 in shaders.
    pub(super) f16: bool,
}

/// A buffer that a kernel binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    pub(super) role: Role,
    pub(super) read_only: bool,
}

/// The buffers that a kernel binds, in the order of their numbers.
pub(super) fn bound(head: &Head, options: Options) -> Vec<Bound> {
    let Options { kernel, in_place, .. } = options;
    let problem = &head.problem;
    let mut all = Vec::new();
    let mut bind = |role, wanted: bool, read_only| {
        if wanted {
            all.push(Bound { role, read_only });
        }
    };
    let overwrites = in_place && kernel.writes_gradient();
    bind(Role::Prediction, kernel != Kernel::Census && !overwrites, true);
    bind(Role::Target, true, true);
    bind(Role::Mask, problem.mask, true);
    bind(Role::Weights, problem.weights, true);
    bind(Role::Map, problem.map.is_some(), true);
    bind(Role::Gradient, kernel.writes_gradient(), false);
    bind(Role::Workspace, true, kernel == Kernel::Gradient);
    bind(Role::Costs, head.cost_matrix.is_some() && kernel != Kernel::Census, true);
    let terms = kernel != Kernel::Census || !head.pixels.recorded.target_values.is_empty();
    bind(Role::Made, !head.maps.is_empty() && terms, true);
    all
}

/// The kernel of a head: what its text is made of.
///
/// # Errors
/// [`Error::Program`] when a pixel term has a constant that single precision cannot hold.
pub(super) fn voxels(head: &Head, geometry: &Geometry, options: Options) -> Result<Source, Error> {
    let mut source = Source {
        kernel: options.kernel.source(),
        f16: options.f16,
        slots: geometry.slots,
        flags: BTreeSet::new(),
        preamble: String::new(),
    };
    source.constants(head, geometry, options);
    source.buffers(head, geometry, options);
    source.pixel_terms(head, options)?;
    if options.kernel.sums() {
        source.sums(head, geometry, options);
    }
    Ok(source)
}

/// A kernel that depends on nothing of a head, with constants before it.
pub(super) fn plain(kernel: &'static str, constants: &[(&str, u32)]) -> Source {
    let preamble = constants.iter().map(|(name, value)| format!("const {name} = {value}u;\n")).collect();
    Source { kernel, f16: false, slots: 1, flags: BTreeSet::new(), preamble }
}

/// A kernel of distance maps, with these flags.
pub(super) fn distance(kernel: &'static str, flags: &[&'static str]) -> Source {
    let flags = flags.iter().copied().collect();
    Source { kernel, f16: false, slots: 1, flags, preamble: String::new() }
}

/// What classes are read from, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sides {
    pub(super) classes: usize,
    /// Whether the source is labels; otherwise it has a value per class.
    pub(super) labels: bool,
    pub(super) dtype: DType,
    pub(super) interleaved: bool,
    pub(super) ignore_label: Option<i64>,
    /// The flag of the rule, but for labels.
    pub(super) rule: &'static str,
    /// Whether a mask says which voxels count.
    pub(super) keep: bool,
    /// The type of the labels that say so beside a source of values.
    pub(super) counted_by: Option<DType>,
}

/// The kernel `distance_sides`: after the uniform it binds the source, the classes and the bits, then the mask and the labels that
/// say what counts.
pub(super) fn sides(sides: &Sides, flags: &[&'static str]) -> Source {
    let mut source = of_classes(include_str!(concat!(env!("OUT_DIR"), "/distance_sides.wgsl")), sides, flags);
    let mut number = 3;
    source.line(format!("@group(0) @binding({number}) var<storage, read_write> side_bits: array<u32>;"));
    let mut bind = |source: &mut Source, name: &str, element: &str| {
        number += 1;
        source.line(format!("@group(0) @binding({number}) var<storage, read> {name}: array<{element}>;"));
    };
    if sides.keep {
        bind(&mut source, "keep", "u32");
        source.function("load_keep", "whole", &format!("whole({})", bytes("keep", false)));
    }
    if let Some(dtype) = sides.counted_by {
        bind(&mut source, "truths", &words(dtype, false, false));
        source.function("load_labels", "whole", &read_label(dtype, "truths", false));
    }
    source
}

/// The kernel `erosion_errors`: after the uniform it binds the prediction, the classes, the planes and the weights that it writes, then
/// the target, the mask and the caller's weights.
pub(super) fn errors(read: &Sides, target: Target, weights: bool) -> Source {
    let mut source = of_classes(include_str!(concat!(env!("OUT_DIR"), "/erosion_errors.wgsl")), read, &[]);
    let mut number = 2;
    let mut bind = |source: &mut Source, access: &str, name: &str, element: &str| {
        number += 1;
        source.line(format!("@group(0) @binding({number}) var<storage, {access}> {name}: array<{element}>;"));
    };
    bind(&mut source, "read_write", "planes", "u32");
    bind(&mut source, "read_write", "weights_of_voxels", "u32");
    let (Target::Labels(dtype) | Target::Dense(dtype)) = target;
    bind(&mut source, "read", "truths", &words(dtype, false, false));
    match target {
        Target::Labels(_) => source.function("load_labels", "whole", &read_label(dtype, "truths", false)),
        Target::Dense(_) => source.function("load_truth", "real", &self::read(dtype, "truths", false, false, false)),
    }
    if read.keep {
        bind(&mut source, "read", "keep", "u32");
        source.function("load_keep", "whole", &format!("whole({})", bytes("keep", false)));
    }
    source.flag("WEIGHTS", weights);
    if weights {
        bind(&mut source, "read", "weights", "u32");
    }
    source
}

/// A kernel that reads classes: after the uniform it binds the source and the classes, then what its own text says.
pub(super) fn of_classes(kernel: &'static str, sides: &Sides, flags: &[&'static str]) -> Source {
    let mut source = distance(kernel, flags);
    source.constant("CLASSES", sides.classes);
    source.labels(sides.classes, sides.ignore_label);
    source.flag("OF_CLASSES", true);
    source.flag("ONE_CLASS", sides.classes == 1);
    source.flag("INTERLEAVED", sides.interleaved && sides.classes > 1);
    source.flag("LABELS_SOURCE", sides.labels);
    source.flag("EXCLUSIVE", sides.labels || sides.rule == "ARGMAX");
    source.flag("KEEP", sides.keep);
    source.flag("LABELS_COUNT", sides.counted_by.is_some());
    if !sides.labels {
        source.flags.insert(sides.rule);
    }
    source
        .line(format!("@group(0) @binding(1) var<storage, read> values: array<{}>;", words(sides.dtype, false, false)));
    source.line("@group(0) @binding(2) var<storage, read> classes: array<u32>;");
    if sides.labels {
        source.function("load_labels", "whole", &read_label(sides.dtype, "values", false));
    } else {
        source.function("load_source", "real", &read(sides.dtype, "values", false, false, false));
    }
    source
}

/// Keeps the lines whose `#if NAME` or `#if !NAME` hold; `#else` and `#endif` as in C.
fn decide(source: &str, flags: &BTreeSet<&'static str>) -> String {
    let mut kept = String::with_capacity(source.len());
    let mut nested: Vec<bool> = Vec::new();
    for line in source.lines() {
        let directive = line.trim_start();
        if let Some(condition) = directive.strip_prefix("#if ") {
            nested.push(match condition.trim().strip_prefix('!') {
                Some(name) => !flags.contains(name),
                None => flags.contains(condition.trim()),
            });
        } else if directive.starts_with("#else") {
            let last = nested.last_mut().expect("#else stands after #if");
            *last = !*last;
        } else if directive.starts_with("#endif") {
            nested.pop().expect("#endif stands after #if");
        } else if nested.iter().all(|&holds| holds) {
            kept += line;
            kept.push('\n');
        }
    }
    assert!(nested.is_empty(), "every #if has its #endif");
    kept
}

/// Slots up to which loops over them are written out, so that arrays of slots are registers whatever a compiler thinks of
/// loops.
const UNROLLED: u32 = 16;

/// Writes out what stands between `#each k` and `#end` once per slot, with `k` a constant; or as a loop, where slots are many.
fn unroll(text: &str, slots: u32) -> String {
    let mut whole = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("#each k\n") {
        let (body, after) = after.split_once("#end\n").expect("#each has its #end");
        whole += before;
        if slots <= UNROLLED {
            for k in 0..slots {
                whole += &format!("    {{\n        const k = {k}u;\n{body}    }}\n");
            }
        } else {
            whole += &format!("    for (var k = 0u; k < SLOTS; k++) {{\n{body}    }}\n");
        }
        rest = after;
    }
    whole + rest
}

/// The text of a kernel before it is put together: equal sources have equal texts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Source {
    kernel: &'static str,
    f16: bool,
    slots: u32,
    flags: BTreeSet<&'static str>,
    preamble: String,
}

impl Source {
    /// The whole text.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        if self.f16 {
            text += "enable f16;\n";
        }
        // Browsers want to be told; naga knows subgroups without, and refuses the line.
        if cfg!(target_family = "wasm") && self.flags.contains("SUBGROUPS") {
            text += "enable subgroups;\n";
        }
        text + &self.preamble + &unroll(&decide(self.kernel, &self.flags), self.slots)
    }

    fn flag(&mut self, name: &'static str, holds: bool) {
        if holds {
            self.flags.insert(name);
        }
    }
    fn line(&mut self, text: impl AsRef<str>) {
        self.preamble += text.as_ref();
        self.preamble.push('\n');
    }
    fn constant(&mut self, name: &str, value: usize) {
        self.line(format!("const {name} = {value}u;"));
    }

    fn constants(&mut self, head: &Head, geometry: &Geometry, options: Options) {
        let problem = &head.problem;
        let classes = problem.shape.classes();
        let census = options.kernel == Kernel::Census;
        self.constant("WORKGROUP", WORKGROUP as usize);
        self.constant("CLASSES", classes);
        self.constant("TEAM", geometry.team as usize);
        self.constant("SLOTS", geometry.slots as usize);
        self.flag("ALONE", geometry.team == 1);
        self.flag("FULL_SLOTS", classes.is_multiple_of(geometry.team as usize));
        self.flag("ONE_CLASS", classes == 1);
        self.flag("VECTOR", geometry.vector);
        self.flag("INTERLEAVED", geometry.interleaved);
        self.flag("TWO_STEPS", WORKGROUP / geometry.team > STEP);
        // The threads of a class are those of a subgroup only where every thread has every class.
        self.flag("SUBGROUPS", options.subgroups && geometry.team == 1 && options.kernel.sums());
        self.flag("CENSUS", census);
        self.flag("SOFTMAX", problem.activation == Activation::Softmax);
        self.flag("SIGMOID", problem.activation == Activation::Sigmoid);
        self.flag("NO_ACTIVATION", problem.activation == Activation::None);
        self.flag("LN_Q", head.softmax_reads_ln_q());
        self.flag("OWN_CLASS", head.own_class);
        self.flag("LABELS_TARGET", matches!(problem.target, Target::Labels(_)));
        self.flag("DENSE", matches!(problem.target, Target::Dense(_)));
        self.flag("KEEP", problem.mask);
        self.flag("WEIGHTS", problem.weights);
        self.flag("MAP", problem.map.is_some());
        self.flag("MAP_PER_CLASS", problem.map == Some(Map::PerClass));
        self.labels(problem.shape.classes(), problem.ignore_label);

        let moments = if census { &head.moments[..head.target_moments] } else { &head.moments[..] };
        let hard = problem.hard_counts && !census;
        self.constant("MOMENTS", head.moments.len());
        self.constant("MOMENTS_HERE", moments.len());
        self.constant("SUMS", moments.len() + if hard { 3 } else { 0 });
        self.constant("ROW", geometry.row as usize);
        self.constant("SLOPES", head.slope_count());
        self.constant("AT_HARD", moments.len());
        self.flag("HARD", hard);
        self.flag("HARD_ARGMAX", problem.hard_is_argmax());
        for (at, moment) in moments.iter().enumerate() {
            let (flag, name) = match moment {
                Moment::N => ("SUM_N", "AT_N"),
                Moment::G => ("SUM_G", "AT_G"),
                Moment::GG => ("SUM_GG", "AT_GG"),
                Moment::P => ("SUM_P", "AT_P"),
                Moment::PG => ("SUM_PG", "AT_PG"),
                Moment::PP => ("SUM_PP", "AT_PP"),
                Moment::Cost => ("COST", "AT_COST"),
                Moment::Pixel(_) => continue,
            };
            self.flag(flag, true);
            self.constant(name, at);
        }
        let any = |wanted: &[Moment]| moments.iter().any(|m| wanted.contains(m));
        self.flag("SUM_TRUTH", any(&[Moment::G, Moment::GG, Moment::PG, Moment::Cost]));
        self.flag("SUM_PREDICTION", any(&[Moment::P, Moment::PG, Moment::PP]));
        if !options.kernel.writes_gradient() {
            return;
        }
        for (at, moment) in head.moments[head.target_moments..].iter().enumerate() {
            let (flag, name) = match moment {
                Moment::P => ("SLOPE_P", "BY_P"),
                Moment::PG => ("SLOPE_PG", "BY_PG"),
                Moment::PP => ("SLOPE_PP", "BY_PP"),
                Moment::Cost => ("COST", "BY_COST"),
                _ => continue,
            };
            self.flag(flag, true);
            self.constant(name, at);
        }
    }

    fn labels(&mut self, classes: usize, ignore_label: Option<i64>) {
        let limit = classes.max(2);
        self.line(format!("const LABELS = {limit};"));
        let Some(label) = ignore_label else { return };
        // A label beyond 32 bits cannot occur in a narrower map.
        if let Ok(narrow) = i32::try_from(label) {
            self.flag("IGNORE_LABEL", true);
            self.line(format!("const IGNORE_LABEL = {narrow};"));
        }
        self.flag("IGNORE_LABEL_WIDE", true);
        self.constant("IGNORE_LABEL_LOW", label as u32 as usize);
        self.constant("IGNORE_LABEL_HIGH", (label >> 32) as u32 as usize);
    }

    /// The bindings, and a function per buffer that reads or writes what a thread holds of it.
    fn buffers(&mut self, head: &Head, geometry: &Geometry, options: Options) {
        let problem = &head.problem;
        let vector = geometry.vector;
        for (k, bound) in bound(head, options).into_iter().enumerate() {
            let access = if bound.read_only { "read" } else { "read_write" };
            let name = bound.role.name();
            let binding = format!("@group(0) @binding({}) var<storage, {access}>", k + 1);
            let element = match bound.role {
                Role::Workspace => "u32".into(),
                Role::Costs => "f32".into(),
                Role::Gradient if shares_words(problem, geometry) => "atomic<u32>".into(),
                role => words(role.dtype(problem), vector, options.f16 && bound.read_only),
            };
            self.line(format!("{binding} {name}: array<{element}>;"));
            match bound.role {
                Role::Prediction => {
                    let value = read(problem.prediction, name, vector, options.f16, false);
                    self.function("load_prediction", "real", &value);
                }
                Role::Target => match problem.target {
                    Target::Labels(dtype) => self.function("load_labels", "whole", &read_label(dtype, name, vector)),
                    Target::Dense(dtype) => {
                        let value = read(dtype, name, vector, options.f16, false);
                        self.function("load_dense", "real", &value);
                    }
                },
                Role::Mask => {
                    let value = format!("whole({})", bytes(name, vector));
                    self.function("load_keep", "whole", &value);
                }
                Role::Weights => self.function("load_weights", "real", &read(DType::F32, name, vector, false, false)),
                Role::Map => self.function("load_map", "real", &read(DType::F32, name, vector, false, false)),
                Role::Gradient => {
                    let atomic = shares_words(problem, geometry);
                    if options.in_place {
                        let value = read(problem.prediction, name, vector, false, atomic);
                        self.function("load_prediction", "real", &value);
                    }
                    self.store(problem.gradient_dtype(), name, vector);
                }
                Role::Made => self.made(head, vector),
                Role::Workspace | Role::Costs => {}
            }
        }
    }

    /// The made maps of a slot.
    fn made(&mut self, head: &Head, vector: bool) {
        let first = maps::first_class(head);
        self.flag("MADE", true);
        self.constant("MADE_MAPS", head.maps.len());
        self.function("load_made", "real", &read(DType::F32, Role::Made.name(), vector, false, false));
        let each = head.maps.iter().enumerate().map(|(number, map)| {
            let plane = maps::first_plane(head, number);
            let of_class = if map.input.is_shared() { "" } else { " + of_class" };
            format!("load_made(at + ({plane}u{of_class}) * window.plane)")
        });
        self.line(format!(
            "fn made_at(c: u32) -> Made {{\n    let at = window.made_base + sample * {}u * window.plane + voxel;\n    \
             let of_class = max(c, {first}u) - {first}u;\n    return Made({});\n}}",
            maps::planes_of_sample(head),
            each.collect::<Vec<_>>().join(", ")
        ));
    }

    fn function(&mut self, name: &str, result: &str, value: &str) {
        self.line(format!("fn {name}(i: u32) -> {result} {{\n    return {value};\n}}"));
    }

    fn store(&mut self, dtype: DType, name: &str, vector: bool) {
        let rounded = match dtype {
            DType::F16 => "real_to_half(x)",
            DType::BF16 => "real_to_brain(x)",
            _ => "",
        };
        let body = match (dtype, vector) {
            (DType::F32, true) => format!("{name}[i >> 2u] = bitcast<vec4<u32>>(x);"),
            (DType::F32, false) => format!("{name}[i] = bitcast<u32>(x);"),
            (_, true) => format!("{name}[i >> 2u] = pack_halves({rounded});"),
            // Two threads share a word; each changes its own half of it.
            (_, false) => format!(
                "let shift = 16u * (i & 1u);\n    atomicAnd(&{name}[i >> 1u], ~(0xffffu << shift));\n    \
                 atomicOr(&{name}[i >> 1u], {rounded} << shift);"
            ),
        };
        self.line(format!("fn store_gradient(i: u32, x: real) {{\n    {body}\n}}"));
    }

    /// The sums of a thread by batches, each index a constant: an index that is not would keep the sums out of the registers.
    fn sums(&mut self, head: &Head, geometry: &Geometry, options: Options) {
        let moments = if options.kernel == Kernel::Census { head.target_moments } else { head.moments.len() };
        let hard = if head.problem.hard_counts && options.kernel != Kernel::Census { 3 } else { 0 };
        let sums = geometry.slots as usize * (moments + hard);
        let mut values: Vec<String> = (0..sums).map(|i| format!("sum_of_lanes(sums[{i}])")).collect();
        values.extend((0..2).map(|i| format!("sum_of_lanes(counted[{i}])")));
        values.resize(values.len().next_multiple_of(BATCH), "0.0".into());
        let mut cases = String::new();
        for (k, batch) in values.chunks_exact(BATCH).enumerate() {
            let label = if k == 0 { "default".into() } else { format!("case {k}u") };
            writeln!(
                cases,
                "        {label}: {{\n            return array<f32, BATCH>({});\n        }}",
                batch.join(", ")
            )
            .expect("writing to a string");
        }
        self.constant("BATCH", BATCH);
        self.line(format!("fn values_of(batch: u32) -> array<f32, BATCH> {{\n    switch batch {{\n{cases}    }}\n}}"));
    }

    /// The pixel terms and their slopes as functions of a voxel, and where their sums and coefficients lie.
    fn pixel_terms(&mut self, head: &Head, options: Options) -> Result<(), Error> {
        let recorded = &head.pixels.recorded;
        let values = if options.kernel == Kernel::Census { &recorded.target_values } else { &recorded.values };
        let count = values.len();
        self.flag("DENSE_TERMS", !head.own_class && count > 0);
        self.flag("SUM_PIXEL", count > 0 && options.kernel.sums());
        if count == 0 {
            return Ok(());
        }
        self.constant("PIXELS", count);
        let voxel = "p: real, ln_p: real, q: real, ln_q: real, g: real, phi: real, made: Made";
        if options.kernel.sums() {
            let body = lowered(head, &recorded.graph, values)?;
            self.line(format!("fn pixel_values({voxel}) -> array<real, PIXELS> {{\n{}}}", returning(&body, "PIXELS")));
            let mut adds = String::new();
            // A term may turn out to depend on the target alone after its moment was placed: a census sums what it has room for.
            let here = if options.kernel == Kernel::Census { head.target_moments } else { head.moments.len() };
            for (at, moment) in head.moments[..here].iter().enumerate() {
                if let Moment::Pixel(k) = moment
                    && (*k as usize) < count
                {
                    writeln!(adds, "    sums[at + {at}u] += select(real(0.0), m * values[{k}], counts);")
                        .expect("writing to a string");
                }
            }
            self.line(format!(
                "fn add_pixel_sums(at: u32, m: real, counts: truth, values: array<real, PIXELS>) {{\n{adds}}}"
            ));
        }
        if options.kernel.writes_gradient() {
            let body = lowered(head, &recorded.slope_graph, &recorded.slopes)?;
            let place = |k: usize| {
                let slopes = &head.moments[head.target_moments..];
                slopes.iter().position(|&m| m == Moment::Pixel(k as u8))
            };
            if head.own_class {
                self.line(format!(
                    "fn pixel_slopes({voxel}) -> array<real, PIXELS> {{\n{}}}",
                    returning(&body, "PIXELS")
                ));
                let products: Vec<String> = (0..count)
                    .filter_map(|k| place(k).map(|at| format!("slopes[{k}] * own_coefficient({at}u)")))
                    .collect();
                let sum = if products.is_empty() { "real(0.0)".into() } else { products.join(" + ") };
                self.line(format!("fn own_slope(slopes: array<real, PIXELS>) -> real {{\n    return {sum};\n}}"));
            } else {
                self.line(format!(
                    "fn pixel_slopes({voxel}, c: array<f32, PIXELS>) -> array<real, 2> {{\n{}}}",
                    returning(&body, "2")
                ));
                let each: Vec<String> = (0..count)
                    .map(|k| place(k).map_or("0.0".into(), |at| format!("coefficient(of_class, {at}u)")))
                    .collect();
                self.line(format!(
                    "fn pixel_coefficients(of_class: u32) -> array<f32, PIXELS> {{\n    return array<f32, PIXELS>({});\n}}",
                    each.join(", ")
                ));
            }
        }
        Ok(())
    }
}

/// Sums of a thread that are gathered together.
const BATCH: usize = 8;
/// Values that one step of the tree in `kernels/wgsl/sums.wgsl` adds.
const STEP: u32 = 16;

/// Whether two threads write to one word of the gradient.
fn shares_words(problem: &Problem, geometry: &Geometry) -> bool {
    !geometry.vector && problem.gradient_dtype() != DType::F32
}

fn lowered(head: &Head, graph: &Graph, outputs: &[Id]) -> Result<String, Error> {
    let names = ["p", "ln_p", "q", "ln_q", "g", "phi"];
    let made = |slot: u8| head.maps.iter().position(|map| map.input as u8 == slot);
    let input = |slot: u8| match (names.get(slot as usize), made(slot)) {
        (Some(name), _) => (*name).into(),
        (None, Some(map)) => format!("made[{map}]"),
        (None, None) => format!("real(c[{}])", slot as usize - VoxelInput::ALL.len()),
    };
    Ok(lower(graph, outputs, &input, &|k| format!("values[{k}]"))?)
}

fn returning(body: &str, count: &str) -> String {
    format!("    var values: array<real, {count}>;\n{body}    return values;\n")
}

/// The element type that a buffer is bound as: the words that a thread takes at once.
fn words(dtype: DType, vector: bool, native: bool) -> String {
    let words = match (dtype, vector) {
        (DType::F16, true) if native => "vec4<f16>",
        (DType::F16, false) if native => "f16",
        (DType::U8, true) => "u32",
        (DType::F16 | DType::BF16 | DType::I16, true) => "vec2<u32>",
        (DType::F32 | DType::I32 | DType::I64, true) => "vec4<u32>",
        (DType::I64, false) => "vec2<u32>",
        (_, false) => "u32",
    };
    words.into()
}

fn bytes(name: &str, vector: bool) -> String {
    if vector { format!("bytes_of({name}[i >> 2u])") } else { format!("byte_of({name}[i >> 2u], i)") }
}

fn halves(name: &str, vector: bool, atomic: bool) -> String {
    match (vector, atomic) {
        (true, _) => format!("halves_of({name}[i >> 2u])"),
        (false, true) => format!("half_of(atomicLoad(&{name}[i >> 1u]), i)"),
        (false, false) => format!("half_of({name}[i >> 1u], i)"),
    }
}

/// The expression that reads numbers.
fn read(dtype: DType, name: &str, vector: bool, native: bool, atomic: bool) -> String {
    match dtype {
        DType::F32 if vector => format!("bitcast<real>({name}[i >> 2u])"),
        DType::F32 => format!("bitcast<real>({name}[i])"),
        DType::F16 if native && vector => format!("real({name}[i >> 2u])"),
        DType::F16 if native => format!("real({name}[i])"),
        DType::F16 => format!("half_to_real({})", halves(name, vector, atomic)),
        DType::BF16 => format!("bitcast<real>({} << bits(16u))", halves(name, vector, atomic)),
        DType::U8 => format!("real({})", bytes(name, vector)),
        DType::I16 | DType::I32 | DType::I64 => unreachable!("validated: a value buffer is u8 or float"),
    }
}

/// The expression that reads labels.
fn read_label(dtype: DType, name: &str, vector: bool) -> String {
    match dtype {
        DType::U8 => format!("classify(whole({}))", bytes(name, vector)),
        DType::I16 => format!("classify(signed_half({}))", halves(name, vector, false)),
        DType::I32 if vector => format!("classify(bitcast<whole>({name}[i >> 2u]))"),
        DType::I32 => format!("classify(bitcast<whole>({name}[i]))"),
        DType::I64 if vector => format!(
            "classify_wide(vec4<u32>({name}[i >> 1u].xz, {name}[(i >> 1u) + 1u].xz), \
             vec4<u32>({name}[i >> 1u].yw, {name}[(i >> 1u) + 1u].yw))"
        ),
        DType::I64 => format!("classify_wide({name}[i].x, {name}[i].y)"),
        DType::F32 | DType::F16 | DType::BF16 => unreachable!("validated: labels are integers"),
    }
}
