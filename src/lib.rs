//! Segmentation losses and their gradients, fused.
