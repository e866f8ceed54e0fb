//! The arguments of every command.

use clap::{Args, Parser, Subcommand, ValueEnum};
use segfuse::distance::Kind;
use segfuse::loss::Absent;
use segfuse::{Activation, DType, Layout, Map, Problem, Reduction, Runtime, Target};
use std::path::PathBuf;

/// Segmentation losses and their gradients, fused.
#[derive(Debug, Parser)]
#[command(name = "segfuse", version, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What `eval` says about its files.
const FILES: &str = "\
Files are .npy, .nii or .nii.gz. A prediction is [N, C, …], or [N, …, C] with --layout nvc. A target is [N, …] labels or has the \
prediction's shape. A NIfTI file holds one sample: [x, y, z] labels or one class, [x, y, z, C] or [x, y, z, 1, C] several; labels \
stored as floats are taken where all are whole.

The time is that of the fastest of a few calls with arrays in host memory; on a GPU that is with upload of the inputs and \
download of the gradient, without making the pipelines. `segfuse bench` times the passes alone.";

/// What `distance` makes.
const DISTANCES: &str = "\
d_out is the distance to the nearest voxel of a class, d_in that to the nearest voxel not of it. Kinds: outside: d_out; inside: d_in; \
two-sided: d_out + d_in; signed: d_out outside, -(d_in - 1) inside; difference: d_out - d_in. Where a class is empty or fills its sample, the \
last three are 0, and distances to nothing are infinite. multi-label: one map of all classes, with the d_in of each voxel's own; voxels of none \
of --classes are 0 (with all classes but 0 it is the map of PyPI's edt). It takes labels, or a prediction without --threshold.

Files are .npy, .nii or .nii.gz: labels [N, …], or with --dense one value per class, [N, C, …], above 0.5 where a voxel is of the class; \
predictions [N, C, …]; with --layout nvc [N, …, C]. A NIfTI file holds one sample. The maps are [N, K, …], or [N, …, K]. On a GPU the \
time is that of one call with upload, making of the kernels and download.";

/// What `bench` times.
const TIMES: &str = "\
On the CPU a time is that of a call. On a GPU the buffers are on the device already, and a time is that of the passes alone, by \
the device's timestamps; where it has none, that of submitting a call and waiting for it, and the output says so. Shares are of the \
bandwidth of a copy on the same device in the same run: of memory on the CPU, from buffer to buffer on a GPU, of as many bytes as the \
call reads and writes, timed the same way.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Loss, gradient and metrics of a prediction in a file
    #[command(after_help = FILES)]
    Eval(EvalArgs),
    /// Exact distance maps of labels or of a prediction
    #[command(after_help = DISTANCES)]
    Distance(DistanceArgs),
    /// Every loss with its parameters
    List(ListArgs),
    /// What a loss will do on a problem: passes, bytes, sums
    Explain(ExplainArgs),
    /// The devices of this machine and their limits
    Devices(DevicesArgs),
    /// Compare the devices with the test vectors and the reference; exit code 1 when one differs
    Check(CheckArgs),
    /// Time the losses beside the copy bandwidth of the device
    #[command(after_help = TIMES)]
    Bench(BenchArgs),
}

/// Options of the problem, the same for `eval` and `explain`.
#[derive(Debug, Args)]
pub(crate) struct ProblemArgs {
    /// What makes probabilities of the prediction [default: softmax; sigmoid for one class]
    #[arg(long, value_enum)]
    activation: Option<ActivationArg>,
    /// Layout of the prediction, of a dense target and of a map per class
    #[arg(long, value_enum, default_value = "ncv")]
    pub(crate) layout: LayoutArg,
    /// Distance between voxels along each axis, slowest first, for the maps that losses make [default: 1 along each]
    #[arg(long, value_name = "A,B,…", value_delimiter = ',')]
    spacing: Option<Vec<f64>>,
    /// Voxels with this label do not count
    #[arg(long, value_name = "LABEL", allow_negative_numbers = true)]
    ignore_label: Option<i64>,
    /// One weight per class
    #[arg(long, value_name = "A,B,…", value_delimiter = ',', allow_negative_numbers = true)]
    class_weights: Option<Vec<f64>>,
    /// One number, or one per sample
    #[arg(long, value_enum, default_value = "mean")]
    reduction: ReductionArg,
    /// Sum over the samples before any ratio
    #[arg(long)]
    batch: bool,
    /// Leave class 0 out
    #[arg(long)]
    no_background: bool,
    /// What a class without a target voxel does
    #[arg(long, value_enum, default_value = "count")]
    absent: AbsentArg,
    /// Type of the gradient [default: that of the prediction]
    #[arg(long, value_enum, value_name = "TYPE")]
    grad_dtype: Option<FloatArg>,
}

