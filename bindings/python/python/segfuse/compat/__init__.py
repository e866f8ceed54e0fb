"""Losses with the names, arguments and numbers of other libraries: `segfuse.compat.monai`, `nnunet`, `smp` and `kornia`.

Change the import, keep the code: arguments, defaults, shapes, warnings and errors are those of the library, and so are value and
gradient within single precision, its known errors included (each is named where it is, and an argument gives the right form).
What the library has and segfuse has not is a class that raises NotImplementedError when it is made, or a setting that does.

The sums over voxels, and the gradient, are computed by segfuse, in one pass each, without a one-hot target and without saved
tensors; what a library makes of the sums is written in PyTorch, on `[N, C]` numbers in double precision. Differences in kind: the
result is float32 for half-precision predictions, and labels may have any integer type.
"""
