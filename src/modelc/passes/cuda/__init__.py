"""Passes that turn the canonical graph into what CUDA's launch plans are made of: operators of the
domain `modelc.cuda` over flat tokens and a paged KV cache."""
