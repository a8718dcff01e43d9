"""What of a network runs on the CPU of a chipset, as its manifest and its verification say it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelc.targets.snapdragon.network.places import BOUNDARY


def whole_partition(partition: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return how a binary's nodes are spread, and behind them the network's tail.

    Args:
        partition: of the binary.
        facts: of the canonical graph.
    """
    tail = facts["tail"]["nodes"] if "tail" in facts else []
    return {**partition, "cpu": [*partition["cpu"], *tail]}


def left_to_cpu(partition: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the nodes that the CPU runs because HTP doesn't."""
    return [row for row in partition["cpu"] if row["why"] != BOUNDARY]
