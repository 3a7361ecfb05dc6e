"""What caches and parallel commits save, and what they cost in accuracy, on a trained model.

`python benchmarks/sampler_accuracy.py` answers held-out problems of the embedded task with the
embedded checkpoint, exactly and with each approximation, at temperature 0. Work is counted in
floating-point operations of the forward passes, not in seconds. Other models and data by overrides:
`python benchmarks/sampler_accuracy.py model.path=FOLDER data=gsm8k`. Writes JSON.
"""

import argparse
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast

from igpo_lightning import compose
from igpo_lightning.data.prompts import EncodedProblem
from igpo_lightning.diffusion.sampler import DenoiseOutput
from igpo_lightning.evaluation.answer import Answerer
from igpo_lightning.models.backbone import BackboneModule
from igpo_lightning.rewards import GradingPool
from igpo_lightning.settings import SamplerConfig
from igpo_lightning.stages import build
from igpo_lightning.stages.problems import encode, read_problems

OUTPUT = Path("runs/benchmarks/sampler_accuracy.json")
BATCH = 50


@dataclass(frozen=True)
class Result:
    """One way of sampling; passes are those of a batch of 50 rows, on average."""

    name: str
    correct: int
    problems: int
    forward_passes: float
    cached_share: float
    operations: float

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return self.correct / self.problems


def operations(model: BackboneModule, output: DenoiseOutput, length: int) -> float:
    """Floating-point operations of a call's forward passes, two for each multiply-add.

    A position that is run costs its block's matrices and attends to `length` positions in each
    block (scores and mixing: 4 operations a channel); a position of the head costs one row each of
    the vocabulary.
    """
    width = model.embedding.weight.shape[1]
    matrices = sum(p.numel() for p in model.blocks.parameters() if p.dim() > 1)
    body = 2 * matrices + 4 * length * width * len(model.blocks)
    return output.body_tokens * body + output.head_positions * 2 * width * model.vocab_size


def variants(exact: SamplerConfig, fast: SamplerConfig) -> dict[str, SamplerConfig]:
    """The exact sampler and what approximates it; last, what conf/sampler/fast.yaml says."""
    threshold = replace(exact, confidence_threshold=0.9)
    return {
        "exact": exact,
        "exact, no stop at EOS": replace(exact, stop_after_eos=False),
        "prefix cache": replace(exact, cache="prefix"),
        "dual cache": replace(exact, cache="dual"),
        "threshold 0.9": threshold,
        "factor 1": replace(exact, factor=1.0),
        "dual cache, threshold 0.9": replace(threshold, cache="dual"),
        **{
            f"the same, 1 full pass in {n} blocks": replace(threshold, cache="dual", cache_blocks=n)
            for n in (2, 3, exact.blocks)
        },
        "sampler=fast": fast,
    }


def answer(
    model: BackboneModule,
    tokenizer: PreTrainedTokenizerFast,
    problems: list[EncodedProblem],
    name: str,
    config: SamplerConfig,
    pool: GradingPool,
) -> Result:
    """Answer and grade all problems, in batches of similar length."""
    answerer = Answerer(model, tokenizer, config, BATCH)
    texts, passes, work, body, canvas = [], 0, 0.0, 0, 0
    for start in range(0, len(problems), BATCH):
        rows = problems[start : start + BATCH]
        output = answerer.answer(rows, [0] * len(rows), torch.device("cpu"))
        texts += answerer.texts(output.completion_ids)
        length = max(len(p.prompt_ids) for p in rows) + config.completion_length
        work += operations(model, output, length)
        passes += output.forward_passes
        body, canvas = body + output.body_tokens, canvas + output.canvas_tokens
    golds = [p.problem.answer for p in problems]
    verdicts = pool.grade(list(zip(golds, texts, strict=True)))
    return Result(
        name,
        sum(v.correct for v in verdicts),
        len(problems),
        passes / -(-len(problems) // BATCH),
        1 - body / canvas,
        work,
    )


def main() -> None:
    """Sample every way, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("overrides", nargs="*", help="of the configuration, as for stage=eval")
    parser.add_argument("--problems", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="*", help="names of the table's first column")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    overrides = ["stage=eval", "trainer=cpu", *options.overrides]
    config, fast = compose(overrides), compose(["sampler=fast", *overrides])
    tokenizer = build.build_tokenizer(config)
    problems = encode(
        config, read_problems(config, config.eval.split)[: options.problems], tokenizer
    )
    problems.sort(key=lambda p: len(p.prompt_ids))
    model = build.build_backbone(config).eval()
    results: list[Result] = []
    print(f"{'sampler':<34} accuracy  correct  passes  cached  operations  fewer")
    with GradingPool(workers=1, timeout=3.0) as pool:
        settings_of = (replace(c.sampler, temperature=0.0) for c in (config, fast))
        for name, settings in variants(*settings_of).items():
            if options.only and name not in options.only:
                continue
            results.append(answer(model, tokenizer, problems, name, settings, pool))
            last = results[-1]
            print(
                f"{last.name:<34} {last.accuracy:>8.1%} {last.correct:>8} "
                f"{last.forward_passes:>7.1f} "
                f"{last.cached_share:>7.0%} {last.operations:>11.3g} "
                f"{results[0].operations / last.operations:>5.1f}x",
                flush=True,
            )
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps([asdict(r) for r in results], indent=2) + "\n")


if __name__ == "__main__":
    main()
