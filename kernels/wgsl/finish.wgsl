// Moments to loss and coefficients: what src/finish.rs does, on the device, for one head.
//
// reads    recipe: shapes, places and programs, by the names of gen/recipe; workspace: moments, doubles [N][row];
//          grad_output: one number per loss
// writes   workspace: scratch, and the coefficients ∂(what is minimised)/∂moment, f32 [N][C][slope count];
//          result: the losses [L], then per head its terms [T][L], valid voxels and invalid labels, first as f32 and, from
//          the next even word on, as doubles
// group    256 threads, one workgroup
// order    sums over samples, classes and groups have an order that follows from their number alone; nothing is atomic,
//          nothing is computed in floating point (see double.wgsl): equal moments give equal bits on every adapter
//
// Before this text comes `const REGISTERS = …;`, the registers of the longest program.

#import double_functions
#import gen/program
#import gen/recipe

/// Whether the coefficients are written.
override WRITE_COEFFICIENTS: bool = true;
/// Whether the result is written.
override WRITE_RESULT: bool = true;
/// N is V in every group and all other moments are 0: the moments are not read.
override KNOWN_COUNTS: bool = false;

@group(0) @binding(0) var<storage, read_write> workspace: array<u32>;
@group(0) @binding(1) var<storage, read> recipe: array<u32>;
/// f32, as bits.
@group(0) @binding(2) var<storage, read> grad_output: array<u32>;
@group(0) @binding(3) var<storage, read_write> result: array<u32>;

const THREADS = 256u;
/// Doubles in an outcome: value, then factor·share or the slopes of up to four terms.
const OUTCOME = 5u;

var<workgroup> partial: array<vec2<u32>, THREADS>;
var<private> registers: array<vec2<u32>, REGISTERS>;
var<private> inputs: array<vec2<u32>, SLOT_COUNT>;

fn load(at: u32) -> vec2<u32> {
    return vec2<u32>(workspace[at], workspace[at + 1u]);
}

fn store(at: u32, value: vec2<u32>) {
    workspace[at] = value.x;
    workspace[at + 1u] = value.y;
}

fn constant(at: u32) -> vec2<u32> {
    return vec2<u32>(recipe[at], recipe[at + 1u]);
}

/// 1/a, 0 where a is.
fn reciprocal(a: vec2<u32>) -> vec2<u32> {
    if double_is_zero(a) {
        return DOUBLE_ZERO;
    }
    return double_div(DOUBLE_ONE, a);
}

// ---- sums ----

/// For each of `ranges` ranges the sum of `length` doubles, to consecutive doubles at `to`. All threads take part; each
/// range has a power of two of them, as many as are free and the range is long.
fn fold(source: u32, range_stride: u32, stride: u32, ranges: u32, length: u32, to: u32, thread: u32) {
    var lanes = 1u;
    while lanes < length && 2u * lanes * ranges <= THREADS {
        lanes *= 2u;
    }
    let at_once = THREADS / lanes;
    let lane = thread % lanes;
    for (var first = 0u; first < ranges; first += at_once) {
        let range = first + thread / lanes;
        var sum = DOUBLE_ZERO;
        if range < ranges {
            for (var item = lane; item < length; item += lanes) {
                sum = double_add(sum, load(source + range * range_stride + item * stride));
            }
        }
        partial[thread] = sum;
        for (var half = lanes / 2u; half > 0u; half /= 2u) {
            workgroupBarrier();
            if lane < half {
                partial[thread] = double_add(partial[thread], partial[thread + half]);
            }
        }
        if lane == 0u && range < ranges {
            store(to + 2u * range, partial[thread]);
        }
        workgroupBarrier();
    }
    storageBarrier();
}

// ---- programs ----

/// The value of an operand: its kind in the low byte, its number in the next.
fn operand(code: u32, literals: u32) -> vec2<u32> {
    let number = (code >> 8u) & 0xffu;
    switch code & 0xffu {
        case OPERAND_REGISTER: {
            return registers[number];
        }
        case OPERAND_INPUT: {
            return inputs[number];
        }
        default: {
            return constant(literals + 2u * number);
        }
    }
}

