"""Runs every node test of the onnx package through compile, simulate and compare for HTP, and
writes the table of operators.

    python scripts/onnx_nodes.py --kept FOLDER [--only PATTERN] [--scheme NAME]
        [--write docs/operators.md]

Results of HTP are kept in FOLDER by what they depend on, so a run that was killed goes on there,
and one after a change computes only what is another graph now.
"""

from onnx_nodes.main import main

if __name__ == "__main__":
    main()
