"""Quantisation of networks: schemes, ranges, encodings, and algorithms on their weights."""
