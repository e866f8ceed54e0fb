//! Devices that take slices of the host, and copy them.

use segfuse::cpu::RawBuffers;
use segfuse::{DType, Error, Evaluation, Head, Inputs, Plan, Runtime, Slice, SliceMut, Target};
use std::slice::{from_raw_parts, from_raw_parts_mut};

/// # Safety
/// As `segfuse_forward_backward`, with the sizes looked at.
pub(crate) unsafe fn run(
    runtime: &Runtime,
    plan: &Plan,
    raw: &[RawBuffers],
    gradient: bool,
    grad_output: Option<&[f64]>,
) -> Result<Evaluation, Error> {
    let each = || plan.heads().iter().zip(raw);
    let regions: Vec<Vec<Region>> = each().map(|(head, raw)| regions(head, raw)).collect();
    for region in regions.iter().flatten() {
        region.placed()?;
    }
    // SAFETY: the caller's promise; each is there, aligned, and as long as the problem says.
    let inputs: Vec<Inputs<'_>> = regions.iter().map(|regions| unsafe { inputs(regions) }).collect();
    if !gradient {
        return runtime.forward(plan, &inputs);
    }
    let outputs: Vec<Region> = each().map(|(head, raw)| gradient_of(head, raw)).collect();
    for (index, output) in outputs.iter().enumerate() {
        output.placed()?;
        let others = outputs.iter().enumerate().filter(|(other, _)| *other != index).map(|(_, region)| region);
        for other in regions.iter().flatten().chain(others) {
            if output.meets(other) {
                return Err(Error::Overlap { with: other.role });
            }
        }
    }
    // SAFETY: as above, and none shares memory with anything else of the call.
    let mut slices: Vec<SliceMut<'_>> = outputs.iter().map(|region| unsafe { slice_mut(region) }).collect();
    runtime.forward_backward(plan, &inputs, &mut slices, grad_output)
}

struct Region {
    role: &'static str,
    address: *const u8,
    dtype: DType,
    elements: usize,
}

impl Region {
    fn placed(&self) -> Result<(), Error> {
        let role = self.role;
        match (self.elements > 0, self.address.is_null()) {
            (true, true) => return Err(Error::BufferMissing { role }),
            (false, false) => return Err(Error::BufferUnexpected { role }),
            _ => {}
        }
        let (need, address) = (self.dtype.size() as usize, self.address as usize);
        if address.is_multiple_of(need) { Ok(()) } else { Err(Error::BufferAlignment { role, need, address }) }
    }

    fn meets(&self, other: &Region) -> bool {
        let range = |r: &Region| (r.address as usize, (r.address as usize) + r.elements * r.dtype.size() as usize);
        let ((start, end), (other_start, other_end)) = (range(self), range(other));
        other.elements > 0 && start < other_end && other_start < end
    }
}

/// Prediction, target, mask, weights and map of a head.
fn regions(head: &Head, raw: &RawBuffers) -> Vec<Region> {
    let problem = head.problem();
    let (voxels, all) = (problem.shape().all_voxels(), problem.shape().elements());
    let (Target::Labels(target) | Target::Dense(target)) = problem.target();
    let optional = |there: bool| if there { voxels } else { 0 };
    let region = |role, address, dtype, elements: u64| Region { role, address, dtype, elements: elements as usize };
    vec![
        region("the prediction", raw.prediction, problem.prediction_dtype(), all),
        region("the target", raw.target, target, problem.target_elements()),
        region("the mask", raw.mask, DType::U8, optional(problem.has_mask())),
        region("the voxel weights", raw.weights, DType::F32, optional(problem.has_weights())),
        region("the map", raw.map, DType::F32, problem.map_elements().unwrap_or(0)),
    ]
}

fn gradient_of(head: &Head, raw: &RawBuffers) -> Region {
    let problem = head.problem();
    let elements = problem.shape().elements() as usize;
    Region { role: "the gradient", address: raw.gradient, dtype: problem.gradient_dtype(), elements }
}

/// # Safety
/// Each region of [`regions`] holds what it says, or nothing, and is not written meanwhile.
unsafe fn inputs<'a>(regions: &[Region]) -> Inputs<'a> {
    let [prediction, target, mask, weights, map] = regions else { unreachable!("a head has five inputs") };
    // SAFETY: the caller's promise.
    unsafe {
        let mut inputs = Inputs::new(slice(prediction), slice(target));
        if mask.elements > 0 {
            inputs = inputs.mask(from_raw_parts(mask.address, mask.elements));
        }
        if weights.elements > 0 {
            inputs = inputs.weights(from_raw_parts(weights.address.cast(), weights.elements));
        }
        if map.elements > 0 {
            inputs = inputs.map(from_raw_parts(map.address.cast(), map.elements));
        }
        inputs
    }
}

/// A [`Slice`] or [`SliceMut`] of a region.
macro_rules! typed {
    ($slice:ident, $make:ident, $address:expr, $region:expr) => {
        match $region.dtype {
            DType::F32 => $slice::F32($make($address.cast(), $region.elements)),
            DType::F16 => $slice::F16($make($address.cast(), $region.elements)),
            DType::BF16 => $slice::BF16($make($address.cast(), $region.elements)),
            DType::U8 => $slice::U8($make($address.cast(), $region.elements)),
            DType::I16 => $slice::I16($make($address.cast(), $region.elements)),
            DType::I32 => $slice::I32($make($address.cast(), $region.elements)),
            DType::I64 => $slice::I64($make($address.cast(), $region.elements)),
        }
    };
}

/// # Safety
/// The region holds what it says, and is not written meanwhile.
unsafe fn slice<'a>(region: &Region) -> Slice<'a> {
    // SAFETY: the caller's promise.
    unsafe { typed!(Slice, from_raw_parts, region.address, region) }
}

/// # Safety
/// The region holds what it says, and nothing else uses it meanwhile.
unsafe fn slice_mut<'a>(region: &Region) -> SliceMut<'a> {
    // SAFETY: the caller's promise.
    unsafe { typed!(SliceMut, from_raw_parts_mut, region.address.cast_mut(), region) }
}
