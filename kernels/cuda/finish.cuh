// Moments to loss and coefficients of a head, by a block: what src/finish.rs does, on the device.
//
// Used by finish.cu, and by one_block.cu between its passes.

#pragma once

#include "../gen/program.cuh"
#include "../gen/recipe.cuh"
#include "combine.cuh"

/// Doubles in an outcome: value, then factor·share or the slopes of up to four terms.
#define OUTCOME 5u

#define DOUBLE_INFINITY __longlong_as_double(0x7ff0000000000000LL)
#define DOUBLE_NAN __longlong_as_double(0x7ff8000000000000LL)

/// Passed by value. Dynamic shared memory holds `lanes` columns of `registers` + SLOT_COUNT doubles, then the first
/// `recipe_shared` words of the recipe.
struct FinishParams {
    Combine combine;
    unsigned* workspace;
    const unsigned* recipe;
    /// One number per loss; null stands for ones.
    const float* grad_output;
    unsigned* result;
    /// Words of the recipe that are kept in shared memory: all of them, or none where they are too many.
    unsigned recipe_shared;
    /// Threads that run programs, and registers of the longest program.
    unsigned lanes;
    unsigned registers;
    /// The samples whose moments there are; those of the others count as 0, and get no coefficients.
    unsigned begin;
    unsigned end;
    /// Whether rows are added first.
    unsigned combines;
    /// Whether the coefficients are written.
    unsigned coefficients;
    /// Whether the result is written.
    unsigned has_result;
    /// N is V in every group and all other moments are 0: no moment is read.
    unsigned known_counts;
};

/// What the functions below work on.
struct Finish {
    const FinishParams& p;
    /// In shared memory where it fits.
    const unsigned* recipe;
    /// Doubles [registers + SLOT_COUNT][lanes] in shared memory; the inputs of a program come after its registers.
    double* cells;
    /// COMBINE_THREADS doubles in shared memory.
    double* exchange;

    __device__ unsigned word(unsigned at) const { return recipe[at]; }
    __device__ double constant(unsigned at) const { return __hiloint2double(recipe[at + 1], recipe[at]); }
    /// A double at this word of the workspace.
    __device__ double load(unsigned at) const { return *reinterpret_cast<const double*>(p.workspace + at); }
    __device__ void store(unsigned at, double value) const { *reinterpret_cast<double*>(p.workspace + at) = value; }
    __device__ double& input(unsigned slot) const { return cells[(p.registers + slot) * p.lanes + threadIdx.x]; }
};

/// 1/a, 0 where a is.
static __device__ double reciprocal(double a) {
    return a == 0.0 ? 0.0 : 1.0 / a;
}

/// ln a within 2 units of the last place. CUDA's `log` begins with an approximation that differs from device to device.
static __device__ double ln(double a) {
    if (!(a > 0.0) || a == DOUBLE_INFINITY) {
        return a == 0.0 ? -DOUBLE_INFINITY : a > 0.0 ? a : DOUBLE_NAN;
    }
    // Small ones without an exponent of their own are 2^54 times as large first.
    const bool small = a < 2.2250738585072014e-308;
    const long long bits = __double_as_longlong(small ? a * 18014398509481984.0 : a);
    // a = m·2^e with m from √½ to √2, and ln m = 2·artanh((m − 1)/(m + 1)).
    const int e = static_cast<int>((bits - 0x3fe6a09e667f3bcdLL) >> 52);
    const double m = __longlong_as_double(bits - (static_cast<long long>(e) << 52));
    const double s = (m - 1.0) / (m + 1.0);
    const double z = s * s;
    double series = 1.0 / 23.0;
#pragma unroll
    for (int odd = 21; odd >= 3; odd -= 2) {
        series = fma(series, z, 1.0 / odd);
    }
    const double k = small ? e - 54 : e;
    // ln 2 in two parts, the first exact times any exponent.
    return fma(k, 6.93147180369123816490e-01, fma(2.0 * s * z, series, fma(k, 1.90821492927058770002e-10, 2.0 * s)));
}

