"""Putting QuantizeLinear and DequantizeLinear into a network."""
