"""Whether the Hugging Face hub answers, asked once and briefly."""

import functools
import queue
import threading

HUB_PATIENCE = 4.0  # seconds; the libraries' own retries would take half a minute


@functools.lru_cache(maxsize=1)
def hub_answers() -> bool:
    """Whether the hub can be reached; asked once a process."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    answers: queue.Queue[bool] = queue.Queue()
    # A thread, since a name look-up has no time limit of its own.
    threading.Thread(target=_ask, args=(constants.ENDPOINT, answers), daemon=True).start()
    try:
        return answers.get(timeout=HUB_PATIENCE)
    except queue.Empty:
        return False


def _ask(address: str, answers: "queue.Queue[bool]") -> None:
    from huggingface_hub import get_session

    try:
        get_session().head(address, timeout=HUB_PATIENCE)
        answers.put(True)
    except Exception:  # that there is no answer is all that counts
        answers.put(False)


def unreachable() -> str:
    """Why the hub is not asked, for messages."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "hub not asked (HF_HUB_OFFLINE is set)"
    return f"hub unreachable ({constants.ENDPOINT} did not answer within {HUB_PATIENCE:g} s)"
