"""Remembers what each step last depended on, by target and source path, for `explain`."""

from __future__ import annotations

from pathlib import Path

from modelc.errors import Damaged
from modelc.files import write_atomic
from modelc.hashing import digest
from modelc.pipeline.fingerprint import Fingerprint
from modelc.pipeline.record import FINGERPRINTS, dump, load
from modelc.pipeline.store import Store


def remember(store: Store, target: str, origin: str, fingerprint: Fingerprint) -> None:
    """Note the fingerprint of a step's last run (or use) for a target and a source path."""
    path = _path(store, target, origin, fingerprint.step)
    path.parent.mkdir(exist_ok=True)
    write_atomic(path, dump(fingerprint), durable=False)


def recall(store: Store, target: str, origin: str, step: str) -> Fingerprint | None:
    """Return what `remember` noted last, None if nothing readable."""
    try:
        return load(FINGERPRINTS, _path(store, target, origin, step))
    except Damaged:
        return None


def _path(store: Store, target: str, origin: str, step: str) -> Path:
    return store.root / "latest" / f"{digest([target, origin, step])}.json"
