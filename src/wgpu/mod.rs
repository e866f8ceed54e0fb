//! The WGSL backend: Vulkan, Metal, DX12 and WebGPU through wgpu.
#![allow(dead_code, reason = "the host side, which is to use them, is not here yet")]

mod recipe;
#[cfg(test)]
mod tests;
mod words;
