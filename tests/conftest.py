"""What holds for every test: no network, checked shapes, one thread per worker, no silent skips.

The network guard replaces `socket.connect` for the whole run: a connection to anything but this machine fails
the test that made it. Shape annotations (jaxtyping) are enforced here and only here, by an import hook that
must be set before the first import of mutoscope. `--strict-skips` is how CI makes sure that the oracles ran.
"""

import os
import socket
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import pytest

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1")

if os.environ.get("MUTOSCOPE_CHECK_SHAPES", "1") != "0":
    import shapes

    shapes.hook("mutoscope")

MISSING = ("could not import", "no module named", "not installed", "unavailable")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--strict-skips",
        action="store_true",
        help="fail where a test is skipped for want of a module, or an oracle test for any reason",
    )


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):  # an xdist worker shares the cores with the others
        import torch

        torch.set_num_threads(1)


def must_not_skip(reason: str, *, oracle: bool) -> bool:
    """Whether a skip with this reason hides a check that the suite promises."""
    return oracle or any(word in reason.lower() for word in MISSING)


def fail_if_hidden(report: Any, *, oracle: bool) -> None:
    """Turns a skip into a failure, where it must not be one."""
    expected_failure = hasattr(report, "wasxfail")
    if not report.skipped or expected_failure:
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if must_not_skip(reason, oracle=oracle):
        report.outcome = "failed"
        report.longrepr = f"{reason}\n--strict-skips: this check is promised and did not run"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if item.config.getoption("--strict-skips"):
        fail_if_hidden(report, oracle=item.get_closest_marker("oracle") is not None)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    report = yield
    if collector.config.getoption("--strict-skips"):
        fail_if_hidden(report, oracle=False)
    return report


def is_here(address: Any) -> bool:
    """Whether a socket address is on this machine: a unix socket, `localhost`, or a loopback IP."""
    if not isinstance(address, tuple):
        return True
    host = str(address[0])
    try:
        return ip_address(host.split("%")[0]).is_loopback
    except ValueError:
        return host in {"localhost", ""}


@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """No test opens a connection to another machine."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, guarded(getattr(socket.socket, name)))
        yield


def guarded(connect: Any) -> Any:
    def connect_here(self: socket.socket, address: Any) -> Any:
        if not is_here(address):
            raise AssertionError(f"a test opened a connection to {address!r}; tests stay on this machine")
        return connect(self, address)

    return connect_here
