// Kernels as a compiler makes them, for the tests of `softcuda/tests/kernels.rs`. Compiled once by NVRTC 12.0 for compute_70
// (`--gpu-architecture=compute_70 -std=c++17 -default-device`) to `kernels.ptx`, which is committed.

typedef unsigned int u32;
typedef unsigned long long u64;
#define KERNEL extern "C" __global__ void

// Sum of a block: 16-byte loads, shuffles, shared memory.
KERNEL block_sum(const float4* x, float* sums, u64 quads) {
    __shared__ float parts[32];
    float sum = 0;
    for (u64 i = blockIdx.x * (u64)blockDim.x + threadIdx.x; i < quads; i += (u64)gridDim.x * blockDim.x) {
        float4 v = x[i];
        sum += (v.x + v.y) + (v.z + v.w);
    }
    for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x < 32) {
        sum = threadIdx.x < blockDim.x / 32 ? parts[threadIdx.x] : 0;
        for (int step = 16; step > 0; step /= 2) sum += __shfl_down_sync(~0u, sum, step);
        if (threadIdx.x == 0) sums[blockIdx.x] = sum;
    }
}

// A tile of 32 by 32 through shared memory; with PAD words between rows.
template <int PAD> __device__ void transpose(const float* x, float* y) {
    __shared__ float tile[32][32 + PAD];
    int column = threadIdx.x, row = threadIdx.y;
    for (int r = row; r < 32; r += blockDim.y) tile[r][column] = x[r * 32 + column];
    __syncthreads();
    for (int r = row; r < 32; r += blockDim.y) y[r * 32 + column] = tile[column][r];
}
KERNEL transpose_conflicts(const float* x, float* y) { transpose<0>(x, y); }
KERNEL transpose_padded(const float* x, float* y) { transpose<1>(x, y); }

// Calls, local arrays with an index of the data, and a switch.
__device__ __noinline__ float polynomial(float x, int degree) {
    float sum = 1;
    for (int k = 0; k < degree; ++k) sum = fmaf(sum, x, 1.0f);
    return sum;
}
KERNEL control(const int* x, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float a[16];
    for (int k = 0; k < 16; ++k) a[k] = k * 0.5f;
    for (int k = 0; k < x[i] % 50; ++k) a[(k * 7 + x[i]) & 15] += a[k & 15];
    float r = 0;
    switch (x[i] & 7) {
        case 0: r = a[x[i] & 15]; break;
        case 1: r = polynomial(0.5f, x[i] & 3); break;
        case 2: r = -a[3]; break;
        case 3: r = polynomial(a[1], 2); break;
        case 4: r = sqrtf(a[5]); break;
        case 5: r = a[0] / 3; break;
        case 6: r = x[i]; break;
        default: r = 1000;
    }
    y[i] = r;
}

// The library's functions, with their slow paths.
KERNEL functions(const float* x, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float v = x[i];
    y[8 * i + 0] = expf(v);
    y[8 * i + 1] = logf(fabsf(v));
    y[8 * i + 2] = sinf(v);
    y[8 * i + 3] = powf(fabsf(v), 1.7f);
    y[8 * i + 4] = tanhf(v);
    y[8 * i + 5] = fmodf(v, 0.3f);
    y[8 * i + 6] = erff(v);
    y[8 * i + 7] = log1pf(fabsf(v)) + cbrtf(v);
}
KERNEL doubles(const double* x, double* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    double v = x[i];
    y[4 * i + 0] = exp(v);
    y[4 * i + 1] = log(fabs(v));
    y[4 * i + 2] = pow(fabs(v), 1.7) / (1 + v * v);
    y[4 * i + 3] = sqrt(fabs(v)) + floor(v) + rint(v);
}

// A histogram by atomics: in shared memory, then in global memory.
KERNEL histogram(const u32* x, u32* counts, u32 n) {
    __shared__ u32 own[64];
    for (u32 k = threadIdx.x; k < 64; k += blockDim.x) own[k] = 0;
    __syncthreads();
    for (u32 i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) atomicAdd(&own[x[i] & 63], 1u);
    __syncthreads();
    for (u32 k = threadIdx.x; k < 64; k += blockDim.x) atomicAdd(&counts[k], own[k]);
}
// The largest double by compare-and-swap, a sum by atomics, and a lock.
KERNEL atomics(const double* x, u64* largest, double* sum, u32* lock, u32* guarded, u32 n) {
    u32 i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    u64 seen = *(volatile u64*)largest;
    while (__longlong_as_double(seen) < x[i]) {
        u64 found = atomicCAS(largest, seen, (u64)__double_as_longlong(x[i]));
        if (found == seen) break;
        seen = found;
    }
    atomicAdd(sum, x[i]);
    if (i % 7 == 0) {
        while (atomicCAS(lock, 0u, 1u) != 0u) {}
        __threadfence();
        *guarded += 1;
        __threadfence();
        atomicExch(lock, 0u);
    }
}

// The last block adds up what all have left.
KERNEL last_block(const float* x, double* parts, u32* ticket, double* total, u32 n) {
    __shared__ double own[8];
    __shared__ bool last;
    double sum = 0;
    for (u32 i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) sum += x[i];
    for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
    if (threadIdx.x % 32 == 0) own[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (u32 k = 1; k < blockDim.x / 32; ++k) sum += own[k];
        parts[blockIdx.x] = sum;
        __threadfence();
        last = atomicAdd(ticket, 1u) == gridDim.x - 1;
        __threadfence();
    }
    __syncthreads();
    if (last && threadIdx.x == 0) {
        sum = 0;
        for (u32 k = 0; k < gridDim.x; ++k) sum += parts[k];
        *total = sum;
        *ticket = 0;
    }
}

// All blocks meet, several times: each adds its left neighbour's value.
KERNEL meet(u32* values, u32* gate, u32 rounds) {
    for (u32 round = 0; round < rounds; ++round) {
        u32 left = values[(blockIdx.x + gridDim.x - 1) % gridDim.x];
        for (int phase = 0; phase < 2; ++phase) {
            __syncthreads();
            if (threadIdx.x == 0) {
                __threadfence();
                u32 goal = (2 * round + phase + 1) * gridDim.x;
                atomicAdd(gate, 1u);
                while (*(volatile u32*)gate < goal) {}
                __threadfence();
            }
            __syncthreads();
            if (phase == 0 && threadIdx.x == 0) values[blockIdx.x] += left;
        }
    }
}

// Instructions for the measure of speed.
KERNEL work(float* y, int n) {
    float a = threadIdx.x * 0.001f, b = 0.5f, c = 0.25f;
    for (int k = 0; k < n; ++k) {
        a = fmaf(a, b, c);
        b = b * 0.999f + 0.0001f;
        c = fminf(c + a, 1.0f);
        a = a > 2.0f ? a - 2.0f : a;
    }
    y[blockIdx.x * blockDim.x + threadIdx.x] = a + b + c;
}