/// a to the power b, within |b·ln a| units of the last place. CUDA's `pow` is a function that is called, and calls spill.
static __device__ double power(double a, double b) {
    if (b == 0.0) {
        return 1.0;
    }
    double magnitude = exp(b * ln(fabs(a)));
    if (a >= 0.0 || a != a) {
        return magnitude;
    }
    if (b != trunc(b)) {
        return DOUBLE_NAN;
    }
    // Odd where half of it is no whole number.
    return trunc(0.5 * b) != 0.5 * b ? -magnitude : magnitude;
}

// ---- sums ----

/// For each of `ranges` ranges the sum of `length` doubles, to consecutive doubles at `to`. All threads take part; each
/// range has a power of two of them, as many as are free and the range is long.
static __device__ void fold(const Finish& f, unsigned source, unsigned range_stride, unsigned stride, unsigned ranges,
                            unsigned length, unsigned to) {
    unsigned thread = threadIdx.x;
    unsigned lanes = 1;
    while (lanes < length && 2 * lanes * ranges <= COMBINE_THREADS) {
        lanes *= 2;
    }
    unsigned at_once = COMBINE_THREADS / lanes;
    unsigned lane = thread % lanes;
    for (unsigned first = 0; first < ranges; first += at_once) {
        unsigned range = first + thread / lanes;
        double sum = 0.0;
        if (range < ranges) {
            for (unsigned item = lane; item < length; item += lanes) {
                sum += f.load(source + range * range_stride + item * stride);
            }
        }
        f.exchange[thread] = sum;
        for (unsigned half = lanes / 2; half > 0; half /= 2) {
            __syncthreads();
            if (lane < half) {
                f.exchange[thread] += f.exchange[thread + half];
            }
        }
        if (lane == 0 && range < ranges) {
            f.store(to + 2 * range, f.exchange[thread]);
        }
        __syncthreads();
    }
}

// ---- programs ----

/// The value of an operand: its kind in the low byte, its number in the next.
static __device__ double operand(const Finish& f, unsigned code, unsigned literals) {
    unsigned number = code >> 8 & 0xff;
    switch (code & 0xff) {
        case OPERAND_REGISTER:
            return f.cells[number * f.p.lanes + threadIdx.x];
        case OPERAND_INPUT:
            return f.input(number);
        default:
            return f.constant(literals + 2 * number);
    }
}

/// Runs the program at this word of the recipe on the inputs of the thread; its outputs become consecutive doubles at `to`.
/// Called by the first `lanes` threads.
static __device__ void run(const Finish& f, unsigned program, unsigned to) {
    const unsigned literals = program + PROGRAM_WORDS;
    const unsigned code = literals + 2 * f.word(program + PROGRAM_LITERALS);
    const unsigned outputs = code + 2 * f.word(program + PROGRAM_INSTRUCTIONS);
    for (unsigned at = code; at < outputs; at += 2) {
        const unsigned first = f.word(at);
        const unsigned second = f.word(at + 1);
        const double a = operand(f, first >> 16, literals);
        const double b = operand(f, second, literals);
        double value = DOUBLE_NAN;
        // Every operation rounds by itself: a product and a sum of one program are not to be contracted.
        switch (first & 0xff) {
            case OP_ADD: value = __dadd_rn(a, b); break;
            case OP_SUB: value = __dsub_rn(a, b); break;
            case OP_MUL: value = __dmul_rn(a, b); break;
            case OP_DIV: value = a / b; break;
            case OP_NEG: value = -a; break;
            case OP_LN: value = ln(a); break;
            case OP_EXP: value = exp(a); break;
            case OP_SQRT: value = sqrt(a); break;
            case OP_ABS: value = fabs(a); break;
            case OP_POW: value = power(a, b); break;
            // Of equal ones the first; NaN where either is.
            case OP_MAX: value = a >= b || a != a ? a : b; break;
            case OP_MIN: value = a <= b || a != a ? a : b; break;
            case OP_SELECT:
                value = a > 0.0 ? b : a <= 0.0 ? operand(f, second >> 16, literals) : DOUBLE_NAN;
                break;
        }
        f.cells[(first >> 8 & 0xff) * f.p.lanes + threadIdx.x] = value;
    }
    for (unsigned k = 0; k < f.word(program + PROGRAM_OUTPUTS); k++) {
        f.store(to + 2 * k, operand(f, f.word(outputs + k), literals));
    }
}

