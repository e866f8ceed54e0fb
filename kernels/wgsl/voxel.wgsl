// One voxel, or four that follow each other, of one thread: loaded, masked, activated.
//
// A team of TEAM threads shares a voxel: its members hold SLOTS classes each in registers, and so a pass reads the logits once
// whatever the number of classes. Slot k of a member is the class k·TEAM + member. TEAM is 1 for few classes.
#import lanes
#import load
#import team

// The range of voxels and samples that a dispatch covers, and where the buffers bound for it begin.
struct Window {
    // Voxels per sample of this window; and of the whole sample, which is the stride of its planes.
    voxels: u32,
    plane: u32,
    // Index of its first sample in the batch.
    first_sample: u32,
    // Rounds of one load per team in a run; runs of a workgroup.
    rounds: u32,
    runs: u32,
    // Rows of partial sums of a sample, and the first of them that this window writes.
    rows: u32,
    first_row: u32,
    // Places in the workspace, in words.
    rows_at: u32,
    coefficients_at: u32,
    // Element of the bound range where the window begins.
    prediction_base: u32,
    target_base: u32,
    mask_base: u32,
    weights_base: u32,
    map_base: u32,
    gradient_base: u32,
    made_base: u32,
    // Always 0, which no compiler knows; see `exactly`.
    zero: u32,
}
@group(0) @binding(0) var<uniform> window: Window;

// x as it was rounded: an optimiser that regroups sums sees integers here and stops.
fn exactly(x: real) -> real {
    return bitcast<real>(bitcast<bits>(x) ^ bits(window.zero));
}

// The voxel at hand.
var<private> sample: u32;
var<private> voxel: u32;
// Its class, or IGNORED or INVALID; 0 for a kept voxel of a dense target.
var<private> own: whole;
var<private> kept: truth;
var<private> voxel_is_inside: bool;
// Whether its label is out of range.
var<private> invalid: truth;
// m, 0 where the voxel does not count.
var<private> weight: real;
#if DENSE
// g and, further down, φ: read once, looked at several times.
var<private> dense: array<real, SLOTS>;
#endif
#if MAP
#if MAP_PER_CLASS
var<private> phi: array<real, SLOTS>;
#else
var<private> phi: real;
#endif
#endif
var<private> z: array<real, SLOTS>;
var<private> p: array<real, SLOTS>;
#if SIGMOID
var<private> q: array<real, SLOTS>;
#endif
#if SOFTMAX
var<private> largest: real;
// ln Σe^(z − largest)
var<private> ln_sum: real;
// 1 − p of the first of the largest classes, and which it is.
var<private> q_top: real;
var<private> top: whole;
#if LN_Q
// ln q of it; largest logit and Σ of the others.
var<private> ln_q_top: real;
var<private> second: real;
var<private> others_of_second: real;
#endif
#if OWN_CLASS
var<private> own_p: real;
var<private> own_ln_p: real;
var<private> own_q: real;
#endif
#endif

fn class_of(slot: u32) -> u32 {
    return slot * TEAM + member;
}
// Whether a slot holds a class; the last slot of some members does not.
fn present(slot: u32) -> bool {
#if FULL_SLOTS
    return true;
#else
    return class_of(slot) < CLASSES;
#endif
}
// Index of a class of the voxel at hand, in a buffer that has the prediction's layout and begins at `base`.
fn element(base: u32, slot: u32) -> u32 {
#if FULL_SLOTS
    let c = class_of(slot);
#else
    let c = min(class_of(slot), CLASSES - 1u);
#endif
#if INTERLEAVED
    return base + (sample * window.plane + voxel) * CLASSES + c;
#else
    return base + (sample * CLASSES + c) * window.plane + voxel;
#endif
}
fn place(base: u32) -> u32 {
    return base + sample * window.plane + voxel;
}
// The label that means the class of a slot: with one class, label 1 is the class and 0 is not.
fn is_own(slot: u32) -> truth {
#if ONE_CLASS
    return own == whole(1);
#else
    return own == whole(i32(class_of(slot)));
#endif
}
fn g_of(slot: u32) -> real {
#if DENSE
    return dense[slot];
#else
    return select(real(0.0), real(1.0), is_own(slot));
#endif
}
#if MAP
fn map_of(slot: u32) -> real {
#if MAP_PER_CLASS
    return phi[slot];
#else
    return phi;
#endif
}
#else
fn map_of(slot: u32) -> real {
    return real(0.0);
}
#endif

