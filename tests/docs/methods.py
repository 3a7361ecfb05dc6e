"""The table of methods in docs/objectives.md, made from the presets.

`python -m tests.docs.methods` writes it again. What a preset cannot say of itself, its source and
where it differs from that, stands here.
"""

from dataclasses import dataclass
from typing import Any

from tests.composing import composed
from tests.docs.commands import ROOT

PAGE = ROOT / "docs" / "objectives.md"
BEGIN, END = "<!-- methods: begin -->\n", "<!-- methods: end -->"
MASKS = {
    "mean_field": "all",
    "elbo": "l of C at random",
    "pairs": "{samples} complementary pairs",
    "spread": "{samples}, counts spread evenly",
    "quadrature": "{nodes} Gauss nodes, floor(t C) tokens",
    "coupled": "all; t ~ U(0.2, 0.8) and the rest",
    "blocks": "{samples}, a random block and all later ones",
    "every_block": "{samples}, some tokens of every block",
    "trajectory": "{shrink} sampler steps a slice",
    "autoregressive": "token j and all later ones, for each j",
}


@dataclass(frozen=True)
class Source:
    """Where a method comes from, and how far the preset is it.

    Attributes:
        code: Repository and commit; None where only a paper was followed.
        equal: What the golden tests compare.
        differs: What is not the same, or what no reference value shows.
    """

    code: str | None
    equal: str
    differs: str


LOSS = "advantage, ratio, clip, loss, gradient"
SAME_MASKS = "one set of masks for all inner updates"
SOURCES = {
    "igpo_paper": Source(None, "", "the paper's Algorithm 1 and Eq. 3; no code to compare with"),
    "igpo_released": Source(
        "facebookresearch/igpo @ e85eaea",
        f"{LOSS}, KL, filter, hints, trigger, replacement, rewards, schedule",
        "prompt (its string is malformed); hint ratios of a group are not sorted; rollout noise",
    ),
    "grpo": Source(None, "", "igpo_paper without inpainting: our baseline, no method of its own"),
    "grpo_resample": Source(None, "", "the paper's sample-matched control; no code"),
    "diffu_grpo": Source(
        "dllm-reasoning/d1 @ 837888f",
        f"{LOSS}, KL, canvas",
        f"{SAME_MASKS}; base in 16 bits, not 4; rollouts and old scores without dropout",
    ),
    "wd1": Source("xiaohangt/wd1 @ 0898985", "weights, loss, gradient", f"{SAME_MASKS}; as d1"),
    "spg": Source(
        "facebookresearch/SPG @ a1c7120",
        "bounds, weights, loss, gradient",
        "prompt masking hides no tokens of earlier blocks; as d1",
    ),
    "espo": Source(
        "ML-GSAI/ESPO @ b5f2dac",
        f"ELBO, {LOSS}, KL",
        "each row draws its own count, where the code spreads them over a micro-batch",
    ),
    "coupled_grpo": Source(
        "apple/ml-diffucoder @ f735e01",
        f"weights, {LOSS}, KL",
        "t for each row, not for a batch; the reference does not follow the policy; LLaDA, maths",
    ),
    "gdpo": Source(
        "KevinRojas1499/GDPO @ 1918683",
        f"masked counts, weights, ELBO, {LOSS}, KL",
        "old and new policy are scored on the same masks (the paper); as d1",
    ),
    "tracerl": Source(
        "Gen-Verse/dLLM-RL @ 10b4fd1",
        f"slices, masks, {LOSS}, KL, groups left out",
        "the first EOS is scored; long answers are not called wrong; no value model",
    ),
    "just_grpo": Source(
        "LeapLabTHU/JustGRPO @ eebe50e",
        "rollouts, canvases, log-probabilities, advantage, loss, gradient",
        "mean over a GPU's prompts, where the code sums (grad_norm is scaled); the noise's source",
    ),
    "igpo_fast": Source(
        None,
        "",
        "ours: igpo_paper with cached, parallel rollouts, one update and no penalty",
    ),
    "igpo_dynamic": Source(None, "", "ours: igpo_paper with DAPO's dynamic sampling"),
    "igpo_just_grpo": Source(None, "", "ours: just_grpo with the hints and filter of igpo_paper"),
    "cj_grpo": Source(
        "yjyddq/DARE @ 83ae8a3", f"canvases, {LOSS}", "steps of a run, warm-up: not published there"
    ),
    "bgpo": Source(
        "yjyddq/DARE @ 83ae8a3",
        f"counts, ELBO, {LOSS}",
        "finite at log ratios below -1 (NaN there); after EOS masked, not visible; its own KL",
    ),
    "ebpo": Source(
        "yjyddq/DARE @ 83ae8a3",
        f"counts, weights, ELBO, {LOSS}",
        "after EOS masked, not visible; number of masks; blocks begin with the completion (in its "
        "block-causal models with the prompt)",
    ),
}


