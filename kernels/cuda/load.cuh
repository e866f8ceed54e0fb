// From the elements of a buffer to values, and back.
//
// Which type a buffer has, the host knows when it completes a kernel: the comments below become the load of N elements at once
// and their conversion, or the conversion and the store. `at` is the address of the buffer, `i` the number of the first element.
#pragma once
#include "math.cuh"

// Labels that are no class.
static constexpr int IGNORED = -1, INVALID = -2;

#define LOAD_1(buffer, type, x) asm volatile("// SEGFUSE_LOAD " buffer " %1 %2 %0" : "=" type(x[0]) : "l"(at), "l"(i))
#define LOAD_2(buffer, type, x) \
    asm volatile("// SEGFUSE_LOAD " buffer " %2 %3 %0 %1" : "=" type(x[0]), "=" type(x[1]) : "l"(at), "l"(i))
#define LOAD_4(buffer, type, x)                                                                                \
    asm volatile("// SEGFUSE_LOAD " buffer " %4 %5 %0 %1 %2 %3"                                                \
                 : "=" type(x[0]), "=" type(x[1]), "=" type(x[2]), "=" type(x[3]) : "l"(at), "l"(i))
#define LOADER(name, value, buffer, type)                                                                      \
    template <int N> __device__ __forceinline__ void name(value (&x)[N], u64 at, u64 i) {                      \
        static_assert(N == 1 || N == 2 || N == 4, "as many as a load gives");                                  \
        if constexpr (N == 1) LOAD_1(buffer, type, x);                                                         \
        if constexpr (N == 2) LOAD_2(buffer, type, x);                                                         \
        if constexpr (N == 4) LOAD_4(buffer, type, x);                                                         \
    }
LOADER(load_prediction, float, "PREDICTION", "f")
LOADER(load_dense, float, "DENSE", "f")
LOADER(load_map, float, "MAP", "f")
LOADER(load_weights, float, "WEIGHTS", "f")
// Classes, IGNORED or INVALID.
LOADER(load_labels, int, "LABELS", "r")
LOADER(load_keep, int, "MASK", "r")

// A number of a small table in global memory.
__device__ __forceinline__ float entry(u64 at, u32 i) { return __ldg(reinterpret_cast<const float *>(at) + i); }

// Writes N elements of the gradient.
template <int N> __device__ __forceinline__ void store(const float (&x)[N], u64 at, u64 i) {
    if constexpr (N == 1) asm volatile("// SEGFUSE_STORE %0 %1 %2" ::"l"(at), "l"(i), "f"(x[0]));
    if constexpr (N == 2) asm volatile("// SEGFUSE_STORE %0 %1 %2 %3" ::"l"(at), "l"(i), "f"(x[0]), "f"(x[1]));
    if constexpr (N == 4)
        asm volatile("// SEGFUSE_STORE %0 %1 %2 %3 %4 %5" ::"l"(at), "l"(i), "f"(x[0]), "f"(x[1]), "f"(x[2]), "f"(x[3]));
}