#if OWN_CLASS
// φ of the voxel's own class.
fn own_map() -> real {
#if MAP_PER_CLASS
    var x = real(0.0);
#each k
        x = select(x, map_of(k), is_own(k));
#end
    return team_sum(x);
#else
    return map_of(0u);
#endif
}
#endif

#if MADE
// The maps that the plan makes, in the order of the plan; the host writes `made_at`, which reads those of a class.
alias Made = array<real, MADE_MAPS>;

fn made_of(slot: u32) -> Made {
    return made_at(min(class_of(slot), CLASSES - 1u));
}
#else
alias Made = real;

fn made_of(slot: u32) -> Made {
    return real(0.0);
}
#endif

#if OWN_CLASS
// Those of the voxel's own class.
#if MADE
fn own_made() -> Made {
    var own_maps: Made;
    for (var map = 0u; map < MADE_MAPS; map++) {
        own_maps[map] = real(0.0);
    }
#each k
        var of_slot = made_of(k);
        for (var map = 0u; map < MADE_MAPS; map++) {
            own_maps[map] = select(own_maps[map], of_slot[map], truth(present(k)) & is_own(k));
        }
#end
    for (var map = 0u; map < MADE_MAPS; map++) {
        own_maps[map] = team_sum(own_maps[map]);
    }
    return own_maps;
}
#else
fn own_made() -> Made {
    return real(0.0);
}
#endif
#endif

// The voxel of this thread in a round of a run of a workgroup: a workgroup's runs follow each other.
fn start_of_round(group: u32, run: u32, round: u32) -> u32 {
    let rounds = (group * window.runs + run) * window.rounds + round;
    return (rounds * TEAMS + team) * WIDTH;
}

// Moves to a voxel of the sample; one beyond its end reads the first and does not count.
fn load_voxel(at: u32) {
    let inside = at < window.voxels;
    voxel_is_inside = inside;
    voxel = select(0u, at, inside);
#if LABELS_TARGET
    own = select(whole(IGNORED), load_labels(place(window.target_base)), truth(inside));
#else
    own = select(whole(IGNORED), whole(0), truth(inside));
#endif
#if KEEP
    own = select(own, whole(IGNORED), load_keep(place(window.mask_base)) == whole(0));
#endif
    kept = own >= whole(0);
    invalid = own == whole(INVALID);
#if WEIGHTS
    weight = select(real(0.0), load_weights(place(window.weights_base)), kept);
#else
    weight = select(real(0.0), real(1.0), kept);
#endif
#if DENSE
#each k
        dense[k] = select(real(0.0), load_dense(element(window.target_base, k)), kept);
#end
#endif
#if MAP
#if MAP_PER_CLASS
#each k
        phi[k] = select(real(0.0), load_map(element(window.map_base, k)), kept);
#end
#else
    phi = select(real(0.0), load_map(place(window.map_base)), kept);
#endif
#endif
}

#if !CENSUS
// Loads the prediction of the voxel at hand and makes p, and what the pass reads beside it.
fn activate() {
#each k
        // What does not count is 0, whatever it holds: NaN times weight 0 would be NaN.
        z[k] = select(real(0.0), load_prediction(element(window.prediction_base, k)), kept);
#end
#if SOFTMAX
    softmax();
#endif
#if SIGMOID
#each k
        let e = exp_of_negative(-abs(z[k]));
        let large = real(1.0) / (real(1.0) + e);
        let small = e * large;
        let positive = z[k] >= real(0.0);
        p[k] = select(small, large, positive);
        q[k] = select(large, small, positive);
#end
#endif
#if NO_ACTIVATION
#each k
        p[k] = z[k];
#end
#endif
}
#endif

