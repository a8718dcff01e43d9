"""Which kernels compute which operators, by what the operators are for."""
