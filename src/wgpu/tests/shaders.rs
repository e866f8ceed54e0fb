//! The text of every kernel that a plan can ask for, read by naga, written as SPIR-V, MSL and HLSL, and the SPIR-V checked by
//! `spirv-val`. No adapter is needed.

use crate::loss::ENTRIES;
use crate::plan::{Plan, Schedule};
use crate::problem::{Map, Problem, Target};
use crate::shape::Shape;
use crate::wgpu::distance::PieceParams;
use crate::wgpu::executor::CombineParams;
use crate::wgpu::geometry::{Geometry, Limits, WindowParams};
use crate::wgpu::source::{self, Kernel, Options};
use crate::{Activation, DType, Error, Layout, Objective};
use naga::back::{hlsl, msl, spv};
use naga::valid::{Capabilities, ValidationFlags, Validator};
use std::collections::{HashSet, VecDeque};
use std::io::Write;
use std::mem::{offset_of, size_of};
use std::process::{Command, Stdio};
use std::sync::Mutex;

/// WebGPU's defaults.
const LIMITS: Limits = Limits { binding: 128 << 20, alignment: 256, workgroups: 65_535 };

const COMBINE: &str = include_str!(concat!(env!("OUT_DIR"), "/combine.wgsl"));
const PLAIN_DISTANCE: [&str; 4] = [
    include_str!(concat!(env!("OUT_DIR"), "/distance_contours.wgsl")),
    include_str!(concat!(env!("OUT_DIR"), "/distance_extremes.wgsl")),
    include_str!(concat!(env!("OUT_DIR"), "/distance_mean.wgsl")),
    include_str!(concat!(env!("OUT_DIR"), "/distance_fill.wgsl")),
];
const DISTANCE_DERIVE: &str = include_str!(concat!(env!("OUT_DIR"), "/distance_derive.wgsl"));
const DISTANCE_ROWS: &str = include_str!(concat!(env!("OUT_DIR"), "/distance_rows.wgsl"));
const DISTANCE_ENDS: &str = include_str!(concat!(env!("OUT_DIR"), "/distance_ends.wgsl"));
const DISTANCE_CARRY: &str = include_str!(concat!(env!("OUT_DIR"), "/distance_carry.wgsl"));
const DISTANCE_LABELS: &str = include_str!(concat!(env!("OUT_DIR"), "/distance_labels.wgsl"));
const DISTANCE_LINES: &str = include_str!(concat!(env!("OUT_DIR"), "/distance_lines.wgsl"));
const DISTANCE_SHARE: &str = include_str!(concat!(env!("OUT_DIR"), "/distance_share.wgsl"));
const DISTANCE_OBJECTS: &str = include_str!(concat!(env!("OUT_DIR"), "/distance_objects.wgsl"));
const DISTANCE_NEAREST: &str = include_str!(concat!(env!("OUT_DIR"), "/distance_nearest.wgsl"));
const EROSION_SUMS: &str = include_str!(concat!(env!("OUT_DIR"), "/erosion_sums.wgsl"));
const EROSION_SPREAD: &str = include_str!(concat!(env!("OUT_DIR"), "/erosion_spread.wgsl"));
const EROSION_BACKWARD: &str = include_str!(concat!(env!("OUT_DIR"), "/erosion_backward.wgsl"));
const FINISH: &str = include_str!(concat!(env!("OUT_DIR"), "/finish.wgsl"));

/// A text, and what it needs of a device.
struct Shader {
    /// For messages.
    name: String,
    text: String,
    subgroups: bool,
    f16: bool,
    constants: Vec<(&'static str, f64)>,
}

impl Shader {
    fn plain(name: &str, source: &'static str, constants: &[(&str, u32)], overrides: &[(&'static str, f64)]) -> Shader {
        let text = source::plain(source, constants).text();
        Shader { name: name.into(), text, subgroups: false, f16: false, constants: overrides.to_vec() }
    }
}

