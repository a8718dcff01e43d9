"""Checkpoints that came quantised: one file for each method of `quantization_config`."""
