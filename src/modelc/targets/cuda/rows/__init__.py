"""The rows of the kernel table, by what the kernels are for."""
