"""Chat templates give the text that transformers gives, from a process of their own."""

import os
import signal
import threading

import pytest
from transformers import PreTrainedTokenizerFast

from igpo_lightning.models.chat_template import ChatTemplateError, render
from igpo_lightning.models.tokenizer import CHAT_TEMPLATE, train_tokenizer

TURNS = [
    {"role": "user", "content": "3+4 \u2028 {{ 5 }}"},
    {"role": "assistant", "content": " 7 \ud800"},
]
# As public models write them: white space control, loops, filters, special tokens, a date.
TEMPLATES = {
    "own": CHAT_TEMPLATE,
    "chatml": (
        "{%- for message in messages %}\n    {{- '<|im_start|>' + message['role'] + '\\n' "
        "+ message['content'] + '<|im_end|>' + '\\n' }}\n{%- endfor %}\n"
        "{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n{%- endif %}"
    ),
    "tokens": "{{ eos_token }}{% for m in messages %}{{ m.content | trim | tojson }}{% endfor %}",
}


def with_template(template: str) -> PreTrainedTokenizerFast:
    tokenizer = train_tokenizer(["12+34=46"], 300)
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize("prompt", [False, True])
@pytest.mark.parametrize("name", TEMPLATES)
def test_a_text_is_that_of_transformers(name: str, prompt: bool) -> None:
    tokenizer = with_template(TEMPLATES[name])
    expected = tokenizer.apply_chat_template(TURNS, tokenize=False, add_generation_prompt=prompt)
    assert render(tokenizer, TURNS, add_generation_prompt=prompt) == expected


def test_a_last_turn_is_left_open_where_that_is_asked_for() -> None:
    tokenizer = with_template(TEMPLATES["chatml"])
    expected = tokenizer.apply_chat_template(TURNS, tokenize=False, continue_final_message=True)
    assert render(tokenizer, TURNS, continue_final_message=True) == expected


def test_after_a_template_that_loops_the_next_one_is_rendered() -> None:
    loop = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    with pytest.raises(ChatTemplateError, match="does not end within 5 s"):
        render(with_template(loop), TURNS)
    assert render(with_template("{{ messages[0].content }}"), TURNS) == TURNS[0]["content"]


def test_a_signal_within_a_template_leaves_no_answer_for_the_next_one() -> None:
    """As Ctrl-C does: the answer that comes too late belongs to nobody."""

    class Interrupted(BaseException):
        pass

    def interrupt(number: int, frame: object) -> None:
        raise Interrupted

    loop = "{% for i in range(99999) %}{% for j in range(300) %}{% endfor %}{% endfor %}late"
    before = signal.signal(signal.SIGUSR2, interrupt)
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR2))
    try:
        timer.start()
        with pytest.raises(Interrupted):
            render(with_template(loop), TURNS)
    finally:
        timer.join()
        signal.signal(signal.SIGUSR2, before)
    assert render(with_template("{{ messages[0].content }}"), TURNS) == TURNS[0]["content"]
