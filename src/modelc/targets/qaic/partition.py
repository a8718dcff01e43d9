"""mdp_ts_N.json: one partition on N devices, every matrix split among them (tensor slicing)."""

from __future__ import annotations

from typing import Any


def file_name(devices: int) -> str:
    return f"mdp_ts_{devices}.json"


def tensor_slices(devices: int, cores: int | None) -> dict[str, Any]:
    """Return the partition of N devices that talk to each other directly.

    Args:
        cores: of each device; None leaves them out, as the QNN tools want it.
    """
    numbers = list(range(devices))
    of_each = {} if cores is None else {"numCores": cores}
    return {
        "connections": [{"devices": numbers, "type": "p2p"}],
        "partitions": [
            {"name": "Partition0", "devices": [{"deviceId": n, **of_each} for n in numbers]}
        ],
    }
