"""Whether models can be fetched from here."""

from functools import cache

_SECONDS = 3


@cache
def hub_answers() -> bool:
    """Whether the model hub answers; asked once in a process, for a few seconds at most."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        get_session().head(constants.ENDPOINT, timeout=_SECONDS)
    except Exception:  # of several libraries: no name server, no route, no answer in time
        return False
    return True


def cached_on_hub(name: str, file: str = "config.json") -> bool:
    """Whether a file of a hub model lies in the local cache."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        return isinstance(try_to_load_from_cache(name, file), str)
    except HFValidationError:  # a path, not an id
        return False


def fetch(name: str, patterns: list[str]) -> None:
    """Brings those files of a hub model that a pattern matches into the local cache."""
    from huggingface_hub import snapshot_download

    snapshot_download(name, allow_patterns=patterns)
