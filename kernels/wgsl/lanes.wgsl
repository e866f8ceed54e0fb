// What a thread holds of one quantity: the values of one voxel, or of four that follow each other.

#if VECTOR
alias real = vec4<f32>;
alias whole = vec4<i32>;
alias bits = vec4<u32>;
alias truth = vec4<bool>;
const WIDTH = 4u;

fn sum_of_lanes(x: real) -> f32 {
    return (x.x + x.y) + (x.z + x.w);
}
#else
alias real = f32;
alias whole = i32;
alias bits = u32;
alias truth = bool;
const WIDTH = 1u;

fn sum_of_lanes(x: real) -> f32 {
    return x;
}
#endif
