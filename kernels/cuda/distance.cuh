// What the kernels of the stage `distance` share: what classes are read from, what a map holds, where it goes.
//
// They know nothing of a plan: all is in the parameter. Axes of one voxel are left out, and a sample is [slices, lines, row].
#pragma once
#include "math.cuh"

static constexpr int KIND_OUTSIDE = 0, KIND_INSIDE = 1, KIND_TWO_SIDED = 2, KIND_SIGNED = 3, KIND_DIFFERENCE = 4;
static constexpr int TYPE_U8 = 0, TYPE_I16 = 1, TYPE_I32 = 2, TYPE_I64 = 3, TYPE_F32 = 4, TYPE_F16 = 5, TYPE_BF16 = 6;
#define INFINITE __int_as_float(0x7f800000)
// A place on a line that is not there: before its begin, or beyond its end.
static constexpr int NO_PLACE_BEFORE = -1, NO_PLACE_AFTER = 0x7fffffff;

// `Field` of src/cuda/distance.rs: labels of voxels, or one value per voxel and class.
struct Field {
    u64 address;
    // A label that is no class.
    long long ignored;
    // Values of a voxel: 1 of labels.
    u32 classes;
    u32 type;
    u32 is_labels, interleaved, ignores;
    // Labels that are classes are below this.
    u32 limit;
    // A class is where its value is above this.
    float above;
    // The values are planes [transforms of the launch, V].
    u32 of_transforms;
};

// `Transform` of src/cuda/distance.rs.
struct Transform {
    Field field;
    // Squares of this pass, f32 [transforms of the launch, V], negative in the class; where they go, or the maps.
    u64 from, to;
    // The class of each map, u32; 0 where they are all classes in their order. Of one map of several classes, a bit for each label that has
    // distances; 0 where all have.
    u64 classes_of_maps;
    // Memory for the tables of lines that are too long for shared memory; 0 where they are not.
    u64 tables, table_bytes;
    // V; the extent of the axis, and the voxels between two places of it.
    u64 voxels, extent, inner;
    // Transforms of this launch, and the first of them: one per sample and map, or one per sample.
    u64 first, count;
    u32 maps;
    // One transform serves the inside distances of all classes; see `one_map`.
    u32 of_labels;
    // With one class it is label 1.
    u32 one_class;
    float step_squared, per_step;
    // How far a winner may be off because sums are rounded.
    u32 slack;
    // The last pass: what it writes is the maps.
    u32 is_last;
    u32 kind, squared, is_half, interleaved;
    // What the transform of all classes becomes: one map of all of them, or one of each.
    u32 one_map;
};

template <int TYPE> __device__ __forceinline__ float number(u64 at, u64 i) {
    if constexpr (TYPE == TYPE_U8) return float(__ldg(reinterpret_cast<const unsigned char *>(at) + i));
    if constexpr (TYPE == TYPE_F32) return __ldg(reinterpret_cast<const float *>(at) + i);
    const unsigned short half = __ldg(reinterpret_cast<const unsigned short *>(at) + i);
    float x;
    if constexpr (TYPE == TYPE_F16) asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(half));
    else x = __uint_as_float(u32(half) << 16);
    return x;
}
template <int TYPE> __device__ __forceinline__ long long integer(u64 at, u64 i) {
    if constexpr (TYPE == TYPE_U8) return __ldg(reinterpret_cast<const unsigned char *>(at) + i);
    if constexpr (TYPE == TYPE_I16) return __ldg(reinterpret_cast<const short *>(at) + i);
    if constexpr (TYPE == TYPE_I32) return __ldg(reinterpret_cast<const int *>(at) + i);
    return __ldg(reinterpret_cast<const long long *>(at) + i);
}

// Calls the body with the type of a field as a constant.
template <class Body> __device__ __forceinline__ void with_labels(u32 type, Body body) {
    if (type == TYPE_U8) body(Index<TYPE_U8>());
    else if (type == TYPE_I16) body(Index<TYPE_I16>());
    else if (type == TYPE_I32) body(Index<TYPE_I32>());
    else body(Index<TYPE_I64>());
}
template <class Body> __device__ __forceinline__ void with_values(u32 type, Body body) {
    if (type == TYPE_U8) body(Index<TYPE_U8>());
    else if (type == TYPE_F32) body(Index<TYPE_F32>());
    else if (type == TYPE_F16) body(Index<TYPE_F16>());
    else body(Index<TYPE_BF16>());
}

