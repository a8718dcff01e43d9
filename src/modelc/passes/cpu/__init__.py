"""Passes that turn the canonical graph into what ONNX Runtime runs fastest on a CPU."""
