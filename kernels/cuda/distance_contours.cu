// distance_contours: of planes of classes, the voxels that share a face with a voxel of another number; the others are of no class.
//
// reads   i16 [planes, V] labels, or u8 [planes, V]: from memory once, the neighbours from the caches
// writes  the same type: the number of a voxel of a contour, elsewhere the one that stands for no class
// launch  grid (voxels / 256, 1, 1) and no more than fit, block 256; a thread takes a voxel
// determinism  run_to_run: no two threads write the same element
// twins   kernels/wgsl/distance_contours.wgsl, src/cpu/maps.rs
#include "distance.cuh"

// `ContoursParams` of src/cuda/maps.rs.
struct Contours {
    u64 from, to;
    u64 voxels, planes;
    // Slices of lines of voxels.
    u64 depth, height, width;
    u32 are_labels, unused;
};

template <class T> __device__ __forceinline__ void contour(const Contours &p, u64 i, T none) {
    const T *values = reinterpret_cast<const T *>(p.from) + i / p.voxels * p.voxels;
    const u64 voxel = i % p.voxels;
    const T own = __ldg(values + voxel);
    const auto differs = [&](u64 stride, u64 extent) {
        const u64 at = voxel / stride % extent;
        return (at > 0 && __ldg(values + voxel - stride) != own) || (at + 1 < extent && __ldg(values + voxel + stride) != own);
    };
    const bool border = differs(1, p.width) || differs(p.width, p.height) || differs(p.width * p.height, p.depth);
    reinterpret_cast<T *>(p.to)[i] = border ? own : none;
}

extern "C" __global__ void __launch_bounds__(THREADS, 4) distance_contours(const Contours p) {
    const u64 all = p.planes * p.voxels;
    for (u64 i = u64(blockIdx.x) * THREADS + thread(); i < all; i += u64(gridDim.x) * THREADS) {
        if (p.are_labels) contour<short>(p, i, -1);
        else contour<unsigned char>(p, i, 0);
    }
}
