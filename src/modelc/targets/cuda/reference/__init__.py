"""What each kernel computes, in PyTorch: functions of the kernels' names that take their tensors
and constants by name and write the results in place."""
