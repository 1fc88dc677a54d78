"""What the Hugging Face Hub says about a repository, asked once and within seconds.

Without an answer, what an earlier run left in the cache is used, and the libraries are told not to try again.
"""

from __future__ import annotations

from typing import Any, Literal

from plop_cli.errors import PlopError

TIMEOUT = 8.0
"""Seconds to wait for the hub's answer. A machine without a way out must not keep anyone waiting."""


def ask(repo: str, revision: str | None, kind: Literal["model", "dataset"]) -> Any | None:
    """The hub's `ModelInfo` or `DatasetInfo` (its `sha` is the commit), or None where the hub cannot be reached.

    Raises PlopError where the hub answers that there is no such repository or revision, or that it is closed.
    """
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
        return None


def work_offline() -> None:
    """Tell the hub's libraries that there is no line, so that they look into their caches at once."""
    import huggingface_hub.constants

    huggingface_hub.constants.HF_HUB_OFFLINE = True


def unreachable(what: str) -> PlopError:
    """The error for a thing that is neither on this machine nor to be fetched."""
    return PlopError(
        f"the hub cannot be reached and {what} is not in the cache; check the connection (or HF_ENDPOINT), "
        "or use what needs no hub: the model `demo`, a local folder or file, the tasks sample/math, sample/code, "
        "sample/history, sample/logic"
    )