/// The texts of every kernel of a plan, with each feature of a device and without, in place and not.
fn shaders_of(name: &str, plan: &Plan, into: &mut Vec<Shader>) {
    for head in plan.heads() {
        let geometry = Geometry::new(head, &LIMITS);
        let kernels: &[Kernel] = match head.schedule() {
            Schedule::OnePass { census: true } => &[Kernel::Census, Kernel::Reduce, Kernel::OnePass],
            Schedule::OnePass { census: false } => &[Kernel::Reduce, Kernel::OnePass],
            Schedule::TwoPass | Schedule::Chunked { .. } => &[Kernel::Reduce, Kernel::Gradient],
        };
        let same_type = head.problem().prediction_dtype() == head.problem().gradient_dtype();
        for &kernel in kernels {
            for bits in 0..8 {
                let [subgroups, f16, in_place] = [1, 2, 4].map(|bit| bits & bit != 0);
                if in_place && !(same_type && matches!(kernel, Kernel::Gradient | Kernel::OnePass)) {
                    continue;
                }
                let options = Options { kernel, in_place, subgroups, f16 };
                let text = source::voxels(head, &geometry, options).unwrap_or_else(|e| panic!("{name}: {e}")).text();
                let name = format!("{name}, {options:?}, {geometry:?}");
                into.push(Shader { name, text, subgroups, f16, constants: vec![] });
            }
        }
    }
}

/// The defaults of a loss.
fn objective(name: &str) -> Objective {
    let spec = if name == "topk_ce" { "topk_ce(threshold=0.7)" } else { name };
    spec.parse().expect("a loss is a spec string")
}

fn push(objective: &Objective, problem: &Problem, into: &mut Vec<Shader>) -> bool {
    let name = format!("{objective}, {problem:?}");
    match Plan::new(objective, problem) {
        Ok(plan) => shaders_of(&name, &plan, into),
        // ce of channels, Wasserstein Dice of one class.
        Err(Error::Unsuitable { .. } | Error::Problem(_)) => return false,
        Err(error) => panic!("{name}: {error}"),
    }
    true
}

/// Every loss, activation, kind of target and layout; four voxels at once, one, and a voxel shared by a team.
fn of_every_loss() -> Vec<Shader> {
    let mut shaders = Vec::new();
    let mut refused = 0;
    let mut turn = 0;
    for entry in ENTRIES {
        for activation in [Activation::Softmax, Activation::Sigmoid, Activation::None] {
            for target in [Target::Labels(DType::U8), Target::Dense(DType::F32)] {
                // Classes, voxels: a vector, a single voxel, a team of threads.
                for (classes, voxels) in [(3, 64), (3, 63), (150, 64)] {
                    for layout in [Layout::Planar, Layout::Interleaved] {
                        // A team does not ask for the layout where it shares out classes; each second is enough.
                        turn += 1;
                        if classes == 150 && turn / 2 % 2 != 0 {
                            continue;
                        }
                        let shape = Shape::new(2, classes, [voxels]).expect("a shape");
                        let problem = Problem::new(shape).prediction(DType::F32, activation).layout(layout);
                        // Without a map of the caller's, losses over distances read one that the plan makes.
                        let makes =
                            ["boundary", "distance_ce", "shape_aware_ce"].contains(&entry.name) && turn % 4 == 0;
                        let problem =
                            if makes { problem } else { problem.map([Map::Shared, Map::PerClass][turn / 2 % 2]) };
                        let problem = match target {
                            Target::Labels(dtype) => problem.labels(dtype).ignore_label(255),
                            Target::Dense(dtype) => problem.dense(dtype),
                        };
                        let problem = if turn % 3 == 0 { problem.mask() } else { problem };
                        let problem = if turn % 5 == 0 { problem.weights() } else { problem };
                        let problem = if turn % 2 == 0 { problem.hard_counts() } else { problem };
                        refused += usize::from(!push(&objective(entry.name), &problem, &mut shaders));
                    }
                }
            }
        }
    }
    assert!(refused * 10 < turn, "{refused} of {turn} are refused");
    shaders
}