// ---- one part ----

/// Whether there are moments of the samples of this pool.
static __device__ bool is_there(const Finish& f, unsigned part, unsigned pool) {
    return f.word(part + PART_BATCH) != 0 || (pool >= f.p.begin && pool < f.p.end);
}

/// Where a moment of a pool lies; a part whose samples are one pool reads the sums over them.
static __device__ unsigned moment_at(const Finish& f, unsigned part, unsigned pool, unsigned c, unsigned moment) {
    unsigned within = c * f.word(HEAD_MOMENTS) + moment;
    if (f.word(part + PART_BATCH) != 0) {
        return f.word(HEAD_POOLED_AT) + 2 * within;
    }
    return f.word(HEAD_MOMENTS_AT) + 2 * (pool * f.word(HEAD_ROW) + within);
}

/// A moment of a pool.
static __device__ double pooled(const Finish& f, unsigned part, unsigned pool, unsigned c, unsigned moment) {
    if (f.p.known_counts) {
        if (moment != 0) {
            return 0.0;
        }
        return f.constant(f.word(part + PART_BATCH) != 0 ? HEAD_ALL_VOXELS : HEAD_VOXELS);
    }
    return is_there(f, part, pool) ? f.load(moment_at(f, part, pool, c, moment)) : 0.0;
}

/// ΣG and the least G > 0 of the counted classes of each pool, where the part reads them.
static __device__ void context(const Finish& f, unsigned part) {
    const bool batch = f.word(part + PART_BATCH) != 0;
    const unsigned pools = f.word(part + PART_POOLS);
    const unsigned begin = batch ? 0 : f.p.begin;
    const unsigned count = batch ? pools : f.p.end - begin;
    const unsigned first = f.word(part + PART_FIRST_CLASS);
    const unsigned classes = f.word(HEAD_CLASSES);
    const unsigned g = f.word(HEAD_MOMENT_G);
    const unsigned sums_at = f.word(HEAD_CONTEXT_AT);
    if (f.word(part + PART_READS_G_SUM) != 0) {
        unsigned source = moment_at(f, part, begin, first, g);
        unsigned pool_stride = batch ? 0 : 2 * f.word(HEAD_ROW);
        fold(f, source, pool_stride, 2 * f.word(HEAD_MOMENTS), count, classes - first, sums_at + 2 * begin);
    }
    if (f.word(part + PART_READS_G_MIN) != 0) {
        for (unsigned pool = begin + threadIdx.x; pool < begin + count; pool += COMBINE_THREADS) {
            double least = DOUBLE_INFINITY;
            for (unsigned c = first; c < classes; c++) {
                double size = pooled(f, part, pool, c, g);
                if (size > 0.0 || size != size) {
                    least = least != least || least <= size ? least : size;
                }
            }
            f.store(sums_at + 2 * (pools + pool), least == DOUBLE_INFINITY ? 0.0 : least);
        }
        __syncthreads();
    }
}

/// Doubles in the record of a group: weight, live, terms, slopes of each term.
///
/// The weight is 0 where the class is left out, and then nothing else of the record is read but zeros of `live` and the
/// terms; live is 1, or 0 where the value is forced to 0. The terms are stored as they enter the sums: weighted, and 0 where
/// they do not count.
static __device__ unsigned group_doubles(const Finish& f, unsigned part) {
    return 2 + f.word(part + PART_TERMS) * (1 + f.word(part + PART_SLOPE_MOMENTS));
}

