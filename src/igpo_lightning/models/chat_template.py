"""Chat templates rendered in bounded time: a template is a program that came with the model.

transformers' sandbox keeps a template from files and attributes, but not from looping for ever or
from filling the memory. A foreign template is therefore rendered in a process of its own, which
ends with it. Turns become the same text as by the tokenizer's own `apply_chat_template`.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from igpo_lightning.errors import ConfigError
from igpo_lightning.models.tokenizer import CHAT_TEMPLATE

SECONDS = 5.0  # of computation for one conversation; public templates take a thousandth
_PATIENCE = 60.0  # seconds on the clock, the start of the process among them
_LONGEST_TEMPLATE = 2**20  # characters
_WORKER = Path(__file__).with_name("chat_worker.py")
_START = (
    "import runpy, sys; sys.path[:] = sys.argv[4:]; "
    "runpy.run_path(sys.argv[1])['serve'](int(sys.argv[2]), float(sys.argv[3]))"
)


class ChatTemplateError(ConfigError):
    """A chat template that gives no text."""


class _Renderer:
    """The process that renders, started with the first template that needs it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    def ask(self, request: Mapping[str, Any]) -> dict[str, str]:
        """The worker's answer.

        Raises:
            TimeoutError: It ended, or did not answer in time.
        """
        connection = self._connected()
        try:
            connection.send_bytes(json.dumps(request, default=str).encode())
            if not connection.poll(_PATIENCE):
                raise TimeoutError
            answer: dict[str, str] = json.loads(connection.recv_bytes())
        except (EOFError, OSError) as error:  # a timeout is an OSError
            self.stop()
            raise TimeoutError from error
        except BaseException:
            self.stop()  # an interrupted worker would answer the next request with this text
            raise
        return answer

    def _connected(self) -> Connection:
        if self._connection is not None:
            return self._connection
        own, theirs = Pipe()
        command = [sys.executable, "-c", _START, str(_WORKER), str(theirs.fileno()), str(SECONDS)]
        self._process = subprocess.Popen(
            [*command, *sys.path], pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
        )
        theirs.close()
        self._connection = own
        return own

    def stop(self) -> None:
        """End the process."""
        if self._connection is not None and self._process is not None:
            self._connection.close()
            self._process.kill()
            self._process.wait()
        self._connection = self._process = None


_RENDERER = _Renderer()


def render(
    tokenizer: PreTrainedTokenizerFast,
    turns: Sequence[Mapping[str, str]],
    *,
    add_generation_prompt: bool = False,
    continue_final_message: bool = False,
) -> str:
    """The text of a conversation by the tokenizer's chat template.

    Args:
        tokenizer: The model's.
        turns: `role` and `content` of each.
        add_generation_prompt: End with what opens the assistant's turn.
        continue_final_message: Leave the last turn open.

    Raises:
        ChatTemplateError: The template raises, takes too long, or takes or makes too much.
    """
    conversation = [dict(turn) for turn in turns]
    if tokenizer.chat_template == CHAT_TEMPLATE:  # our own: no process need be started
        return str(
            tokenizer.apply_chat_template(
                conversation,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=continue_final_message,
            )
        )
    try:
        template = tokenizer.get_chat_template()
    except ValueError as error:
        raise _refused(tokenizer, str(error)) from error
    if len(template) > _LONGEST_TEMPLATE:
        raise _refused(tokenizer, f"it has {len(template)} characters")
    request = {
        **tokenizer.special_tokens_map,
        "conversations": [conversation],
        "chat_template": template,
        "add_generation_prompt": add_generation_prompt,
        "continue_final_message": continue_final_message,
    }
    try:
        answer = _RENDERER.ask(request)
    except TimeoutError:
        reason = f"it does not end within {SECONDS:g} s"
        raise _refused(tokenizer, reason) from None
    if "error" in answer:
        raise _refused(tokenizer, answer["error"])
    return answer["text"]


def _refused(tokenizer: PreTrainedTokenizerFast, reason: str) -> ChatTemplateError:
    line = " ".join(reason.split())
    return ChatTemplateError(
        f"model.path={tokenizer.name_or_path}: its chat template gives no text: {line}; use "
        "another model's folder, or the bare text with prompt.chat=false"
    )
