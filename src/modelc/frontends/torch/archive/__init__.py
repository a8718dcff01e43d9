"""Exported programs (`.pt2`, as `torch.export.save` of torch 2.13 writes them) from strangers.

`torch.export.load` runs what an archive tells it to. So none gets there as it came: everything is
checked without PyTorch, and what is understood is written into an archive of our own
(`rewrite.py`), with every size a number. PyTorch loads that one, and no node is run.

What torch would do with each part of an archive (A), and what is done here (B):

entries of the zip          A  read by name, whatever they say of themselves
(`container.py`)            B  stored ones only, plain names, all within the file's size
the layout before 2.8       A  `torch.load(weights_only=False)` of whole files
                            B  refused; nor is the old path of torch.export.load ever reached
compiled code (AOTInductor) A  loads a library
                            B  refused
sample inputs               A  unpickles them, in the end with `weights_only=False`
                            B  never read; an empty entry is written instead
extra files                 A  handed to the caller
                            B  never read
weights marked as pickled,  A  `torch.load(weights_only=False)`, `pickle.loads`, `_pickle_load_obj`
custom and opaque objects   B  refused
(`tensors.py`)
shapes of weights           A  `as_strided` over the bytes; zeros of any size where there are none
                            B  must lie within their bytes, and have no more elements than those
symbolic sizes              A  `sympify`, which evaluates Python
(`sizes.py`)                B  computed over a closed table of forms; only numbers are written
guards                      A  `exec`, where the program's module is made
                            B  checked against the sizes, likewise; none is written
targets of nodes            A  attributes of torch, math, operator are looked up by their path
(`operators.py`)            B  a closed table of ATen operators; those of sizes are dropped
names of values, nodes,     A  put into the text of a Python function, which is compiled
graphs, arguments           B  identifiers only
(`values.py`)
texts among arguments       A  put into that text, and into guards
                            B  letters, digits and the signs of an einsum only
tree specifications         A  types looked up by name, enums and factories imported by name
(`trees.py`)                B  rebuilt of tuples, lists and dicts
metadata of nodes           A  `source_fn_stack`: attributes of torch looked up; JSON
(`graph.py`)                B  `nn_module_stack` alone is kept, a printable text
verifiers                   A  looked up by name
(`program.py`)              B  one of two names
devices                     A  tensors are made there
                            B  always the CPU
"""
