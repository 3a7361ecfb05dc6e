"""The other end of `chat_template`: a process that renders chat templates, and knows nothing else.

Run from its file by a fresh interpreter, so that neither torch nor this package is loaded here.
"""

import json
import resource
import signal
from multiprocessing.connection import Connection
from typing import Any

MEMORY = 2 * 1024**3  # bytes of address space that a template may use
LONGEST = 2**22  # characters of a rendered conversation


def serve(descriptor: int, seconds: float) -> None:
    """Answer each conversation with its text until the other end goes away.

    Each is rendered under a kernel timer whose default action ends the process.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the trainer's to handle
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    connection = Connection(descriptor)
    from transformers.utils.chat_template_utils import render_jinja_template

    for kind, limit in ((resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_CORE, 0)):
        resource.setrlimit(kind, (limit, resource.getrlimit(kind)[1]))
    try:
        while True:
            request = json.loads(connection.recv_bytes())
            signal.setitimer(signal.ITIMER_PROF, seconds)
            answer = _rendered(render_jinja_template, request)
            signal.setitimer(signal.ITIMER_PROF, 0)
            connection.send_bytes(json.dumps(answer).encode())
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _rendered(render: Any, request: dict[str, Any]) -> dict[str, str]:
    try:
        text = render(**request)[0][0]
    except MemoryError:
        return {"error": f"it takes more than {MEMORY / 1024**3:g} GiB of memory"}
    except Exception as error:  # the template is a program: whatever it raises is its own mistake
        return {"error": f"{type(error).__name__}: {error}"[:500]}
    if len(text) > LONGEST:
        return {"error": f"it makes {len(text)} characters of a turn; at most {LONGEST} are read"}
    return {"text": text}