/// Where the record of a group begins.
static __device__ unsigned group_at(const Finish& f, unsigned part, unsigned index) {
    return f.word(HEAD_GROUPS_AT) + 2 * index * group_doubles(f, part);
}

/// Stores weight and life of a group and prepares the inputs of its programs; whether they are to be run.
static __device__ bool prepare_group(const Finish& f, unsigned part, unsigned index) {
    const unsigned classes = f.word(HEAD_CLASSES);
    const unsigned pools = f.word(part + PART_POOLS);
    const unsigned weights = f.word(part + PART_CLASS_WEIGHTS_BLOCK);
    const unsigned g = f.word(HEAD_MOMENT_G);
    const unsigned pool = index / classes;
    const unsigned c = index % classes;
    // A NaN size is not absent: it must reach the loss.
    const bool absent = g != NONE && pooled(f, part, pool, c, g) <= 0.0;
    double weight = weights == NONE ? 1.0 : f.constant(weights + 2 * c);
    if (c < f.word(part + PART_FIRST_CLASS) || (absent && f.word(part + PART_ABSENT_SKIP) != 0)) {
        weight = 0.0;
    }
    const bool empty = pooled(f, part, pool, c, 0) == 0.0;
    const bool live = !(empty || (absent && f.word(part + PART_ABSENT_ZERO) != 0));
    const bool counts = weight != 0.0;
    f.store(group_at(f, part, index), weight);
    f.store(group_at(f, part, index) + 2, live && counts ? 1.0 : 0.0);
    const bool runs = counts && (f.p.known_counts || is_there(f, part, pool));
    if (runs) {
        for (unsigned slot = 0; slot < SLOT_CLASS; slot++) {
            unsigned moment = f.word(f.word(part + PART_SLOTS_BLOCK) + slot);
            f.input(slot) = moment == NONE ? 0.0 : pooled(f, part, pool, c, moment);
        }
        f.input(SLOT_CLASS) = c;
        unsigned context = f.word(HEAD_CONTEXT_AT);
        f.input(SLOT_G_SUM) = f.word(part + PART_READS_G_SUM) != 0 ? f.load(context + 2 * pool) : 0.0;
        f.input(SLOT_G_MIN) = f.word(part + PART_READS_G_MIN) != 0 ? f.load(context + 2 * (pools + pool)) : 0.0;
    }
    return runs;
}

/// Makes of the terms of a group what enters the sums.
static __device__ void weigh_terms(const Finish& f, unsigned part, unsigned index, bool ran) {
    const unsigned group = group_at(f, part, index);
    const double weight = f.load(group);
    const bool live = f.load(group + 2) != 0.0;
    for (unsigned term = 0; term < f.word(part + PART_TERMS); term++) {
        unsigned at = group + 4 + 2 * term;
        bool denominator = f.word(part + PART_SCOPE) == SCOPE_RATIO && term == 1;
        f.store(at, ran && (live || denominator) ? weight * f.load(at) : 0.0);
    }
}

/// The groups between which a sum is formed: those of each pool, or all.
static __device__ unsigned ranges(const Finish& f, unsigned part) {
    bool each = f.word(HEAD_EACH_POOL) != 0 || f.word(part + PART_SCOPE) == SCOPE_POOL;
    return each ? f.word(part + PART_POOLS) : 1;
}

/// The sums over each range: of the weights (in pool scope of the groups that count), then of each term.
static __device__ void sums(const Finish& f, unsigned part) {
    const unsigned count = ranges(f, part);
    const unsigned length = f.word(part + PART_POOLS) * f.word(HEAD_CLASSES) / count;
    const unsigned stride = 2 * group_doubles(f, part);
    for (unsigned field = 0; field <= f.word(part + PART_TERMS); field++) {
        unsigned first = f.word(part + PART_SCOPE) == SCOPE_POOL ? 2 : 0;
        unsigned source = f.word(HEAD_GROUPS_AT) + (field == 0 ? first : 2 + 2 * field);
        fold(f, source, length * stride, stride, count, length, f.word(HEAD_SUMS_AT) + 2 * field * count);
    }
}

