//! The losses of segfuse, straight from their definitions, in plain f64.
