"""Several processes that score one model together: `torchrun --nproc-per-node N -m plop_cli score …`

    group = join()
    mine = group.shard(ids)               # each process runs the model on its share of the samples,
    with group.together():                # an error in one is raised in all,
        ...
    totals = group.add(meter.read())      # and all get the sums, as if one had done it all

Without torchrun there is one process, ALONE, for which all of this does nothing. What is exchanged is small and in
main memory, so it goes through gloo on GPUs too: unlike NCCL, it notices at once when a process is gone.
"""

from __future__ import annotations

import atexit
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn

from plop_cli.errors import PlopError
from plop_registry import RegistryError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

PATIENCE = timedelta(minutes=15)
"""How long processes wait for the slowest: for its weights, or for its last batch."""

GONE = "another process is gone or stuck; nothing half done was stored; look at its own last words, then run this again"


def rank() -> int:
    """Which of the processes this is; the first does all storing and printing."""
    return int(os.environ.get("RANK", 0)) if size() > 1 else 0


def size() -> int:
    """How many processes torchrun started."""
    return int(os.environ.get("WORLD_SIZE", 1))


def own_device(device: str) -> str:
    """`cuda` is another GPU for each process on a machine. PlopError where there are fewer GPUs than processes."""
    if size() == 1 or device != "cuda":
        return device
    import torch

    if torch.cuda.device_count() < int(os.environ["LOCAL_WORLD_SIZE"]):
        raise PlopError(f"{torch.cuda.device_count()} GPUs are fewer than the processes; lower --nproc-per-node")
    return f"cuda:{os.environ['LOCAL_RANK']}"


@dataclass(frozen=True)
class Group:
    """`size` processes of which this is number `rank`."""

    rank: int = 0
    size: int = 1

    def shard(self, ids: Sequence[list[int]]) -> list[list[int]]:
        """This process's texts, the others' emptied: dealt round robin from the longest, so that all take as long."""
        longest_first = sorted(range(len(ids)), key=lambda row: -len(ids[row]))
        mine = set(longest_first[self.rank :: self.size])
        return [tokens if row in mine else [] for row, tokens in enumerate(ids)]

    def add(self, array: Array) -> Array:
        """The sum of all processes' arrays, in all of them."""
        if self.size == 1:
            return array
        import torch

        total = torch.from_numpy(array.copy())
        with _or_gone():
            torch.distributed.all_reduce(total)
        added: Array = total.numpy()
        return added

    def gather(self, value: Any) -> list[Any]:
        """Every process's value, in all of them."""
        values = [value] * self.size
        if self.size > 1:
            import torch

            with _or_gone():
                torch.distributed.all_gather_object(values, value)
        return values

    @contextmanager
    def together(self) -> Iterator[None]:
        """All leave this block well, or all with PlopError (or RegistryError)."""
        failure: PlopError | RegistryError | None = None
        try:
            yield
        except (PlopError, RegistryError) as error:
            failure = error
        said = self.gather(None if failure is None else str(failure))
        if failure:
            raise failure
        for number, message in enumerate(said):
            if message is not None:
                raise PlopError(f"process {number} of {self.size}: {message}")


ALONE = Group()


@cache
def join() -> Group:
    """The processes that torchrun started, connected to each other at the first call; ALONE without it.

    From then on, a process that torchrun ends because another one died says so. For commands: torch's process group and
    the handler of SIGTERM belong to the whole process, and a library has no business there.
    """
    if size() == 1:
        return ALONE
    import torch

    signal.signal(signal.SIGTERM, _end)
    with _or_gone():
        torch.distributed.init_process_group("gloo", timeout=PATIENCE)
    atexit.register(torch.distributed.destroy_process_group)
    return Group(rank(), size())


@contextmanager
def _or_gone() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # gloo: connection closed or reset, timed out
        raise PlopError(GONE) from error


def _end(*_: object) -> NoReturn:
    raise SystemExit(None if rank() else f"plop: {GONE}")
