"""Every kernel by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from modelc.targets.cuda.kernel import Kernel
from modelc.targets.cuda.rows.experts import EXPERTS
from modelc.targets.cuda.rows.norms import NORMS

KERNELS: Final[Mapping[str, Kernel]] = {row.name: row for row in (*EXPERTS, *NORMS)}