/// Runs the program at this word of the recipe on `inputs`; its outputs become consecutive doubles at `to`.
fn run(program: u32, to: u32) {
    let literals = program + PROGRAM_WORDS;
    let code = literals + 2u * recipe[program + PROGRAM_LITERALS];
    let outputs = code + 2u * recipe[program + PROGRAM_INSTRUCTIONS];
    for (var at = code; at < outputs; at += 2u) {
        let first = recipe[at];
        let second = recipe[at + 1u];
        let opcode = first & 0xffu;
        let a = operand(first >> 16u, literals);
        var b = operand(second, literals);
        var value = DOUBLE_NAN;
        switch opcode {
            case OP_ADD, OP_SUB: {
                if opcode == OP_SUB {
                    b = double_neg(b);
                }
                value = double_add(a, b);
            }
            case OP_MUL: {
                value = double_mul(a, b);
            }
            case OP_DIV: {
                value = double_div(a, b);
            }
            case OP_NEG: {
                value = double_neg(a);
            }
            case OP_LN, OP_EXP, OP_POW: {
                let which = select(select(DOUBLE_POW, DOUBLE_EXP, opcode == OP_EXP), DOUBLE_LN, opcode == OP_LN);
                value = double_elementary(which, a, b);
            }
            case OP_SQRT: {
                value = double_sqrt(a);
            }
            case OP_ABS: {
                value = double_abs(a);
            }
            case OP_MAX: {
                value = double_max(a, b);
            }
            case OP_MIN: {
                value = double_min(a, b);
            }
            case OP_SELECT: {
                value = double_select(a, b, operand(second >> 16u, literals));
            }
            default: {}
        }
        registers[(first >> 8u) & 0xffu] = value;
    }
    for (var i = 0u; i < recipe[program + PROGRAM_OUTPUTS]; i++) {
        store(to + 2u * i, operand(recipe[outputs + i], literals));
    }
}

// ---- one part ----

/// Where a moment of a pool lies; a part whose samples are one pool reads the sums over them.
fn moment_at(part: u32, pool: u32, c: u32, moment: u32) -> u32 {
    let within = c * recipe[HEAD_MOMENTS] + moment;
    if recipe[part + PART_BATCH] != 0u {
        return recipe[HEAD_POOLED_AT] + 2u * within;
    }
    return recipe[HEAD_MOMENTS_AT] + 2u * (pool * recipe[HEAD_ROW] + within);
}

/// A moment of a pool.
fn pooled(part: u32, pool: u32, c: u32, moment: u32) -> vec2<u32> {
    if KNOWN_COUNTS {
        if moment != 0u {
            return DOUBLE_ZERO;
        }
        return constant(select(HEAD_VOXELS, HEAD_ALL_VOXELS, recipe[part + PART_BATCH] != 0u));
    }
    return load(moment_at(part, pool, c, moment));
}

/// ΣG and the least G > 0 of the counted classes of each pool, where the part reads them.
fn context(part: u32, thread: u32) {
    let pools = recipe[part + PART_POOLS];
    let first = recipe[part + PART_FIRST_CLASS];
    let classes = recipe[HEAD_CLASSES];
    let g = recipe[HEAD_MOMENT_G];
    let sums_at = recipe[HEAD_CONTEXT_AT];
    if recipe[part + PART_READS_G_SUM] != 0u {
        let source = moment_at(part, 0u, first, g);
        let pool_stride = select(2u * recipe[HEAD_ROW], 0u, recipe[part + PART_BATCH] != 0u);
        fold(source, pool_stride, 2u * recipe[HEAD_MOMENTS], pools, classes - first, sums_at, thread);
    }
    if recipe[part + PART_READS_G_MIN] != 0u {
        for (var pool = thread; pool < pools; pool += THREADS) {
            var least = DOUBLE_INFINITY;
            for (var c = first; c < classes; c++) {
                let size = pooled(part, pool, c, g);
                if double_less(DOUBLE_ZERO, size) || double_is_nan(size) {
                    // Of NaN sizes the first stays.
                    least = select(size, least, double_is_nan(least) || double_less_equal(least, size));
                }
            }
            store(sums_at + 2u * (pools + pool), select(least, DOUBLE_ZERO, double_is_infinite(least)));
        }
        storageBarrier();
    }
}

