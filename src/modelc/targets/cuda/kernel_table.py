"""Every kernel by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from modelc.targets.cuda.kernel import Kernel
from modelc.targets.cuda.rows.attention import ATTENTION
from modelc.targets.cuda.rows.elementwise import ELEMENTWISE
from modelc.targets.cuda.rows.experts import EXPERTS
from modelc.targets.cuda.rows.linear import LINEAR
from modelc.targets.cuda.rows.norms import NORMS
from modelc.targets.cuda.rows.sampling import SAMPLING

KERNELS: Final[Mapping[str, Kernel]] = {
    row.name: row for row in (*ATTENTION, *ELEMENTWISE, *EXPERTS, *LINEAR, *NORMS, *SAMPLING)
}
