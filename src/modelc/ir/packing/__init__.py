"""Codecs: float weights to the integer formats that targets store, and back."""
