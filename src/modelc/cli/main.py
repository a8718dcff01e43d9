"""The command line: one function per command, errors rendered in one place."""

from __future__ import annotations

import os
import sys

import typer

from modelc.cli import (
    build,
    bundles,
    compare,
    debug,
    eval,
    facts,
    network,
    qaic,
    sensitivity,
    step,
    store,
    tune,
)
from modelc.cli.render import show_error

INTERRUPTED = 130  # Typer's exit status for Ctrl-C

app = typer.Typer(
    name="modelc",
    help="Compile a machine-learning model for an accelerator and prove the result.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("compile")(build.compile_command)
app.command("compile-qnn")(network.compile_qnn_command)
app.command("explain")(build.explain_command)
app.command("estimate")(build.estimate_command)
app.command("step")(step.step_command)
app.command("run")(bundles.run_command)
app.command("verify")(bundles.verify_command)
app.command("eval")(eval.eval_command)
app.command("compare")(compare.compare_command)
app.command("debug")(debug.debug_command)
app.command("sensitivity")(sensitivity.sensitivity_command)
app.command("bench")(bundles.bench_command)
app.command("profile")(network.profile_command)
app.command("tune")(tune.tune_command)
app.command("inspect")(facts.inspect_command)
app.command("targets")(facts.targets_command)
app.command("doctor")(facts.doctor_command)
app.add_typer(store.app, name="cache")
app.add_typer(qaic.app, name="qaic")


@app.callback(invoke_without_command=True)
def _root(
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    if version:
        from modelc import __version__

        typer.echo(f"modelc {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line; exit 0 done, 1 failed, 2 wrong usage or unusable input, 3 a tool or
    device is missing, 4 verification fell below the threshold."""
    from modelc.errors import ModelcError, Where

    try:
        app(prog_name="modelc")
    except ModelcError as error:
        show_error(error)
        sys.exit(error.exit_code)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            typer.echo("interrupted; what was finished is kept, run the command again", err=True)
        raise
    except OSError as error:
        if not isinstance(error, BrokenPipeError):  # then the reader of stdout has simply gone
            place = Where(path=str(error.filename or ""))
            show_error(ModelcError(f"the system refused: {error.strerror or error}", where=place))
        # Keep Python from complaining once more when it flushes stdout at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


if __name__ == "__main__":
    main()
