"""Networks: models that are no decoders, from a source to a verified bundle."""
