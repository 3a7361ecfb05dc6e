"""igpo_dllm in lm-evaluation-harness: it says what our sampler says, and the harness runs it."""

import inspect
import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

pytest.importorskip("lm_eval", reason="lm-eval is not installed: extra lm_eval")

from lm_eval._cli import HarnessCLI
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model

from igpo_lightning.data.prompts import encode_chat
from igpo_lightning.data.synthetic import arithmetic_problems
from igpo_lightning.diffusion.sampler import denoise
from igpo_lightning.errors import ConfigError
from igpo_lightning.evaluation.answer import Answerer
from igpo_lightning.evaluation.harness import harness_score
from igpo_lightning.evaluation.lm_eval_model import DiffusionLM, canvas, cut
from igpo_lightning.lm_eval import main
from igpo_lightning.models import load_tokenizer
from igpo_lightning.settings import SamplerConfig
from tests.integration.forked import CommandServer

ROOT = Path(__file__).resolve().parents[2]
CHAT = "<|user|>A+21 B-10 from 30<|assistant|>"
SHORT = {"completion_length": 32, "block_length": 16, "steps": 8}


@pytest.fixture(scope="module")
def model() -> DiffusionLM:
    return DiffusionLM(device="cpu", likelihood_samples=256, batch_size=64, **SHORT)


def asked(kind: str, *arguments: Any) -> Instance:
    return Instance(kind, {}, arguments, 0)


def generated(model: DiffusionLM, *requests: tuple[str, dict[str, Any]]) -> list[str]:
    instances = [asked("generate_until", *request) for request in requests]
    return model.generate_until(instances, disable_tqdm=True)


def test_the_registry_knows_it() -> None:
    assert get_model("igpo_dllm") is DiffusionLM


def test_the_entry_point_names_it() -> None:
    """Later releases of the harness find models of other packages by it."""
    text = (ROOT / "pyproject.toml").read_text()
    section = text.partition('[project.entry-points."lm_eval.models"]\n')[2].partition("\n\n")[0]
    assert section == f'igpo_dllm = "{DiffusionLM.__module__}:{DiffusionLM.__name__}"'


def test_it_writes_what_the_sampler_denoises(model: DiffusionLM) -> None:
    tokenizer = model.tokenizer
    prompt = encode_chat("A+21 B-10 from 30", "{question}", tokenizer)
    assert tokenizer.decode(prompt) == CHAT
    output = denoise(model.backbone, torch.tensor([prompt]), SamplerConfig(**SHORT))
    (expected,) = Answerer(model.backbone, tokenizer, model.sampler, 1).texts(output.completion_ids)
    greedy = {"until": [], "do_sample": False}
    (other,) = generated(model, ("<|user|>A+20 B+21 from 51<|assistant|>", greedy))
    assert expected == "A+21=51; B-10=\\boxed{41}"
    # Alone, among others, and in any order.
    long = ("<|user|>A+20 B+21 from 51<|assistant|>", greedy)
    assert generated(model, (CHAT, greedy), long, (CHAT, greedy)) == [expected, other, expected]
    # Until the first of the stop sequences, whatever their order.
    until = {"until": ["}", "boxed"], "do_sample": False}
    assert generated(model, (CHAT, until)) == [expected[: expected.index("boxed")]]


def test_a_request_has_its_own_length_and_temperature(model: DiffusionLM) -> None:
    """8 tokens are cut from a block of 16; 40 take three blocks, four steps each."""
    assert canvas(model.sampler, 8, 0.0) == SamplerConfig(16, 16, 4, stop_after_eos=True)
    assert canvas(model.sampler, 40, 0.5) == SamplerConfig(48, 16, 12, 0.5, stop_after_eos=True)
    (text,) = generated(model, (CHAT, {"until": [], "do_sample": False, "max_gen_toks": 3}))
    assert len(model.tokenizer(text, add_special_tokens=False)["input_ids"]) <= 3
    with pytest.raises(ConfigError, match="max_gen_toks=5000"):
        generated(model, (CHAT, {"until": [], "do_sample": False, "max_gen_toks": 5000}))


