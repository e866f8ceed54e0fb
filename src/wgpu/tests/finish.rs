//! The finish kernel against [`crate::finish::finish`].

use super::gpu::Gpu;

#[test]
fn compiles() {
    let Some(gpu) = Gpu::get() else { return };
    let text = format!("const REGISTERS = 64u;\n{}", super::gpu::kernel("finish"));
    let start = std::time::Instant::now();
    gpu.pipeline(&text, "finish", &[]);
    eprintln!("compiled in {:?}", start.elapsed());
}
