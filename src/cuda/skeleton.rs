//! The kernels as compiled ahead of time: `cargo xtask ptx` writes them, one module each, from the table below.

use super::geometry::Geometry;
use super::text::Kernel;
use flate2::read::GzDecoder;
use std::io::Read;
use std::sync::OnceLock;

/// A kernel that the numbers of a plan are missing in.
#[derive(Debug)]
pub(super) struct Skeleton {
    /// The name of the kernel in its module, and of the file.
    pub(super) entry: &'static str,
    compressed: &'static [u8],
    width: u32,
    /// Blocks of a multiprocessor that the driver's compiler must leave registers for.
    resident: u32,
    text: OnceLock<String>,
}

impl PartialEq for Skeleton {
    fn eq(&self, other: &Skeleton) -> bool {
        self.entry == other.entry
    }
}
impl Eq for Skeleton {}
impl std::hash::Hash for Skeleton {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.entry.hash(state);
    }
}

impl Skeleton {
    const fn new(entry: &'static str, width: u32, resident: u32, compressed: &'static [u8]) -> Skeleton {
        Skeleton { entry, width, resident, compressed, text: OnceLock::new() }
    }
    /// Voxels of a thread at once.
    pub(super) fn width(&self) -> u32 {
        self.width
    }
    /// Blocks that must fit a multiprocessor together. Left to itself the compiler makes room for one more by spilling a few
    /// registers; two blocks of 256 threads have enough loads on their way, and where values are many, one has.
    pub(super) fn resident(&self) -> u32 {
        self.resident
    }
    /// The text, decompressed when first asked for.
    pub(super) fn text(&self) -> &str {
        self.text.get_or_init(|| {
            let mut text = String::new();
            GzDecoder::new(self.compressed).read_to_string(&mut text).expect("what is committed decompresses");
            text
        })
    }
}

/// How many classes and voxels a thread of a skeleton has room for, in which layout, and whether a team shares a voxel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    slots: u32,
    width: u32,
    interleaved: bool,
    teamed: bool,
}

/// See [`Skeleton::resident`]: of a thread with so many values of each kind; `many` is from where on they are many.
const fn resident(values: u32, many: u32, teamed: bool) -> u32 {
    if values >= many || teamed { 1 } else { 2 }
}

macro_rules! skeleton {
    ($width:expr, $resident:expr, $($name:literal)*) => {
        Skeleton::new(
            concat!($($name),*),
            $width,
            $resident,
            include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/ptx/", $($name,)* ".ptx.gz")),
        )
    };
}
macro_rules! one_block {
    ($width:literal, $suffix:literal) => {
        None
    };
    ($width:literal, $suffix:literal, one_block) => {
        // No other block is to fit beside the one.
        Some(skeleton!($width, 1, "one_block_" $suffix))
    };
}
macro_rules! skeletons {
    ($($suffix:literal: $slots:literal x $width:literal, $interleaved:literal, $teamed:literal $(, $one_block:ident)?;)*) => {
        const SHAPES: &[Shape] = &[
            $(Shape { slots: $slots, width: $width, interleaved: $interleaved, teamed: $teamed }),*
        ];
        static REDUCE: [Skeleton; SHAPES.len()] =
            [$(skeleton!($width, resident($slots * $width, 32, $teamed), "reduce_" $suffix)),*];
        static GRADIENT: [Skeleton; SHAPES.len()] =
            [$(skeleton!($width, resident($slots * $width, 32, $teamed), "gradient_" $suffix)),*];
        static ONE_PASS: [Skeleton; SHAPES.len()] =
            [$(skeleton!($width, resident($slots * $width, 16, $teamed), "one_pass_" $suffix)),*];
        static ONE_BLOCK: [Option<Skeleton>; SHAPES.len()] = [$(one_block!($width, $suffix $(, $one_block)?)),*];
    };
}
include!("../../kernels/variants.rs");

/// The skeleton that a kernel of this geometry is made of.
pub(super) fn of(kernel: Kernel, geometry: &Geometry) -> &'static Skeleton {
    let index = index(geometry);
    match kernel {
        Kernel::Census | Kernel::Reduce => &REDUCE[index],
        Kernel::Gradient => &GRADIENT[index],
        Kernel::OnePass => &ONE_PASS[index],
        Kernel::OneBlock => ONE_BLOCK[index].as_ref().expect("asked for where `has_one_block` says so"),
    }
}

/// Whether [`Kernel::OneBlock`] is compiled for this geometry.
pub(super) fn has_one_block(geometry: &Geometry) -> bool {
    ONE_BLOCK[index(geometry)].is_some()
}

/// The first shape of the table that a geometry fits.
fn index(geometry: &Geometry) -> usize {
    let fits = |shape: &Shape| {
        shape.width == geometry.width
            && shape.interleaved == geometry.interleaved
            && shape.teamed == (geometry.team > 1)
            && if geometry.is_one_load() { shape.slots == geometry.slots } else { shape.slots >= geometry.slots }
            && (geometry.is_one_load() || !(shape.interleaved && !shape.teamed && shape.slots <= 4))
    };
    SHAPES.iter().position(fits).expect("the table has a shape for every geometry")
}

macro_rules! plain {
    ($($name:literal)*) => {
        /// The text of a kernel that knows nothing of a plan.
        pub(super) fn plain(name: &str) -> &'static str {
            match name {
                $($name => {
                    static PLAIN: Skeleton = skeleton!(0, 1, $name);
                    PLAIN.text()
                })*
                _ => unreachable!("the kernels without a plan are these"),
            }
        }
    };
}
plain!(
    "combine" "finish"
    "distance_sides" "distance_rows" "distance_rows_any" "distance_lines" "distance_contours" "distance_extremes"
    "distance_maps" "distance_objects" "distance_nearest"
    "erosion_errors" "erosion_forward" "erosion_backward"
);
