//! What the integration tests share: vectors, references, comparisons.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test crate uses its part; it is no public interface")]

#[cfg(feature = "cpu")]
pub mod against_cpu;
#[cfg(feature = "cpu")]
pub mod distances;
pub mod random;

use half::{bf16, f16};
use segfuse::{
    Activation, DType, Evaluation, Inputs, Layout, Map, Objective, Plan, Problem, Reduction, Shape, Slice, SliceMut,
    Target, exact,
};
use segfuse_reference as reference;
use std::collections::BTreeMap;

/// |loss − truth| ≤ 1e-6·|truth| + 1e-7: a sum of rounded single-precision values, divided by sums of like error.
pub const LOSS_RELATIVE: f64 = 1e-6;
/// See [`LOSS_RELATIVE`].
pub const LOSS_ABSOLUTE: f64 = 1e-7;
/// |gradient − truth| ≤ 1e-5·max|truth| + 1e-8: p(1−p) and softmax cancel in single precision.
pub const GRADIENT_RELATIVE: f64 = 1e-5;
/// See [`GRADIENT_RELATIVE`]: where the true gradient is 0 or nearly so because its parts cancel (a map shared by all
/// classes of a softmax, a perfect prediction), what is left is the rounding of the parts, which are about 1/voxels.
pub const GRADIENT_ABSOLUTE: f64 = 1e-8;

/// A device that the tests run on.
#[cfg(any(feature = "cpu", feature = "cuda", feature = "wgpu"))]
pub struct Bench {
    pub runtime: segfuse::Runtime,
    /// Every new objective makes pipelines, which take a device longer than the test: such a device gets fewer cases.
    compiles: bool,
    /// Compiling takes seconds and not milliseconds, as it does on a software renderer.
    slowly: bool,
}

#[cfg(any(feature = "cpu", feature = "cuda", feature = "wgpu"))]
impl Bench {
    /// How many random cases: `cpu` on the CPU, `compiled` on a device that compiles; `SEGFUSE_TEST_CASES` of either.
    pub fn cases(&self, cpu: u32, compiled: u32) -> u32 {
        match variable("SEGFUSE_TEST_CASES") {
            Some(count) => count.parse().unwrap_or_else(|e| panic!("SEGFUSE_TEST_CASES={count}: {e}")),
            None if self.compiles => compiled,
            None => cpu,
        }
    }
    /// Whether this is the CPU backend.
    pub fn is_cpu(&self) -> bool {
        !self.compiles
    }
    /// Each how many-th of a long list is taken: all of them with `SEGFUSE_TEST_FULL`, or where nothing is compiled slowly.
    pub fn every(&self, compiled: usize) -> usize {
        if self.slowly && variable("SEGFUSE_TEST_FULL").is_none() { compiled } else { 1 }
    }
}

/// The CPU backend.
#[cfg(feature = "cpu")]
pub fn cpu() -> &'static Bench {
    static BENCH: std::sync::OnceLock<Bench> = std::sync::OnceLock::new();
    BENCH.get_or_init(|| Bench {
        runtime: segfuse::Runtime::on("cpu").expect("it is in this build"),
        compiles: false,
        slowly: false,
    })
}

/// A device of CUDA; `None`, said aloud, where there is none.
#[cfg(feature = "cuda")]
pub fn cuda() -> Option<&'static Bench> {
    static BENCH: std::sync::OnceLock<Option<Bench>> = std::sync::OnceLock::new();
    let bench = BENCH.get_or_init(|| {
        cuda_device().map(|device| Bench {
            runtime: segfuse::Runtime::with_cuda(device.clone()),
            compiles: true,
            slowly: false,
        })
    });
    bench.as_ref()
}

