"""Triton kernels, one in each file. They import Triton, so nobody imports them but the compiler's
child process and the interpreter."""
