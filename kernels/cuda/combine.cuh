// Rows of partial sums, added up by all blocks of a launch; the last block to be done has the moments.
//
// Used by combine.cu, which ends there, and by finish.cu, whose last block goes on.

#pragma once

#define COMBINE_THREADS 256u

/// What is added: rows [N][rows][row] to moments [N][row], by way of partials [samples][parts][row]. Addresses are of doubles.
struct Combine {
    const double* rows;
    double* partials;
    double* moments;
    /// Blocks that are done; 0 when the launch begins and when it ends.
    unsigned* ticket;
    /// The samples that are added: `samples` of them, from `first_sample` on.
    unsigned first_sample;
    unsigned samples;
    /// Rows of a sample, and doubles of a row.
    unsigned count;
    unsigned row;
    /// Parts into which the rows of a sample are cut, rows of a part, and tiles of columns.
    unsigned parts;
    unsigned rows_of_part;
    unsigned tiles;
    /// Moments of a class, how many of them from the front the rows hold, and the doubles of a row that are moments. Where rows hold
    /// fewer, after a census, the rest of them is not read and the rest of the sums is 0.
    unsigned moments_of_class;
    unsigned held;
    unsigned moments_end;
};

/// Whether the rows hold this double.
static __device__ bool is_held(const Combine& p, unsigned slot) {
    return p.held == p.moments_of_class || (slot < p.moments_end && slot % p.moments_of_class < p.held);
}

/// Adds the rows `first .. last` of each column; column k is double k % row of the rows of sample k / row. All threads take
/// part. Each of `COMBINE_THREADS / width` teams adds every so-many-th row, then the teams are added in their order.
static __device__ void add_rows(const Combine& p, const double* from, unsigned rows, unsigned first, unsigned last,
                                unsigned first_column, unsigned columns, double* to, double* exchange) {
    const unsigned row = p.row;
    unsigned width = 1;
    while (width < columns && width < COMBINE_THREADS) {
        width *= 2;
    }
    unsigned teams = COMBINE_THREADS / width;
    unsigned team = threadIdx.x / width;
    for (unsigned start = 0; start < columns; start += width) {
        unsigned within = start + threadIdx.x % width;
        unsigned column = first_column + within;
        double sum = 0.0;
        if (within < columns && is_held(p, column % row)) {
            // 64-bit: rows × samples × row may be beyond 2^32.
            const double* at = from + static_cast<unsigned long long>(column / row) * rows * row + column % row;
#pragma unroll 4
            for (unsigned k = first + team; k < last; k += teams) {
                // Not by the first-level cache, which other blocks' stores do not reach.
                sum += __ldcg(at + static_cast<unsigned long long>(k) * row);
            }
        }
        exchange[threadIdx.x] = sum;
        __syncthreads();
        if (team == 0 && within < columns) {
            for (unsigned other = 1; other < teams; other++) {
                sum += exchange[other * width + threadIdx.x];
            }
            to[column] = sum;
        }
        // Before the next columns overwrite what is exchanged; and so that the block sees the sums.
        __syncthreads();
    }
}

/// Adds everything up; true in the block that is last to be done, which then sees all moments.
static __device__ bool add_up(const Combine& p, double* exchange) {
    __shared__ bool last;
    const unsigned long long stride = static_cast<unsigned long long>(p.count) * p.row;
    const unsigned pieces = p.samples * p.parts * p.tiles;
    for (unsigned piece = blockIdx.x; piece < pieces; piece += gridDim.x) {
        unsigned tile = piece % p.tiles;
        unsigned part = piece / p.tiles % p.parts;
        unsigned sample = piece / p.tiles / p.parts;
        unsigned first = part * p.rows_of_part;
        unsigned first_column = tile * COMBINE_THREADS;
        double* to = p.parts == 1 ? p.moments + static_cast<unsigned long long>(p.first_sample + sample) * p.row
                                  : p.partials + (static_cast<unsigned long long>(sample) * p.parts + part) * p.row;
        add_rows(p, p.rows + (p.first_sample + sample) * stride, p.count, first,
                 min(first + p.rows_of_part, p.count), first_column, min(p.row - first_column, COMBINE_THREADS), to,
                 exchange);
    }
    if (gridDim.x > 1) {
        // What each thread wrote is seen by whoever sees the ticket; the barrier of `add_rows` stands between.
        __threadfence();
        __syncthreads();
        if (threadIdx.x == 0) {
            last = atomicAdd(p.ticket, 1u) == gridDim.x - 1;
        }
        __syncthreads();
        if (!last) {
            return false;
        }
        __threadfence();
        if (threadIdx.x == 0) {
            *p.ticket = 0;
        }
    }
    if (p.parts > 1) {
        add_rows(p, p.partials, p.parts, 0, p.parts, 0, p.samples * p.row,
                 p.moments + static_cast<unsigned long long>(p.first_sample) * p.row, exchange);
    }
    return true;
}