/// The device of the tests of CUDA: that of the software driver, or with `SEGFUSE_TEST_DRIVER=system` the one of the system's
/// driver that `SEGFUSE_TEST_DEVICE` names (`cuda:` and its number, else the first). `None` where the software driver cannot be
/// loaded, which in CI is a failure.
#[cfg(feature = "cuda")]
pub fn cuda_device() -> Option<&'static segfuse::cuda::Device> {
    static DEVICE: std::sync::OnceLock<Option<segfuse::cuda::Device>> = std::sync::OnceLock::new();
    let open = || {
        if let Err(error) = softcuda::install() {
            println!("{error}");
            return None;
        }
        let name = variable("SEGFUSE_TEST_DEVICE").unwrap_or_default();
        let number = name.strip_prefix("cuda:").and_then(|number| number.parse().ok()).unwrap_or(0);
        let device = segfuse::cuda::Device::new(number).unwrap_or_else(|e| panic!("{e}"));
        println!("{}", device.description());
        Some(device)
    };
    let device = DEVICE.get_or_init(open).as_ref();
    if device.is_none() {
        or_fail("there is no software CUDA driver");
    }
    device
}

/// Fails where the software driver found a fault in what this thread launched.
#[cfg(feature = "cuda")]
pub fn assert_no_faults() {
    if let Ok(Some(driver)) = softcuda::install() {
        driver.assert_no_reports();
    }
}

/// Says that a test is left out, which in CI is a failure.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
fn or_fail(why: &str) {
    let ci = ["CI", "SEGFUSE_CI"].into_iter().find(|name| variable(name).is_some());
    assert!(ci.is_none(), "{} is set, and {why}", ci.unwrap_or_default());
    println!("skipped: {why}");
}

/// A device of wgpu; `None`, said aloud, where there is no adapter.
#[cfg(feature = "wgpu")]
pub fn wgpu() -> Option<&'static Bench> {
    static BENCH: std::sync::OnceLock<Option<Bench>> = std::sync::OnceLock::new();
    let bench = BENCH.get_or_init(|| {
        wgpu_device().map(|device| Bench {
            runtime: segfuse::Runtime::with_wgpu(device.clone()),
            compiles: true,
            slowly: true,
        })
    });
    bench.as_ref()
}

/// The device of the tests of wgpu: the adapter that `SEGFUSE_TEST_DEVICE` names (`wgpu`, or `wgpu:` and its number), or the
/// first, a software renderer too. `None` where there is no adapter, which in CI is a failure.
#[cfg(feature = "wgpu")]
pub fn wgpu_device() -> Option<&'static segfuse::wgpu::Device> {
    static DEVICE: std::sync::OnceLock<Option<segfuse::wgpu::Device>> = std::sync::OnceLock::new();
    let open = || {
        // The tests of CUDA read the same variable.
        let device = match variable("SEGFUSE_TEST_DEVICE").filter(|name| !name.starts_with("cuda")) {
            None if segfuse::wgpu::Device::adapters().is_empty() => return None,
            None => segfuse::wgpu::Device::open(0),
            Some(name) if name == "wgpu" => segfuse::wgpu::Device::new(),
            Some(name) => match name.strip_prefix("wgpu:").and_then(|number| number.parse().ok()) {
                Some(number) => segfuse::wgpu::Device::open(number),
                None => panic!("SEGFUSE_TEST_DEVICE={name} is not `wgpu` or `wgpu:` and a number"),
            },
        };
        let device = device.unwrap_or_else(|e| panic!("{e}"));
        println!("{}", device.description());
        Some(device)
    };
    let device = DEVICE.get_or_init(open).as_ref();
    if device.is_none() {
        or_fail("there is no adapter");
    }
    device
}

