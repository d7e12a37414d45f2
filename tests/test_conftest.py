"""The guards guard: no network, checked shapes, no silent skips."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).with_name("conftest.py")


@pytest.mark.parametrize("address", [("203.0.113.1", 80), ("example.org", 443), ("2001:db8::1", 80, 0, 0)])
def test_no_connection_leaves_this_machine(address: tuple) -> None:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family) as out, pytest.raises(AssertionError, match="tests stay on this machine"):
        out.connect(address)
    with socket.socket(family) as out, pytest.raises(AssertionError, match="tests stay on this machine"):
        out.connect_ex(address)


def test_loopback_is_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()[:2], timeout=2) as client:
            assert client.getpeername() == server.getsockname()


HIDDEN = {
    "test_in_test": "import pytest\ndef test_it():\n    pytest.importorskip('no_such_module')\n",
    "test_at_top": "import pytest\npytest.importorskip('no_such_module')\ndef test_it(): pass\n",
    "test_oracle": "import pytest\n@pytest.mark.oracle\ndef test_it():\n    pytest.skip('too warm today')\n",
}
HARMLESS = {
    "test_harmless": "import pytest\ndef test_it():\n    pytest.skip('needs an accelerator')\n",
    "test_xfail": "import pytest\n@pytest.mark.oracle\n@pytest.mark.xfail\ndef test_it(): assert False\n",
}


def suite(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """Runs tests that skip, beside a copy of our conftest, in a process of its own."""
    (folder / "conftest.py").write_text(CONFTEST.read_text())
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    oracle: an oracle\n")
    for name, test in {**HIDDEN, **HARMLESS}.items():
        (folder / f"{name}.py").write_text(test)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", *flags],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTEST_ADDOPTS": "", "MUTOSCOPE_CHECK_SHAPES": "0"},
    )


def failed(run: subprocess.CompletedProcess[str]) -> set[str]:
    lines = re.findall(r"^(?:FAILED|ERROR) (\w+)\.py", run.stdout, flags=re.MULTILINE)
    return set(lines)


@pytest.mark.parametrize("flags", [[], ["-n1"]], ids=["alone", "worker"])
def test_hidden_checks_fail_a_strict_run(tmp_path: Path, flags: list[str]) -> None:
    run = suite(tmp_path, "--strict-skips", "--continue-on-collection-errors", *flags)
    assert run.returncode != 0
    assert failed(run) == set(HIDDEN), run.stdout
    assert "this check is promised and did not run" in run.stdout


def test_without_the_flag_they_are_skips(tmp_path: Path) -> None:
    run = suite(tmp_path)
    assert run.returncode == 0
    assert "4 skipped, 1 xfailed" in run.stdout


def test_shapes_are_checked_here() -> None:
    import torch

    from mutoscope.video import Video

    with pytest.raises(Exception, match=r"(?i)type-check|jaxtyp|beartype"):
        Video.from_tensor(torch.zeros(3, 2, 8), fps=8.0, notes={})  # three axes instead of four
