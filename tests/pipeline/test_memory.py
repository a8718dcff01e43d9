"""Peak memory of this process and of what it starts."""

import subprocess
import sys
import threading

import pytest

from modelc.pipeline.memory import PeakMemory

FORKED = """
import os, time
from modelc.pipeline.memory import PeakMemory
block = b"x" * (100 << 20)
with PeakMemory({scope!r}) as memory:
    child = os.fork()
    time.sleep(0.2)
    if not child:
        os._exit(0)
    os.wait()
print(memory.mb)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is the process's own peak")
@pytest.mark.parametrize("scope", ["all", "thread"])
def test_a_fork_is_not_counted_for_its_parents_memory(scope: str) -> None:
    argv = [sys.executable, "-c", FORKED.format(scope=scope)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    assert 100 < float(done.stdout) < 180


@pytest.mark.skipif(sys.platform != "linux", reason="children are seen on Linux")
def test_children_count_for_the_thread_that_starts_them() -> None:
    code = "import time; block = b'x' * (100 << 20); time.sleep(0.3)"
    argv = [sys.executable, "-c", code]
    with PeakMemory("thread") as here, PeakMemory("all") as both:
        thread = threading.Thread(target=subprocess.run, args=(argv,))
        thread.start()
        thread.join()
    with PeakMemory("thread") as mine:
        subprocess.run(argv, check=True)
    assert 100 < both.mb - here.mb < 150
    assert 100 < mine.mb - here.mb < 150