/// The folder of the package; a bundle of tests says at run time where its own is.
pub fn package() -> std::path::PathBuf {
    variable("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), Into::into)
}

/// An environment variable that is set and not empty.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// One body per case, run on every backend that is there: for each function `name(bench: &Bench)` the tests `cpu::name`,
/// `cuda::name` and `wgpu::name`.
#[macro_export]
macro_rules! on_each_device {
    ($($name:ident),* $(,)?) => {
        #[cfg(feature = "cpu")]
        mod cpu {
            $(#[test]
            fn $name() {
                super::$name($crate::common::cpu());
            })*
        }
        #[cfg(feature = "cuda")]
        mod cuda {
            $(#[test]
            fn $name() {
                if let Some(bench) = $crate::common::cuda() {
                    super::$name(bench);
                    $crate::common::assert_no_faults();
                }
            })*
        }
        #[cfg(feature = "wgpu")]
        mod wgpu {
            $(#[test]
            fn $name() {
                if let Some(bench) = $crate::common::wgpu() {
                    super::$name(bench);
                }
            })*
        }
    };
}

/// A buffer of any element type.
#[derive(Clone, Debug)]
pub enum Data {
    F32(Vec<f32>),
    F16(Vec<f16>),
    BF16(Vec<bf16>),
    U8(Vec<u8>),
    I16(Vec<i16>),
    I32(Vec<i32>),
    I64(Vec<i64>),
}

impl Data {
    /// `values` rounded to `dtype`.
    pub fn of(dtype: DType, values: &[f64]) -> Data {
        let v = values.iter().copied();
        match dtype {
            DType::F32 => Data::F32(v.map(|x| x as f32).collect()),
            DType::F16 => Data::F16(v.map(f16::from_f64).collect()),
            DType::BF16 => Data::BF16(v.map(bf16::from_f64).collect()),
            DType::U8 => Data::U8(v.map(|x| x as u8).collect()),
            DType::I16 => Data::I16(v.map(|x| x as i16).collect()),
            DType::I32 => Data::I32(v.map(|x| x as i32).collect()),
            DType::I64 => Data::I64(v.map(|x| x as i64).collect()),
        }
    }
    pub fn slice_mut(&mut self) -> SliceMut<'_> {
        match self {
            Data::F32(v) => v.into(),
            Data::F16(v) => v.into(),
            Data::BF16(v) => v.into(),
            Data::U8(v) => v.into(),
            Data::I16(v) => v.into(),
            Data::I32(v) => v.into(),
            Data::I64(v) => v.into(),
        }
    }
    pub fn slice(&self) -> Slice<'_> {
        match self {
            Data::F32(v) => v.into(),
            Data::F16(v) => v.into(),
            Data::BF16(v) => v.into(),
            Data::U8(v) => v.into(),
            Data::I16(v) => v.into(),
            Data::I32(v) => v.into(),
            Data::I64(v) => v.into(),
        }
    }
    /// The bytes as they lie in memory.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Data::F32(v) => bytemuck::cast_slice(v),
            Data::F16(v) => bytemuck::cast_slice(v),
            Data::BF16(v) => bytemuck::cast_slice(v),
            Data::U8(v) => v,
            Data::I16(v) => bytemuck::cast_slice(v),
            Data::I32(v) => bytemuck::cast_slice(v),
            Data::I64(v) => bytemuck::cast_slice(v),
        }
    }
    /// The values as they are after rounding.
    pub fn values(&self) -> Vec<f64> {
        match self {
            Data::F32(v) => v.iter().map(|&x| x.into()).collect(),
            Data::F16(v) => v.iter().map(|&x| x.into()).collect(),
            Data::BF16(v) => v.iter().map(|&x| x.into()).collect(),
            Data::U8(v) => v.iter().map(|&x| x.into()).collect(),
            Data::I16(v) => v.iter().map(|&x| x.into()).collect(),
            Data::I32(v) => v.iter().map(|&x| x.into()).collect(),
            Data::I64(v) => v.iter().map(|&x| x as f64).collect(),
        }
    }
}

/// `[N, C, V]` to `[N, V, C]`.
pub fn interleave(values: &[f64], samples: usize, classes: usize) -> Vec<f64> {
    let voxels = values.len() / samples / classes;
    let mut out = Vec::with_capacity(values.len());
    for n in 0..samples {
        for i in 0..voxels {
            out.extend((0..classes).map(|c| values[(n * classes + c) * voxels + i]));
        }
    }
    out
}

/// `[N, V, C]` to `[N, C, V]`.
pub fn deinterleave(values: &[f64], samples: usize, classes: usize) -> Vec<f64> {
    let voxels = values.len() / samples / classes;
    let mut out = Vec::with_capacity(values.len());
    for n in 0..samples {
        for c in 0..classes {
            out.extend((0..voxels).map(|i| values[(n * voxels + i) * classes + c]));
        }
    }
    out
}

