//! What is measured on.

use half::{bf16, f16};
use segfuse::{Activation, DType, Gradient, Inputs, Problem, Slice, Target};

/// Made-up inputs of a problem.
pub(super) struct Buffers {
    prediction: Gradient,
    target: TargetBuffer,
}

enum TargetBuffer {
    F32(Vec<f32>),
    F16(Vec<f16>),
    BF16(Vec<bf16>),
    U8(Vec<u8>),
    I16(Vec<i16>),
    I32(Vec<i32>),
    I64(Vec<i64>),
}

/// A number from 0 to 255 that looks random.
fn noise(index: usize) -> u8 {
    ((index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

impl Buffers {
    /// `labels` of a sample stand for those of each, in place of runs of classes.
    pub(super) fn new(problem: &Problem, activation: Activation, labels: Option<Vec<u8>>) -> Buffers {
        let elements = problem.shape().elements() as usize;
        let logit = |i: usize| f32::from(noise(i)) / 32.0 - 4.0;
        let probability = |i: usize| f32::from(noise(i)) / 256.0;
        let value = |i: usize| if activation == Activation::None { probability(i) } else { logit(i) };
        let prediction = match problem.prediction_dtype() {
            DType::F16 => Gradient::F16((0..elements).map(|i| f16::from_f32(value(i))).collect()),
            DType::BF16 => Gradient::BF16((0..elements).map(|i| bf16::from_f32(value(i))).collect()),
            _ => Gradient::F32((0..elements).map(value).collect()),
        };
        let target = match labels {
            Some(labels) => TargetBuffer::U8(labels.repeat(problem.shape().samples())),
            None => TargetBuffer::new(problem),
        };
        Buffers { prediction, target }
    }
    pub(super) fn inputs(&self) -> Inputs<'_> {
        Inputs::new(self.prediction(), self.target())
    }
    pub(super) fn prediction(&self) -> Slice<'_> {
        self.prediction.as_slice()
    }
    pub(super) fn target(&self) -> Slice<'_> {
        self.target.slice()
    }
}

impl TargetBuffer {
    fn new(problem: &Problem) -> TargetBuffer {
        let indices = 0..problem.target_elements() as usize;
        let classes = problem.shape().classes().max(2);
        let half = |i: usize| f32::from(noise(i + 1) / 128);
        // Labels come in runs, as objects make them.
        let label = |i: usize| (usize::from(noise(i / 16 + 7)) * classes) >> 8;
        match problem.target() {
            Target::Labels(DType::I16) => TargetBuffer::I16(indices.map(|i| label(i) as i16).collect()),
            Target::Labels(DType::I32) => TargetBuffer::I32(indices.map(|i| label(i) as i32).collect()),
            Target::Labels(DType::I64) => TargetBuffer::I64(indices.map(|i| label(i) as i64).collect()),
            Target::Labels(_) => TargetBuffer::U8(indices.map(|i| label(i) as u8).collect()),
            Target::Dense(DType::F32) => TargetBuffer::F32(indices.map(half).collect()),
            Target::Dense(DType::F16) => TargetBuffer::F16(indices.map(|i| f16::from_f32(half(i))).collect()),
            Target::Dense(DType::BF16) => TargetBuffer::BF16(indices.map(|i| bf16::from_f32(half(i))).collect()),
            Target::Dense(_) => TargetBuffer::U8(indices.map(|i| noise(i + 1) / 128).collect()),
        }
    }
    fn slice(&self) -> Slice<'_> {
        match self {
            TargetBuffer::F32(values) => values.into(),
            TargetBuffer::F16(values) => values.into(),
            TargetBuffer::BF16(values) => values.into(),
            TargetBuffer::U8(values) => values.into(),
            TargetBuffer::I16(values) => values.into(),
            TargetBuffer::I32(values) => values.into(),
            TargetBuffer::I64(values) => values.into(),
        }
    }
}