// The class of a voxel, one of all samples; below 0 where it has none.
template <int TYPE> __device__ __forceinline__ int label_of(const Field &field, u64 voxel) {
    const long long label = integer<TYPE>(field.address, voxel);
    const bool is_class = u64(label) < field.limit && !(field.ignores && label == field.ignored);
    return is_class ? int(label) : -1;
}
__device__ __forceinline__ int label_of(const Field &field, u64 voxel) {
    int label = -1;
    with_labels(field.type, [&](auto type) { label = label_of<type>(field, voxel); });
    return label;
}

// The first value of a class of a sample, and the values from voxel to voxel.
struct Values {
    u64 first, step;
    __device__ __forceinline__ Values(const Field &field, u64 voxels, u64 sample, u64 of_class)
        : first(field.interleaved ? sample * voxels * field.classes + of_class : (sample * field.classes + of_class) * voxels),
          step(field.interleaved ? field.classes : 1) {}
};

// Which of all transforms one of a launch is.
struct Which {
    u64 sample;
    u32 map;
    __device__ __forceinline__ Which(const Transform &p, u64 number) {
        const u64 of_all = p.first + number;
        sample = p.of_labels ? of_all : of_all / p.maps;
        map = p.of_labels ? 0 : u32(of_all % p.maps);
    }
};
__device__ __forceinline__ u32 class_of_map(const Transform &p, u32 map) {
    return p.classes_of_maps == 0 ? map : __ldg(reinterpret_cast<const u32 *>(p.classes_of_maps) + map);
}
// The label that voxels of a map's class have.
__device__ __forceinline__ int label_of_map(const Transform &p, u32 map) { return p.one_class ? 1 : int(class_of_map(p, map)); }

// Whether voxels with this label have distances in the one map of several classes.
__device__ __forceinline__ bool has_distance(const Transform &p, int label) {
    const u32 bit = u32(label);
    if (label < 0 || p.classes_of_maps == 0) return label >= 0;
    return __ldg(reinterpret_cast<const u32 *>(p.classes_of_maps) + bit / WARP) >> (bit % WARP) & 1;
}

// What a map holds, from the square of the distance to the nearest voxel of the other side; ∞ where there is none.
template <int KIND> __device__ __forceinline__ float value_of(bool squared, float square, bool inside) {
    const float d = squared && KIND != KIND_SIGNED ? square : __fsqrt_rn(square);
    const float both = d < INFINITE ? d : 0.0f;
    if (KIND == KIND_OUTSIDE) return inside ? 0.0f : d;
    if (KIND == KIND_INSIDE) return inside ? d : 0.0f;
    if (KIND == KIND_TWO_SIDED) return both;
    if (KIND == KIND_DIFFERENCE) return inside ? 0.0f - both : both;
    const float within = d < INFINITE ? __fsub_rn(1.0f, d) : 0.0f;
    const float x = inside ? within : both;
    return squared ? __fmul_rn(x, fabsf(x)) : x;
}
// Calls the body with the kind of a map as a constant.
template <class Body> __device__ __forceinline__ void with_kind(u32 kind, Body body) {
    if (kind == KIND_OUTSIDE) body(Index<KIND_OUTSIDE>());
    else if (kind == KIND_INSIDE) body(Index<KIND_INSIDE>());
    else if (kind == KIND_TWO_SIDED) body(Index<KIND_TWO_SIDED>());
    else if (kind == KIND_DIFFERENCE) body(Index<KIND_DIFFERENCE>());
    else body(Index<KIND_SIGNED>());
}