/// Where what became of a range begins.
static __device__ unsigned outcome_at(const Finish& f, unsigned range) {
    return f.word(HEAD_OUTCOMES_AT) + 2 * OUTCOME * range;
}

/// Stores the value of a range and factor·share, or prepares the inputs of the program that does; whether there is one.
static __device__ bool prepare_outcome(const Finish& f, unsigned part, unsigned range) {
    const unsigned count = ranges(f, part);
    const unsigned scope = f.word(part + PART_SCOPE);
    const bool is_sum = f.word(HEAD_IS_SUM) != 0;
    const unsigned sum = f.word(HEAD_SUMS_AT) + 2 * range;
    const unsigned to = outcome_at(f, range);
    if (scope == SCOPE_POOL) {
        // A pool without a kept voxel has value 0 and slope 0.
        for (unsigned k = 0; k < OUTCOME; k++) {
            f.store(to + 2 * k, 0.0);
        }
        for (unsigned term = 0; term < f.word(part + PART_TERMS); term++) {
            f.input(term) = f.load(sum + 2 * (1 + term) * count);
        }
        return f.load(sum) != 0.0;
    }
    const bool ratio = scope == SCOPE_RATIO;
    const double top = f.load(sum + 2 * count);
    const double bottom = f.load(sum + (ratio ? 4 * count : 0));
    const double share = is_sum ? 1.0 : reciprocal(bottom);
    double value = top * share;
    if (ratio && !is_sum) {
        // A NaN anywhere shows, also where it made the denominator 0 or less.
        value = bottom == 0.0 && top == top ? 0.0 : top / bottom;
    }
    f.store(to, value);
    f.store(to + 2, f.constant(part + PART_FACTOR) * share);
    return false;
}

/// Evaluates the part: its groups, the sums over them, and what these come to.
///
/// Groups and ranges are run by one loop, so that the interpreter is called at one place.
static __device__ void evaluate(const Finish& f, unsigned part) {
    for (unsigned stage = 0; stage < 2; stage++) {
        unsigned count = f.word(part + PART_POOLS) * f.word(HEAD_CLASSES);
        if (stage == 1) {
            sums(f, part);
            count = ranges(f, part);
        }
        for (unsigned index = threadIdx.x; threadIdx.x < f.p.lanes && index < count; index += f.p.lanes) {
            // The program of a range, or the two of a group: to its terms, then to its slopes.
            unsigned program = stage == 0 ? PART_INNER_BLOCK : PART_OUTER_BLOCK;
            unsigned last = stage == 0 ? PART_SLOPES_BLOCK : PART_OUTER_BLOCK;
            unsigned to = stage == 0 ? group_at(f, part, index) + 4 : outcome_at(f, index);
            const bool runs = stage == 0 ? prepare_group(f, part, index) : prepare_outcome(f, part, index);
            for (; runs && program <= last; program++) {
                run(f, f.word(part + program), to);
                to += 2 * f.word(part + PART_TERMS);
            }
            if (stage == 0) {
                weigh_terms(f, part, index, runs);
            }
        }
        __syncthreads();
    }
}

