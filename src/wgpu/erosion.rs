//! The eroded errors of a plan: how planes are eroded, forth and, for their slope, back.

use super::distance::{self, Bind, Builder, Grid, PieceParams, Place, Planes, THREADS, kernel};
use super::geometry::Limits;
use super::source;
use crate::distance::erosion::{KEPT_BYTES, Kept};
use crate::error::Error;
use crate::plan::Head;
use crate::spec::{Erosions, VoxelInput};

/// Voxels of a part of a plane at least, and most parts of a plane: no more than threads.
const PART_VOXELS: u64 = 4096;
const PARTS_MAX: u64 = THREADS;
/// Bytes of a double, of the extremes of a part, and of what flows to them.
const DOUBLE: u64 = 8;
const EXTREMES: u64 = 16;
const SHARES: u64 = 32;

/// The numbers of the maps of a head that are made of its eroded errors.
pub(super) fn maps(head: &Head) -> Option<(Erosions, [Option<usize>; 2])> {
    let number = |input| head.maps.iter().position(|map| map.input == input);
    let numbers = [number(VoxelInput::ErodedError), number(VoxelInput::ErodedErrorSlope)];
    head.erosions.filter(|_| numbers[0].is_some()).map(|by| (by, numbers))
}

/// How many planes are eroded together, and how many erosions of each are kept for slopes: 24 bytes per voxel and those that are
/// kept stay within a budget, and each buffer within a binding, or what is kept within a buffer. Of a plane for which that is too
/// little, fewer erosions are kept.
///
/// # Errors
/// [`Error::DeviceLimit`] where not even one plane fits.
pub(super) fn at_once(
    by: Erosions,
    voxels: u64,
    slopes: bool,
    budget: u64,
    limits: &Limits,
    buffer_bytes: u64,
) -> Result<(u64, usize), Error> {
    distance::fits("bytes of the sums of an erosion in one storage binding", DOUBLE * voxels, limits)?;
    // Each erosion is bound by itself.
    let kept = KEPT_BYTES * voxels + limits.alignment;
    let count = if slopes { by.count } else { 0 };
    let doubles_and_slopes = 24 * voxels;
    let bytes = budget.saturating_sub(doubles_and_slopes).min(buffer_bytes);
    let room = Kept::room(count, kept / KEPT_BYTES, bytes);
    let all_kept = kept * room as u64;
    if all_kept > buffer_bytes {
        let what = "bytes of one buffer, for what is kept of erosions";
        return Err(Error::DeviceLimit { what, need: all_kept, got: buffer_bytes });
    }
    let within = (budget / (doubles_and_slopes + all_kept)).min(distance::room(limits) / (DOUBLE * voxels));
    Ok((within.min(buffer_bytes / all_kept.max(1)).max(1), room))
}

/// The dispatches that erode the errors of a piece, which lie where the slopes will be, or in `values` where there are none.
#[expect(clippy::too_many_arguments, reason = "of what, how, from where, to where")]
pub(super) fn erode(
    builder: &mut Builder<'_, '_>,
    by: Erosions,
    room: usize,
    rank: usize,
    grid: &Grid,
    params: PieceParams,
    values: Planes,
    slopes: Option<Planes>,
    limits: &Limits,
) {
    let planes = u64::from(params.planes);
    let parts = grid.voxels.div_ceil(PART_VOXELS).min(PARTS_MAX);
    let groups = planes * parts;
    let (of_doubles, of_values) = (DOUBLE * planes * grid.voxels, 4 * planes * grid.voxels);
    let samples = planes / u64::from(params.maps);
    let weights = Bind::whole(Place::VoxelWeights, 4 * samples * grid.voxels);
    let (sums, eroded) = (Bind::whole(Place::Sums, of_doubles), Bind::whole(Place::Eroded, of_doubles));
    let kept = |erosion: usize| Bind::one_of(Place::Kept, erosion % room, of_values, limits);
    let extremes = |erosion: usize| Bind::one_of(Place::SumExtremes, erosion - 1, EXTREMES * groups, limits);
    let errors = slopes.unwrap_or(values);
    let params = |erosion: usize, to: &Planes| PieceParams {
        extent: grid.slice_rows,
        from_base: errors.base,
        from_sample: errors.sample,
        to_base: to.base,
        to_sample: to.sample,
        factor: if erosion > 0 { by.weight(erosion) as f32 } else { 0.0 },
        cross: (2 * rank + 1) as u32,
        parts: parts as u32,
        part_voxels: grid.voxels.div_ceil(parts) as u32,
        ..params
    };
    // Up to an erosion: with what is added to the eroded errors, and with what is kept from an erosion on.
    let forth = |builder: &mut Builder<'_, '_>, to: usize, total: bool, kept_from: Option<usize>| {
        for erosion in 1..=to {
            let mut flags = if erosion == 1 { vec!["FIRST"] } else { Vec::new() };
            let from = if erosion == 1 { errors.bind.read() } else { eroded.read() };
            let text = source::distance(kernel!("erosion_sums"), &flags);
            builder.dispatch(text, &[from, sums, extremes(erosion)], params(erosion, &values), groups);
            let mut binds = vec![sums.read(), extremes(erosion).read(), eroded];
            if total {
                flags.push("TOTAL");
                binds.push(values.bind);
            }
            if kept_from.is_some_and(|from| erosion >= from) {
                flags.push("KEPT");
                binds.push(kept(erosion));
            }
            let text = source::distance(kernel!("erosion_spread"), &flags);
            builder.dispatch(text, &binds, params(erosion, &values), groups);
        }
    };
    forth(builder, by.count, true, slopes.map(|_| 1));
    let Some(slopes) = slopes else { return };
    builder.for_gradients(true);
    let mut known = Kept::new(room, by.count);
    for erosion in (0..=by.count).rev() {
        if let Some(kept_from) = known.again(erosion) {
            forth(builder, erosion, false, Some(kept_from));
        }
        let place = |erosion: usize| Bind::whole(Place::Slopes(erosion % 2 == 1), of_values);
        let shares = |erosion: usize| Bind::whole(Place::Shares(erosion % 2 == 1), SHARES * groups);
        let mut flags = Vec::new();
        let mut binds = vec![weights.read(), if erosion == 0 { slopes.bind } else { place(erosion) }];
        if erosion == 0 {
            flags.push("OVER");
        } else {
            binds.extend([kept(erosion).read(), shares(erosion)]);
        }
        if erosion == by.count {
            flags.push("LAST");
        } else {
            let after = erosion + 1;
            binds.extend([place(after), kept(after), extremes(after), shares(after)].map(Bind::read));
        }
        let text = source::distance(kernel!("erosion_backward"), &flags);
        builder.dispatch(text, &binds, params(erosion, &slopes), groups);
    }
    builder.for_gradients(false);
}