def test_the_model_s_temperature_holds_where_a_request_says_nothing() -> None:
    model = DiffusionLM(device="cpu", temperature=0.7, **SHORT)
    for request, temperature in (
        ({"until": []}, 0.7),
        ({"until": [], "do_sample": False}, 0.0),
        ({"until": [], "temperature": 0.0}, 0.0),
        ({"until": [], "do_sample": True, "temperature": 1.2}, 1.2),
    ):
        config, tokens, _ = model._asked(dict(request))
        assert (config.temperature, tokens) == (temperature, 32)


def test_repeated_requests_are_other_samples_of_one_seed(model: DiffusionLM) -> None:
    hot = {"until": [], "do_sample": True, "temperature": 2.0}
    first, second = generated(model, (CHAT, hot), (CHAT, hot))
    assert first != second
    assert generated(model, (CHAT, hot), (CHAT, hot)) == [first, second]


def test_stop_sequences_by_hand() -> None:
    assert cut("a b c", ["c", "b"]) == "a "
    assert cut("a b c", ["x", ""]) == "a b c"


def logps(model: DiffusionLM, prompt: list[int], canvas_ids: list[int]) -> torch.Tensor:
    """Log-probabilities [C, V] at the completion of one canvas."""
    ids = torch.tensor([prompt + canvas_ids])
    with torch.no_grad():
        return model.backbone(ids)[0, len(prompt) :].float().log_softmax(-1)


def test_one_token_has_its_exact_likelihood(model: DiffusionLM) -> None:
    prompt = model.tokenizer(CHAT, add_special_tokens=False)["input_ids"]
    first = model.tokenizer("A", add_special_tokens=False)["input_ids"]
    assert len(first) == 1
    exact = logps(model, prompt, [model.backbone.mask_token_id])[0, first[0]].item()
    ((bound, greedy),) = model.loglikelihood([asked("loglikelihood", CHAT, "A")], True)
    assert bound == pytest.approx(exact, abs=1e-5)
    best = logps(model, prompt, [model.backbone.mask_token_id])[0].argmax().item()
    assert greedy == (best == first[0])


def test_two_tokens_have_the_mean_of_the_bound(model: DiffusionLM) -> None:
    """l = 2 masks both, weight 2/2; l = 1 masks either, weight 2/1; each with probability 1/2.

    So the bound is half of log p(a) + log p(b) and half of log p(a | b) + log p(b | a).
    """
    tokenizer, mask = model.tokenizer, model.backbone.mask_token_id
    prompt = tokenizer(CHAT, add_special_tokens=False)["input_ids"]
    a, b = tokenizer("A+", add_special_tokens=False)["input_ids"]
    both = logps(model, prompt, [mask, mask])
    left, right = logps(model, prompt, [mask, b])[0, a], logps(model, prompt, [a, mask])[1, b]
    draws = {0.5: (both[0, a] + both[1, b]).item()}  # probability: value
    values = [draws[0.5], 2 * left.item(), 2 * right.item()]
    chances = [0.5, 0.25, 0.25]
    mean = sum(p * v for p, v in zip(chances, values, strict=True))
    variance = sum(p * (v - mean) ** 2 for p, v in zip(chances, values, strict=True))
    ((bound, _),) = model.loglikelihood([asked("loglikelihood", CHAT, "A+")], True)
    assert abs(bound - mean) <= 4 * math.sqrt(variance / model.likelihood_samples) + 1e-5


def test_greedy_continuations_are_known_as_such(model: DiffusionLM) -> None:
    prompt = model.tokenizer(CHAT, add_special_tokens=False)["input_ids"]
    length = 6
    output = denoise(model.backbone, torch.tensor([prompt]), SamplerConfig(length, length, length))
    text = model.tokenizer.decode(output.completion_ids[0].tolist())
    requests = [asked("loglikelihood", CHAT, t) for t in (text, "A+21=99", "")]
    (own, is_greedy), (other, is_other), nothing = model.loglikelihood(requests, True)
    assert is_greedy
    assert not is_other
    assert own > other
    assert nothing == (0.0, True)


def test_spaces_between_belong_to_the_continuation(model: DiffusionLM) -> None:
    whole = model.tokenizer("one two", add_special_tokens=False)["input_ids"]
    prompt, target = model._split("one ", "two")
    assert prompt + target == whole
    assert model.tokenizer.decode(target) == " two"


