"""How much Genie reads and writes in a context, measured with Genie 1.21.

A call of an AR-n graph may not leave more tokens in the cache than the graph has slots for past
ones: context length - n. Of several context lengths the longest counts.
"""

from __future__ import annotations

from collections.abc import Collection


def longest_prompt(ars: Collection[int], context_length: int) -> int:
    """Return how many tokens of a prompt Genie reads.

    It reads in calls of the longest AR, and what is left over in one of the shortest that takes it.
    """
    longest = max(ars)
    whole = (context_length - longest) // longest * longest
    return whole + max(0, *(min(ar, context_length - ar - whole) for ar in ars))


def longest_text(ars: Collection[int], context_length: int) -> int:
    """Return how many tokens prompt and answer have when Genie stops, the context being full."""
    return context_length - min(ars) + 1
