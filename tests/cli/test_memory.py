"""What a command's memory costs."""

import platform
import subprocess
import sys

import pytest

from mutoscope.cli.memory import keep_memory

FAULTS = """
import resource, sys, torch
from mutoscope.cli.memory import keep_memory
kept = sys.argv[1] == "kept" and keep_memory()
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_large_blocks_are_not_mapped_anew():
    """64 MB are 16,384 pages, or 32 large ones where the system gives those."""
    told = {
        way: subprocess.run([sys.executable, "-c", FAULTS, way], capture_output=True, text=True, check=True)
        for way in ("kept", "plain")
    }
    kept, faults = told["kept"].stdout.split()
    assert kept == "True" and int(faults) < 16
    assert int(told["plain"].stdout.split()[1]) >= 32


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_memory() is False