/// A problem with its data, in planar f64, and how the library is to see it.
#[derive(Clone, Debug)]
pub struct Case {
    pub objective: Objective,
    pub problem: Problem,
    /// `[N, C, V]`, already rounded to the problem's type.
    pub prediction: Vec<f64>,
    /// Labels `[N, V]` or values `[N, C, V]`.
    pub target: Vec<f64>,
    pub mask: Option<Vec<u8>>,
    pub weights: Option<Vec<f32>>,
    /// `[N, V]` or `[N, C, V]`.
    pub map: Option<Vec<f64>>,
    pub layout: Layout,
    pub dtype: DType,
    pub activation: Activation,
    pub target_kind: Target,
    pub map_kind: Option<Map>,
    pub ignore_label: Option<i64>,
    pub class_weights: Option<Vec<f64>>,
    pub reduction: Reduction,
}

/// What a case gave.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub losses: Vec<f64>,
    /// `[N, C, V]`
    pub gradient: Vec<f64>,
    pub valid_voxels: u64,
    pub invalid_labels: u64,
    pub hard_counts: Option<Vec<[u64; 3]>>,
}

/// The buffers of a case as the library takes them.
#[derive(Clone, Debug)]
pub struct Host<'a> {
    pub prediction: Data,
    pub target: Data,
    pub map: Option<Vec<f32>>,
    pub mask: Option<&'a [u8]>,
    pub weights: Option<&'a [f32]>,
}

impl Host<'_> {
    pub fn inputs(&self) -> Inputs<'_> {
        let mut inputs = Inputs::new(self.prediction.slice(), self.target.slice());
        if let Some(mask) = self.mask {
            inputs = inputs.mask(mask);
        }
        if let Some(weights) = self.weights {
            inputs = inputs.weights(weights);
        }
        if let Some(map) = &self.map {
            inputs = inputs.map(map);
        }
        inputs
    }
}

/// Settings of a case from which its problem is built.
#[derive(Clone, Debug)]
pub struct Settings {
    pub shape: Vec<usize>,
    pub dtype: DType,
    pub activation: Activation,
    pub layout: Layout,
    pub target: Target,
    pub ignore_label: Option<i64>,
    pub class_weights: Option<Vec<f64>>,
    pub reduction: Reduction,
    pub gradient: DType,
}

impl Settings {
    /// Planar predictions of f32 and labels of u8, of which all count.
    pub fn of_labels(shape: &[usize], activation: Activation) -> Settings {
        Settings {
            shape: shape.to_vec(),
            dtype: DType::F32,
            activation,
            layout: Layout::Planar,
            target: Target::Labels(DType::U8),
            ignore_label: None,
            class_weights: None,
            reduction: Reduction::Mean,
            gradient: DType::F32,
        }
    }
}

impl Case {
    pub fn new(
        objective: Objective,
        s: &Settings,
        prediction: Vec<f64>,
        target: Vec<f64>,
        mask: Option<Vec<u8>>,
        weights: Option<Vec<f32>>,
        map: Option<(Map, Vec<f64>)>,
    ) -> Case {
        let shape = Shape::new(s.shape[0], s.shape[1], &s.shape[2..]).expect("the shape of a case is valid");
        let mut problem = Problem::new(shape)
            .prediction(s.dtype, s.activation)
            .gradient(s.gradient)
            .layout(s.layout)
            .reduction(s.reduction)
            .hard_counts();
        problem = match s.target {
            Target::Labels(dtype) => problem.labels(dtype),
            Target::Dense(dtype) => problem.dense(dtype),
        };
        if let Some(label) = s.ignore_label {
            problem = problem.ignore_label(label);
        }
        if let Some(weights) = &s.class_weights {
            problem = problem.class_weights(weights.clone());
        }
        if mask.is_some() {
            problem = problem.mask();
        }
        if weights.is_some() {
            problem = problem.weights();
        }
        if let Some((kind, _)) = &map {
            problem = problem.map(*kind);
        }
        let prediction = Data::of(s.dtype, &prediction).values();
        let target = match s.target {
            Target::Labels(_) => target,
            Target::Dense(dtype) => Data::of(dtype, &target).values(),
        };
        Case {
            objective,
            problem,
            prediction,
            target,
            mask,
            weights,
            map_kind: map.as_ref().map(|m| m.0),
            map: map.map(|m| m.1),
            layout: s.layout,
            dtype: s.dtype,
            activation: s.activation,
            target_kind: s.target,
            ignore_label: s.ignore_label,
            class_weights: s.class_weights.clone(),
            reduction: s.reduction,
        }
    }

