"""What measuring the drift of `experiment=igpo_fast` costs, in tokens through the model."""

from dataclasses import replace

import torch

from igpo_lightning import compose
from igpo_lightning.data.prompts import encode_problem
from igpo_lightning.data.sources import load_problems
from igpo_lightning.evaluation.answer import Answerer
from igpo_lightning.models import load_backbone, load_tokenizer
from igpo_lightning.rl.rollout import repeated

MORE = 20  # times the recipe's share, so that chance decides little


def test_measuring_costs_at_most_three_percent_of_the_recipes_rollouts() -> None:
    """Of the shipped policy, 512 rows in groups of 8.

    The formula of the share counts whole steps of a fixed schedule. The recipe commits in parallel,
    and the samples of a group share their first pass: it has to hold there, too. How many steps are
    measured is proportional to the share.
    """
    settings = compose(["experiment=igpo_fast", "model=tiny", "data=arithmetic", "trainer=cpu"])
    assert settings.sampler.drift_share == 0.03
    tokenizer = load_tokenizer("tiny_terse")
    problems = [
        encode_problem(problem, tokenizer, settings.prompt)
        for problem in load_problems(settings.data)[:64]
    ]
    rows = repeated(problems, settings.stage.group_size)
    sampler = settings.sampler
    often = replace(sampler, drift_share=MORE * sampler.drift_share)
    without, measured = (
        Answerer(load_backbone("tiny_terse"), tokenizer, config, rows=64).answer(
            rows, range(len(rows)), torch.device("cpu")
        )
        for config in (sampler.unmeasured, often)
    )
    assert torch.equal(measured.completion_ids, without.completion_ids)
    assert measured.drift.steps > 30
    extra = measured.body_tokens - without.body_tokens
    assert 0.01 < extra / without.body_tokens / MORE <= 0.03
