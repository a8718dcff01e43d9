"""A bundle that runs: logits, text, verification, perplexity."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from modelc.api.generated import GeneratedText, generated
from modelc.bundle.read import BundleFiles, open_bundle
from modelc.bundle.tokenizer import Tokenizer, load_tokenizer
from modelc.errors import BadInput, Where, nearest
from modelc.pipeline.compile import CompileReport
from modelc.pipeline.plans import files_to_run
from modelc.pipeline.steps import VERIFICATION_DATA
from modelc.pipeline.verify import RUNTIMES, open_runtime, thresholds_of, verify_runtime
from modelc.targets.runtime import Runtime, Sampling
from modelc.verify.evaluate import NO_METRICS, Evaluation, Metric
from modelc.verify.report import Verification

if TYPE_CHECKING:
    from modelc.bundle.manifest import Manifest

StrPath = str | Path
Prompt = str | Sequence[Mapping[str, str]]


class Bundle:
    """A compiled model: its files, and the runtime that runs it here.

    Use it as a context manager, or `close` it, to free what the runtime holds.
    """

    def __init__(
        self,
        files: BundleFiles,
        *,
        threads: int = 0,
        engine: str = "auto",
        adapter: str | None = None,
    ) -> None:
        cores = os.cpu_count() or 1
        if not 0 <= threads <= cores:
            raise BadInput(f"{threads} threads; this machine has {cores} cores")
        if files.manifest.runtime not in RUNTIMES:
            raise BadInput(
                "the bundle is of a model that is no decoder",
                where=Where(path=str(files.path)),
                hint="run it on samples, `modelc run BUNDLE --inputs FILE.npz`; from Python open "
                "it with modelc.open_any",
            )
        self.path = files.path
        self.manifest: Manifest = files.manifest
        self.report: CompileReport | None = None
        self._threads = threads
        self._engine = engine
        self._adapter = _adapter_number(self.manifest, adapter)

    @classmethod
    def open(
        cls,
        path: StrPath,
        *,
        threads: int = 0,
        check: bool = True,
        engine: str = "auto",
        adapter: str | None = None,
    ) -> Bundle:
        """Open a bundle after checking every file's SHA-256 (`check=False`: sizes only).

        Args:
            threads: of the runtime, 0 for its own choice.
            engine: "onnx" runs the ONNX that a bundle for Cloud AI 100 holds on this machine, also
                where it was compiled; "auto" is the card for what was compiled for it.
            adapter: the LoRA adapter that all sequences get, of a bundle that has some.

        Raises:
            BadInput: no bundle, or one that a newer modelc made; it has no such engine or adapter.
            Damaged: a file is missing or not what the manifest says.
        """
        files = open_bundle(Path(path), check_contents=check)
        return cls(files, threads=threads, engine=engine, adapter=adapter)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return load_tokenizer(self.path)

    @cached_property
    def runtime(self) -> Runtime:
        """The loaded model.

        Raises:
            Missing: it can't run on this machine.
        """
        settings = {
            **self.manifest.settings,
            "threads": self._threads,
            "adapter": self._adapter,
            "engine": self._engine,
        }
        files = files_to_run(self.path, self.manifest, self._engine)
        return open_runtime(self.manifest.runtime, files, settings)

    def logits(self, token_ids: Sequence[int]) -> np.ndarray:
        """Return the logits after each token of one sequence, float32 [len(token_ids), vocab].

        Raises:
            BadInput: no tokens, unknown ones, or more than the context holds.
        """
        self._check_tokens(token_ids)
        return self.runtime.logits(token_ids)

    def generate(
        self,
        prompt: Prompt,
        max_new_tokens: int = 128,
        *,
        sampling: Sampling | None = None,
        chat: bool = False,
        on_text: Callable[[str], None] | None = None,
    ) -> GeneratedText:
        """Go on from a prompt until a stop token, `max_new_tokens` or the end of the context.

        Args:
            prompt: text, or chat messages ({"role": ..., "content": ...}).
            sampling: greedy if None.
            chat: put a text through the chat template as one user message.
            on_text: called with each piece of text as it is made.

        Raises:
            BadInput: the prompt leaves no room in the context, or there is no chat template.
        """
        if max_new_tokens < 1:
            raise BadInput(f"max_new_tokens is {max_new_tokens}; at least 1 can be generated")
        prompt_ids = self._prompt_ids(prompt, chat)
        self._check_tokens(prompt_ids)
        stream = self.tokenizer.stream()
        pieces: list[str] = []

        def take(piece: str) -> None:
            if piece:
                pieces.append(piece)
                if on_text:
                    on_text(piece)

        result = self.runtime.generate(
            prompt_ids,
            sampling or Sampling(),
            max_new_tokens,
            self.tokenizer.eos_ids,
            lambda token: take(stream.add(token)),
        )
        take(stream.finish())
        return generated("".join(pieces), result)

    def generate_all(
        self,
        prompts: Sequence[str],
        max_new_tokens: int = 128,
        *,
        sampling: Sampling | None = None,
        chat: bool = False,
        on_text: Callable[[int, str], None] | None = None,
    ) -> list[GeneratedText]:
        """Go on from several prompts: side by side where the runtime can, else one by one.

        Args:
            on_text: called with a prompt's number and each piece of its text.

        Raises:
            BadInput: as `generate`.
        """
        told = on_text or (lambda number, piece: None)
        run = getattr(self.runtime, "generate_all", None)
        if run is None:
            return [
                self.generate(
                    prompt,
                    max_new_tokens,
                    sampling=sampling,
                    chat=chat,
                    on_text=partial(told, number),
                )
                for number, prompt in enumerate(prompts)
            ]
        ids = [self._prompt_ids(prompt, chat) for prompt in prompts]
        for row in ids:
            self._check_tokens(row)
        streams = [self.tokenizer.stream() for _ in prompts]
        pieces: list[list[str]] = [[] for _ in prompts]

        def take(number: int, piece: str) -> None:
            pieces[number].append(piece)
            if piece:
                told(number, piece)

        results = run(
            ids,
            sampling or Sampling(),
            max_new_tokens,
            self.tokenizer.eos_ids,
            lambda number, token: take(number, streams[number].add(token)),
        )
        for number, stream in enumerate(streams):
            take(number, stream.finish())
        return [generated("".join(p), r) for p, r in zip(pieces, results, strict=True)]

    def verify(self) -> Verification:
        """Compare the bundle with the float model's logits that it carries."""
        manifest = self.manifest
        reference = self.path / VERIFICATION_DATA
        return verify_runtime(
            self.runtime, manifest.target, reference, thresholds_of(manifest.recipe)
        )

    def evaluate(
        self,
        text: StrPath,
        *,
        source: StrPath | None = None,
        window: int | None = None,
        max_tokens: int | None = None,
        metrics: Mapping[str, Metric] = NO_METRICS,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Evaluation:
        """Measure perplexity on a UTF-8 text file in windows, half overlapping; with the source
        that the bundle was made of, also how far it is from the float model.

        Args:
            window: tokens in each, by default as many as the context holds.
            max_tokens: use only the first ones.
            metrics: more of them by name, which compare with the source.

        Raises:
            BadInput: the text is too short, or the source another model's.
        """
        from modelc.api.evaluation import evaluate_bundle

        path = Path(source) if source else None
        return evaluate_bundle(self, Path(text), path, window, max_tokens, metrics, progress)

    def bench(
        self, prompt_tokens: int = 128, new_tokens: int = 64, runs: int = 5
    ) -> dict[str, Any]:
        """Measure medians over runs with different prompts; rates in tokens per second."""
        from modelc.api.bench import bench

        return bench(self, prompt_tokens, new_tokens, runs)

    @property
    def context_length(self) -> int:
        return int(self.manifest.settings["context_length"])

    def close(self) -> None:
        """Free what the runtime holds."""
        if "runtime" in self.__dict__:
            self.runtime.close()
            del self.__dict__["runtime"]

    def __enter__(self) -> Bundle:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _prompt_ids(self, prompt: Prompt, chat: bool) -> Sequence[int]:
        if isinstance(prompt, str) and not chat:
            return self.tokenizer.encode(prompt)
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        return self.tokenizer.encode_chat(messages)

    def _check_tokens(self, token_ids: Sequence[int]) -> None:
        vocab = int(self.manifest.settings["vocab_size"])
        ids = np.asarray(token_ids)
        if not ids.size:
            raise BadInput("there are no tokens to run", hint="give a prompt that is not empty")
        if ids.ndim != 1 or ids.dtype.kind not in "iu":
            raise BadInput("token ids must be one sequence of whole numbers")
        if len(token_ids) > self.context_length:
            raise BadInput(
                f"{len(token_ids)} tokens don't fit the context of {self.context_length}",
                hint="shorten the text, or compile with a longer --context-length",
            )
        if ids.min() < 0 or ids.max() >= vocab:
            raise BadInput(f"token ids must lie in 0..{vocab - 1}")


def _adapter_number(manifest: Manifest, name: str | None) -> int:
    """Return an adapter's number, 0 for none."""
    names = manifest.settings.get("adapters", [])
    if name is None:
        return 0
    if name not in names:
        raise BadInput(
            f"the bundle has no adapter {name}",
            hint=nearest(name, names) if names else "it was compiled without adapters",
        )
    return int(names.index(name)) + 1
