//! Windows, rows and threads of shapes from one voxel to far beyond 2³² elements; nothing is run.

use crate::plan::{Head, Plan};
use crate::role::{Role, roles};
use crate::wgpu::geometry::{Geometry, Limits, Window, WindowPlaces, whole_words};
use crate::wgpu::source::{self, Kernel, Options};
use crate::{Activation, DType, Error, Layout, Map, Problem, Shape, Target};

/// WebGPU's default limits.
const DEFAULT: Limits = Limits { binding: 128 << 20, alignment: 256, workgroups: 65_535 };
/// What a desktop GPU allows.
const LARGE: Limits = Limits { binding: (4 << 30) - 4, alignment: 32, workgroups: 65_535 };
const PLACES: WindowPlaces = WindowPlaces { rows_at: 0, coefficients_at: 0 };

fn plan(problem: &Problem) -> Plan {
    Plan::new(&"dice + bce".parse().expect("a spec"), problem).expect("a plan")
}

fn windows(problem: &Problem, limits: &Limits) -> Result<Vec<Window>, Error> {
    let plan = plan(problem);
    Geometry::new(&plan.heads()[0], limits).windows(&plan.heads()[0], limits, &PLACES)
}

/// Every voxel is in one window, every binding within its buffer and the limits, every row written once.
fn check(problem: &Problem, limits: &Limits) -> Vec<Window> {
    let plan = plan(problem);
    let head: &Head = &plan.heads()[0];
    let shape = problem.shape();
    let geometry = Geometry::new(head, limits);
    let windows = geometry.windows(head, limits, &PLACES).expect("it fits");
    let (mut covered, mut rows) = (0, 0);
    for window in &windows {
        let [x, y] = window.grid.map(u64::from);
        assert!(x >= 1 && y >= 1 && x <= limits.workgroups && y <= limits.workgroups, "{window:?}");
        covered += y * u64::from(window.params.voxels);
        rows += x * y;
        assert!(u64::from(window.params.first_row) + x <= geometry.rows, "{window:?}");
        assert!(u64::from(window.params.first_sample) + y <= shape.samples() as u64, "{window:?}");
        // The rounds of all rows of the window reach its last voxel, and not a whole row more.
        let per_row = u64::from(window.params.runs) * u64::from(window.params.rounds) * 256 / u64::from(geometry.team)
            * if geometry.vector { 4 } else { 1 };
        assert_eq!(x, u64::from(window.params.voxels).div_ceil(per_row), "{window:?}");
        assert!((1..=64).contains(&window.params.rounds), "{window:?}");
        for (span, role) in window.spans.iter().zip(roles(problem)) {
            assert_eq!(span.role, role);
            assert!(span.size <= limits.binding, "{span:?}");
            if window.staging.is_none() {
                assert!(span.offset.is_multiple_of(limits.alignment), "{span:?}");
                let bytes = whole_words(span.role, problem);
                assert!(span.offset + span.size <= bytes, "{span:?} of {bytes}");
            } else {
                // 16 MiB, or what one row takes.
                let most = (16 << 20).max(per_row * shape.classes() as u64 * 4);
                assert!(span.size <= most || !role.is_per_class(problem), "{span:?}");
            }
        }
    }
    assert_eq!(covered, shape.all_voxels());
    assert_eq!(rows, geometry.rows * shape.samples() as u64);
    let row_bytes = geometry.rows * u64::from(geometry.row) * 8 * shape.samples() as u64;
    let least = geometry.rows == 1 || windows.len() > shape.samples();
    assert!(row_bytes <= 2 << 20 || least, "{row_bytes} bytes of rows");
    windows
}

fn problem(samples: usize, classes: usize, spatial: &[usize]) -> Problem {
    Problem::new(Shape::new(samples, classes, spatial).expect("a shape"))
        .prediction(DType::F32, Activation::Sigmoid)
        .dense(DType::U8)
        .mask()
        .weights()
        .map(Map::PerClass)
}