/// Every type of the buffers, with every buffer there is.
fn of_every_type() -> Vec<Shader> {
    let labels = [DType::U8, DType::I16, DType::I32, DType::I64].map(Target::Labels);
    let dense = [DType::U8, DType::F32, DType::F16, DType::BF16].map(Target::Dense);
    let mut shaders = Vec::new();
    for spec in ["dice + bce", "focal"] {
        for prediction in [DType::F32, DType::F16, DType::BF16] {
            for gradient in [prediction, DType::F32] {
                for target in labels.into_iter().chain(dense) {
                    for (classes, voxels, layout) in [
                        (3, 64, Layout::Planar),
                        (3, 63, Layout::Planar),
                        (3, 64, Layout::Interleaved),
                        (1, 64, Layout::Planar),
                        (1, 63, Layout::Planar),
                        (150, 63, Layout::Planar),
                    ] {
                        let shape = Shape::new(2, classes, [voxels]).expect("a shape");
                        let activation = if classes == 1 { Activation::Sigmoid } else { Activation::Softmax };
                        let problem = Problem::new(shape).prediction(prediction, activation).gradient(gradient);
                        let problem = problem.layout(layout).mask().weights();
                        let problem = match target {
                            Target::Labels(dtype) => problem.labels(dtype).ignore_label(-1),
                            Target::Dense(dtype) => problem.dense(dtype),
                        };
                        assert!(push(&objective(spec), &problem, &mut shaders), "{spec}, {problem:?}");
                    }
                }
            }
        }
    }
    shaders
}

/// The kernels that know nothing of a plan.
fn plain() -> Vec<Shader> {
    let mut shaders = vec![Shader::plain("combine", COMBINE, &[], &[])];
    for registers in [32, 64, 128] {
        for bits in 0..8 {
            let flag = |bit: u8| f64::from(u8::from(bits & bit != 0));
            let overrides = [("WRITE_COEFFICIENTS", flag(1)), ("WRITE_RESULT", flag(2)), ("KNOWN_COUNTS", flag(4))];
            let name = format!("finish, {registers} registers, {overrides:?}");
            shaders.push(Shader::plain(&name, FINISH, &[("REGISTERS", registers)], &overrides));
        }
    }
    shaders
}

/// The kernels of distance maps.
fn of_distances() -> Vec<Shader> {
    let mut shaders = Vec::new();
    let mut push = |source: source::Source| {
        let text = source.text();
        let name = format!("distance {}", shaders.len());
        shaders.push(Shader { name, text, subgroups: false, f16: false, constants: vec![] });
    };
    for kernel in PLAIN_DISTANCE {
        push(source::distance(kernel, &[]));
    }
    for step in ["BEGIN", "JOIN", "GATHER"] {
        push(source::distance(DISTANCE_OBJECTS, &[step]));
        push(source::distance(DISTANCE_OBJECTS, &[step, "EXCLUSIVE"]));
    }
    push(source::distance(DISTANCE_NEAREST, &[]));
    push(source::distance(DISTANCE_NEAREST, &["SUMS"]));
    for flag in ["SIGNED", "CLOSENESS"] {
        push(source::distance(DISTANCE_DERIVE, &[flag]));
    }
    for text in [DISTANCE_ROWS, DISTANCE_LINES] {
        for kind in ["OUTSIDE", "INSIDE", "TWO_SIDED", "DIFFERENCE", "SIGNED", "SIGNED_SQUARED", "SQUARES"] {
            for flags in [&["SQUARED"][..], &["HALF"], &["SQUARED", "HALF"]] {
                push(source::distance(text, &[&[kind], flags].concat()));
            }
        }
    }
    for flags in [&["SQUARES", "CHANGES"][..], &["SQUARES", "LONG"], &["SQUARES", "LONG", "CHANGES"]] {
        for text in [DISTANCE_ROWS, DISTANCE_LINES, DISTANCE_ENDS, DISTANCE_CARRY] {
            push(source::distance(text, flags));
        }
    }
    for flags in [&["SQUARED", "SQUARES"][..], &["INSIDE"], &["INSIDE", "SQUARED", "HALF"]] {
        push(source::distance(DISTANCE_LINES, &[flags, &["CHANGES"]].concat()));
        for more in [&["CHANGES", "CHOSEN"][..], &["CHANGES", "CHOSEN", "LONG"]] {
            push(source::distance(DISTANCE_ROWS, &[flags, more].concat()));
        }
    }
    for (classes, interleaved, keep) in [(1, false, true), (3, false, false), (3, true, true)] {
        let sides = source::Sides {
            classes,
            labels: true,
            dtype: DType::U8,
            interleaved,
            ignore_label: Some(-1),
            rule: "",
            keep,
            counted_by: None,
        };
        for dtype in [DType::U8, DType::I16, DType::I32, DType::I64] {
            push(source::sides(&source::Sides { dtype, ..sides }, &[]));
        }
        for dtype in [DType::I32, DType::I64, DType::U8] {
            let sides = source::Sides { dtype, ..sides };
            push(source::sides(&source::Sides { keep: false, ..sides }, &["CHANGES"]));
            push(source::sides(&source::Sides { keep: false, ..sides }, &["CHOSEN"]));
            for flags in [&["INSIDE"][..], &["INSIDE", "SQUARED", "HALF"]] {
                push(source::of_classes(DISTANCE_SHARE, &sides, flags));
            }
        }
        for dtype in [DType::U8, DType::F32, DType::F16, DType::BF16] {
            let values = source::Sides { labels: false, dtype, rule: "ARGMAX", ..sides };
            push(source::of_classes(DISTANCE_LABELS, &values, &[]));
            for rule in ["ABOVE", "ARGMAX", "SOFTMAX_ABOVE", "SIGMOID_ABOVE_HALF"] {
                for counted_by in [None, Some(DType::I64)] {
                    push(source::sides(&source::Sides { labels: false, dtype, rule, counted_by, ..sides }, &[]));
                }
            }
        }
    }
    shaders
}