/// Doubles in the record of a group: weight, live, terms, slopes of each term.
///
/// The weight is 0 where the class is left out, and then nothing else of the record is read but zeros of `live` and the
/// terms; live is 1, or 0 where the value is forced to 0. The terms are stored as they enter the sums: weighted, and 0 where
/// they do not count.
fn group_doubles(part: u32) -> u32 {
    return 2u + recipe[part + PART_TERMS] * (1u + recipe[part + PART_SLOPE_MOMENTS]);
}

/// Where the record of a group begins.
fn group_at(part: u32, index: u32) -> u32 {
    return recipe[HEAD_GROUPS_AT] + 2u * index * group_doubles(part);
}

/// Stores weight and life of a group and prepares the inputs of its programs; whether they are to be run.
fn prepare_group(part: u32, index: u32) -> bool {
    let classes = recipe[HEAD_CLASSES];
    let pools = recipe[part + PART_POOLS];
    let weights = recipe[part + PART_CLASS_WEIGHTS_BLOCK];
    let g = recipe[HEAD_MOMENT_G];
    let pool = index / classes;
    let c = index % classes;
    var absent = false;
    if g != NONE {
        // A NaN size is not absent: it must reach the loss.
        absent = double_less_equal(pooled(part, pool, c, g), DOUBLE_ZERO);
    }
    var weight = DOUBLE_ONE;
    if weights != NONE {
        weight = constant(weights + 2u * c);
    }
    if c < recipe[part + PART_FIRST_CLASS] || (absent && recipe[part + PART_ABSENT_SKIP] != 0u) {
        weight = DOUBLE_ZERO;
    }
    let empty = double_is_zero(pooled(part, pool, c, 0u));
    let live = !(empty || (absent && recipe[part + PART_ABSENT_ZERO] != 0u));
    let counts = !double_is_zero(weight);
    store(group_at(part, index), weight);
    store(group_at(part, index) + 2u, select(DOUBLE_ZERO, DOUBLE_ONE, live && counts));
    if counts {
        for (var slot = 0u; slot < SLOT_CLASS; slot++) {
            let moment = recipe[recipe[part + PART_SLOTS_BLOCK] + slot];
            inputs[slot] = DOUBLE_ZERO;
            if moment != NONE {
                inputs[slot] = pooled(part, pool, c, moment);
            }
        }
        inputs[SLOT_CLASS] = double_from_u32(c);
        inputs[SLOT_G_SUM] = DOUBLE_ZERO;
        inputs[SLOT_G_MIN] = DOUBLE_ZERO;
        if recipe[part + PART_READS_G_SUM] != 0u {
            inputs[SLOT_G_SUM] = load(recipe[HEAD_CONTEXT_AT] + 2u * pool);
        }
        if recipe[part + PART_READS_G_MIN] != 0u {
            inputs[SLOT_G_MIN] = load(recipe[HEAD_CONTEXT_AT] + 2u * (pools + pool));
        }
    }
    return counts;
}

/// Makes of the terms of a group what enters the sums.
fn weigh_terms(part: u32, index: u32) {
    let group = group_at(part, index);
    let weight = load(group);
    let live = !double_is_zero(load(group + 2u));
    for (var term = 0u; term < recipe[part + PART_TERMS]; term++) {
        let at = group + 4u + 2u * term;
        let denominator = recipe[part + PART_SCOPE] == SCOPE_RATIO && term == 1u;
        if double_is_zero(weight) || !(live || denominator) {
            store(at, DOUBLE_ZERO);
        } else {
            store(at, double_mul(weight, load(at)));
        }
    }
}