    fn sizes(&self) -> (usize, usize, usize) {
        let shape = self.problem.shape();
        (shape.samples(), shape.classes(), shape.voxels() as usize)
    }

    fn in_layout(&self, values: &[f64]) -> Vec<f64> {
        let (n, c, _) = self.sizes();
        if self.layout == Layout::Planar { values.to_vec() } else { interleave(values, n, c) }
    }

    /// The buffers as the library takes them: prediction, target, map.
    pub fn buffers(&self) -> (Data, Data, Option<Vec<f32>>) {
        let target = match self.target_kind {
            Target::Labels(dtype) => Data::of(dtype, &self.target),
            Target::Dense(dtype) => Data::of(dtype, &self.in_layout(&self.target)),
        };
        let map = self.map.as_ref().map(|map| {
            let map = if self.map_kind == Some(Map::PerClass) { self.in_layout(map) } else { map.clone() };
            map.iter().map(|&x| x as f32).collect()
        });
        (Data::of(self.dtype, &self.in_layout(&self.prediction)), target, map)
    }

    /// The compiled plan.
    pub fn plan(&self) -> Plan {
        Plan::new(&self.objective, &self.problem).unwrap_or_else(|e| panic!("{}: {e}", self.objective))
    }

    /// The buffers in the problem's types and layout, kept alive.
    pub fn host(&self) -> Host<'_> {
        let (prediction, target, map) = self.buffers();
        Host { prediction, target, map, mask: self.mask.as_deref(), weights: self.weights.as_deref() }
    }

    /// Runs the case in double precision throughout.
    pub fn run_exact(&self) -> Outcome {
        let (prediction, in_layout) = (self.in_layout(&self.prediction), self.in_layout(&self.target));
        let labels = Data::of(DType::I64, &self.target);
        let mut plan_problem = self.problem.clone();
        let target = match self.target_kind {
            Target::Labels(_) => {
                plan_problem = plan_problem.labels(DType::I64);
                exact::Target::Labels(labels.slice())
            }
            Target::Dense(_) => exact::Target::Dense(&in_layout),
        };
        let weights: Option<Vec<f64>> =
            self.weights.as_ref().map(|weights| weights.iter().map(|&w| f64::from(w)).collect());
        let per_class = self.map_kind == Some(Map::PerClass);
        let map = self.map.as_ref().map(|map| if per_class { self.in_layout(map) } else { map.clone() });
        let mut inputs = exact::Inputs::new(&prediction, target);
        if let Some(mask) = &self.mask {
            inputs = inputs.mask(mask);
        }
        if let Some(weights) = &weights {
            inputs = inputs.weights(weights);
        }
        if let Some(map) = &map {
            inputs = inputs.map(map);
        }
        let plan = Plan::new(&self.objective, &plan_problem).unwrap_or_else(|e| panic!("{}: {e}", self.objective));
        let (evaluation, gradients) = exact::evaluate(&plan, &[inputs]).expect("the buffers fit");
        self.outcome(evaluation, gradients[0].clone())
    }

    /// Runs the case on a device.
    #[cfg(any(feature = "cpu", feature = "cuda", feature = "wgpu"))]
    pub fn run(&self, runtime: &segfuse::Runtime) -> Outcome {
        self.run_scaled(runtime, None)
    }

    /// Runs the case on a device with this `grad_output`.
    #[cfg(any(feature = "cpu", feature = "cuda", feature = "wgpu"))]
    pub fn run_scaled(&self, runtime: &segfuse::Runtime, grad_output: Option<&[f64]>) -> Outcome {
        let (plan, host) = (self.plan(), self.host());
        let inputs = host.inputs();
        let elements = self.prediction.len();
        let mut gradient = segfuse::Gradient::zeros(self.problem.gradient_dtype(), elements).expect("a float type");
        let evaluation: Evaluation = {
            let mut slices: [SliceMut<'_>; 1] = [gradient.as_slice_mut()];
            runtime.forward_backward(&plan, &[inputs], &mut slices, grad_output).expect("the buffers fit")
        };
        let forward = runtime.forward(&plan, &[inputs]).expect("the buffers fit");
        // Where one pass makes both, another kernel than for the loss alone adds the pixel terms, and WGSL leaves it to a device whether
        // a product and a sum are fused in each.
        let fused = runtime.name().starts_with("wgpu");
        let near = |a: f64, b: f64| fused && (a - b).abs() <= LOSS_RELATIVE * b.abs() + LOSS_ABSOLUTE;
        let same = |a: &f64, b: &f64| a == b || near(*a, *b) || (a.is_nan() && b.is_nan());
        assert!(
            evaluation.losses.iter().zip(&forward.losses).all(|(a, b)| same(a, b)),
            "{}: with gradient {:?}, without {:?}",
            self.objective,
            evaluation.losses,
            forward.losses
        );
        #[cfg(feature = "cuda")]
        if runtime.name() == "cuda" && segfuse::cuda::inspect::is_one_block(&plan) {
            self.assert_same_in_stages(&plan, grad_output, &evaluation, &gradient);
        }
        self.outcome(evaluation, gradient.to_f32().into_iter().map(f64::from).collect())
    }

    /// That the stages, launched one after the other, give the bits that one block gave.
    #[cfg(feature = "cuda")]
    fn assert_same_in_stages(
        &self,
        plan: &Plan,
        grad_output: Option<&[f64]>,
        evaluation: &Evaluation,
        gradient: &segfuse::Gradient,
    ) {
        let preparation = segfuse::cuda::Preparation { one_block: false, ..Default::default() };
        let device = cuda_device().expect("a runtime of it has run");
        let executor = device.prepare_as(plan, preparation).expect("the device takes the plan");
        let mut other =
            segfuse::Gradient::zeros(self.problem.gradient_dtype(), self.prediction.len()).expect("a float type");
        let mut slices: [SliceMut<'_>; 1] = [other.as_slice_mut()];
        let in_stages = executor.evaluate_into(&[self.host().inputs()], &mut slices, grad_output);
        // As text, in which a NaN is a NaN.
        let (a, b) = (format!("{evaluation:?}"), format!("{:?}", in_stages.expect("the buffers fit")));
        assert_eq!(a, b, "{}, {:?}: in one block, and in stages", self.objective, self.problem);
        let same = gradient.as_slice().as_bytes() == other.as_slice().as_bytes();
        assert!(same, "{}, {:?}: gradients in one block and in stages", self.objective, self.problem);
    }

    /// What a call gave, with its gradient in the problem's layout.
    fn outcome(&self, evaluation: Evaluation, gradient: Vec<f64>) -> Outcome {
        let (n, c, _) = self.sizes();
        let head = &evaluation.heads[0];
        Outcome {
            losses: evaluation.losses.clone(),
            gradient: if self.layout == Layout::Planar { gradient } else { deinterleave(&gradient, n, c) },
            valid_voxels: head.valid_voxels,
            invalid_labels: head.invalid_labels,
            hard_counts: head.hard_counts.as_ref().map(|counts| {
                counts.iter().map(|h| [h.true_positives, h.false_positives, h.false_negatives]).collect()
            }),
        }
    }

    /// The case as the reference takes it.
    pub fn reference(&self) -> (Vec<reference::Term>, reference::Problem) {
        let (samples, classes, voxels) = self.sizes();
        let terms = self
            .objective
            .terms()
            .iter()
            .map(|term| reference::Term {
                weight: term.weight,
                name: term.loss.name().to_string(),
                params: term.arguments().into_iter().map(|(k, v)| (k.to_string(), v)).collect::<BTreeMap<_, _>>(),
            })
            .collect();
        let problem = reference::Problem {
            samples,
            classes,
            voxels,
            extents: self.problem.shape().spatial().to_vec(),
            spacing: self.problem.voxel_spacing(),
            activation: match self.activation {
                Activation::None => reference::Activation::None,
                Activation::Sigmoid => reference::Activation::Sigmoid,
                Activation::Softmax => reference::Activation::Softmax,
            },
            prediction: self.prediction.clone(),
            target: match self.target_kind {
                Target::Labels(_) => reference::Target::Labels(self.target.iter().map(|&x| x as i64).collect()),
                Target::Dense(_) => reference::Target::Dense(self.target.clone()),
            },
            ignore_label: self.ignore_label,
            mask: self.mask.as_ref().map(|m| m.iter().map(|&x| x != 0).collect()),
            weights: self.weights.as_ref().map(|w| w.iter().map(|&x| x.into()).collect()),
            map: self.map.as_ref().map(|map| match self.map_kind {
                Some(Map::PerClass) => reference::Map::PerClass(map.clone()),
                _ => reference::Map::Shared(map.clone()),
            }),
            class_weights: self.class_weights.clone(),
            reduction: match self.reduction {
                Reduction::Mean => reference::Reduction::Mean,
                Reduction::Sum => reference::Reduction::Sum,
                Reduction::None => reference::Reduction::None,
            },
        };
        (terms, problem)
    }
}

/// A random case of labels, some ignored, with voxel weights.
pub fn example(spec: &str, shape: &[usize], dtype: DType, layout: Layout, seed: u64) -> Case {
    let r = &mut random::Numbers(seed);
    let (samples, classes) = (shape[0], shape[1]);
    let voxels: usize = shape[2..].iter().product();
    let settings = Settings {
        shape: shape.to_vec(),
        dtype,
        activation: if classes > 1 { Activation::Softmax } else { Activation::Sigmoid },
        layout,
        target: Target::Labels(DType::U8),
        ignore_label: Some(255),
        class_weights: None,
        reduction: Reduction::Mean,
        gradient: dtype,
    };
    let prediction = (0..samples * classes * voxels).map(|_| r.between(-5.0, 5.0)).collect();
    let labels =
        (0..samples * voxels).map(|_| if r.chance(0.02) { 255.0 } else { r.below(classes.max(2)) as f64 }).collect();
    let weights = Some((0..samples * voxels).map(|_| r.unit() as f32).collect());
    Case::new(spec.parse().expect("a valid spec"), &settings, prediction, labels, None, weights, None)
}

/// An example of two classes or one with mistakes that lie side by side, so that something is left of ten erosions.
pub fn lasting(spec: &str, shape: &[usize], seed: u64) -> Case {
    let mut case = example(spec, shape, DType::F32, Layout::Planar, seed);
    let voxels: usize = shape[2..].iter().product();
    case.target.iter_mut().for_each(|label| *label = 1.0);
    for (i, z) in case.prediction.iter_mut().enumerate() {
        let wave = (0.5 + (i % voxels) as f64 * 6.0 / voxels as f64).sin();
        let wrong = if shape[1] == 1 || i / voxels % shape[1] == 1 { -1.0 } else { 1.0 };
        *z = wrong * (1.0 + wave).clamp(0.0, 1.6);
    }
    case
}

/// What a gradient of this type adds to the error of single precision: half a unit in the last place, and half the
/// smallest step.
pub fn rounding(dtype: DType) -> (f64, f64) {
    match dtype {
        DType::F16 => (0.5f64.powi(11), 0.5f64.powi(25)),
        DType::BF16 => (0.5f64.powi(8), 0.0),
        _ => (0.0, 0.0),
    }
}

/// Compares an outcome with the truth; the error says what is apart.
pub fn compare(outcome: &Outcome, losses: &[f64], gradient: &[f64], gradient_dtype: DType) -> Result<(), String> {
    for (i, (&got, &want)) in outcome.losses.iter().zip(losses).enumerate() {
        let close = (got - want).abs() <= LOSS_RELATIVE * want.abs() + LOSS_ABSOLUTE;
        if !(close || (got.is_nan() && want.is_nan()) || got == want) {
            return Err(format!("loss {i}: got {got}, want {want}"));
        }
    }
    let largest = gradient.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    let (relative, step) = rounding(gradient_dtype);
    for (i, (&got, &want)) in outcome.gradient.iter().zip(gradient).enumerate() {
        let allowed = GRADIENT_RELATIVE * largest + GRADIENT_ABSOLUTE + relative * want.abs() + step;
        let overflow = gradient_dtype == DType::F16 && want.abs() >= 65_504.0;
        if !((got - want).abs() <= allowed || overflow) {
            return Err(format!("gradient {i}: got {got}, want {want}, largest {largest}"));
        }
    }
    Ok(())
}
