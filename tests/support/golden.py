"""Golden texts: what a graph looks like before and after a pass.

`MODELC_UPDATE_GOLDEN=1 pytest` rewrites them; the difference is then read in review.
"""

from __future__ import annotations

import os
from pathlib import Path


def check_golden(path: Path, text: str) -> None:
    """Compare a text with a file line by line."""
    if os.environ.get("MODELC_UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert text.splitlines() == path.read_text().splitlines()