#[test]
fn sizes_round_the_edges() {
    for limits in [DEFAULT, LARGE] {
        for classes in [1, 2, 3, 4, 5, 14, 19, 33, 150, 256, 4096] {
            for voxels in [1, 2, 3, 4, 5, 255, 256, 257, 1023, 1024, 1025, 8191, 8192, 8193, 65_536, 1 << 20] {
                for samples in [1, 2, 3] {
                    let planar = problem(samples, classes, &[voxels]);
                    if voxels * classes <= 1 << 22 {
                        assert_eq!(check(&planar, &limits).len(), 1, "{samples} {classes} {voxels}");
                    }
                    check(&planar.clone().layout(Layout::Interleaved), &limits);
                }
            }
        }
    }
}

/// Beyond 2³¹ bytes and 2³² elements: in windows of samples, of voxels, and of gathered planes.
#[test]
fn beyond_32_bits() {
    for limits in [DEFAULT, LARGE] {
        // One class is a range of voxels in either layout.
        let one = check(&problem(1, 1, &[1 << 33]), &limits);
        assert!(one.len() > 1 && one.iter().all(|w| w.staging.is_none()));
        check(&problem(3, 1, &[(1 << 31) + 5]), &limits);
        check(&problem(1, 14, &[1 << 31]).layout(Layout::Interleaved), &limits);
        let planes = check(&problem(2, 14, &[2048, 1024, 1024]), &limits);
        assert!(planes.iter().all(|w| w.staging.is_some()));
        check(&problem(4096, 4, &[96, 96, 96]), &limits);
    }
    // The whole of a common volume is one window on a desktop GPU, and gathered under the default limits.
    let common = problem(2, 14, &[128, 128, 128]);
    assert_eq!(check(&common, &LARGE).len(), 1);
    assert_eq!(check(&common, &DEFAULT).len(), 2);
}

/// More samples than a grid has rows are several windows.
#[test]
fn folded_grids() {
    let many = check(&problem(200_000, 1, &[4]), &DEFAULT);
    assert_eq!(many.len(), 4);
}

/// The copies that gather planes take each element of a range once and leave no gap that is read.
#[test]
fn gathered_planes() {
    let problem = problem(2, 3, &[40, 1024, 1024]);
    let (classes, voxels) = (3, 40 << 20);
    let mut taken = 0;
    for window in windows(&problem, &DEFAULT).expect("it fits") {
        let staging = window.staging.expect("160 MiB a plane are beyond 128 MiB");
        let sample = u64::from(window.params.first_sample);
        for (class, [from, to, bytes]) in staging.copies(4).enumerate() {
            let plane = (sample * classes + class as u64) * voxels * 4;
            assert!(from >= plane && from + bytes <= plane + voxels * 4);
            assert_eq!(bytes, u64::from(window.params.voxels) * 4);
            assert_eq!(to, class as u64 * u64::from(window.params.plane) * 4);
            assert!(to + bytes <= staging.bytes(4));
            taken += bytes;
        }
    }
    assert_eq!(taken, 2 * classes * voxels * 4);
}

/// Where many threads share a voxel a row may have an odd number of voxels; what is copied is of whole words all the same.
#[test]
fn gathered_planes_are_whole_words() {
    let wide = |classes, voxels| Problem::new(Shape::new(1, classes, [voxels]).expect("a shape"));
    let half = |classes, voxels| wide(classes, voxels).prediction(DType::F16, Activation::Softmax);
    for problem in [wide(2048, 32_772).dense(DType::U8), half(4096, 16_472), half(2049, 32_770)] {
        let plan = Plan::new(&"dice".parse().expect("a spec"), &problem).expect("a plan");
        let head = &plan.heads()[0];
        let windows = Geometry::new(head, &DEFAULT).windows(head, &DEFAULT, &PLACES).expect("it fits");
        assert!(windows.len() > 1);
        for window in windows {
            let staging = window.staging.expect("the planes are beyond a binding");
            for role in roles(&problem).into_iter().filter(|role| role.is_per_class(&problem)) {
                for copy in staging.copies(role.dtype(&problem).size()) {
                    assert!(copy.iter().all(|bytes| bytes.is_multiple_of(4)), "{copy:?} of {role:?}");
                }
            }
        }
    }
}

