"""Helpers shared by tests: small random models, a GGUF writer."""
