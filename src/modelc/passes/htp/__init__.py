"""Passes that turn the expanded graph into what HTP compiles and Genie runs."""
