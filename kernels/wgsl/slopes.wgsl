// The gradient of the voxel at hand, from ∂L/∂sum of its sample.
//
// For softmax the local gradient is carried as e = ∂L/∂ln p, so that ∂L/∂z = e − p·Σe and no 1/p is formed.

var<private> e: array<real, SLOTS>;
#if LN_Q
// u = b·p/q with b = ∂L/∂ln q; 0 for the largest class.
var<private> u: array<real, SLOTS>;
#endif

// ∂L/∂sum of a class, times what the caller scales the loss by.
fn coefficient(of_class: u32, k: u32) -> f32 {
    return bitcast<f32>(coefficient_word(of_class, k));
}
fn coefficient_word(of_class: u32, k: u32) -> u32 {
    let at = ((window.first_sample + sample) * CLASSES + min(of_class, CLASSES - 1u)) * SLOPES + k;
    return workspace[window.coefficients_at + at];
}

// The same of each voxel's own class.
fn own_coefficient(k: u32) -> real {
    let of_class = bits(max(own, whole(0)));
#if VECTOR
    return real(coefficient(of_class.x, k), coefficient(of_class.y, k), coefficient(of_class.z, k), coefficient(of_class.w, k));
#else
    return coefficient(of_class, k);
#endif
}

#if SLOPE_PG
var<private> by_pg: array<f32, SLOTS>;
#endif
#if SLOPE_P
var<private> by_p: array<f32, SLOTS>;
#endif
#if SLOPE_PP
var<private> by_pp: array<f32, SLOTS>;
#endif
#if !SOFTMAX
// Whether nothing of a class's own voxels reaches the loss.
var<private> left_out: array<bool, SLOTS>;
#endif

// Takes what a workgroup, whose voxels are of one sample, needs for all of them.
fn load_coefficients() {
#each k
        let c = class_of(k);
#if SLOPE_PG
        by_pg[k] = coefficient(c, BY_PG);
#endif
#if SLOPE_P
        by_p[k] = coefficient(c, BY_P);
#endif
#if SLOPE_PP
        by_pp[k] = 2.0 * coefficient(c, BY_PP);
#endif
#if !SOFTMAX
        var none = true;
        for (var j = 0u; j < SLOPES; j++) {
            // By its bits: a NaN may compare as equal to 0 on a device, and must show.
            none = none && (coefficient_word(c, j) & 0x7fffffffu) == 0u;
        }
#if COST
        none = false;
#endif
        left_out[k] = none;
#endif
#end
}

// ∂L/∂p of a slot from P, I and PP.
fn affine(slot: u32) -> real {
    var x = real(0.0);
#if SLOPE_PG
    x += g_of(slot) * by_pg[slot];
#endif
#if SLOPE_P
    x += real(by_p[slot]);
#endif
#if SLOPE_PP
    x += p[slot] * by_pp[slot];
#endif
    return x;
}

#if COST
// ∂L/∂p_c = Σ_k ∂L/∂D_k·g_k·M[k, c].
fn cost_slope(slot: u32) -> real {
    let c = min(class_of(slot), CLASSES - 1u);
#if LABELS_TARGET
    let row = min(u32(max(own, 0)), CLASSES - 1u);
#if ONE_CLASS
    // Label 0 is no class.
    let counts = own == 1;
#else
    let counts = kept;
#endif
    return select(0.0, coefficient(row, BY_COST) * costs[row * CLASSES + c], counts);
#else
    var x = 0.0;
#each k
        x += g_of(k) * (coefficient(k, BY_COST) * costs[k * CLASSES + c]);
#end
    return x;
#endif
}
#endif

// What the cost and the pixel terms that look at every class give to e, ∂L/∂z or ∂L/∂p, by the activation; and u.
fn base(slot: u32) -> real {
    var x = real(0.0);
#if DENSE_TERMS
    let slopes = pixel_slopes(
        p[slot], ln_p_of(slot), q_of(slot), ln_q_of(slot), g_of(slot), map_of(slot), made_of(slot),
        pixel_coefficients(class_of(slot)));
    x += slopes[0];
#if LN_Q
    let b = slopes[1] * p[slot];
    u[slot] = select(b / q_of(slot), b, is_top(slot));
#endif
#endif
#if COST
#if SOFTMAX
    x += cost_slope(slot) * p[slot];
#endif
#if SIGMOID
    x += cost_slope(slot) * (p[slot] * q[slot]);
#endif
#if NO_ACTIVATION
    x += cost_slope(slot);
#endif
#endif
    return x;
}

// What a voxel that does not count gets is 0, whatever is there.
fn write_gradient(slot: u32, x: real) {
    if voxel_is_inside && present(slot) {
        store_gradient(element(window.gradient_base, slot), select(real(0.0), x * weight, kept));
    }
}

#if SOFTMAX
fn differentiate() {
    // The slope of the most probable class is taken from all: that changes no gradient of a softmax, and leaves nothing to
    // cancel where that class is nearly certain.
    var shift = real(0.0);
#each k
        shift = select(shift, affine(k), is_top(k));
#end
    shift = team_sum(shift);
    packed[0] = real(0.0);
    packed[1] = real(0.0);
    packed[2] = real(0.0);
    packed[3] = real(0.0);
#each k
        let there = truth(present(k));
        e[k] = (affine(k) - shift) * p[k] + base(k);
        packed[0] += select(real(0.0), e[k], there & !is_top(k));
        packed[1] = select(packed[1], e[k], there & is_top(k));
#if LN_Q
        packed[2] += select(real(0.0), u[k], there & !is_top(k));
        packed[3] = select(packed[3], u[k], there & is_top(k));
#endif
#end
    team_sum_packed();
    let sum = packed[0];
    let e_top = packed[1];
#if LN_Q
    // ∂ln q_c/∂z_c = −p_c and ∂ln q_c/∂z_k = p_c·p_k/q_c; where c is the largest class, p_k/q_c is its share of the rest.
    let u_sum = packed[2];
    let of_top = packed[3];
#endif
#if OWN_CLASS
    // Terms of the own class come by x = ∂L/∂ln p of it: x·(1 − p) for itself, −x·p for the others.
    let x = own_slope(pixel_slopes(own_p, own_ln_p, own_q, real(0.0), real(1.0), own_map(), own_made()));
#endif
#each k
        // e·(1 − p) − p·(Σ of the others) for the largest class, with 1 − p as it is.
        var dz = select(e[k] - p[k] * (sum + e_top), e[k] * q_top - p[k] * sum, is_top(k));
#if OWN_CLASS
        dz += x * select(-p[k], own_q, is_own(k));
#endif
#if LN_Q
        let u_here = select(u[k], real(0.0), is_top(k));
        let of_itself = select(u_here * q_of(k), of_top, is_top(k));
        dz += p[k] * (u_sum - u_here) + of_top * rest_of(k) - of_itself;
#endif
        write_gradient(k, dz);
#end
}
#else
fn differentiate() {
#each k
#if SIGMOID
        let x = affine(k) * (p[k] * q[k]) + base(k);
#else
        let x = affine(k) + base(k);
#endif
        // A class that is left out: its own values do not matter, not even a NaN.
        write_gradient(k, select(x, real(0.0), left_out[k]));
#end
}
#endif