#if SOFTMAX
// The largest classes are counted, the others summed: 1 + others would lose a small sum, and with it ln p and 1 − p of a class
// that is nearly certain.
fn softmax() {
    var most = real(LEAST);
    var first = whole(i32(CLASSES));
#each k
        let wins = truth(present(k)) & ((z[k] > most) | is_nan(z[k]));
        most = select(most, z[k], wins);
        first = select(first, whole(i32(class_of(k))), wins);
#end
    largest = team_max(most);
    // The first of the largest; with NaN or nothing but −∞ there is none, and any class will do.
    top = team_min(select(whole(i32(CLASSES)), first, most == largest));
    top = select(top, whole(0), top == whole(i32(CLASSES)));
    packed[0] = real(0.0);
    packed[1] = real(0.0);
    packed[2] = real(0.0);
    packed[3] = real(0.0);
#each k
        let shifted = z[k] - largest;
        let e = select(real(0.0), exp_of_negative(shifted), truth(present(k)));
        let is_largest = truth(present(k)) & (shifted == real(0.0));
        p[k] = e;
        packed[0] += select(e, real(0.0), is_largest);
        packed[1] += select(real(0.0), real(1.0), is_largest);
#if OWN_CLASS
        packed[2] = select(packed[2], shifted, is_own(k));
        packed[3] = select(packed[3], e, is_own(k));
#endif
#end
    team_sum_packed();
    let others = packed[0];
    let ties = packed[1];
    let sum = others + ties;
    let share = real(1.0) / sum;
    let rest = others + (ties - real(1.0));
    ln_sum = select(ln_of_normal(sum), ln_1p(rest), rest <= real(1.0));
    q_top = rest * share;
#if OWN_CLASS
    own_p = packed[3] * share;
    own_ln_p = finite_ln(exactly(packed[2]) - ln_sum);
    own_q = select(real(1.0) - own_p, q_top, packed[2] == real(0.0));
#endif
#each k
        p[k] *= share;
#end
#if LN_Q
    without_largest();
#endif
}

fn is_top(slot: u32) -> truth {
    return top == whole(i32(class_of(slot)));
}

#if LN_Q
// For the largest class 1 − p cancels: ln q is the log-sum-exp of the others less that of all.
fn without_largest() {
    var most = real(LEAST);
#each k
        most = select(most, z[k], truth(present(k)) & !is_top(k) & ((z[k] > most) | is_nan(z[k])));
#end
    // Where all others are −∞, any finite shift gives them the share 0.
    second = team_max(most);
    var total = real(0.0);
#each k
        let e = exp_of_negative(z[k] - second);
        total += select(real(0.0), e, truth(present(k)) & !is_top(k));
#end
    others_of_second = team_sum(total);
    let ratio = (second - largest) + ln(others_of_second);
    let tail = ln_1p(exp_of_negative(-abs(ratio)));
    ln_q_top = finite_ln(select(ratio, real(0.0), ratio > real(0.0)) - tail);
    // An exact q as well.
    q_top = exp_of_negative(ln_q_top);
}

// p of a class among all classes but the largest; 0 for that one.
fn rest_of(slot: u32) -> real {
    let share = exp_of_negative(z[slot] - second) / others_of_second;
    return select(share, real(0.0), is_top(slot) | (others_of_second == real(0.0)));
}
#endif
#endif

// 1 − p, ln p and ln q of a slot.
fn q_of(slot: u32) -> real {
#if SOFTMAX
    return select(real(1.0) - p[slot], q_top, is_top(slot));
#endif
#if SIGMOID
    return q[slot];
#endif
#if NO_ACTIVATION
    return real(1.0) - p[slot];
#endif
}
fn ln_p_of(slot: u32) -> real {
#if SOFTMAX
    return finite_ln(exactly(z[slot] - largest) - ln_sum);
#endif
#if SIGMOID
    let tail = ln_1p(exp_of_negative(-abs(z[slot])));
    return finite_ln(select(real(0.0), z[slot], (z[slot] < real(0.0)) | is_nan(z[slot])) - tail);
#endif
#if NO_ACTIVATION
    return ln_of_probability(p[slot]);
#endif
}
fn ln_q_of(slot: u32) -> real {
#if SOFTMAX
#if LN_Q
    // No class but the largest has p above ½.
    return select(ln_1p(-p[slot]), ln_q_top, is_top(slot));
#else
    return real(0.0);
#endif
#endif
#if SIGMOID
    let tail = ln_1p(exp_of_negative(-abs(z[slot])));
    return finite_ln(select(real(0.0), -z[slot], (z[slot] > real(0.0)) | is_nan(z[slot])) - tail);
#endif
#if NO_ACTIVATION
    return select(ln_of_probability(real(1.0) - p[slot]), ln_1p(-p[slot]), abs(p[slot]) < real(0.5));
#endif
}
fn ln_of_probability(x: real) -> real {
    return ln(select(x, real(PROBABILITY_FLOOR), x < real(PROBABILITY_FLOOR)));
}