def _kl(objective: Any) -> str:
    if not objective.beta or objective.kl == "none":
        return "none"
    level = "" if objective.kl_level == "token" else f" of the {objective.kl_level}"
    other = "" if objective.kl_target == "reference" else f" to {objective.kl_target}"
    own = f", {objective.kl_normalization}" if objective.kl_normalization else ""
    return f"{objective.beta:g} {objective.kl}{level}{other}{own}"


def _ratio(objective: Any) -> str:
    if objective.loss == "log_likelihood":
        return "none"
    if objective.ratio == "token":
        return "token"
    length = {"counted": "", "full": " / C", "one": ", no mean"}[objective.ratio_length]
    linear = "1 + log, where A > 0; " if objective.loss == "linear_clip" else ""
    dropped = ", dropped hints too" if objective.ratio_tokens == "live" else ""
    return f"{linear}sequence{length}{dropped}"


def _clip(objective: Any) -> str:
    if objective.loss == "log_likelihood":
        return "none"
    dual = f", dual {objective.clip_dual:g}" if objective.clip_dual else ""
    return f"{objective.clip_low:g} / {objective.clip_high:g}{dual}"


def _normalization(config: Any) -> str:
    objective = config.objective
    rows = f" of {objective.normalization_rows}" if objective.normalization_rows else ""
    each = ", each input a row" if config.likelihood.separate else ""
    live = "C" if objective.count_after_eos else "to EOS"
    return f"{objective.normalization}{rows}{each}; {live}"


def _masks(likelihood: Any) -> str:
    values = {name: getattr(likelihood, name) for name in ("samples", "nodes", "shrink")}
    prompt = f"; prompt {likelihood.prompt_mask_rate:g}" if likelihood.prompt_mask_rate else ""
    return MASKS[likelihood.kind].format(**values) + prompt


def _sampler(sampler: Any) -> str:
    order = "left to right" if sampler.block_length == 1 else f"blocks of {sampler.block_length}"
    return (
        f"{sampler.completion_length} tokens, {order}, {sampler.steps} steps, "
        f"T {sampler.temperature:g}"
    )


def row(preset: str) -> list[str]:
    """One line's cells."""
    config = composed(f"experiment={preset}")
    source, objective = SOURCES[preset], config.objective
    return [
        f"`{preset}`",
        source.code or "none",
        objective.advantage,
        _ratio(objective),
        _clip(objective),
        _kl(objective),
        _normalization(config),
        config.likelihood.kind,
        _masks(config.likelihood),
        _sampler(config.sampler),
        f"{config.optimizer.lr:g}",
        str(config.stage.inner_updates),
        str(config.stage.group_size),
        "LoRA" if config.model.lora.enabled else "all",
        f"equal on reference values: {source.equal}" if source.equal else "no reference values",
        source.differs,
    ]


HEAD = [
    "method",
    "source, commit",
    "advantage",
    "ratio",
    "clip",
    "KL",
    "normalisation; tokens",
    "estimator",
    "masks",
    "sampler",
    "lr",
    "mu",
    "G",
    "weights",
    "shown",
    "what differs, or is not shown",
]


def table() -> str:
    """The table as it stands in the page, between its marks."""
    lines = [HEAD, ["---"] * len(HEAD), *(row(preset) for preset in SOURCES)]
    return BEGIN + "".join(f"| {' | '.join(line)} |\n" for line in lines) + END


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(text[: text.index(BEGIN)] + table() + text[text.index(END) + len(END) :])
