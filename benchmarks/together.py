"""Variants that make ready at the same time, each in a process of its own, and are then timed in turns.

On a lent GPU minutes count, and compiling takes most of them: so all compile at once, on the cores there
are. While one variant runs the others wait. Each knows by its own allocator how much memory it takes. A
variant that is not ready when the time is up is left out, and said to be.

    with Together(start, names, device="cuda") as variants:
        ready = variants.ready(by=time.monotonic() + 60)
        seconds = variants.turns(ready, rounds=5, steps=3)

`start` is called in each process with a name, and gives facts about the variant and what it runs.
"""

import multiprocessing
import os
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, Self

import torch
from torch import Tensor

Facts = dict[str, Any]
Start = Callable[[Any], tuple[Facts, Callable[[], Tensor]]]
WARM = 3
COMPILERS = "4"
"""Processes that each variant's compiler may start."""


class Together:
    """The processes; the end of the block ends them."""

    def __init__(self, start: Start, names: Sequence[Any], *, device: str) -> None:
        os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", COMPILERS)
        context = multiprocessing.get_context("spawn")  # a GPU that an import touched cannot be forked
        self.ends: dict[Any, Connection] = {}
        self.processes = []
        for name in names:
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(there, start, name, device), daemon=False)
            process.start()
            there.close()
            self.ends[name] = here
            self.processes.append(process)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.join(timeout=5)
            if process.is_alive():
                process.kill()

    def ready(self, *, by: float) -> dict[Any, Facts]:
        """Facts of the variants that have run until `by` (monotonic seconds); failures are printed."""
        waiting = {end: name for name, end in self.ends.items()}
        found: dict[Any, Facts] = {}
        while waiting and (left := by - time.monotonic()) > 0:
            for end in wait(list(waiting), timeout=left):
                name = waiting.pop(end)  # type: ignore[arg-type]
                answer = _answer(self.ends[name])
                if isinstance(answer, dict):
                    found[name] = answer
                else:
                    print(f"{_told(name)} failed:\n{answer}", flush=True)
        for name in waiting.values():
            print(f"{_told(name)} was not ready in time", flush=True)
        return {name: found[name] for name in self.ends if name in found}

    def turns(self, names: Sequence[Any], *, rounds: int, steps: int, by: float) -> dict[Any, list[float]]:
        """Seconds of a step of each variant in each round, the mean of so many; no round begins after `by`,
        but one is always run."""
        seconds: dict[Any, list[float]] = {name: [] for name in names}
        for done in range(rounds):
            if done and time.monotonic() > by:
                break
            for name in names:
                self.ends[name].send(steps)
                seconds[name].append(self.ends[name].recv())
        return seconds


def _told(name: Any) -> str:
    return ", ".join(map(str, name)) if isinstance(name, tuple) else str(name)


def _answer(end: Connection) -> Facts | str:
    try:
        return end.recv()  # type: ignore[no-any-return]
    except EOFError:
        return "its process ended"


def _serve(end: Connection, start: Start, name: Any, device: str) -> None:
    """A variant's process: warm up, tell the facts, and time steps when asked."""
    torch.set_num_threads(1)
    try:
        began = time.monotonic()
        facts, run = start(name)
        warm_up(run, device)
        facts |= {"megabytes": peak(run, device), "seconds to be ready": time.monotonic() - began}
    except Exception:
        end.send(traceback.format_exc(limit=-4))
        return
    end.send(facts)
    while True:
        end.send(timed(run, device, steps=end.recv()))


def warm_up(run: Callable[[], Tensor], device: str) -> None:
    """A few steps. The others warm up too: where memory runs out, wait until they have given theirs back."""
    for _ in range(WARM):
        patiently(run)
    settle(device)


def patiently(run: Callable[[], Tensor]) -> None:
    while True:
        try:
            run()
            return
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            time.sleep(2)


def settle(device: str) -> None:
    """Nothing runs, and what is not held is given back."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.empty_cache()


def peak(run: Callable[[], Tensor], device: str) -> float | None:
    """Megabytes that this process's tensors take at most in two steps, weights included; on a GPU."""
    if device != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats()
    for _ in range(2):
        patiently(run)
    settle(device)
    return torch.cuda.max_memory_allocated() / 2**20


def timed(run: Callable[[], Tensor], device: str, *, steps: int) -> float:
    """Seconds of a step, the mean of so many after one that is not counted."""
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(steps):
        run()
    if device == "cuda":
        torch.cuda.synchronize()
    took = (time.perf_counter() - began) / steps
    settle(device)
    return took
