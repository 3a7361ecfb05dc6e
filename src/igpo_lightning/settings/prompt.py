"""From a problem to what the model is asked and taught."""

from dataclasses import dataclass

from igpo_lightning.settings.rules import at_least, choice, require

LONG_PROMPTS = ("drop", "cut")


@dataclass(frozen=True)
class PromptConfig:
    """Templates, and what becomes of problems that are too long."""

    user: str = "{question}"  # what the model is asked; {question} is replaced
    completion: str = "{solution}"  # what SFT teaches and hints are cut from; {solution}, {answer}
    max_length: int = 600  # tokens of a prompt, chat template included (the paper: 600)
    long_prompts: str = "drop"  # what is longer: drop the problem | cut the question's beginning
    chat: bool | None = None  # apply the tokenizer's chat template; null: where it has one
    prefill: str = ""  # what the model's turn begins with, before its completion

    def __post_init__(self) -> None:
        """Refuse unknown names, and a prompt that asks nothing."""
        choice(self, "prompt", long_prompts=LONG_PROMPTS)
        at_least(self, "prompt", 1, "max_length")
        fix = "must hold {question}, which the problem's text replaces"
        require("{question}" in self.user, "prompt.user", self.user, fix)
