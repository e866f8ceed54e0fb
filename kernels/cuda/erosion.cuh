// What the kernels of eroded errors share; used by erosion_errors.cu, erosion_forward.cu and erosion_backward.cu.
//
// An erosion adds up a cross of faces, less half of its voxels. What is left above 0 is spread to [0, 1] over the plane, which takes the
// extremes of all of it: so the next launch does that where it reads. All in double precision, as a range of nearly nothing makes
// much of what was rounded before; what is kept for the way back is f32.
#pragma once
#include "distance.cuh"

// `ErosionParams` of src/cuda/erosion.rs.
struct Erosion {
    // f32 [planes of all samples, V]: errors p − g, in place of which the slopes are written at the end, if any are; and eroded errors,
    // which else take that place.
    u64 errors, values;
    // f32 [N, V]: m, and 0 where a voxel does not count.
    u64 weights;
    // f64 [planes of the launch, V]: what the launch before wrote, and what this one does; the weighted sum of the erosions whose
    // places were taken again.
    u64 from, to, totals;
    // f32 [room, planes of the launch, V]: b of erosions, one after the other. −0 where the mean lies below ½, 1 where it is largest and
    // there alone.
    u64 kept;
    // Of each erosion and part of a plane: the bits of the least and the largest sum; what flows to the voxels of either, and their counts.
    u64 extremes, shares;
    // f64 [erosions]: k^α.
    u64 factors;
    u64 voxels, part_voxels;
    // Planes of this launch, and the first of them.
    u64 first, planes;
    // Slices of rows of voxels.
    u64 depth, height, width;
    // Planes of a sample; parts of a plane.
    u32 made, parts;
    // Which erosion this is, of 1 to `erosions`; the first that is kept, and how many there is room for.
    u32 erosion, erosions, kept_from, room;
    // Whether erosions are made again, whose sum is known.
    u32 again, unused;
    // Voxels of a cross.
    double cross;
};

// The least and the largest sum of a part by their bits, which are in the order of numbers that are not negative.
struct Extremes {
    u64 least, largest;
};
// Of a part without sums: nothing was left to erode.
static constexpr u64 NO_SUM = ~0ull;

__device__ __forceinline__ Extremes operator+(const Extremes &a, const Extremes &b) {
    return {min(a.least, b.least), max(a.largest, b.largest)};
}

// The sum over a block, by a tree; every thread gets it.
template <class T> __device__ __forceinline__ T sum_of_block(T (&scratch)[THREADS], const T &x) {
    const int own = thread();
    scratch[own] = x;
    for (int half = THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (own < half) scratch[own] = scratch[own] + scratch[own + half];
    }
    __syncthreads();
    const T sum = scratch[0];
    // Before the next one writes.
    __syncthreads();
    return sum;
}

// The part of an image that a block has.
struct ErosionPart : Part {
    const float *weights;
    float *errors, *values;
    __device__ __forceinline__ ErosionPart(const Erosion &p, u64 task) : Part(task, p.parts, p.part_voxels, p.voxels) {
        weights = reinterpret_cast<const float *>(p.weights) + (p.first + plane) / p.made * p.voxels;
        errors = reinterpret_cast<float *>(p.errors) + (p.first + plane) * p.voxels;
        values = reinterpret_cast<float *>(p.values) + (p.first + plane) * p.voxels;
    }
};

template <class T> __device__ __forceinline__ T *plane_of(u64 at, const Erosion &p, const Part &part) {
    return reinterpret_cast<T *>(at) + part.plane * p.voxels;
}
__device__ __forceinline__ float *kept_of(const Erosion &p, const Part &part, u32 erosion) {
    return plane_of<float>(p.kept, p, part) + erosion % p.room * p.planes * p.voxels;
}
__device__ __forceinline__ Extremes *extremes_of(const Erosion &p, u64 plane, u32 erosion) {
    return reinterpret_cast<Extremes *>(p.extremes) + ((erosion - 1) * p.planes + plane) * p.parts;
}
__device__ __forceinline__ double factor(const Erosion &p, u32 erosion) {
    return __ldg(reinterpret_cast<const double *>(p.factors) + erosion - 1);
}

// The extremes of an erosion over a plane; its parts are no more than threads.
__device__ __forceinline__ Extremes extremes_of_plane(Extremes (&scratch)[THREADS], const Erosion &p, u64 plane, u32 erosion) {
    const Extremes none = {NO_SUM, 0};
    return sum_of_block(scratch, thread() < p.parts ? extremes_of(p, plane, erosion)[thread()] : none);
}

// How the sums of an erosion are spread: the same for all voxels of a plane.
struct Spread {
    double least, largest;
    // What is taken away, and what is then divided by.
    double shift, divisor, reciprocal;
    bool is_spread;
    // Nothing was left to erode.
    bool skipped;
    __device__ __forceinline__ Spread(const Erosion &p, const Extremes &extremes) {
        skipped = extremes.least == NO_SUM;
        least = __longlong_as_double(extremes.least), largest = __longlong_as_double(extremes.largest);
        // A NaN is the largest by its bits, and spreads to all.
        is_spread = least != largest;
        shift = is_spread ? least : 0.0;
        divisor = is_spread ? __dsub_rn(largest, least) : p.cross;
        reciprocal = __drcp_rn(divisor);
    }
    __device__ __forceinline__ double left(double sum) const { return sum < 0.0 ? 0.0 : sum; }
    // The quotient, rounded as IEEE says: what is 1 has to be exactly that.
    __device__ __forceinline__ double operator()(double sum) const {
        const double x = __dsub_rn(left(sum), shift), q = __dmul_rn(x, reciprocal);
        return __fma_rn(__fma_rn(-q, divisor, x), reciprocal, q);
    }
};

// Sum over a cross; beyond the borders is 0. The neighbours along an axis are added to each other first, so that mirror images have the
// same sums.
template <class Value> __device__ __forceinline__ double cross(const Erosion &p, u64 voxel, Value value) {
    const u64 x = voxel % p.width, row = voxel / p.width, y = row % p.height, z = row / p.height;
    double sum = value(voxel);
    const auto along = [&](u64 at, u64 extent, u64 stride) {
        if (extent == 1) return;
        const double before = at > 0 ? value(voxel - stride) : 0.0, after = at + 1 < extent ? value(voxel + stride) : 0.0;
        sum = __dadd_rn(sum, __dadd_rn(before, after));
    };
    along(x, p.width, 1);
    along(y, p.height, p.width);
    along(z, p.depth, p.width * p.height);
    return sum;
}
