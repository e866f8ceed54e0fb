//! What can go wrong, nearly always before a buffer is touched.

use crate::dtype::DType;
use crate::spec::ProgramError;

/// Every error of the library. Each is found before any output is written, but for what a device tells late:
/// [`Error::DeviceLost`] and [`Error::Launch`].
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A spec string that cannot be read.
    #[error("spec string: expected {expected} at byte {position}")]
    Syntax {
        /// Byte position in the string.
        position: usize,
        /// What should have stood there.
        expected: &'static str,
    },
    /// A loss that does not exist.
    #[error("there is no loss `{name}` (byte {position}); did you mean {}?", near.join(", "))]
    UnknownLoss {
        /// The name given.
        name: String,
        /// Byte position in the string.
        position: usize,
        /// Names that are near it, best first; all names when none is.
        near: Vec<String>,
    },
    /// A parameter that the loss does not have.
    #[error("`{loss}` has no parameter `{key}`; did you mean {}?", near.join(", "))]
    UnknownKey {
        /// The loss.
        loss: String,
        /// The key given.
        key: String,
        /// Keys that are near it, best first; all keys when none is.
        near: Vec<String>,
    },
    /// A value of the wrong kind.
    #[error("`{loss}`: {key} must be {expected}")]
    WrongValue {
        /// The loss.
        loss: String,
        /// The parameter.
        key: String,
        /// What it must be.
        expected: String,
    },
    /// A number outside of its range.
    #[error("`{loss}`: {key} must be {range}, got {value}")]
    OutOfRange {
        /// The loss.
        loss: String,
        /// The parameter.
        key: &'static str,
        /// The number given.
        value: f64,
        /// The range in words.
        range: &'static str,
    },
    /// A loss that cannot be computed on the problem.
    #[error("`{loss}` {reason}")]
    Unsuitable {
        /// The loss.
        loss: String,
        /// Why not.
        reason: String,
    },
    /// A loss that reads a map, and a problem that has none.
    #[error("`{loss}` needs a map (a distance or weight per voxel), the problem declares none")]
    NeedsMap {
        /// The loss.
        loss: String,
    },
    /// A shape without elements or with too many dimensions.
    #[error("shape: {what} must be from {min} to {max}, got {got}")]
    Shape {
        /// Which number of the shape.
        what: &'static str,
        /// The smallest allowed.
        min: u64,
        /// The largest allowed.
        max: u64,
        /// What was given.
        got: u64,
    },
    /// A spacing of voxels that distances cannot be formed with.
    #[error("the spacing along axis {axis} must be above 0, and squares of distances finite in f32; got {got}")]
    Spacing {
        /// Which axis, the slowest first.
        axis: usize,
        /// The spacing given.
        got: f64,
    },
    /// More elements than a plan may have.
    #[error("shape: {what} has more than {} elements", crate::shape::ELEMENTS_MAX)]
    Overflow {
        /// Which buffer.
        what: &'static str,
    },
    /// A setting of the problem that contradicts another.
    #[error("problem: {0}")]
    Problem(String),
    /// A data type that a buffer of this role cannot have.
    #[error("{role} cannot be {got}; it can be {allowed}")]
    DTypeOf {
        /// Which buffer.
        role: &'static str,
        /// The type given.
        got: DType,
        /// The types allowed.
        allowed: &'static str,
    },
    /// Class weights of the wrong number.
    #[error("class weights: need {need}, one per class, got {got}")]
    ClassWeights {
        /// How many classes there are.
        need: usize,
        /// How many weights were given.
        got: usize,
    },
    /// A class weight that is not a finite number of at least 0.
    #[error("class weight {index} must be finite and at least 0, got {value}")]
    ClassWeight {
        /// Which class.
        index: usize,
        /// Its weight.
        value: f64,
    },
    /// More of something than a plan can hold.
    #[error("the plan needs {need} {what}, the limit is {limit}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How many are needed.
        need: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A formula whose program is too large.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// A buffer of another type than the plan was made for.
    #[error("{role}: the plan expects {need}, got {got}")]
    BufferType {
        /// Which buffer.
        role: &'static str,
        /// The type planned.
        need: DType,
        /// The type given.
        got: DType,
    },
    /// A buffer of another length than the plan was made for.
    #[error("{role}: need {need} elements, got {got}")]
    BufferLength {
        /// Which buffer.
        role: &'static str,
        /// Elements planned.
        need: u64,
        /// Elements given.
        got: u64,
    },
    /// A buffer that the plan expects and that was not given.
    #[error("{role}: the plan expects one, none was given")]
    BufferMissing {
        /// Which buffer.
        role: &'static str,
    },
    /// A buffer that was given and that the plan does not expect.
    #[error("{role}: one was given, but the problem declares none")]
    BufferUnexpected {
        /// Which buffer.
        role: &'static str,
    },
    /// A buffer that is not aligned to its type.
    #[error("{role}: must be aligned to {need} bytes, is at {address:#x}")]
    BufferAlignment {
        /// Which buffer.
        role: &'static str,
        /// The alignment needed.
        need: usize,
        /// Where it is.
        address: usize,
    },
    /// An output that shares memory with an input, other than a gradient exactly in place of the prediction.
    #[error("the gradient overlaps {with}; it may only be the prediction's own buffer, of the same type and length")]
    Overlap {
        /// The other buffer.
        with: &'static str,
    },
    /// Moments, coefficients or inputs that belong to another plan.
    #[error("{what} belong to another plan: this one has {need}, those are {got}")]
    OtherPlan {
        /// What was handed in.
        what: &'static str,
        /// How many the plan has.
        need: usize,
        /// How many were given.
        got: usize,
    },
    /// More than the device can do.
    #[error("the device allows {got} {what}, the plan needs {need}")]
    DeviceLimit {
        /// What there is too little of.
        what: &'static str,
        /// How much is needed.
        need: u64,
        /// How much the device allows.
        got: u64,
    },
    /// No memory left on the device.
    #[error("the device has no memory left for {what}")]
    DeviceMemory {
        /// What it was for.
        what: &'static str,
    },
    /// The device was lost: removed, reset or destroyed. Another one can be used.
    #[error("the device was lost: {reason}")]
    DeviceLost {
        /// What the driver says.
        reason: String,
    },
    /// The device refused something that the library holds to be right.
    #[error("the device refused: {reason}")]
    Device {
        /// What the driver says.
        reason: String,
    },
    /// A device buffer that was made without a usage that it needs.
    #[error("{role}: the buffer needs the usage {need}")]
    BufferUsage {
        /// Which buffer.
        role: &'static str,
        /// The usage.
        need: &'static str,
    },
    /// A device buffer that begins where it cannot be bound.
    #[error("{role}: the offset must be a multiple of {need} bytes, is {got}")]
    BufferOffset {
        /// Which buffer.
        role: &'static str,
        /// What it must be a multiple of.
        need: u64,
        /// The offset given.
        got: u64,
    },
    /// A device buffer that is too short.
    #[error("{role}: need {need} bytes, got {got}")]
    BufferBytes {
        /// Which buffer.
        role: &'static str,
        /// Bytes needed, up to whole words.
        need: u64,
        /// Bytes given.
        got: u64,
    },
    /// One device buffer for two roles that a pass cannot bind together.
    #[error("{role} and {other} are one buffer; a pass that writes to a buffer can bind it once")]
    BufferShared {
        /// Which buffer.
        role: &'static str,
        /// And which other.
        other: &'static str,
    },
    /// No CUDA driver on this machine.
    #[error("there is no CUDA driver on this machine ({library})")]
    DriverMissing {
        /// What was looked for.
        library: &'static str,
    },
    /// A CUDA driver that is too old for the kernels.
    #[error("the CUDA driver supports CUDA {}.{}, the kernels need {}.{}", got / 1000, got % 1000 / 10, need / 1000, need % 1000 / 10)]
    DriverVersion {
        /// The least version, as the driver numbers them: 12000 is 12.0.
        need: u32,
        /// The version of the driver.
        got: u32,
    },
    /// PTX that the driver does not take.
    #[error(
        "the driver (CUDA {}.{}) refused the kernel `{kernel}` (PTX {ptx}): {reason}", driver / 1000, driver % 1000 / 10
    )]
    Ptx {
        /// The kernel.
        kernel: &'static str,
        /// The version that its text states.
        ptx: String,
        /// The version of the driver: 12000 is 12.0.
        driver: u32,
        /// What the driver says.
        reason: String,
    },
    /// A kernel that could not be launched.
    #[error("`{kernel}` was not launched: {reason}; the context {}", if *usable { "can be used on" } else { "is lost, and so is what it holds" })]
    Launch {
        /// The kernel.
        kernel: &'static str,
        /// What the driver says.
        reason: String,
        /// Whether the context can be used on. Where not, an earlier launch failed: this call's or anybody's.
        usable: bool,
    },
    /// An address of 0 where a buffer is expected.
    #[error("{role}: the address is null")]
    BufferNull {
        /// Which buffer.
        role: &'static str,
    },
    /// An address that no CUDA device can reach.
    #[error("{role}: {address:#x} is no memory of a CUDA device")]
    BufferForeign {
        /// Which buffer.
        role: &'static str,
        /// The address.
        address: u64,
    },
    /// A buffer on another device than the plan was prepared on.
    #[error("{role}: the buffer is on device {got}, the plan on device {need}")]
    OtherDevice {
        /// Which buffer.
        role: &'static str,
        /// The ordinal of the plan's device.
        need: i32,
        /// The ordinal of the buffer's device.
        got: i32,
    },
    /// A buffer or a stream that belongs to another context than the plan was prepared in.
    #[error("{role} belongs to another context than the plan")]
    OtherContext {
        /// Which buffer, or the stream.
        role: &'static str,
    },
    /// Memory of which one part is written while another is read.
    #[error("{role} overlaps {other}")]
    Overlapping {
        /// What is written.
        role: &'static str,
        /// What it shares memory with.
        other: &'static str,
    },
    /// A device that is not there or not in this build.
    #[error("device `{name}` is not available; available: {}", available.join(", "))]
    UnknownDevice {
        /// The name asked for.
        name: String,
        /// What there is.
        available: Vec<String>,
    },
}