#[test]
fn limits_are_typed_errors() {
    let tiny = Limits { binding: 4096, ..DEFAULT };
    let error = windows(&problem(1, 64, &[1 << 16]), &tiny).expect_err("a row is larger");
    assert!(matches!(error, Error::DeviceLimit { got: 4096, .. }), "{error}");
    // Half-precision planes of odd size begin inside of words.
    let odd = Problem::new(Shape::new(1, 3, [(64 << 20) + 1]).expect("a shape"))
        .prediction(DType::F16, Activation::Softmax)
        .labels(DType::U8);
    let plan = Plan::new(&"dice".parse().expect("a spec"), &odd).expect("a plan");
    let head = &plan.heads()[0];
    let error = Geometry::new(head, &DEFAULT).windows(head, &DEFAULT, &PLACES).expect_err("not whole words");
    assert!(matches!(error, Error::Problem(_)), "{error}");
}

/// The bytes of all windows are those that the plan explains, and a kernel has one place that reads each buffer and one
/// that writes: once per slot, where slots are written out.
#[test]
fn each_buffer_is_read_once_in_a_pass() {
    let labels = |classes: usize, activation| {
        let shape = Shape::new(2, classes, [40, 32]).expect("a shape");
        Problem::new(shape).prediction(DType::F32, activation).map(Map::Shared)
    };
    let dense =
        |classes: usize| labels(classes, Activation::Sigmoid).dense(DType::U8).mask().weights().map(Map::PerClass);
    for (spec, problem) in [
        ("dice + ce", labels(4, Activation::Softmax)),
        ("distance_ce + dice", labels(40, Activation::Softmax)),
        ("distance_ce", labels(3, Activation::Softmax).layout(Layout::Interleaved)),
        ("dice + bce", dense(1)),
        ("boundary + focal + dice", dense(5)),
        ("boundary + focal", dense(300)),
    ] {
        let plan = Plan::new(&spec.parse().expect("a spec"), &problem).expect("a plan");
        let head = &plan.heads()[0];
        let geometry = Geometry::new(head, &DEFAULT);
        let mut bytes = 0;
        for window in geometry.windows(head, &DEFAULT, &PLACES).expect("it fits") {
            let voxels = u64::from(window.params.voxels) * u64::from(window.grid[1]);
            for role in roles(&problem).into_iter().filter(|&role| role != Role::Gradient) {
                let classes = if role.is_per_class(&problem) { problem.shape().classes() as u64 } else { 1 };
                bytes += voxels * classes * role.dtype(&problem).size();
            }
        }
        let explained = plan.explain();
        let stages = explained.heads[0].stages.iter();
        for stage in stages.filter(|stage| ["reduce", "gradient", "one_pass"].contains(&stage.name)) {
            assert_eq!(stage.bytes_read, bytes, "{spec}: {}", stage.name);
        }

        let slots = if geometry.slots <= 16 { geometry.slots as usize } else { 1 };
        for kernel in [Kernel::Reduce, Kernel::Gradient, Kernel::OnePass] {
            for in_place in [false, true] {
                let options = Options { kernel, in_place, subgroups: false, f16: false };
                let text = source::voxels(head, &geometry, options).expect("a kernel").text();
                let calls = |name: &str| text.matches(&format!("{name}(")).count();
                // The definition is one more.
                let per_class = |name: &str, wanted: bool| {
                    assert_eq!(calls(name), if wanted { 1 + slots } else { 0 }, "{spec}, {kernel:?}: {name}");
                };
                let per_voxel = |name: &str, wanted: bool| {
                    assert_eq!(calls(name), if wanted { 2 } else { 0 }, "{spec}, {kernel:?}: {name}");
                };
                let is_dense = matches!(problem.target(), Target::Dense(_));
                per_class("load_prediction", true);
                per_class("load_dense", is_dense);
                per_voxel("load_labels", !is_dense);
                per_voxel("load_keep", is_dense);
                per_voxel("load_weights", is_dense);
                if is_dense {
                    per_class("load_map", true)
                } else {
                    per_voxel("load_map", true)
                }
                per_voxel("store_gradient", kernel != Kernel::Reduce);
                per_class("write_gradient", kernel != Kernel::Reduce);
            }
        }
    }
}
