"""What large blocks of memory cost."""

import platform
import subprocess
import sys

import pytest

from mutoscope.models.memory import keep_memory

FAULTS = """
import resource, torch
from mutoscope.models.memory import keep_memory

def faults():
    torch.ones(2**25)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        for count in (2**24, 2**23, 3 * 2**22):
            torch.ones(count)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

many = faults()
print(keep_memory(), faults(), many)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_most_large_blocks_are_not_mapped_anew():
    """How the freed ones lie differs from run to run; without being told, glibc maps each of them."""
    told = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    kept, few, many = told.stdout.split()
    assert kept == "True" and int(few) < int(many) / 2


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_memory() is False