/// The kernels of eroded errors.
fn of_erosions() -> Vec<Shader> {
    let mut shaders = Vec::new();
    let mut push = |source: source::Source| {
        let text = source.text();
        let name = format!("erosion {}", shaders.len());
        shaders.push(Shader { name, text, subgroups: false, f16: false, constants: vec![] });
    };
    for first in [&["FIRST"][..], &[]] {
        push(source::distance(EROSION_SUMS, first));
        for (totals, kept) in [(&["TOTAL"][..], &["KEPT"][..]), (&["TOTAL"], &[]), (&[], &["KEPT"]), (&[], &[])] {
            push(source::distance(EROSION_SPREAD, &[first, totals, kept].concat()));
        }
    }
    for flags in [&["OVER"][..], &["LAST"], &[]] {
        push(source::distance(EROSION_BACKWARD, flags));
    }
    let targets = [DType::U8, DType::I16, DType::I32, DType::I64].map(Target::Labels);
    let dense = [DType::U8, DType::F32, DType::F16, DType::BF16].map(Target::Dense);
    for (classes, interleaved, rule) in [(1, false, "SIGMOID"), (3, false, "SOFTMAX"), (3, true, "PLAIN")] {
        for (dtype, keep) in [(DType::F32, true), (DType::F16, false), (DType::BF16, true)] {
            for target in targets.into_iter().chain(dense) {
                let counted_by = match target {
                    Target::Labels(dtype) => Some(dtype),
                    Target::Dense(_) => None,
                };
                let ignore_label = counted_by.map(|_| -1);
                let read =
                    source::Sides { classes, labels: false, dtype, interleaved, ignore_label, rule, keep, counted_by };
                push(source::errors(&read, target, keep));
            }
        }
    }
    shaders
}

/// Drops the texts that others have too.
fn distinct(shaders: Vec<Shader>) -> Vec<Shader> {
    let mut seen = HashSet::new();
    let key = |s: &Shader| (s.text.clone(), s.constants.iter().map(|c| c.1.to_bits()).collect::<Vec<_>>());
    shaders.into_iter().filter(|s| seen.insert(key(s))).collect()
}

