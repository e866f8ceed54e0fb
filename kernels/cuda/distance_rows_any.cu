// distance_rows_any: as `distance_rows`, a voxel a lane: rows of any extent, wherever they lie, and the maps where there is no other axis.
//
// reads   labels, or values of one class: once
// writes  f32 [transforms, V], negative in the class, ∞ (or −∞) in a row that does not change; of a line alone, the maps
// launch  grid (blocks, transforms or some of them, 1), block 256; a warp takes some 256 voxels at a time
// determinism  run_to_run: no sum, no two threads write the same element
// twins   kernels/wgsl/distance_rows.wgsl, src/cpu/distance/passes.rs
#include "distance_rows.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, 2) distance_rows_any(const Transform p) { Rows<1>(p).run(); }
