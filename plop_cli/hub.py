"""What the Hugging Face Hub says about a repository, asked once and within seconds.

Without an answer, what an earlier run left in the cache is used, and the libraries are told not to try again: for as
long as they load that, since to the rest of the process the hub may be there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal

from plop_cli.errors import PlopError
from plop_cli.progress import says

TIMEOUT = 8.0
"""Seconds to wait for the hub's answer. A machine without a way out must not keep anyone waiting."""


class Line:
    """The line to the hub, as one command or grid knows it: dead once it gave no answer."""

    dead = False


_line: ContextVar[Line | None] = ContextVar("line", default=None)


@contextmanager
def through(line: Line) -> Iterator[None]:
    """Inside, the hub is not asked again once the line is dead. Within another such block, that one's line is used."""
    before = _line.set(_line.get() or line)
    try:
        yield
    finally:
        _line.reset(before)


def ask(repo: str, revision: str | None, kind: Literal["model", "dataset"]) -> Any | None:
    """The hub's `ModelInfo` or `DatasetInfo` (its `sha` is the commit), or None where the hub cannot be reached.

    Raises PlopError where the hub answers that there is no such repository or revision, or that it is closed.
    """
    says(f"asking the hub for {repo}")
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError: its HTTP library's base class
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        HTTPError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    line = _line.get() or Line()
    if line.dead:
        return None
    try:
        return HfApi().repo_info(repo, revision=revision, repo_type=kind, timeout=TIMEOUT)
    except GatedRepoError as error:
        raise PlopError(f"{kind} {repo!r} is gated; accept its terms on the hub, then run `hf auth login`") from error
    except RevisionNotFoundError as error:
        raise PlopError(f"{kind} {repo!r} has no revision {revision!r}; look at its branches and tags") from error
    except RepositoryNotFoundError as error:
        raise PlopError(
            f"no {kind} {repo!r} on the hub; check the name, or `hf auth login` if it is private"
        ) from error
    except HFValidationError as error:
        raise PlopError(
            f"{repo!r} is no {kind}: neither a file or folder here nor a name that the hub allows"
        ) from error
    except HfHubHTTPError as error:
        raise PlopError(
            f"the hub answered {error.response.status_code} for {kind} {repo!r}; try again later"
        ) from error
    except (OfflineModeIsEnabled, HTTPError, OSError):
        line.dead = True
        return None


@dataclass(frozen=True)
class Answer:
    """Whether the hub answers: `problem` says what is wrong, and is empty where nothing is or it was not asked."""

    endpoint: str
    switched_off: bool
    problem: str = ""
    logged_in: bool = False


def answer(timeout: float = 3.0) -> Answer:
    """Ask the hub once whether it is there, for `timeout` seconds at most; not where $HF_HUB_OFFLINE is set."""
    from huggingface_hub import constants, get_session, get_token
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # its HTTP library's base class

    if constants.HF_HUB_OFFLINE:
        return Answer(constants.ENDPOINT, switched_off=True)
    says("asking the hub whether it is there")
    try:
        status = get_session().head(constants.ENDPOINT, timeout=timeout).status_code
    except (HTTPError, OSError, ValueError):  # ValueError: an endpoint that is no URL
        return Answer(constants.ENDPOINT, switched_off=False, problem="gives no answer")
    problem = f"answers with {status}" if status >= 400 else ""
    return Answer(constants.ENDPOINT, switched_off=False, problem=problem, logged_in=get_token() is not None)


@contextmanager
def offline() -> Iterator[None]:
    """Inside, `datasets` looks into its cache at once: for that it has no argument, only switches of the process."""
    import datasets.config
    import huggingface_hub.constants

    libraries: tuple[Any, ...] = (huggingface_hub.constants, datasets.config)
    with ExitStack() as stack:
        for switches in libraries:
            stack.callback(setattr, switches, "HF_HUB_OFFLINE", switches.HF_HUB_OFFLINE)
            switches.HF_HUB_OFFLINE = True
        yield


def unreachable(what: str) -> PlopError:
    """The error for a thing that is neither on this machine nor to be fetched."""
    return PlopError(
        f"the hub cannot be reached and {what} is not in the cache; check the connection (or HF_ENDPOINT), "
        "or use what needs no hub: the model `demo`, a local folder or file, the tasks sample/math, sample/code, "
        "sample/history, sample/logic"
    )