/// Adds the part to the coefficients. A thread has the same groups in every part.
static __device__ void add_coefficients(const Finish& f, unsigned part) {
    const unsigned classes = f.word(HEAD_CLASSES);
    const unsigned scope = f.word(part + PART_SCOPE);
    const unsigned terms = f.word(part + PART_TERMS);
    const unsigned moments = f.word(part + PART_SLOPE_MOMENTS);
    const bool each = ranges(f, part) > 1;
    for (unsigned cell = f.p.begin * classes + threadIdx.x; cell < f.p.end * classes; cell += COMBINE_THREADS) {
        unsigned pool = f.word(part + PART_BATCH) != 0 ? 0 : cell / classes;
        unsigned group = group_at(f, part, pool * classes + cell % classes);
        unsigned outcome = outcome_at(f, each ? pool : 0);
        double weight = f.load(group);
        if (weight == 0.0) {
            continue;
        }
        double share = scope == SCOPE_POOL ? f.constant(part + PART_FACTOR) * f.constant(part + PART_POOL_SHARE)
                                           : f.load(outcome + 2);
        for (unsigned term = 0; term < terms; term++) {
            double scale = share * weight;
            if (scope == SCOPE_RATIO && term == 1) {
                if (f.word(HEAD_IS_SUM) != 0) {
                    continue;
                }
                scale = -scale * f.load(outcome);
            } else {
                scale *= f.load(group + 2);
                if (scope == SCOPE_POOL) {
                    scale *= f.load(outcome + 2 + 2 * term);
                }
            }
            // A factor of 0 adds nothing, even where the other is not finite.
            if (scale == 0.0) {
                continue;
            }
            for (unsigned k = 0; k < moments; k++) {
                double slope = f.load(group + 2 * (2 + terms + term * moments + k));
                if (slope == 0.0) {
                    continue;
                }
                unsigned number = f.word(f.word(part + PART_SLOPE_MOMENTS_BLOCK) + k);
                unsigned to = f.word(HEAD_ACCUMULATORS_AT) + 2 * (cell * f.word(HEAD_SLOPE_COUNT) + number);
                f.store(to, f.load(to) + scale * slope);
            }
        }
    }
}

/// Adds the part to the values of its term.
static __device__ void add_values(const Finish& f, unsigned part) {
    const unsigned losses = f.word(HEAD_LOSSES);
    const bool mean_of_pools = f.word(part + PART_SCOPE) == SCOPE_POOL && f.word(HEAD_EACH_POOL) == 0;
    if (mean_of_pools) {
        fold(f, f.word(HEAD_OUTCOMES_AT), 0, 2 * OUTCOME, 1, f.word(part + PART_POOLS), f.word(HEAD_SUMS_AT));
    }
    for (unsigned loss = threadIdx.x; loss < losses; loss += COMBINE_THREADS) {
        double value = mean_of_pools ? f.load(f.word(HEAD_SUMS_AT)) * f.constant(part + PART_POOL_SHARE)
                                     : f.load(outcome_at(f, loss));
        unsigned to = f.word(HEAD_VALUES_AT) + 2 * (f.word(part + PART_TERM) * losses + loss);
        f.store(to, f.load(to) + f.constant(part + PART_WEIGHT) * value);
    }
}

// ---- the head ----

/// Numbers that parts add to begin with 0.
static __device__ void clear(const Finish& f) {
    const unsigned per_sample = f.word(HEAD_CLASSES) * f.word(HEAD_SLOPE_COUNT);
    for (unsigned k = f.p.begin * per_sample + threadIdx.x; k < f.p.end * per_sample; k += COMBINE_THREADS) {
        f.store(f.word(HEAD_ACCUMULATORS_AT) + 2 * k, 0.0);
    }
    for (unsigned k = threadIdx.x; k < f.word(HEAD_TERMS) * f.word(HEAD_LOSSES); k += COMBINE_THREADS) {
        f.store(f.word(HEAD_VALUES_AT) + 2 * k, 0.0);
    }
    __syncthreads();
}

/// The coefficients in single precision, multiplied by what is minimised.
static __device__ void write_coefficients(const Finish& f) {
    const unsigned per_sample = f.word(HEAD_CLASSES) * f.word(HEAD_SLOPE_COUNT);
    float* to = reinterpret_cast<float*>(f.p.workspace + f.word(HEAD_COEFFICIENTS_AT));
    for (unsigned k = f.p.begin * per_sample + threadIdx.x; k < f.p.end * per_sample; k += COMBINE_THREADS) {
        unsigned loss = f.word(HEAD_LOSSES) == 1 ? 0 : k / per_sample;
        double scale = f.p.grad_output ? f.p.grad_output[loss] : 1.0;
        to[k] = static_cast<float>(f.load(f.word(HEAD_ACCUMULATORS_AT) + 2 * k) * scale);
    }
}