/// The groups between which a sum is formed: those of each pool, or all.
fn ranges(part: u32) -> u32 {
    let each = recipe[HEAD_EACH_POOL] != 0u || recipe[part + PART_SCOPE] == SCOPE_POOL;
    return select(1u, recipe[part + PART_POOLS], each);
}

/// The sums over each range: of the weights (in pool scope of the groups that count), then of each term.
fn sums(part: u32, thread: u32) {
    let count = ranges(part);
    let length = recipe[part + PART_POOLS] * recipe[HEAD_CLASSES] / count;
    let stride = 2u * group_doubles(part);
    for (var field = 0u; field <= recipe[part + PART_TERMS]; field++) {
        let first = select(0u, 2u, recipe[part + PART_SCOPE] == SCOPE_POOL);
        let source = recipe[HEAD_GROUPS_AT] + select(2u + 2u * field, first, field == 0u);
        fold(source, length * stride, stride, count, length, recipe[HEAD_SUMS_AT] + 2u * field * count, thread);
    }
}

/// Where what became of a range begins.
fn outcome_at(range: u32) -> u32 {
    return recipe[HEAD_OUTCOMES_AT] + 2u * OUTCOME * range;
}

/// Stores the value of a range and factor·share, or prepares the inputs of the program that does; whether there is one.
fn prepare_outcome(part: u32, range: u32) -> bool {
    let count = ranges(part);
    let scope = recipe[part + PART_SCOPE];
    let is_sum = recipe[HEAD_IS_SUM] != 0u;
    let sum = recipe[HEAD_SUMS_AT] + 2u * range;
    let to = outcome_at(range);
    if scope == SCOPE_POOL {
        // A pool without a kept voxel has value 0 and slope 0.
        for (var i = 0u; i < OUTCOME; i++) {
            store(to + 2u * i, DOUBLE_ZERO);
        }
        for (var term = 0u; term < recipe[part + PART_TERMS]; term++) {
            inputs[term] = load(sum + 2u * (1u + term) * count);
        }
        return !double_is_zero(load(sum));
    }
    let ratio = scope == SCOPE_RATIO;
    let top = load(sum + 2u * count);
    let bottom = load(sum + select(0u, 4u * count, ratio));
    var share = DOUBLE_ONE;
    if !is_sum {
        share = reciprocal(bottom);
    }
    var value = double_mul(top, share);
    if ratio && !is_sum {
        // A NaN anywhere shows, also where it made the denominator 0 or less.
        value = DOUBLE_ZERO;
        if !double_is_zero(bottom) || double_is_nan(top) {
            value = double_div(top, bottom);
        }
    }
    store(to, value);
    store(to + 2u, double_mul(constant(part + PART_FACTOR), share));
    return false;
}

/// Evaluates the part: its groups, the sums over them, and what these come to.
///
/// Groups and ranges are run by one loop, since compilers copy the interpreter to wherever it is called.
fn evaluate(part: u32, thread: u32) {
    for (var stage = 0u; stage < 2u; stage++) {
        var count = recipe[part + PART_POOLS] * recipe[HEAD_CLASSES];
        if stage == 1u {
            sums(part, thread);
            count = ranges(part);
        }
        for (var index = thread; index < count; index += THREADS) {
            // The program of a range, or the two of a group: to its terms, then to its slopes.
            var program = PART_OUTER_BLOCK;
            var last = PART_OUTER_BLOCK;
            var to = outcome_at(index);
            var runs = false;
            if stage == 0u {
                program = PART_INNER_BLOCK;
                last = PART_SLOPES_BLOCK;
                to = group_at(part, index) + 4u;
                runs = prepare_group(part, index);
            } else {
                runs = prepare_outcome(part, index);
            }
            for (; runs && program <= last; program++) {
                run(recipe[part + program], to);
                to += 2u * recipe[part + PART_TERMS];
            }
            if stage == 0u {
                weigh_terms(part, index);
            }
        }
        storageBarrier();
    }
}

