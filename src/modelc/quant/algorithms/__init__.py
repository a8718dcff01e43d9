"""Ways of quantising weights, one to a file; `table.py` lists them."""