/// Reads and validates a text, and writes it in every language; gives the words of its SPIR-V.
fn translated(shader: &Shader) -> Result<Vec<u32>, String> {
    let text = &shader.text;
    let module = naga::front::wgsl::parse_str(text).map_err(|e| e.emit_to_string(text))?;
    let mut capabilities = Capabilities::empty();
    capabilities.set(Capabilities::SUBGROUP, shader.subgroups);
    capabilities.set(Capabilities::SHADER_FLOAT16, shader.f16);
    let mut validator = Validator::new(ValidationFlags::all(), capabilities);
    validator.subgroup_stages(naga::valid::ShaderStages::COMPUTE);
    validator.subgroup_operations(naga::valid::SubgroupOperationSet::all());
    let info = validator.validate(&module).map_err(|e| e.emit_to_string(text))?;
    let constants = shader.constants.iter().map(|(name, value)| ((*name).into(), *value)).collect();
    let (module, info) = naga::back::pipeline_constants::process_overrides(&module, &info, None, &constants)
        .map_err(|e| format!("overrides: {e}"))?;

    // As wgpu asks for it of Vulkan 1.1.
    let options = spv::Options { lang_version: (1, 3), ..spv::Options::default() };
    let words = spv::write_vec(&module, &info, &options, None).map_err(|e| format!("SPIR-V: {e}"))?;
    let options = msl::Options { lang_version: (2, 4), ..msl::Options::default() };
    msl::write_string(&module, &info, &options, &msl::PipelineOptions::default()).map_err(|e| format!("MSL: {e}"))?;
    let shader_model = match (shader.subgroups, shader.f16) {
        (_, true) => hlsl::ShaderModel::V6_2,
        (true, _) => hlsl::ShaderModel::V6_0,
        _ => hlsl::ShaderModel::V5_1,
    };
    let options = hlsl::Options { shader_model, ..hlsl::Options::default() };
    let (mut out, pipeline) = (String::new(), hlsl::PipelineOptions::default());
    let mut writer = hlsl::Writer::new(&mut out, &options, &pipeline);
    writer.write(&module, &info, None).map_err(|e| format!("HLSL: {e}"))?;
    Ok(words)
}

/// Whether a tool answers.
fn has(tool: &str) -> bool {
    Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}

/// Runs a tool on bytes; its complaint, if it has one.
fn complaint(tool: &str, arguments: &[&str], input: &[u8]) -> Option<String> {
    let mut child = Command::new(tool)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the tool was found");
    child.stdin.take().expect("it is piped").write_all(input).expect("the tool reads its input");
    let out = child.wait_with_output().expect("the tool ends");
    (!out.status.success()).then(|| String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned())
}

