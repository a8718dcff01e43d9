"""How codes and their scales lie in files: one file for each family of layouts."""