impl ProblemArgs {
    /// Whether the loss is one number or one per sample.
    pub(crate) fn reduction(&self) -> Reduction {
        self.reduction.into()
    }
    /// The problem with a prediction of this type and these options.
    pub(crate) fn apply(&self, problem: Problem, dtype: DType) -> Problem {
        let usual = if problem.shape().classes() == 1 { Activation::Sigmoid } else { Activation::Softmax };
        let mut problem = problem
            .prediction(dtype, self.activation.map_or(usual, Activation::from))
            .layout(self.layout.into())
            .reduction(self.reduction.into())
            .batch(self.batch)
            .background(!self.no_background)
            .absent(self.absent.into());
        if let Some(spacing) = &self.spacing {
            problem = problem.spacing(spacing.clone());
        }
        if let Some(label) = self.ignore_label {
            problem = problem.ignore_label(label);
        }
        if let Some(weights) = &self.class_weights {
            problem = problem.class_weights(weights.clone());
        }
        if let Some(dtype) = self.grad_dtype {
            problem = problem.gradient(dtype.into());
        }
        problem
    }
}

#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    /// The loss, such as "dice + 0.5*focal(gamma=2)"; `segfuse list` has them all
    #[arg(long, value_name = "SPEC")]
    pub(crate) loss: String,
    /// Logits or probabilities: f16, f32 or f64
    #[arg(long, value_name = "FILE")]
    pub(crate) pred: PathBuf,
    /// Labels (integers) or one value per class
    #[arg(long, value_name = "FILE")]
    pub(crate) target: PathBuf,
    /// Keep-mask [N, …]: voxels with 0 do not count
    #[arg(long, value_name = "FILE")]
    pub(crate) mask: Option<PathBuf>,
    /// Voxel weights [N, …]
    #[arg(long, value_name = "FILE")]
    pub(crate) weights: Option<PathBuf>,
    /// A map φ for the losses that take one, in place of the map that they make: [N, …] or [N, C, …]
    #[arg(long, value_name = "FILE")]
    pub(crate) distance: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) problem: ProblemArgs,
    /// Write the gradient here, in the shape of the prediction's file
    #[arg(long, value_name = "OUT.npy")]
    pub(crate) grad: Option<PathBuf>,
    /// Factor of the gradient; with reduction none one per sample
    #[arg(long, value_name = "X", value_delimiter = ',', allow_negative_numbers = true)]
    pub(crate) grad_output: Option<Vec<f64>>,
    /// Also count the hard prediction: TP, FP, FN, Dice, IoU, precision and recall per class
    #[arg(long)]
    pub(crate) metrics: bool,
    #[command(flatten)]
    pub(crate) device: DeviceArg,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("source").required(true))]
pub(crate) struct DistanceArgs {
    /// Labels (integers), or one value per class with --dense
    #[arg(long, value_name = "FILE", group = "source")]
    pub(crate) target: Option<PathBuf>,
    /// Logits or probabilities, made classes by --threshold
    #[arg(long, value_name = "FILE", group = "source")]
    pub(crate) pred: Option<PathBuf>,
    /// The target has one value per voxel and class
    #[arg(long, requires = "target")]
    pub(crate) dense: bool,
    /// Number of classes of labels [default: the largest label + 1, at least 2]
    #[arg(long, value_name = "C", requires = "target", conflicts_with = "dense")]
    pub(crate) num_classes: Option<usize>,
    /// Voxels with this label belong to no class
    #[arg(long, value_name = "LABEL", requires = "target", allow_negative_numbers = true)]
    pub(crate) ignore_label: Option<i64>,
    /// What makes probabilities of the prediction [default: softmax; sigmoid for one class]
    #[arg(long, value_enum, requires = "pred")]
    pub(crate) activation: Option<ActivationArg>,
    /// A class is where its probability is above this [default: the class with the largest value; 0.5 for one class]
    #[arg(long, value_name = "T", requires = "pred")]
    pub(crate) threshold: Option<f64>,
    /// What the maps hold
    #[arg(long, value_enum, default_value = "two-sided")]
    pub(crate) kind: KindArg,
    /// The distance between neighbours along each axis, slowest first [default: 1]
    #[arg(long, value_name = "A,B,…", value_delimiter = ',', allow_negative_numbers = true)]
    pub(crate) spacing: Option<Vec<f64>>,
    /// The classes that maps are made of [default: all]
    #[arg(long, value_name = "A,B,…", value_delimiter = ',')]
    pub(crate) classes: Option<Vec<usize>>,
    /// Each value x becomes x·|x|
    #[arg(long)]
    pub(crate) squared: bool,
    /// Type of the maps: f32 or f16
    #[arg(long, value_enum, value_name = "TYPE", default_value = "f32")]
    pub(crate) dtype: FloatArg,
    /// Layout of the maps, and of a file with a value per class
    #[arg(long, value_enum, default_value = "ncv")]
    pub(crate) layout: LayoutArg,
    /// Write the maps here
    #[arg(long, value_name = "OUT.npy")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) device: DeviceArg,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DeviceArg {
    /// auto, cpu, cuda[:N], wgpu (the best GPU) or wgpu:N; `segfuse devices` lists them [default: $SEGFUSE_DEVICE, or auto: a GPU if there
    /// is one, else the CPU; never a software renderer]
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
}

