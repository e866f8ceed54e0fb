// erosion_errors: p − g of every voxel and class, and the weight of every voxel; both 0 where a voxel does not count, or has no weight.
//
// reads   a prediction, of softmax three times; labels or a dense target; the mask and the weights, where there are some
// writes  f32 [N, classes from the first on, V] and f32 [N, V]
// launch  grid (voxels / 256, 1, 1) and no more than fit, block 256; a thread takes a voxel
// determinism  run_to_run: no two threads write the same element
// twins   kernels/wgsl/erosion_errors.wgsl, src/cpu/erosion.rs
#include "distance.cuh"

enum : u32 { PLAIN, SIGMOID, SOFTMAX };

// `ErrorsParams` of src/cuda/erosion.rs.
struct Errors {
    Field prediction, target;
    // u8, 0 where a voxel does not count; f32 weights; each or 0.
    u64 keep, weights_of_caller;
    u64 errors, weights;
    u64 voxels, samples;
    u32 classes, first_class;
    u32 activation, one_class;
};

__device__ __forceinline__ float value(const Field &field, u64 i) {
    float x = 0.0f;
    with_values(field.type, [&](auto type) { x = number<type>(field.address, i); });
    return x;
}

__device__ __forceinline__ float sigmoid(float z) {
    const float e = exp_of_negative(-fabsf(z));
    const float large = __fdiv_rn(1.0f, 1.0f + e);
    return z >= 0.0f ? large : e * large;
}

extern "C" __global__ void __launch_bounds__(THREADS, 4) erosion_errors(const Errors p) {
    const u64 all = p.samples * p.voxels;
    for (u64 i = u64(blockIdx.x) * THREADS + thread(); i < all; i += u64(gridDim.x) * THREADS) {
        const u64 sample = i / p.voxels, voxel = i % p.voxels;
        const int own = p.target.is_labels ? label_of(p.target, i) : 0;
        bool counts = own >= 0;
        if (p.keep != 0) counts = counts && __ldg(reinterpret_cast<const unsigned char *>(p.keep) + i) != 0;
        float weight = counts ? 1.0f : 0.0f;
        if (counts && p.weights_of_caller != 0) weight = __ldg(reinterpret_cast<const float *>(p.weights_of_caller) + i);
        reinterpret_cast<float *>(p.weights)[i] = weight;
        const auto z = [&](u32 k) {
            const Values values(p.prediction, p.voxels, sample, k);
            return value(p.prediction, values.first + voxel * values.step);
        };
        float top = -INFINITE, sum = 0.0f;
        if (p.activation == SOFTMAX && weight != 0.0f) {
            for (u32 k = 0; k < p.classes; ++k) top = fmaxf(top, z(k));
            for (u32 k = 0; k < p.classes; ++k) sum += exp_of_negative(z(k) - top);
        }
        for (u32 k = p.first_class; k < p.classes; ++k) {
            float error = 0.0f;
            // A weight of NaN is one that counts.
            if (weight != 0.0f) {
                const float x = z(k);
                const float y = p.activation == SOFTMAX   ? __fdiv_rn(exp_of_negative(x - top), sum)
                                : p.activation == SIGMOID ? sigmoid(x)
                                                          : x;
                float g;
                if (p.target.is_labels) {
                    g = own == int(p.one_class ? 1 : k) ? 1.0f : 0.0f;
                } else {
                    const Values values(p.target, p.voxels, sample, k);
                    g = value(p.target, values.first + voxel * values.step);
                }
                error = y - g;
            }
            reinterpret_cast<float *>(p.errors)[(sample * (p.classes - p.first_class) + k - p.first_class) * p.voxels + voxel] = error;
        }
    }
}