/// Where a number of the result stands as a double.
static __device__ double* result_double(const Finish& f, unsigned number) {
    return reinterpret_cast<double*>(f.p.result + ((f.word(HEAD_RESULT_NUMBERS) + 1) & ~1u)) + number;
}

static __device__ void write_number(const Finish& f, unsigned number, double value) {
    reinterpret_cast<float*>(f.p.result)[number] = static_cast<float>(value);
    *result_double(f, number) = value;
}

/// Losses, terms and counts.
static __device__ void write_result(const Finish& f) {
    const unsigned losses = f.word(HEAD_LOSSES);
    const unsigned terms = f.word(HEAD_TERMS);
    const unsigned first = f.word(HEAD_RESULT_HEAD);
    for (unsigned loss = threadIdx.x; loss < losses; loss += COMBINE_THREADS) {
        double total = 0.0;
        for (unsigned term = 0; term < terms; term++) {
            double value = f.load(f.word(HEAD_VALUES_AT) + 2 * (term * losses + loss));
            total += f.constant(f.word(HEAD_TERM_WEIGHTS_BLOCK) + 2 * term) * value;
            write_number(f, first + term * losses + loss, value);
        }
        total *= f.constant(HEAD_WEIGHT);
        if (f.word(HEAD_FIRST) == 0) {
            total += *result_double(f, loss);
        }
        write_number(f, loss, total);
    }
    const unsigned row = 2 * f.word(HEAD_ROW);
    const unsigned counts = f.word(HEAD_SUMS_AT);
    fold(f, f.word(HEAD_MOMENTS_AT) + row - 4, 2, row, 2, f.word(HEAD_SAMPLES), counts);
    if (threadIdx.x < 2) {
        write_number(f, first + terms * losses + threadIdx.x, f.load(counts + 2 * threadIdx.x));
    }
}

// ---- a head ----

/// Adds up the rows, where they are to be, and in the block that sees all sums makes of them what is asked for. `cells` is the dynamic
/// shared memory.
static __device__ void finish_head(const FinishParams& params, double* cells) {
    __shared__ double exchange[COMBINE_THREADS];
    if (params.combines && !add_up(params.combine, exchange)) {
        return;
    }
    unsigned* copy = reinterpret_cast<unsigned*>(cells + (params.registers + SLOT_COUNT) * params.lanes);
    for (unsigned k = threadIdx.x; k < params.recipe_shared; k += COMBINE_THREADS) {
        copy[k] = params.recipe[k];
    }
    __syncthreads();
    const Finish f = {params, params.recipe_shared ? copy : params.recipe, cells, exchange};
    clear(f);
    if (f.word(HEAD_ANY_BATCH) != 0 && !params.known_counts) {
        // Each class and moment is a range, its samples the items.
        unsigned count = f.word(HEAD_CLASSES) * f.word(HEAD_MOMENTS);
        unsigned row = 2 * f.word(HEAD_ROW);
        fold(f, f.word(HEAD_MOMENTS_AT), 2, row, count, f.word(HEAD_SAMPLES), f.word(HEAD_POOLED_AT));
    }
    for (unsigned number = 0; number < f.word(HEAD_PARTS); number++) {
        unsigned part = f.word(HEAD_PARTS_BLOCK) + number * PART_WORDS;
        if (!params.known_counts) {
            context(f, part);
        }
        evaluate(f, part);
        if (params.coefficients) {
            add_coefficients(f, part);
        }
        if (params.has_result) {
            add_values(f, part);
        }
        __syncthreads();
    }
    if (params.coefficients) {
        write_coefficients(f);
    }
    if (params.has_result) {
        write_result(f);
    }
}
