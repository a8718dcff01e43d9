"""Makes `support` importable from every test, and gives what several folders of tests need."""

import gc
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))

# Matrices are small here: threads that share one wait for each other most of the time.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from support import random_models
from support.commands import Ran, modelc
from support.write_gguf import write_gguf

if TYPE_CHECKING:
    from support.schedule import ByFile

# How long an example takes says nothing on a busy machine.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

# Shells start what runs in the background with SIGINT ignored, which children would inherit: no
# test could interrupt them then.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> "ByFile":
    from support.schedule import ByFile

    config.option.loadscopereorder = False
    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        from support.schedule import rank

        items.sort(key=lambda item: rank(item.nodeid))


def pytest_collection_finish() -> None:
    """What is here by now stays: the collector needn't go through it for every test again."""
    gc.freeze()


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MB, to be filled."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small tmpfs")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.fixture(scope="session")
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MODELC_STORE of the tests that compile; those that damage it take a copy."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random llama as a Hugging Face folder."""
    return random_models.make("llama", tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="session")
def llama_gguf(llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same llama as a Q8_0 GGUF."""
    return write_gguf(llama_folder, tmp_path_factory.mktemp("gguf") / "llama-q8.gguf", "Q8_0")


@pytest.fixture(scope="session")
def compiled(
    llama_gguf: Path, shared_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Ran]:
    """A CPU bundle of the GGUF, to read only, and the `compile --json` that made it."""
    bundle = tmp_path_factory.mktemp("bundles") / "llama-cpu"
    ran = modelc("compile", llama_gguf, "-t", "cpu", "-o", bundle, "--json", store=shared_store)
    assert ran.code == 0, ran.stderr
    return bundle, ran


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], shared_store: Path
) -> Callable[..., Ran]:
    """Run a command in this process, which saves its start-up."""
    from modelc.cli.main import main

    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object, store: Path = shared_store) -> Ran:
        monkeypatch.setenv("MODELC_STORE", str(store))
        monkeypatch.setattr(sys, "argv", ["modelc", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return Ran(ended.value.code or 0, *capfd.readouterr())

    return run
