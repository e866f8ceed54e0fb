// What is kept of the two nearest objects of a voxel; used by distance_objects.cu and distance_nearest.cu.
#pragma once
#include "distance.cuh"

enum : u32 { OBJECTS_BEGIN, OBJECTS_JOIN, OBJECTS_GATHER };
static constexpr u32 NO_OBJECT = 0xffffffffu;

// `ObjectsParams` of src/cuda/objects.rs.
struct Objects {
    // Of the first sample of the launch.
    u64 regions, forest;
    // Two nearest objects of each voxel, [samples, V]; where they go, or d1 + d2 as f32 [samples, V].
    u64 from, to;
    u64 voxels, depth, height, width;
    // Samples of the launch, and planes of each in which voxels are numbered.
    u64 samples, planes;
    // The axis: its extent, and the voxels between two places of it.
    u64 extent, inner;
    u32 classes, first_class, of_labels, step;
    float step_squared;
    // No square that matters is as large, no sum is larger.
    float farthest, reach;
    u32 is_last;
};

// The least squares of distances to two objects that differ, and their numbers.
struct Nearest {
    float first, second;
    u32 of_first, of_second;
    __device__ __forceinline__ explicit Nearest(float farthest)
        : first(farthest), second(farthest), of_first(NO_OBJECT), of_second(NO_OBJECT) {}
    __device__ __forceinline__ Nearest(u64 from, u64 i) {
        const uint4 words = __ldg(reinterpret_cast<const uint4 *>(from) + i);
        first = __uint_as_float(words.x), second = __uint_as_float(words.y);
        of_first = words.z, of_second = words.w;
    }
    __device__ __forceinline__ void store(u64 to, u64 i) const {
        reinterpret_cast<uint4 *>(to)[i] = make_uint4(__float_as_uint(first), __float_as_uint(second), of_first, of_second);
    }
    // Takes in an object that is this far away.
    __device__ __forceinline__ void take(float square, u32 object) {
        if (square < first) {
            // What was the nearest is the second then.
            if (object != of_first) second = first, of_second = of_first;
            first = square, of_first = object;
        } else if (square < second && object != of_first) {
            second = square, of_second = object;
        }
    }
};
