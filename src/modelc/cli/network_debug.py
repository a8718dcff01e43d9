"""What `modelc debug` shows of a model that is no decoder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from modelc.cli.render import print_json, print_table

if TYPE_CHECKING:
    from modelc.pipeline.recipe import Recipe


def debug_network(source: Path, recipe: Recipe, tensors: int, json: bool) -> None:
    """Print the tensors in which most is lost, and the modules to raise to more bits."""
    from modelc.cli.progress import watch
    from modelc.pipeline.network.loss import network_losses

    with watch(quiet=json) as events:
        losses = network_losses(source, recipe, events=events)
    worst = sorted(losses, key=lambda loss: -loss.lost_db)
    if json:
        print_json([loss.document() for loss in worst])
        return
    print_table(
        "where most is lost; inherited is what was lost before",
        ("tensor", "operator", "module", "codes", "SQNR dB", "inherited dB"),
        [
            (row.tensor, row.op_type, row.module, row.dtype, row.sqnr_db, row.inherited_db)
            for row in worst[:tensors]
        ],
    )
    narrow = [row.module for row in worst if row.dtype in ("uint8", "int8")]
    if narrow:
        print_table(
            "with more bits: --override 'MODULE=a16'", ("module",),
            [[module] for module in list(dict.fromkeys(narrow))[:5]],
        )  # fmt: skip
