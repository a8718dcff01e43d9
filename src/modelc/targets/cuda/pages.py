"""Which pages of the KV cache belong to whom."""

from __future__ import annotations


class Pages:
    """A stack of free pages."""

    def __init__(self, count: int) -> None:
        self._free = list(range(count - 1, -1, -1))

    @property
    def free(self) -> int:
        return len(self._free)

    def take(self, count: int) -> list[int]:
        """Take pages; the caller has seen that there are enough."""
        assert count <= self.free
        return [self._free.pop() for _ in range(count)]

    def give_back(self, pages: list[int]) -> None:
        """Take back pages, which then are nobody's."""
        self._free.extend(reversed(pages))
        pages.clear()