def test_what_it_refuses(model: DiffusionLM) -> None:
    with pytest.raises(NotImplementedError, match="generate_until"):
        model.loglikelihood_rolling([], True)
    for arguments, says in (
        ({"batch_size": "auto"}, "batch_size=auto"),
        ({"dtype": "int8"}, "dtype=int8"),
        ({"stps": 4}, "stps"),
        ({"steps": 5}, "steps"),
        ({"likelihood_samples": 0}, "likelihood_samples=0"),
    ):
        with pytest.raises(ConfigError, match=says):
            DiffusionLM(device="cpu", **arguments)


def test_a_missing_harness_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("lm_eval", "lm_eval.__main__"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SystemExit, match=r"pip install 'igpo-lightning\[lm_eval\]'"):
        main()


def test_the_documented_command_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    """It parses, and its --model_args are arguments of the model or fields of the sampler."""
    page = (ROOT / "docs" / "evaluation.md").read_text()
    (line,) = re.findall(r"python -m igpo_lightning\.lm_eval (.*)", page)
    monkeypatch.setattr(sys, "argv", ["lm_eval", *line.split()])
    given = HarnessCLI().parse_args()
    assert given.model == "igpo_dllm"
    known = {*inspect.signature(DiffusionLM).parameters, *SamplerConfig.__dataclass_fields__}
    assert set(given.model_args) <= known
    table = page.partition("| `--model_args` | meaning |")[2].partition("\n\n")[0]
    named = {name for name in re.findall(r"`(\w+)`", table) if name != "SamplerConfig"}
    assert named - {"max_gen_toks"} <= known


@pytest.mark.slow
def test_the_harness_runs_it(command_server: CommandServer, tmp_path: Path) -> None:
    """Its own command line, a task that generates and one that compares, problems from a file."""
    problems = arithmetic_problems("test", 4, [1])
    rows = []
    for problem in problems:
        wrong = str(problem.solution).replace(f"{{{problem.answer}}}", "{999}")
        row = {"question": problem.question, "answer": problem.answer}
        rows.append(row | {"traces": [wrong, problem.solution]})
    data = tmp_path / "sums.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    shared = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "doc_to_text": "{{question}}",
    }
    last = {"function": "regex", "group_select": -1}
    last |= {"regex_pattern": "(-?[$0-9.,]{2,})|(-?[0-9]+)"}
    sums = shared | {
        "task": "sums",
        "output_type": "generate_until",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": ["<|eos|>"], "do_sample": False},
        "filter_list": [{"name": "last", "filter": [last, {"function": "take_first"}]}],
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }
    choices = shared | {
        "task": "choices",
        "output_type": "multiple_choice",
        "doc_to_choice": "traces",
        "doc_to_target": 1,
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    for task in (sums, choices):
        (tasks / f"{task['task']}.yaml").write_text(yaml.safe_dump(task))
    log = tmp_path / "log"
    arguments = (
        *("--model", "igpo_dllm"),
        *("--model_args", "path=tiny,completion_length=48,block_length=8,steps=24"),
        *("--tasks", "sums,choices", "--include_path", str(tasks), "--apply_chat_template"),
        *("--device", "cpu", "--batch_size", "16", "--log_samples"),
        *("--output_path", str(tmp_path / "out")),
    )
    place = {"cwd": str(tmp_path), "env": {"HF_HOME": str(tmp_path / "home")}}
    status = command_server.run(arguments, log, program="igpo_lightning.lm_eval", **place)
    assert status == 0, log.read_text()[-4000:]
    assert "igpo_dllm" in log.read_text()
    (file,) = (tmp_path / "out").rglob("results_*.json")
    results = json.loads(file.read_text())["results"]
    (file,) = (tmp_path / "out").rglob("samples_sums_*.jsonl")
    samples = [json.loads(line) for line in file.read_text().splitlines()]
    assert {s["doc"]["question"] for s in samples} == {row["question"] for row in rows}
    tokenizer = load_tokenizer("tiny")
    for sample in samples:
        prompt = tokenizer.decode(encode_chat(sample["doc"]["question"], "{question}", tokenizer))
        assert sample["arguments"]["gen_args_0"]["arg_0"] == prompt
    scores = [harness_score(s["doc"]["answer"], s["resps"][0][0])[1] for s in samples]
    assert results["sums"]["exact_match,last"] == sum(scores) / len(scores)
    assert sum(scores) >= 3  # the embedded model solves level 1
    assert results["choices"]["acc,none"] >= 0.75
