"""CUDA: a launch plan over Triton kernels that were compiled ahead of time."""