/// Adds the part to the coefficients. A thread has the same groups in every part.
fn add_coefficients(part: u32, thread: u32) {
    let classes = recipe[HEAD_CLASSES];
    let scope = recipe[part + PART_SCOPE];
    let terms = recipe[part + PART_TERMS];
    let moments = recipe[part + PART_SLOPE_MOMENTS];
    let each = ranges(part) > 1u;
    for (var cell = thread; cell < recipe[HEAD_SAMPLES] * classes; cell += THREADS) {
        let pool = select(cell / classes, 0u, recipe[part + PART_BATCH] != 0u);
        let group = group_at(part, pool * classes + cell % classes);
        let outcome = outcome_at(select(0u, pool, each));
        let weight = load(group);
        if double_is_zero(weight) {
            continue;
        }
        var share = load(outcome + 2u);
        if scope == SCOPE_POOL {
            share = double_mul(constant(part + PART_FACTOR), constant(part + PART_POOL_SHARE));
        }
        let shared_scale = double_mul(share, weight);
        for (var term = 0u; term < terms; term++) {
            var scale = shared_scale;
            if scope == SCOPE_RATIO && term == 1u {
                if recipe[HEAD_IS_SUM] != 0u {
                    continue;
                }
                scale = double_mul(double_neg(scale), load(outcome));
            } else {
                scale = double_mul(scale, load(group + 2u));
                if scope == SCOPE_POOL {
                    scale = double_mul(scale, load(outcome + 2u + 2u * term));
                }
            }
            // A factor of 0 adds nothing, even where the other is not finite.
            if double_is_zero(scale) {
                continue;
            }
            for (var k = 0u; k < moments; k++) {
                let slope = load(group + 2u * (2u + terms + term * moments + k));
                if double_is_zero(slope) {
                    continue;
                }
                let number = recipe[recipe[part + PART_SLOPE_MOMENTS_BLOCK] + k];
                let to = recipe[HEAD_ACCUMULATORS_AT] + 2u * (cell * recipe[HEAD_SLOPE_COUNT] + number);
                store(to, double_add(load(to), double_mul(scale, slope)));
            }
        }
    }
}

/// Adds the part to the values of its term.
fn add_values(part: u32, thread: u32) {
    let losses = recipe[HEAD_LOSSES];
    let mean_of_pools = recipe[part + PART_SCOPE] == SCOPE_POOL && recipe[HEAD_EACH_POOL] == 0u;
    if mean_of_pools {
        fold(recipe[HEAD_OUTCOMES_AT], 0u, 2u * OUTCOME, 1u, recipe[part + PART_POOLS], recipe[HEAD_SUMS_AT], thread);
    }
    for (var loss = thread; loss < losses; loss += THREADS) {
        var value = load(outcome_at(loss));
        if mean_of_pools {
            value = double_mul(load(recipe[HEAD_SUMS_AT]), constant(part + PART_POOL_SHARE));
        }
        let to = recipe[HEAD_VALUES_AT] + 2u * (recipe[part + PART_TERM] * losses + loss);
        store(to, double_add(load(to), double_mul(constant(part + PART_WEIGHT), value)));
    }
}

// ---- the head ----

/// Numbers that parts add to begin with 0.
fn clear(thread: u32) {
    let coefficients = recipe[HEAD_SAMPLES] * recipe[HEAD_CLASSES] * recipe[HEAD_SLOPE_COUNT];
    for (var i = thread; i < coefficients; i += THREADS) {
        store(recipe[HEAD_ACCUMULATORS_AT] + 2u * i, DOUBLE_ZERO);
    }
    for (var i = thread; i < recipe[HEAD_TERMS] * recipe[HEAD_LOSSES]; i += THREADS) {
        store(recipe[HEAD_VALUES_AT] + 2u * i, DOUBLE_ZERO);
    }
    storageBarrier();
}

