"""Memory and equality of token scores: chunked against the straightforward log-softmax.

Both score the same completions of a small transformer with LLaDA's vocabulary of 126,464 words and
take one gradient. Memory is the peak of live tensor bytes from the moment the body is done (weights
and block activations are there already) until the gradient has reached the hidden states and, if it
is trained, the head. Run `python benchmarks/likelihood.py`; `--device cuda` on a GPU.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from igpo_lightning.diffusion import draw_masked_inputs, token_scores
from igpo_lightning.diffusion.head_scores import (
    any_head_scores,
    linear_head_scores,
    part_count,
)
from igpo_lightning.diffusion.noise import row_keys
from igpo_lightning.models.tiny import TinyBackbone, TinyConfig
from igpo_lightning.settings import LikelihoodConfig

Scores = tuple[Tensor, Tensor | None]
Score = Callable[[TinyBackbone, Tensor, Tensor], Scores]


def straightforward(model: TinyBackbone, hidden: Tensor, tokens: Tensor) -> Scores:
    """All logits in float32, a log-softmax, a gather; the entropy from the same distribution."""
    distribution = model.project(hidden).float().log_softmax(dim=-1)  # [M, V]
    logp = distribution.gather(-1, tokens[:, None]).squeeze(-1)
    detached = distribution.detach()
    return logp, -(detached.exp() * detached).sum(dim=-1)


def by_vocabulary(model: TinyBackbone, hidden: Tensor, tokens: Tensor) -> Scores:
    """What `token_scores` does with a linear head."""
    weight = model.head_weight()
    assert weight is not None
    return linear_head_scores(hidden, weight, tokens, with_entropy=True)


def by_position(model: TinyBackbone, hidden: Tensor, tokens: Tensor) -> Scores:
    """What `token_scores` does with any other head."""
    parts = part_count(len(tokens), model.vocab_size)
    return any_head_scores(model.project, hidden, tokens, parts=parts, with_entropy=True)


VERSIONS: dict[str, Score] = {
    "straightforward": straightforward,
    "chunks of words": by_vocabulary,
    "parts of positions": by_position,
}


def peak_bytes(run: Callable[[], object], device: torch.device) -> int:
    """Most bytes that were live at one time during a call, above what was live before it."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        run()
    events = profiled.profiler.kineto_results.events()  # type: ignore[union-attr]
    changes = [(e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"]
    live = peak = 0
    for _, change in sorted(changes, key=lambda pair: pair[0]):
        live += change
        peak = max(peak, live)
    return peak


def seconds(run: Callable[[], object], device: torch.device, repeats: int) -> float:
    """The fastest of some calls, nan for none; processor time on a CPU, which is less disturbed."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    taken = []
    for _ in range(repeats):
        start = clock()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(clock() - start)
    return min(taken, default=float("nan"))


@torch.no_grad()
def exact_entropy(model: TinyBackbone, hidden: Tensor) -> Tensor:
    """Entropies [M] in float64, a few positions at a time."""
    weight = next(model.head.parameters()).double()
    logits = (part.double() @ weight.T for part in hidden.split(32))
    return torch.cat([torch.distributions.Categorical(logits=part).entropy() for part in logits])


def head_rows(
    model: TinyBackbone, hidden: Tensor, tokens: Tensor, trained: bool, repeats: int
) -> list[dict[str, float | str]]:
    """Peak, time and largest differences of each version, for a trained or a frozen head."""
    head = next(model.head.parameters()).requires_grad_(trained)
    leaves = [hidden, head] if trained else [hidden]
    direction = torch.linspace(-1, 1, len(tokens), device=hidden.device)
    true_entropy = exact_entropy(model, hidden)
    rows: list[dict[str, float | str]] = []
    reference: list[Tensor] = []
    for name, score in VERSIONS.items():

        def step(score: Score = score) -> list[Tensor]:
            logp, entropy = score(model, hidden, tokens)
            assert entropy is not None
            gradients = torch.autograd.grad((logp * direction).mean(), leaves)
            return [logp.detach(), entropy, *gradients]

        peak = peak_bytes(step, hidden.device)
        values = step()
        reference = reference or values
        differences = [float((a - b).abs().max()) for a, b in zip(values, reference, strict=True)]
        rows.append(
            {
                "head": "trained" if trained else "frozen",
                "version": name,
                "peak_mb": peak / 2**20,
                "seconds": seconds(step, hidden.device, repeats),
                "value_difference": differences[0],
                "gradient_difference": max(differences[2:]),
                "entropy_error": float((values[1] - true_entropy).abs().max()),
            }
        )
    for row in rows:
        row["peak_share"] = float(row["peak_mb"]) / float(rows[0]["peak_mb"])
        row["time_ratio"] = float(row["seconds"]) / float(rows[0]["seconds"])
    return rows


def whole_model_difference(
    model: TinyBackbone, prompt_ids: Tensor, completion_ids: Tensor
) -> dict[str, float]:
    """`token_scores` against the straightforward version, through the body to every parameter."""
    model.requires_grad_(True)
    rows = len(completion_ids)
    everywhere = torch.ones_like(completion_ids, dtype=torch.bool)
    inputs = draw_masked_inputs(
        LikelihoodConfig(),
        completion_ids,
        keys=row_keys(list(range(rows)), completion_ids.device),
        live_mask=everywhere,
    )
    logp = token_scores(model, prompt_ids, completion_ids, inputs).logp
    gradients = torch.autograd.grad(logp.mean(), list(model.parameters()))
    canvas = torch.cat((prompt_ids, torch.full_like(completion_ids, model.mask_token_id)), dim=1)
    hidden = model.encode(canvas)[:, prompt_ids.shape[1] :]
    plain, _ = straightforward(model, hidden.flatten(0, 1), completion_ids.flatten())
    references = torch.autograd.grad(plain.mean(), list(model.parameters()))
    return {
        "value_difference": float((logp.flatten() - plain).detach().abs().max()),
        "gradient_difference": max(
            float((a - b).abs().max()) for a, b in zip(gradients, references, strict=True)
        ),
    }


def main() -> None:
    """Print one table, and write it as JSON where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vocabulary", type=int, default=126_464, help="words, V (LLaDA's)")
    parser.add_argument("--width", type=int, default=128, help="of the hidden states, D")
    parser.add_argument("--rows", type=int, default=2, help="completions, B")
    parser.add_argument("--completion", type=int, default=256, help="tokens, C (the paper's)")
    parser.add_argument("--repeats", type=int, default=2, help="timed calls; the fastest counts")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="file to write")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)

    torch.manual_seed(0)
    config = TinyConfig(
        vocab_size=arguments.vocabulary,
        hidden_size=arguments.width,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=2 * arguments.width,
        tie_word_embeddings=False,
        initializer_range=0.1,
    )
    model = TinyBackbone(config).to(device)
    shape = (arguments.rows, 32 + arguments.completion)
    ids = torch.randint(3, arguments.vocabulary, shape, device=device)
    prompt_ids, completion_ids = ids[:, :32], ids[:, 32:]
    tokens = completion_ids.flatten()
    masked = torch.cat((prompt_ids, torch.full_like(completion_ids, model.mask_token_id)), dim=1)
    with torch.no_grad():
        hidden = model.encode(masked)[:, 32:].flatten(0, 1)  # [M, D]
    hidden.requires_grad_(True)

    rows = [
        row
        for trained in (False, True)
        for row in head_rows(model, hidden, tokens, trained, arguments.repeats)
    ]
    print(
        f"{len(tokens)} positions, {arguments.vocabulary} words, width {arguments.width}, {device}"
    )
    print(
        "| head | version | peak MB | share | time | log-probabilities differ by | "
        "gradients differ by | entropies err by |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['head']} | {row['version']} | {row['peak_mb']:.0f} | "
            f"{row['peak_share']:.3f} | {row['time_ratio']:.2f} | "
            f"{row['value_difference']:.1e} | {row['gradient_difference']:.1e} | "
            f"{row['entropy_error']:.1e} |"
        )
    whole = whole_model_difference(model, prompt_ids, completion_ids)
    print(
        f"whole model: values differ by {whole['value_difference']:.1e}, "
        f"gradients of all parameters by {whole['gradient_difference']:.1e}"
    )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"head": rows, "model": whole}, indent=2) + "\n")


if __name__ == "__main__":
    main()
