"""Passes over networks: models that are no decoder LLM, as static graphs of any operators."""