/// The coefficients in single precision, multiplied by what is minimised.
fn write_coefficients(thread: u32) {
    let per_sample = recipe[HEAD_CLASSES] * recipe[HEAD_SLOPE_COUNT];
    for (var i = thread; i < recipe[HEAD_SAMPLES] * per_sample; i += THREADS) {
        let loss = select(i / per_sample, 0u, recipe[HEAD_LOSSES] == 1u);
        let value = load(recipe[HEAD_ACCUMULATORS_AT] + 2u * i);
        let scaled = double_mul(value, double_from_f32(grad_output[loss]));
        workspace[recipe[HEAD_COEFFICIENTS_AT] + i] = double_to_f32(scaled);
    }
}

/// Where a number of the result stands as a double.
fn result_double(number: u32) -> u32 {
    return ((recipe[HEAD_RESULT_NUMBERS] + 1u) & ~1u) + 2u * number;
}

fn write_number(number: u32, value: vec2<u32>) {
    let at = result_double(number);
    result[number] = double_to_f32(value);
    result[at] = value.x;
    result[at + 1u] = value.y;
}

/// Losses, terms and counts.
fn write_result(thread: u32) {
    let losses = recipe[HEAD_LOSSES];
    let terms = recipe[HEAD_TERMS];
    let first = recipe[HEAD_RESULT_HEAD];
    for (var loss = thread; loss < losses; loss += THREADS) {
        var total = DOUBLE_ZERO;
        for (var term = 0u; term < terms; term++) {
            let value = load(recipe[HEAD_VALUES_AT] + 2u * (term * losses + loss));
            total = double_add(total, double_mul(constant(recipe[HEAD_TERM_WEIGHTS_BLOCK] + 2u * term), value));
            write_number(first + term * losses + loss, value);
        }
        total = double_mul(constant(HEAD_WEIGHT), total);
        if recipe[HEAD_FIRST] == 0u {
            let before = result_double(loss);
            total = double_add(vec2<u32>(result[before], result[before + 1u]), total);
        }
        write_number(loss, total);
    }
    let counts = recipe[HEAD_SUMS_AT];
    if KNOWN_COUNTS {
        if thread < 2u {
            store(counts + 2u * thread, DOUBLE_ZERO);
        }
    } else {
        let row = 2u * recipe[HEAD_ROW];
        fold(recipe[HEAD_MOMENTS_AT] + row - 4u, 2u, row, 2u, recipe[HEAD_SAMPLES], counts, thread);
    }
    if thread < 2u {
        write_number(first + terms * losses + thread, load(counts + 2u * thread));
    }
}

@compute @workgroup_size(THREADS)
fn finish(@builtin(local_invocation_index) thread: u32) {
    clear(thread);
    if recipe[HEAD_ANY_BATCH] != 0u && !KNOWN_COUNTS {
        // Each class and moment is a range, its samples the items.
        let count = recipe[HEAD_CLASSES] * recipe[HEAD_MOMENTS];
        let samples = recipe[HEAD_SAMPLES];
        let row = 2u * recipe[HEAD_ROW];
        fold(recipe[HEAD_MOMENTS_AT], 2u, row, count, samples, recipe[HEAD_POOLED_AT], thread);
    }
    for (var number = 0u; number < recipe[HEAD_PARTS]; number++) {
        let part = recipe[HEAD_PARTS_BLOCK] + number * PART_WORDS;
        if !KNOWN_COUNTS {
            context(part, thread);
        }
        evaluate(part, thread);
        if WRITE_COEFFICIENTS {
            add_coefficients(part, thread);
        }
        if WRITE_RESULT {
            add_values(part, thread);
        }
        storageBarrier();
    }
    if WRITE_COEFFICIENTS {
        write_coefficients(thread);
    }
    if WRITE_RESULT {
        write_result(thread);
    }
}
