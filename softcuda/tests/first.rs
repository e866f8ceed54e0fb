//! The driver is found, and a kernel runs.

mod common;
use common::*;

#[test]
fn adds() {
    let text = kernel(
        2,
        ".reg .pred %p<2>; .reg .f32 %f<4>; .reg .b32 %r<4>; .reg .b64 %rd<8>;
        ld.param.u64 %rd1, [a0]; ld.param.u64 %rd2, [a1];
        cvta.to.global.u64 %rd3, %rd1; cvta.to.global.u64 %rd4, %rd2;
        mov.u32 %r1, %tid.x;
        mul.wide.u32 %rd5, %r1, 4;
        add.s64 %rd6, %rd3, %rd5; add.s64 %rd7, %rd4, %rd5;
        ld.global.f32 %f1, [%rd6];
        add.f32 %f2, %f1, 0f3F800000;
        st.global.f32 [%rd7], %f2;
        ret;",
    );
    let input: Vec<f32> = (0..64).map(|i| i as f32).collect();
    let (output, reports) = run_on::<f32, f32>(&text, 64, &[&input], 64);
    assert_eq!(reports, []);
    assert_eq!(output, input.iter().map(|v| v + 1.0).collect::<Vec<_>>());
}
