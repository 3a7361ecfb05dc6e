"""What is kept of a sample replays it: the fields of a rollout's record, up to its end."""

import torch

from igpo_lightning.data.problem import Problem
from igpo_lightning.data.prompts import EncodedProblem
from igpo_lightning.diffusion.sampler import DenoiseOutput
from igpo_lightning.evaluation.records import evaluation_record, replays, token_strings
from igpo_lightning.models import load_tokenizer
from igpo_lightning.reporting.viewer_samples import viewer_record
from igpo_lightning.rewards import Verdict


def test_tokens_end_with_the_first_eos_and_keep_their_steps() -> None:
    tokenizer = load_tokenizer("tiny")
    eos = tokenizer.eos_token_id
    assert isinstance(eos, int)
    words = tokenizer("A+3=15", add_special_tokens=False)["input_ids"]
    ids = torch.tensor([[*words, eos, eos, words[0]], [*words, *words[:3]]])
    columns = ids.shape[1]
    hints = torch.zeros_like(ids, dtype=torch.bool)
    hints[1, 2] = True
    steps = torch.arange(columns).flip(0).expand(2, -1).clone()
    steps[1, 2] = -1
    output = DenoiseOutput(ids, hints, steps, torch.ones(ids.shape), forward_passes=columns)
    ended, open_end = replays(output, tokenizer, eos)
    assert len(ended["tokens"]) == len(words) + 1
    assert "".join(ended["tokens"][:-1]) == "A+3=15"
    assert ended["unmask_step"] == [columns - 1 - i for i in range(len(words) + 1)]
    assert ended["hint_mask"] == (len(words) + 1) * [False]
    assert open_end["tokens"] == token_strings(ids[1].tolist(), tokenizer)
    assert open_end["hint_mask"].index(True) == 2
    assert open_end["unmask_step"][2] == -1


def test_the_viewer_reads_a_record_as_it_reads_a_rollout() -> None:
    """Four tokens, of which the last is EOS: three are live."""
    problem = Problem("p1", "A+3 from 12", "A=15", "15", level=1)
    encoded = EncodedProblem(problem, [1, 2], None, None)
    verdict = Verdict(correct=False, reason="wrong")
    record = evaluation_record(encoded, "<user>A+3 from 12", 2, "A=14", verdict)
    record |= {"tokens": ["A", "=", "14", "<eos>"], "hint_mask": 4 * [False]}
    record |= {"unmask_step": [1, 0, 0, 2]}
    shown = viewer_record(record, "run", "evaluation")
    assert (shown["live"], shown["hints"], shown["unmask_step"]) == (3, [], [1, 0, 0, 2])
    assert (shown["prompt"], shown["trace"]) == ("<user>A+3 from 12", "A=15")
    assert (shown["correct"], shown["reason"], shown["sample"]) == (False, "wrong", 2)
