"""Who uses a store now, and which results they need.

    active/<id>.lock    held as long as the use lasts; the death of its process releases it
    active/<id>.json    the keys that it needs
    locks/prune.lock    held by whoever begins a use, changes its keys, or removes entries

A use tells its keys before it looks for their entries, and a removal looks at the uses first, both
under one lock: so nothing is removed that another process has found there and is going to read.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from modelc.files import write_atomic


class Usage:
    """The use that one `Store` makes of its folder; for any number of threads.

    Attributes:
        pruning: the lock of the whole store, to be taken before an entry is removed.
    """

    def __init__(self, root: Path) -> None:
        self._folder = root / "active"
        self._prune_lock = root / "locks" / "prune.lock"
        self._own = FileLock(self._folder / f"{uuid.uuid4().hex}.lock", thread_local=False)
        self._keys = Path(self._own.lock_file).with_suffix(".json")
        self._depth = 0
        self._claims: Counter[str] = Counter()
        self._mutex = threading.RLock()

    def pruning(self) -> FileLock:
        """The lock that is held while entries are removed or uses begin, not yet taken."""
        return FileLock(self._prune_lock)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Be a user meanwhile; inside another `held` it changes nothing."""
        with self._mutex:
            if self._depth == 0:
                with self.pruning():
                    self._own.acquire()
            self._depth += 1
        try:
            yield
        finally:
            with self._mutex:
                self._depth -= 1
                if self._depth == 0:
                    self._claims.clear()
                    self._end()

    def claim(self, keys: Iterable[str]) -> None:
        """Say that these results are needed, until `release` or the end of the use."""
        with self._mutex, self.pruning():
            self._claims.update(keys)
            self._tell()

    def release(self, key: str, remove: Callable[[str], None]) -> None:
        """Take one claim back, and call `remove` with the key if nobody has one any more."""
        with self._mutex, self.pruning():
            self._claims[key] -= 1
            if self._claims[key] > 0:
                return
            del self._claims[key]
            self._tell()
            if key not in self._claimed_by_others():
                remove(key)

    def users(self) -> int:
        """How many uses there are now, this one included; forgets those that died. Call it with
        `pruning` held."""
        return sum(1 for _ in self._living())

    def _end(self) -> None:
        try:
            with self.pruning():  # others read the files under it
                self._own.release()
                _forget(Path(self._own.lock_file))
        finally:
            self._own.release()

    def _tell(self) -> None:
        write_atomic(self._keys, json.dumps(sorted(self._claims)).encode(), durable=False)

    def _claimed_by_others(self) -> set[str]:
        claimed: set[str] = set()
        for lock in self._living():
            keys = lock.with_suffix(".json")
            if keys != self._keys and keys.exists():
                claimed.update(json.loads(keys.read_text()))
        return claimed

    def _living(self) -> Iterator[Path]:
        for path in self._folder.glob("*.lock"):
            try:
                with FileLock(path, timeout=0):
                    pass  # nobody holds it
            except Timeout:
                yield path
            else:
                _forget(path)


def _forget(lock: Path) -> None:
    """Remove the files of a use that has ended. Its lock must be free: Windows keeps open files."""
    lock.with_suffix(".json").unlink(missing_ok=True)
    lock.unlink(missing_ok=True)
