"""Commands that take a bundle: run, verify, bench."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelc.cli import options
from modelc.cli.network import Inputs, run_network
from modelc.cli.render import print_json, print_table

if TYPE_CHECKING:
    from modelc.api import Bundle, GeneratedText
    from modelc.targets.runtime import Sampling


def run_command(
    bundle: options.BundlePath,
    prompt: Annotated[
        list[str] | None,
        typer.Option(help="Text to go on from; several go side by side; without it: chat."),
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
    engine: options.Engine = "auto",
    adapter: Annotated[
        str | None, typer.Option(help="The LoRA adapter to use, of a bundle that has some.")
    ] = None,
    inputs: Inputs = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="With --inputs: a .npz for the outputs.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option("--target", "-t", help="With --inputs: which chipset's binary to run."),
    ] = None,
    json: options.Json = False,
) -> None:
    """Generate text from a prompt, or chat; or run a model that is no decoder on --inputs."""
    from modelc.api import Bundle
    from modelc.targets.runtime import Sampling

    if inputs is not None:
        from modelc.api.network import NetworkBundle

        network = NetworkBundle.open(bundle, threads=threads, chipset=target)
        run_network(network, inputs, output, json)
        return
    if not prompt and json:
        raise typer.BadParameter("--json needs --prompt, or --inputs")
    sampling = Sampling(temperature, top_k, top_p, repetition_penalty, seed)
    with Bundle.open(bundle, threads=threads, engine=engine, adapter=adapter) as opened:
        if not prompt:
            from modelc.cli.chat import chat_loop

            chat_loop(opened, sampling, max_new_tokens)
            return
        if len(prompt) > 1:
            _run_all(opened, prompt, sampling, max_new_tokens, chat, json)
            return
        result = opened.generate(
            prompt[0],
            max_new_tokens,
            sampling=sampling,
            chat=chat,
            on_text=None if json else _write,
        )
        if json:
            print_json(result.document())
            return
        typer.echo("")
        _show_rates(opened.runtime.name, [result])


def _run_all(
    bundle: Bundle,
    prompts: list[str],
    sampling: Sampling,
    max_new_tokens: int,
    chat: bool,
    json: bool,
) -> None:
    results = bundle.generate_all(prompts, max_new_tokens, sampling=sampling, chat=chat)
    if json:
        print_json([result.document() for result in results])
        return
    for prompt, result in zip(prompts, results, strict=True):
        typer.echo(f"--- {prompt}")
        typer.echo(result.text)
    _show_rates(bundle.runtime.name, results)


def _show_rates(runtime: str, results: list[GeneratedText]) -> None:
    for result in results:
        typer.echo(
            f"[{runtime}: prompt {result.prompt_tokens} tokens at "
            f"{result.prefill_tokens_per_s:.1f}/s, first token after "
            f"{result.first_token_seconds:.2f} s, {len(result.token_ids)} new at "
            f"{result.decode_tokens_per_s:.1f}/s]",
            err=True,
        )


def verify_command(
    bundle: options.BundlePath, engine: options.Engine = "auto", json: options.Json = False
) -> None:
    """Check a bundle's files and compare it with the float model again."""
    from modelc.api import Bundle, NetworkBundle, open_any
    from modelc.errors import BelowThreshold

    found = open_any(bundle) if engine == "auto" else Bundle.open(bundle, engine=engine)
    if isinstance(found, NetworkBundle):
        document = found.verify()
    else:
        with found:
            document = found.verify().document()
    if json:
        print_json(document)
    else:
        show_verification(document)
    if not document["passed"]:
        failed = ", ".join(check["name"] for check in document["checks"] if not check["passed"])
        raise BelowThreshold(f"verification failed: {failed}")


def bench_command(
    bundle: options.BundlePath,
    prompt_tokens: Annotated[int, typer.Option(min=1)] = 128,
    new_tokens: Annotated[int, typer.Option(min=2)] = 64,
    runs: Annotated[int, typer.Option(min=1)] = 5,
    threads: Annotated[int, typer.Option(min=0, help="0: as many as there are cores.")] = 0,
    engine: options.Engine = "auto",
    json: options.Json = False,
) -> None:
    """Measure prefill and decode rates (medians), load time and peak memory."""
    from modelc.api import Bundle

    with Bundle.open(bundle, threads=threads, engine=engine) as opened:
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
    rows = [(c["name"], "ok" if c["passed"] else "FAILED", c["detail"]) for c in document["checks"]]
    print_table("", ("check", "", "found"), rows)
    for chipset, nodes in document.get("on_cpu", {}).items():
        if nodes:
            show_on_cpu(chipset, nodes)
    if "perplexity" not in document["metrics"]:  # of a network
        typer.echo(
            f"{'verified' if document['passed'] else 'NOT verified'} on {document['runtime']}: "
            f"{document['samples']} {'made-up ' * document['made_up']}samples against the float "
            "model"
        )
        return
    ratios = document["metrics"]["perplexity"]
    bundle, reference = (
        "not finite" if ratios[name] is None else f"{ratios[name]:.3f}"
        for name in ("bundle", "reference")
    )
    typer.echo(
        f"{'verified' if document['passed'] else 'NOT verified'} on {document['runtime']}: "
        f"perplexity {bundle} against {reference} of the float model "
        f"over {document['metrics']['tokens']} tokens"
    )


def show_on_cpu(chipset: str, nodes: Sequence[Mapping[str, Any]]) -> None:
    """Print which operators of a network the CPU runs."""
    placed = [(row["op_type"], row["module"], row["why"]) for row in nodes]
    print_table(f"on the CPU of {chipset}", ("operator", "module", "why"), placed)


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
