// distance_rows: squares of distances along the last axis, to the nearest place where the side changes, four voxels a lane.
//
// reads   labels, or values of one class, side by side and aligned to four of them, or to 16 bytes: once
// writes  f32 [transforms, V], aligned to 16 bytes, negative in the class, ∞ (or −∞) in a row that does not change
// launch  grid (blocks, transforms or some of them, 1), block 256; a warp takes some 512 voxels at a time, in whole rows where they are shorter
// determinism  run_to_run: no sum, no two threads write the same element
// twins   kernels/wgsl/distance_rows.wgsl, src/cpu/distance/passes.rs
#include "distance_rows.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, 3) distance_rows(const Transform p) { Rows<4>(p).run(); }
