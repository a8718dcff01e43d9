"""Commands that take a bundle: run, verify, bench."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from modelc.cli import options
from modelc.cli.render import print_json, print_table


def run_command(
    bundle: options.BundlePath,
    prompt: Annotated[
        str | None, typer.Option(help="Text to go on from; without it: chat.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 128,
    chat: Annotated[
        bool, typer.Option("--chat", help="Put the prompt through the model's chat template.")
    ] = False,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy.")] = 0.0,
    top_k: Annotated[int, typer.Option(min=0, help="0 is off.")] = 0,
    top_p: Annotated[float, typer.Option(max=1.0, help="Above 0; 1 is off.")] = 1.0,
    repetition_penalty: Annotated[float, typer.Option(min=0.01)] = 1.0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    threads: Annotated[int, typer.Option(min=0, help="0: as many as there are cores.")] = 0,
    json: options.Json = False,
) -> None:
    """Generate text from a prompt, or chat."""
    from modelc.api import Bundle
    from modelc.targets.runtime import Sampling

    if prompt is None and json:
        raise typer.BadParameter("--json needs --prompt")
    sampling = Sampling(temperature, top_k, top_p, repetition_penalty, seed)
    with Bundle.open(bundle, threads=threads) as opened:
        if prompt is None:
            from modelc.cli.chat import chat_loop

            chat_loop(opened, sampling, max_new_tokens)
            return
        result = opened.generate(
            prompt,
            max_new_tokens,
            sampling=sampling,
            chat=chat,
            on_text=None if json else _write,
        )
        if json:
            print_json(result.document())
            return
        typer.echo("")
        typer.echo(
            f"[{opened.runtime.name}: prompt {result.prompt_tokens} tokens at "
            f"{result.prefill_tokens_per_s:.1f}/s, {len(result.token_ids)} new at "
            f"{result.decode_tokens_per_s:.1f}/s]",
            err=True,
        )


def verify_command(bundle: options.BundlePath, json: options.Json = False) -> None:
    """Check a bundle's files and compare it with the float model again."""
    from modelc.api import Bundle
    from modelc.errors import BelowThreshold

    with Bundle.open(bundle) as opened:
        verification = opened.verify()
    document = verification.document()
    if json:
        print_json(document)
    else:
        show_verification(document)
    if not verification.passed:
        failed = ", ".join(check.name for check in verification.checks if not check.passed)
        raise BelowThreshold(f"verification failed: {failed}")


def bench_command(
    bundle: options.BundlePath,
    prompt_tokens: Annotated[int, typer.Option(min=1)] = 128,
    new_tokens: Annotated[int, typer.Option(min=2)] = 64,
    runs: Annotated[int, typer.Option(min=1)] = 5,
    threads: Annotated[int, typer.Option(min=0, help="0: as many as there are cores.")] = 0,
    json: options.Json = False,
) -> None:
    """Measure prefill and decode rates (medians), load time and peak memory."""
    from modelc.api import Bundle

    with Bundle.open(bundle, threads=threads) as opened:
        result = opened.bench(prompt_tokens, new_tokens, runs)
    if json:
        print_json(result)
        return
    rows = (
        (f"prefill of {prompt_tokens} tokens", result["prefill_tokens_per_s"], "tokens/s"),
        (f"decode of {new_tokens} tokens", result["decode_tokens_per_s"], "tokens/s"),
        ("load", result["load_seconds"], "s"),
        ("peak memory", result["peak_mb"], "MB"),
    )
    print_table(f"{result['runtime']}, medians of {runs} runs", ("", "", ""), rows)


def show_verification(document: dict[str, Any]) -> None:
    """Print the verdict and the checks of a verification's JSON form."""
    ratios = document["metrics"]["perplexity"]
    rows = [(c["name"], "ok" if c["passed"] else "FAILED", c["detail"]) for c in document["checks"]]
    print_table("", ("check", "", "found"), rows)
    bundle, reference = (
        "not finite" if ratios[name] is None else f"{ratios[name]:.3f}"
        for name in ("bundle", "reference")
    )
    typer.echo(
        f"{'verified' if document['passed'] else 'NOT verified'} on {document['runtime']}: "
        f"perplexity {bundle} against {reference} of the float model "
        f"over {document['metrics']['tokens']} tokens"
    )


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
