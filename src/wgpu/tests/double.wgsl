// Every operation on doubles, one number or pair of numbers a thread.

#import double_functions

@group(0) @binding(0) var<storage, read> operands: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> results: array<vec2<u32>>;
@group(0) @binding(2) var<uniform> operation: vec4<u32>;

fn truth(value: bool) -> vec2<u32> {
    return vec2<u32>(select(0u, 1u, value), 0u);
}

@compute @workgroup_size(64)
fn apply(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= arrayLength(&operands) {
        return;
    }
    let a = operands[id.x].xy;
    let b = operands[id.x].zw;
    var value = vec2<u32>(0u, 0u);
    switch operation.x {
        case 0u: { value = double_add(a, b); }
        case 1u: { value = double_sub(a, b); }
        case 2u: { value = double_mul(a, b); }
        case 3u: { value = double_div(a, b); }
        case 4u: { value = double_sqrt(a); }
        case 5u: { value = double_abs(a); }
        case 6u: { value = double_neg(a); }
        case 7u: { value = double_max(a, b); }
        case 8u: { value = double_min(a, b); }
        case 9u: { value = double_select(a, b, double_neg(b)); }
        case 10u: { value = truth(double_less(a, b)); }
        case 11u: { value = truth(double_less_equal(a, b)); }
        case 12u: { value = truth(double_equal(a, b)); }
        case 13u: { value = truth(double_is_nan(a)); }
        case 14u: { value = truth(double_is_zero(a)); }
        case 15u: { value = truth(double_is_infinite(a)); }
        case 16u: { value = double_from_u32(a.x); }
        case 17u: { value = double_from_f32(a.x); }
        case 18u: { value = vec2<u32>(double_to_f32(a), 0u); }
        case 19u: { value = double_ln(a); }
        case 20u: { value = double_exp(a); }
        case 21u: { value = double_pow(a, b); }
        default: {}
    }
    results[id.x] = value;
}
