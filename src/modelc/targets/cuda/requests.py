"""Requests that are generated together: continuous batching over the paged cache."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from modelc.errors import BadInput
from modelc.targets.cuda.executor import Choice, Executor, Piece
from modelc.targets.cuda.pages import Pages
from modelc.targets.runtime import OnToken, Sampling


@dataclass(eq=False)
class Request:
    """One sequence that is being generated.

    Attributes:
        limit: new tokens, at most.
        tokens: the prompt and the new ones.
        done: positions whose keys and values are in the cache.
    """

    prompt: Sequence[int]
    sampling: Sampling
    limit: int
    stops: frozenset[int]
    on_token: OnToken | None = None
    tokens: list[int] = field(init=False)
    pages: list[int] = field(default_factory=list)
    done: int = 0
    finished: bool = False
    first_token_at: float = 0.0
    last_token_at: float = 0.0

    def __post_init__(self) -> None:
        self.tokens = list(self.prompt)
        self._random = np.random.default_rng(self.sampling.seed)

    @property
    def new(self) -> list[int]:
        """Tokens that were generated."""
        return self.tokens[len(self.prompt) :]

    @property
    def waiting(self) -> int:
        """Tokens that are not in the cache."""
        return len(self.tokens) - self.done

    def choice(self) -> Choice:
        """Return how the next token is chosen; draws as `targets.sampling.Sampler` does."""
        options = self.sampling
        return Choice(
            options.temperature,
            options.top_k,
            options.top_p,
            options.repetition_penalty,
            self._random.random() if options.temperature else 0.0,
            self.tokens,
        )

    def accept(self, token: int) -> None:
        """Take a chosen token, or end."""
        self.last_token_at = time.perf_counter()
        self.first_token_at = self.first_token_at or self.last_token_at
        if token in self.stops:
            self.finished = True
            return
        self.tokens.append(token)
        if self.on_token is not None:
            self.on_token(token)
        self.finished = len(self.tokens) - len(self.prompt) >= self.limit


class Batch:
    """Runs requests, as many together as there are places and pages for.

    Prompts go before decoding, in chunks; whoever finishes makes room at once. When the pages run
    out, the request that came last starts again later, with what it has.
    """

    def __init__(self, executor: Executor) -> None:
        plan = executor.plan
        self._executor = executor
        self._pages = Pages(executor.memory.pages)
        self._most = max(f.most["sequences"] for f in plan.functions if f.kind == "decode")
        prefill = next(f for f in plan.functions if f.kind == "prefill")
        self._chunk, self._page = prefill.most["tokens"], plan.cache.page
        self._context = plan.context_length
        self._queue: deque[Request] = deque()
        self._running: list[Request] = []

    def add(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        max_new_tokens: int,
        stop_ids: Sequence[int],
        on_token: OnToken | None = None,
    ) -> Request:
        """Queue a request.

        Raises:
            BadInput: its prompt doesn't fit the context, or all pages of the cache.
        """
        if not 0 < len(prompt) <= self._context:
            raise BadInput(
                f"{len(prompt)} tokens don't fit a context of {self._context}",
                hint="compile with a longer --context-length" if len(prompt) else "",
            )
        # The last token's logits need no position of their own.
        room = min(self._context, self._pages_in_all * self._page) - len(prompt) + 1
        if room < 1:
            raise BadInput(f"{len(prompt)} tokens don't fit the cache that there is memory for")
        limit = min(max_new_tokens, room)
        request = Request(prompt, sampling, limit, frozenset(stop_ids), on_token)
        request.finished = limit < 1
        if not request.finished:
            self._queue.append(request)
        return request

    def run(self) -> None:
        """Generate until every request has finished."""
        while self._queue or self._running:
            self.step()

    def step(self) -> None:
        """Run one call."""
        self._admit()
        prompts = [request for request in self._running if request.waiting > 1]
        if prompts or not all(request.done for request in self._running):
            self._prefill([r for r in self._running if r.waiting > 1 or not r.done])
        else:
            self._decode()
        for request in self._running:
            if request.finished:
                self._pages.give_back(request.pages)
        self._running = [request for request in self._running if not request.finished]

    @property
    def _pages_in_all(self) -> int:
        return self._executor.memory.pages

    def _admit(self) -> None:
        while self._queue and len(self._running) < self._most:
            request = self._queue[0]
            if not self._reserve(request, len(request.tokens)):
                return
            self._running.append(self._queue.popleft())

    def _reserve(self, request: Request, positions: int) -> bool:
        """Give a request pages for so many positions, if there are."""
        missing = -(-positions // self._page) - len(request.pages)
        if missing > self._pages.free:
            return False
        request.pages += self._pages.take(max(missing, 0))
        return True

    def _prefill(self, requests: Sequence[Request]) -> None:
        pieces: list[Piece] = []
        ready: list[Request] = []
        choices: list[Choice] = []
        room = self._chunk
        for request in requests:
            count = min(room, request.waiting)
            if not count:
                break
            room -= count
            last = count == request.waiting
            tokens = request.tokens[request.done : request.done + count]
            pieces.append(Piece(tokens, request.done, request.pages))
            request.done += count
            # A piece that does not end a prompt chooses as well, and nobody reads it.
            choices.append(request.choice() if last else Choice())
            if last:
                ready.append(request)
        if not ready:
            self._executor.prefill(pieces)
            return
        # Only the last piece may not end its prompt: there was no room behind it.
        for request, token in zip(
            ready, self._executor.choose("prefill", pieces, choices), strict=False
        ):
            request.accept(token)

    def _decode(self) -> None:
        for request in list(self._running):
            if request in self._running:
                self._make_room(request)
        pieces = [
            Piece(request.tokens[-1:], request.done, request.pages) for request in self._running
        ]
        for request in self._running:
            request.done += 1
        choices = [request.choice() for request in self._running]
        chosen = self._executor.choose("decode", pieces, choices)
        for request, token in zip(self._running, chosen, strict=True):
            request.accept(token)

    def _make_room(self, request: Request) -> None:
        """Give a request the page of its next token; the latest ones give way if there is none."""
        while not self._reserve(request, request.done + 1):
            last = self._running.pop()
            self._pages.give_back(last.pages)
            last.done = 0
            self._queue.appendleft(last)
            if last is request:
                return
