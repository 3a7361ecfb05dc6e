"""A completion on the terminal, coloured by the denoising step that committed each token."""

from matplotlib import colormaps
from matplotlib.colors import to_hex
from rich.console import Console
from rich.text import Text
from transformers import PreTrainedTokenizerFast

from igpo_lightning.diffusion.canvas import HINTED, DenoiseOutput
from igpo_lightning.evaluation.records import token_strings
from igpo_lightning.reporting.visible import visible

HINT_STYLE = "bold black on bright_white"
_COLOURS = colormaps["viridis"]  # even in brightness and safe for the colour-blind


def step_colour(step: int, last_step: int) -> str:
    """Hex colour of a denoising step: dark for the first, bright for the last."""
    # From 0.25 on, since the darkest tones vanish on a dark terminal.
    return to_hex(_COLOURS(0.25 + 0.75 * step / max(1, last_step)))


def print_unmasking(
    output: DenoiseOutput,
    tokenizer: PreTrainedTokenizerFast,
    eos_token_id: int,
    console: Console | None = None,
) -> str:
    """Print the first row up to its first EOS, with a legend; returns the plain text.

    What is printed is made visible; what is returned is the completion as it is.
    """
    console = console or Console()
    ids = output.completion_ids[0].tolist()
    length = ids.index(eos_token_id) if eos_token_id in ids else len(ids)
    ids, steps = ids[:length], output.unmask_step[0, :length].tolist()
    last = max(steps, default=0)
    text = Text()
    for piece, step in zip(token_strings(ids, tokenizer), steps, strict=True):
        text.append(visible(piece), HINT_STYLE if step == HINTED else step_colour(step, last))
    console.print(text, soft_wrap=True)
    legend = Text("\nunmasked at step: ")
    for mark in sorted({round(last * part / 5) for part in range(6)}):
        legend.append(f" {mark} ", f"black on {step_colour(mark, last)}")
    if bool(output.hint_mask.any()):
        legend.append("  ").append(" hint ", HINT_STYLE)
    console.print(legend)
    return str(tokenizer.decode(ids))
