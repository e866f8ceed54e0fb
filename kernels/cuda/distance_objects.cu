// distance_objects: the connected components of the foreground, as a forest of voxels in which each tree is an object and its root the
// object's first voxel; then the two nearest objects of each voxel as far as it is in some.
//
// A launch for each step: OBJECTS_BEGIN lets the voxels of a run point to its first, OBJECTS_JOIN joins the trees of neighbours, OBJECTS_GATHER
// writes what a voxel is in. Union-find with intermediate pointer jumping (Jaiganesh & Burtscher 2018, ECL-CC): only a root is made to point
// elsewhere, to a number below its own, so every path falls and ends at the least voxel of the component, whoever comes first.
//
// reads   i16 [samples, V] labels, or u8 [samples, C, V]; the forest u32 [samples, planes, V]
// writes  the forest; four words per voxel, see distance_nearest
// launch  grid (voxels / 256, 1, 1) and no more than fit, block 256; a thread takes a voxel of a plane, or of a sample to gather
// determinism  run_to_run: paths differ from run to run, their ends do not
// twins   kernels/wgsl/distance_objects.wgsl, src/cpu/objects.rs
#include "distance_objects.cuh"

// The object class of a voxel of a plane; 0 where it is in no object.
__device__ __forceinline__ int class_of(const Objects &p, u64 sample, u64 plane, u64 voxel) {
    if (p.of_labels) return max(int(__ldg(reinterpret_cast<const short *>(p.regions) + sample * p.voxels + voxel)), 0);
    const u64 byte = (sample * p.classes + p.first_class + plane) * p.voxels + voxel;
    return __ldg(reinterpret_cast<const unsigned char *>(p.regions) + byte);
}

// Other blocks write the forest meanwhile.
__device__ __forceinline__ u32 parent_of(u32 *forest, u32 voxel) { return *reinterpret_cast<volatile u32 *>(forest + voxel); }

__device__ __forceinline__ u32 root_of(u32 *forest, u32 voxel) {
    u32 parent = parent_of(forest, voxel);
    while (parent != voxel) {
        const u32 next = parent_of(forest, parent);
        // Halves the path for those that come after.
        if (next != parent) atomicMin(forest + voxel, next);
        voxel = parent;
        parent = next;
    }
    return voxel;
}

__device__ __forceinline__ void join(u32 *forest, u32 a, u32 b) {
    a = root_of(forest, a), b = root_of(forest, b);
    while (a != b) {
        const u32 low = min(a, b), high = max(a, b);
        const u32 old = atomicCAS(forest + high, high, low);
        if (old == high) return;
        // Another thread was first.
        a = root_of(forest, old), b = low;
    }
}

__device__ __forceinline__ void begin(const Objects &p, u32 *forest, u64 first, u64 all) {
    const u64 i = first + thread();
    const bool there = i < all;
    const u64 plane = there ? i / p.voxels : 0, voxel = there ? i % p.voxels : 0;
    const u64 sample = plane / p.planes, number = plane % p.planes;
    const int own = there ? class_of(p, sample, number, voxel) : 0;
    const bool follows = own != 0 && voxel % p.width > 0 && class_of(p, sample, number, voxel - 1) == own;
    const u32 starts = ~__ballot_sync(WHOLE_WARP, follows) | 1u;
    const int start = highest(starts & up_to(lane()));
    if (there) forest[i] = own == 0 ? NO_OBJECT : u32(number * p.voxels + voxel) - u32(lane() - start);
}

__device__ __forceinline__ void join_neighbours(const Objects &p, u32 *forest, u64 i) {
    const u64 plane = i / p.voxels, voxel = i % p.voxels;
    const u64 sample = plane / p.planes, number = plane % p.planes;
    const int own = class_of(p, sample, number, voxel);
    if (own == 0) return;
    const u32 self = u32(number * p.voxels + voxel);
    const u64 slice = p.width * p.height;
    const long long x = (long long)(voxel % p.width), y = (long long)(voxel / p.width % p.height), z = (long long)(voxel / slice);
    const auto is_own = [&](long long z, long long y, long long x) {
        const bool exists = z >= 0 && y >= 0 && x >= 0 && y < (long long)p.height && x < (long long)p.width;
        return exists && class_of(p, sample, number, u64(z) * slice + u64(y) * p.width + u64(x)) == own;
    };
    u32 *trees = forest + sample * p.planes * p.voxels;
    const bool follows = is_own(z, y, x - 1);
    if (follows) join(trees, self, self - 1);
    // Of the voxels around this one, those of rows before its own.
    for (int dz = p.depth > 1 ? -1 : 0; dz <= 0; ++dz)
        for (int dy = p.height > 1 ? -1 : 0; dy <= (dz < 0 && p.height > 1 ? 1 : 0); ++dy) {
            if (dz == 0 && dy == 0) continue;
            bool before = is_own(z + dz, y + dy, x - 2);
            for (int dx = -1; dx <= 1; ++dx) {
                const bool here = is_own(z + dz, y + dy, x + dx);
                // Where both follow their neighbour in the row, those two were joined.
                const u64 other = u64(z + dz) * slice + u64(y + dy) * p.width + u64(x + dx);
                if (here && !(follows && before)) join(trees, self, u32(number * p.voxels + other));
                before = here;
            }
        }
}

__device__ __forceinline__ void gather(const Objects &p, u32 *forest, u64 i) {
    const u64 sample = i / p.voxels, voxel = i % p.voxels;
    u32 *trees = forest + sample * p.planes * p.voxels;
    Nearest nearest(p.farthest);
    for (u64 plane = 0; plane < p.planes; ++plane) {
        const u32 number = u32(plane * p.voxels + voxel);
        if (parent_of(trees, number) != NO_OBJECT) nearest.take(0.0f, root_of(trees, number));
    }
    nearest.store(p.to, i);
}

extern "C" __global__ void __launch_bounds__(THREADS, 4) distance_objects(const Objects p) {
    u32 *forest = reinterpret_cast<u32 *>(p.forest);
    const u64 all = p.samples * p.voxels * (p.step == OBJECTS_GATHER ? 1 : p.planes);
    for (u64 first = u64(blockIdx.x) * THREADS; first < all; first += u64(gridDim.x) * THREADS) {
        const u64 i = first + thread();
        if (p.step == OBJECTS_BEGIN) begin(p, forest, first, all);
        else if (i < all && p.step == OBJECTS_JOIN) join_neighbours(p, forest, i);
        else if (i < all) gather(p, forest, i);
    }
}
