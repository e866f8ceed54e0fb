// What becomes of squares of distances in the maps of a plan; used by distance_extremes.cu and distance_maps.cu.
#pragma once
#include "distance.cuh"

enum : u32 { MAP_SIGNED, MAP_SQUARED, MAP_CLOSENESS, MAP_MEAN };

// `MapsParams` of src/cuda/maps.rs.
struct Maps {
    // Squares of two-sided distances, negative in the class; or squares of distances to a contour, and the other contour, over which
    // their mean root goes.
    u64 from;
    Field over;
    u64 to;
    // Of each part of each plane two numbers of 64 bits: the least distances outside and inside, and the largest; or the sum of
    // distances, and how many they are.
    u64 partials;
    u64 voxels, part_voxels;
    // Planes of `to`; of `from` there are more of each sample, of which the first are skipped.
    u64 planes;
    u32 parts;
    u32 made, made_of_from, skipped, first_class;
    u32 one_class;
    u32 operation, unused;
};

// The part of a map that a block has.
struct MapPart : Part {
    u64 sample;
    u32 of_class;
    const float *from;
    float *to;
    __device__ __forceinline__ MapPart(const Maps &p, u64 task) : Part(task, p.parts, p.part_voxels, p.voxels) {
        sample = plane / p.made;
        const u32 number = u32(plane % p.made);
        of_class = p.first_class + number;
        from = reinterpret_cast<const float *>(p.from) + (sample * p.made_of_from + p.skipped + number) * p.voxels;
        to = reinterpret_cast<float *>(p.to) + plane * p.voxels;
    }
};