/// Every shader through every writer, each `sample`-th through `spirv-val`; as many threads as there are cores.
fn check(shaders: Vec<Shader>, sample: usize) {
    let validator = has("spirv-val");
    assert!(validator || !super::in_ci(), "spirv-val is missing; .ci/run installs spirv-tools");
    let all = shaders.len();
    let queue = Mutex::new(shaders.into_iter().enumerate().collect::<VecDeque<_>>());
    let (failures, validated) = (Mutex::new(Vec::new()), Mutex::new(0));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let Some((number, shader)) = queue.lock().expect("no panic").pop_front() else { return };
                    let failed = match translated(&shader) {
                        Ok(words) if validator && number % sample == 0 => {
                            *validated.lock().expect("no panic") += 1;
                            complaint("spirv-val", &["--target-env", "vulkan1.1", "-"], bytemuck::cast_slice(&words))
                        }
                        Ok(_) => None,
                        Err(error) => Some(error),
                    };
                    if let Some(error) = failed {
                        failures.lock().expect("no panic").push(format!("{}:\n{error}", shader.name));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no panic");
    let validated = validated.into_inner().expect("no panic");
    println!("{all} texts, {validated} of them through spirv-val");
    assert!(
        failures.is_empty(),
        "{} of {all} texts:\n{}",
        failures.len(),
        failures[..failures.len().min(3)].join("\n")
    );
}

#[test]
fn of_every_loss_are_valid() {
    let shaders = distinct(of_every_loss());
    assert!(shaders.len() > 3000, "{} texts", shaders.len());
    check(shaders, 25);
}

#[test]
fn of_every_type_are_valid() {
    let shaders = distinct(of_every_type());
    assert!(shaders.len() > 1000, "{} texts", shaders.len());
    check(shaders, 25);
}

#[test]
fn of_no_plan_are_valid() {
    check(plain(), 1);
}

#[test]
fn of_distances_are_valid() {
    check(distinct(of_distances()), 1);
    check(distinct(of_erosions()), 1);
}

/// The compiler of WebGPU in Chromium takes the texts too; it knows rules that naga does not, of uniform control flow above
/// all. `cargo xtask test` runs this where it finds the tool; no package of Debian has it.
#[test]
#[ignore = "needs tint"]
fn tint_takes_the_shaders() {
    assert!(has_tint(), "tint is not installed");
    let mut shaders = distinct(of_every_loss());
    shaders.extend(distinct(of_every_type()));
    let shaders: Vec<Shader> = shaders
        .into_iter()
        .step_by(41)
        .chain(plain())
        .chain(distinct(of_distances()))
        .chain(distinct(of_erosions()))
        .collect();
    let mut failures = Vec::new();
    for shader in &shaders {
        let file = std::env::temp_dir().join(format!("segfuse-tint-{}.wgsl", std::process::id()));
        // Tint wants to be told; naga, which knows subgroups without, refuses the line.
        let enable = if shader.subgroups { "enable subgroups;\n" } else { "" };
        std::fs::write(&file, format!("{enable}{}", shader.text)).expect("a file can be written");
        let out = Command::new("tint").args(["--format", "wgsl"]).arg(&file).output().expect("tint was found");
        std::fs::remove_file(&file).expect("it was written");
        if !out.status.success() {
            failures.push(format!("{}:\n{}", shader.name, String::from_utf8_lossy(&out.stderr)));
        }
    }
    println!("{} texts", shaders.len());
    assert!(
        failures.is_empty(),
        "{} of {}:\n{}",
        failures.len(),
        shaders.len(),
        failures[..failures.len().min(3)].join("\n")
    );
}

fn has_tint() -> bool {
    Command::new("tint").arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// Offset and name of every member of a struct of a text, and its size.
fn layout(text: &str, name: &str) -> (Vec<(String, u32)>, u32) {
    let module = naga::front::wgsl::parse_str(text).unwrap_or_else(|e| panic!("{}", e.emit_to_string(text)));
    let mut found = module.types.iter().filter(|(_, ty)| ty.name.as_deref() == Some(name));
    let (_, ty) = found.next().unwrap_or_else(|| panic!("no struct {name}"));
    let naga::TypeInner::Struct { members, span } = &ty.inner else { panic!("{name} is no struct") };
    (members.iter().map(|m| (m.name.clone().expect("members have names"), m.offset)).collect(), *span)
}

/// Offsets of the fields of a Rust struct.
macro_rules! fields {
    ($struct:ident { $($field:ident),* $(,)? }) => {{
        // Every field is named: one that is not would not compile.
        let _ = |all: $struct| { let $struct { $($field: _),* } = all; };
        (vec![$((stringify!($field).to_string(), offset_of!($struct, $field) as u32)),*], size_of::<$struct>() as u32)
    }};
}

/// The uniforms are the same on both sides.
#[test]
fn uniforms_have_the_layout_of_the_host() {
    let problem = Problem::new(Shape::new(1, 2, [4]).expect("a shape"));
    let plan = Plan::new(&objective("dice"), &problem).expect("a plan");
    let mut shaders = Vec::new();
    shaders_of("dice", &plan, &mut shaders);
    let window = fields!(WindowParams {
        voxels,
        plane,
        first_sample,
        rounds,
        runs,
        rows,
        first_row,
        rows_at,
        coefficients_at,
        prediction_base,
        target_base,
        mask_base,
        weights_base,
        map_base,
        gradient_base,
        made_base,
        zero,
    });
    for shader in &shaders {
        assert_eq!(layout(&shader.text, "Window"), window, "{}", shader.name);
    }
    let piece = fields!(PieceParams {
        voxels,
        width,
        pitch,
        rows,
        planes,
        maps,
        extent,
        stride,
        step_squared,
        from_base,
        from_sample,
        to_base,
        to_sample,
        from_map,
        from_voxel,
        to_map,
        to_voxel,
        first_word,
        source_base,
        keep_base,
        truths_base,
        threshold,
        first_class,
        bit_sets,
        bit_set,
        per_step,
        slack,
        lines,
        farthest,
        reach,
        factor,
        cross,
        parts,
        part_voxels,
        weights_base,
        grid,
    });
    for shader in of_distances().into_iter().chain(of_erosions()) {
        assert_eq!(layout(&shader.text, "Piece"), piece, "{}", shader.name);
    }
    let combine =
        fields!(CombineParams { partials_at, partials, row, moments_at, first_slot, first_sample, samples, unused });
    assert_eq!(layout(&source::plain(COMBINE, &[]).text(), "CombineParams"), combine);
}