// Where a voxel of a map lies among all values.
__device__ __forceinline__ u64 place_of(const Transform &p, u64 sample, u32 map, u64 voxel) {
    return p.interleaved ? (sample * p.voxels + voxel) * p.maps + map : (sample * p.maps + map) * p.voxels + voxel;
}
// Writes values of a map, each `step` after the one before, the first `count` of them.
template <int COUNT> __device__ __forceinline__ void put(const Transform &p, u64 place, u64 step, const float (&values)[COUNT], int count) {
    if (p.is_half) {
        unsigned short *to = reinterpret_cast<unsigned short *>(p.to) + place;
        each<COUNT>([&](auto k) {
            unsigned short half;
            asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(values[k]));
            if (k < count) *to = half;
            to += step;
        });
    } else {
        float *to = reinterpret_cast<float *>(p.to) + place;
        each<COUNT>([&](auto k) {
            if (k < count) *to = values[k];
            to += step;
        });
    }
}

// Writes the squares of voxels, each `step` after the one before, the first `count` of them: to the planes of the next pass, or as what
// the maps hold. Bit k of `inside` says whether voxel k is of the class, or of the one map's classes.
template <int COUNT>
__device__ __forceinline__ void emit(const Transform &p, u64 number, const Which &which, u64 voxel, u64 step, const float (&squares)[COUNT], u32 inside, int count) {
    if (!p.is_last) {
        float *to = reinterpret_cast<float *>(p.to) + (number * p.voxels + voxel);
        each<COUNT>([&](auto k) {
            if (k < count) *to = __uint_as_float(__float_as_uint(squares[k]) | (inside << (31 - k) & 0x80000000u));
            to += step;
        });
    } else if (!p.of_labels || p.one_map) {
        float values[COUNT];
        with_kind(p.kind, [&](auto kind) {
            constexpr int KIND = decltype(kind)();
            each<COUNT>([&](auto k) { values[k] = value_of<KIND>(p.squared, squares[k], inside >> k & 1); });
        });
        put(p, place_of(p, which.sample, which.map, voxel), p.interleaved ? step * p.maps : step, values, count);
    } else {
        // Not written out, as it is long: the squares move on instead.
        float rest[COUNT];
        each<COUNT>([&](auto k) { rest[k] = squares[k]; });
        with_labels(p.field.type, [&](auto type) {
#pragma unroll 1
            for (int k = 0; k < min(count, COUNT); ++k) {
                const int own = label_of<type>(p.field, which.sample * p.voxels + voxel);
                const float x = value_of<KIND_INSIDE>(p.squared, rest[0], true);
                for (u32 map = 0; map < p.maps; ++map) {
                    const float value[1] = {own == label_of_map(p, map) ? x : 0.0f};
                    put<1>(p, place_of(p, which.sample, map, voxel), 0, value, 1);
                }
                each<COUNT - 1>([&](auto m) { rest[m] = rest[m + 1]; });
                voxel += step;
            }
        });
    }
}
// Of one voxel, whose label is read once more for the one map.
__device__ __forceinline__ void emit(const Transform &p, u64 number, const Which &which, u64 voxel, float square, bool inside) {
    const float squares[1] = {square};
    if (p.is_last && p.one_map) inside = has_distance(p, label_of(p.field, which.sample * p.voxels + voxel));
    emit<1>(p, number, which, voxel, 0, squares, inside, 1);
}

// The square of the distance along an axis, from steps.
__device__ __forceinline__ float square_of(const Transform &p, float steps) {
    return __fmul_rn(__fmul_rn(steps, steps), p.step_squared);
}

// Bits up to this one.
__device__ __forceinline__ u32 up_to(int bit) { return 0xffffffffu >> (WARP - 1 - bit); }
// The highest and the lowest bit of a word that is not 0.
__device__ __forceinline__ int highest(u32 word) { return WARP - 1 - __clz(int(word)); }
__device__ __forceinline__ int lowest(u32 word) { return __ffs(int(word)) - 1; }

// The part of a plane that a block has: one of equal voxels, but for the last.
struct Part {
    u64 plane, first, end;
    __device__ __forceinline__ Part(u64 task, u32 parts, u64 part_voxels, u64 voxels)
        : plane(task / parts), first(task % parts * part_voxels), end(min(first + part_voxels, voxels)) {}
};