impl DeviceArg {
    /// The device of this name, or the one that the environment or the library chooses.
    pub(crate) fn runtime(&self) -> Result<Runtime, segfuse::Error> {
        self.device.as_deref().map_or_else(Runtime::auto, Runtime::on)
    }
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only losses whose name or alias contains this
    pub(crate) name: Option<String>,
    /// Print a JSON array
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The loss, such as "dice + ce"
    #[arg(value_name = "SPEC")]
    pub(crate) loss: String,
    /// N, C and the spatial extents
    #[arg(long, value_name = "N,C,…", value_delimiter = ',', required = true)]
    pub(crate) shape: Vec<usize>,
    /// Type of the prediction
    #[arg(long, value_enum, default_value = "f32")]
    pub(crate) dtype: FloatArg,
    /// Labels or dense values, and their type
    #[arg(long, value_enum, default_value = "u8")]
    pub(crate) target: TargetArg,
    /// There is a keep-mask
    #[arg(long)]
    pub(crate) mask: bool,
    /// There are voxel weights
    #[arg(long)]
    pub(crate) weights: bool,
    /// There is a map φ
    #[arg(long, value_enum, value_name = "KIND")]
    pub(crate) distance: Option<MapArg>,
    #[command(flatten)]
    pub(crate) problem: ProblemArgs,
    /// Memory bandwidth: also print the least time of a call
    #[arg(long, value_name = "GB/s")]
    pub(crate) bandwidth: Option<f64>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DevicesArgs {
    /// Print a JSON array
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Random problems per device
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub(crate) cases: usize,
    /// Seed of the random problems
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Only this device: auto, cpu, cuda[:N], wgpu or wgpu:N [default: the CPU and every GPU; a software renderer by its name alone]
    #[arg(long, value_name = "NAME")]
    pub(crate) device: Option<String>,
    /// Test vectors [default: those of this build]
    #[arg(long, value_name = "FILE")]
    pub(crate) vectors: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// What to measure: losses, and distance maps as in benches/distances.toml [default: the losses of this build]
    #[arg(long, value_name = "FILE")]
    pub(crate) definitions: Option<PathBuf>,
    /// Only definitions whose name contains this
    #[arg(long, value_name = "NAME")]
    pub(crate) filter: Option<String>,
    /// Seconds per measurement
    #[arg(long, value_name = "S", default_value_t = 2.0)]
    pub(crate) seconds: f64,
    #[command(flatten)]
    pub(crate) device: DeviceArg,
    /// Measure with 1, 2, 4, … threads up to all (CPU)
    #[arg(long)]
    pub(crate) threads: bool,
    /// Write the results as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Draw the results
    #[arg(long, value_name = "FILE.svg")]
    pub(crate) plot: Option<PathBuf>,
}

/// Declares an argument whose values are those of a type of the library.
macro_rules! value_enum {
    ($name:ident for $type:ty { $($variant:ident $text:literal = $value:expr),+ $(,)? }) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
        pub(crate) enum $name { $(#[value(name = $text)] $variant),+ }
        impl From<$name> for $type {
            fn from(name: $name) -> $type {
                match name { $($name::$variant => $value),+ }
            }
        }
    };
}

value_enum!(ActivationArg for Activation {
    None "none" = Activation::None,
    Sigmoid "sigmoid" = Activation::Sigmoid,
    Softmax "softmax" = Activation::Softmax,
});
value_enum!(KindArg for Kind {
    Outside "outside" = Kind::Outside,
    Inside "inside" = Kind::Inside,
    TwoSided "two-sided" = Kind::TwoSided,
    Signed "signed" = Kind::Signed,
    Difference "difference" = Kind::Difference,
    MultiLabel "multi-label" = Kind::MultiLabel,
});
value_enum!(LayoutArg for Layout {
    Ncv "ncv" = Layout::Planar,
    Nvc "nvc" = Layout::Interleaved,
});
value_enum!(ReductionArg for Reduction {
    Mean "mean" = Reduction::Mean,
    Sum "sum" = Reduction::Sum,
    None "none" = Reduction::None,
});
value_enum!(AbsentArg for Absent {
    Count "count" = Absent::Count,
    Skip "skip" = Absent::Skip,
    Zero "zero" = Absent::Zero,
});
value_enum!(MapArg for Map {
    Shared "shared" = Map::Shared,
    PerClass "per-class" = Map::PerClass,
});
value_enum!(FloatArg for DType {
    F32 "f32" = DType::F32,
    F16 "f16" = DType::F16,
    Bf16 "bf16" = DType::BF16,
});
value_enum!(TargetArg for Target {
    U8 "u8" = Target::Labels(DType::U8),
    I16 "i16" = Target::Labels(DType::I16),
    I32 "i32" = Target::Labels(DType::I32),
    I64 "i64" = Target::Labels(DType::I64),
    DenseU8 "dense-u8" = Target::Dense(DType::U8),
    DenseF32 "dense-f32" = Target::Dense(DType::F32),
    DenseF16 "dense-f16" = Target::Dense(DType::F16),
    DenseBf16 "dense-bf16" = Target::Dense(DType::BF16),
});
