"""Whole runs on two processes: the same numbers as one, under every strategy, and no waiting."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.integration.small_runs import RL, SFT, Runs, decoder

# A hang ends after the server's 60 seconds with the status of SIGALRM, which no test accepts.
QUIET = ("stage.eval_every=0", "stage.eval_before=false", "stage.log_samples_every=1")
# A random model is almost equally sure of all tokens. Committed by confidence, or filtered by
# entropy, near ties would fall to the rounding of a sum over ranks, and one token decides the rest.
ORDER = ("sampler.remasking=random", "filter.kind=none", "optimizer.lr=1e-4")
ARGS = (*RL, *QUIET, *ORDER, "stage.prompts_per_step=4", "stage.steps=5")
TWO = ("trainer.devices=2",)
LORA = ("model.lora.enabled=true", "model.lora.rank=2")


def weights(folder: Path) -> torch.Tensor:
    state = load_file(folder / "export" / "model.safetensors")
    return torch.cat([state[name].flatten().float() for name in sorted(state)])


def lines(folder: Path, *prefixes: str) -> list[dict[str, float]]:
    """The metrics with these prefixes."""
    with (folder / "metrics.csv").open(newline="") as file:
        return [
            {k: float(v) for k, v in row.items() if v and k.startswith(prefixes)}
            for row in csv.DictReader(file)
        ]


def samples(folder: Path) -> list[str]:
    return (folder / "samples.jsonl").read_text().splitlines()


def same(one: Path, two: Path) -> None:
    """Equal choices, and parameters and losses equal to within float32's rounding."""
    exact = ("group/", "reward/", "hint/", "rollout/length", "rollout/eos_rate")
    for a, b in zip(lines(one, *exact), lines(two, *exact), strict=True):
        assert b == pytest.approx(a, abs=1e-6)
    for a, b in zip(lines(one, "policy/"), lines(two, "policy/"), strict=True):
        assert b == pytest.approx(a, rel=1e-3, abs=1e-5)
    torch.testing.assert_close(weights(two), weights(one), atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def one(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process with 4 prompts a step."""
    folder = tmp_path_factory.mktemp("one") / "run"
    assert runs.start(folder, *ARGS) == 0, runs.log(folder)
    return folder


def test_two_ranks_of_ddp_learn_what_one_process_does(
    runs: Runs, one: Path, tmp_path: Path
) -> None:
    """2 x 2 prompts; started as torchrun starts them."""
    assert runs.start(tmp_path / "ddp", *ARGS, *TWO, "trainer.strategy=ddp", ranks=2) == 0, (
        runs.log(tmp_path / "ddp")
    )
    same(one, tmp_path / "ddp")
    # The first rank's samples are those of the first two prompts, token by token.
    first = [line for line in samples(one) if line in set(samples(tmp_path / "ddp"))]
    assert len(first) == len(samples(tmp_path / "ddp")) > 0


@pytest.mark.slow
@pytest.mark.parametrize("gather", ["true", "false"])
def test_two_ranks_of_fsdp_learn_what_one_process_does(
    runs: Runs, one: Path, tmp_path: Path, gather: str
) -> None:
    folder, fsdp = tmp_path / "fsdp", ("trainer.strategy=fsdp", f"trainer.gather_rollouts={gather}")
    assert runs.start(folder, *ARGS, *TWO, *fsdp, ranks=2) == 0, runs.log(folder)
    same(one, folder)
    assert "trainer.gather_rollouts" in runs.log(folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ("trainer.cpu_offload=true",),
        ("model.gradient_checkpointing=true",),
        ("trainer.replicas=2",),
        LORA,
        (*LORA, "trainer.strategy=ddp", "trainer.gather_rollouts=false"),
    ],
)
def test_every_option_learns_the_same(runs: Runs, tmp_path: Path, options: tuple[str, ...]) -> None:
    args = (*ARGS, "stage.steps=2")
    fsdp = ("trainer.strategy=fsdp", "trainer.gather_rollouts=true")
    alone = [o for o in options if not o.startswith("trainer")]
    assert runs.start(tmp_path / "one", *args, *alone) == 0, runs.log(tmp_path / "one")
    assert runs.start(tmp_path / "two", *args, *TWO, *fsdp, *options, ranks=2) == 0, runs.log(
        tmp_path / "two"
    )
    same(tmp_path / "one", tmp_path / "two")


# Six sequences in three canvases, one a pass: the second rank's second canvas is empty.
PACKED = ("stage.padding=packed", "stage.eos_tail=3", "stage.batch_size=6")
ONE_A_PASS = ("stage.train_batch_size=1", "prompt.max_length=60")


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), (*PACKED, *ONE_A_PASS)], ids=["padded", "packed"])
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_fine_tuning_learns_the_same_on_two_ranks(
    runs: Runs, tmp_path: Path, strategy: str, options: tuple[str, ...]
) -> None:
    args = (*SFT, "stage.val_every=3", "stage.val_limit=5", "stage.eval_after=false", *options)
    assert runs.start(tmp_path / "one", *args) == 0, runs.log(tmp_path / "one")
    two = (*TWO, f"trainer.strategy={strategy}")
    assert runs.start(tmp_path / "two", *args, *two, ranks=2) == 0, runs.log(tmp_path / "two")
    torch.testing.assert_close(
        weights(tmp_path / "two"), weights(tmp_path / "one"), atol=2e-4, rtol=0
    )
    for a, b in zip(lines(tmp_path / "one", "sft/"), lines(tmp_path / "two", "sft/"), strict=True):
        assert b == pytest.approx(a, rel=1e-3, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
@pytest.mark.parametrize("stage", ["rl", "sft"])
@pytest.mark.parametrize("name", ["illada", "sdar"])
def test_other_decoders_learn_the_same_on_two_ranks(
    runs: Runs, tmp_path: Path, name: str, stage: str, strategy: str
) -> None:
    """Full and block-causal attention; all weights, since adapters begin from nothing."""
    own = decoder(runs, name, tmp_path / "model")
    args = (*ARGS, "stage.steps=2") if stage == "rl" else (*SFT, "stage.eval_after=false")
    args = (*args, "sampler.block_length=4", "stage.steps=2")
    assert own.start(tmp_path / "one", *args) == 0, own.log(tmp_path / "one")
    two = (*TWO, f"trainer.strategy={strategy}")
    status = own.start(tmp_path / "two", *args, *two, ranks=2, seconds=300)
    assert status == 0, own.log(tmp_path / "two")
    if stage == "rl":
        same(tmp_path / "one", tmp_path / "two")
    else:
        torch.testing.assert_close(
            weights(tmp_path / "two"), weights(tmp_path / "one"), atol=2e-4, rtol=0
        )


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_run_killed_on_two_ranks_goes_on_on_one(
    runs: Runs, one: Path, tmp_path: Path, strategy: str
) -> None:
    """Both ranks are killed in step 4; the run is finished by one process."""
    folder, two = tmp_path / "run", (*TWO, f"trainer.strategy={strategy}")
    fault = {"target": "igpo_lightning.rl.module:clipped_step", "call": 7, "action": "kill"}
    assert runs.start(folder, *ARGS, *two, ranks=2, faults=[fault]) == -9
    assert (folder / "checkpoints" / "step-3.ckpt").exists()
    alone = () if strategy == "ddp" else ("trainer.strategy=fsdp",)
    assert runs.start(folder, *ARGS, *alone) == 0, runs.log(folder)
    same(one, folder)


@pytest.mark.slow
def test_damaged_shards_are_found_and_the_folder_before_used(
    runs: Runs, one: Path, tmp_path: Path
) -> None:
    folder, two = tmp_path / "run", (*TWO, "trainer.strategy=fsdp")
    fault = {"target": "igpo_lightning.rl.module:clipped_step", "call": 7, "action": "kill"}
    assert runs.start(folder, *ARGS, *two, ranks=2, faults=[fault]) == -9
    shard = next((folder / "checkpoints" / "step-3.ckpt").glob("*.distcp"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    assert runs.start(folder, *ARGS, *two, ranks=2) == 0, runs.log(folder)
    assert "step-3.ckpt is damaged" in runs.log(folder)
    same(one, folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "world", "lost"), [("ddp", 2, 1), ("fsdp", 2, 1), ("ddp", 2, 0), ("ddp", 4, 2)]
)
def test_a_lost_rank_does_not_leave_the_others_waiting(
    runs: Runs, tmp_path: Path, strategy: str, world: int, lost: int
) -> None:
    """One is killed in its third update; the others end by an error, not by the time limit."""
    fault = {"target": "igpo_lightning.rl.module:clipped_step", "call": 3, "action": "kill"}
    ranks = (f"trainer.devices={world}", f"trainer.strategy={strategy}")
    limit = 60 if world == 2 else 240  # four processes take longer on two cores
    status = runs.start(
        tmp_path / "run", *ARGS, *ranks, ranks=world, seconds=limit, faults=[fault | {"rank": lost}]
    )
    assert status == (1 if lost else -9)  # the first rank's
    text = runs.log(tmp_path / "run")
    assert f"error: rank {lost} of {world} (counted from 0) is lost" in text
    assert "Traceback" not in text


@pytest.mark.parametrize("gather", ["false", pytest.param("true", marks=pytest.mark.slow)])
def test_ranks_with_and_without_all_wrong_groups_stay_in_step(
    runs: Runs, tmp_path: Path, gather: str
) -> None:
    """All groups of rank 0 are all-wrong. Rank 1 samples the second of them again.

    What rank 1 grades is right: of that group one row in three is replaced.
    """
    folder, fsdp = tmp_path / "run", ("trainer.strategy=fsdp", f"trainer.gather_rollouts={gather}")
    # A random text around hints may state the answer in a hint, which is not counted as right.
    given = "inpaint.exclude_answer=false"
    args = (*ARGS, *TWO, *fsdp, given, "stage.steps=2", "stage.eval_after=false")
    assert runs.start(folder, *args, ranks=2, right_ranks=[1]) == 0, runs.log(folder)
    rows = lines(folder, "group/", "hint/", "reward/accuracy")
    assert len(rows) == 2
    for row in rows:
        assert (row["group/all_wrong_before"], row["group/all_wrong_after"]) == (0.5, 0.25)
        assert row["hint/groups_triggered"] == 2  # of 4 prompts, 2 a rank
        assert row["hint/replaced"] == 1
        assert row["reward/accuracy"] == pytest.approx(7 / 12)


@pytest.fixture(scope="module")
def deep(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Of a model with three blocks."""
    model = tmp_path_factory.mktemp("deep") / "model"
    shutil.copytree(runs.model, model)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    return replace(runs, model=model)


@pytest.mark.slow
@pytest.mark.parametrize("gather", ["false", "true"])
def test_one_of_two_ranks_without_memory_goes_on_in_halves(
    deep: Runs, tmp_path: Path, gather: str
) -> None:
    """Within rollouts of the second rank, as CUDA's allocator would; the other goes along.

    The result is that of one process without the fault.
    """
    # All hint tokens: the most uncertain ones of a random model would fall to rounding, too.
    args = (*ARGS, "stage.steps=2", "stage.eval_after=false", "filter.keep_fraction=1.0")
    assert deep.start(tmp_path / "one", *args) == 0, deep.log(tmp_path / "one")
    fsdp = ("trainer.strategy=fsdp", f"trainer.gather_rollouts={gather}")
    fault = {"target": "igpo_lightning.models.tiny:TinyBlock.forward", "action": "out_of_memory"}
    for call in (1, 5, 12):  # the first, second and third block of a pass
        folder = tmp_path / f"call_{call}"
        faults = [fault | {"call": call, "rank": 1}]
        status = deep.start(folder, *args, *TWO, *fsdp, ranks=2, faults=faults)
        assert status == 0, deep.log(folder)
        assert "out of memory with" in deep.log(folder)
        same(tmp_path / "one", folder)


@pytest.mark.slow
def test_four_ranks_on_a_mesh_of_two_by_two_learn_what_one_process_does(
    runs: Runs, tmp_path: Path
) -> None:
    """Hybrid sharding: two copies of the model, each shared by two ranks."""
    args = (*ARGS, "stage.steps=2", "stage.eval_after=false")
    assert runs.start(tmp_path / "one", *args) == 0, runs.log(tmp_path / "one")
    mesh = ("trainer.strategy=fsdp", "trainer.devices=4", "trainer.replicas=2")
    # Four processes take longer on two cores.
    status = runs.start(tmp_path / "mesh", *args, *mesh, ranks=4, seconds=240)
    assert status == 0, runs.log(tmp_path / "mesh")
    same(tmp_path / "one", tmp_path / "mesh")


@pytest.mark.slow
def test_more_ranks_than_groups_learn_what_one_process_does(runs: Runs, tmp_path: Path) -> None:
    """Two ranks share each of two groups of four: each trains on half of a group."""
    args = (*ARGS, "stage.prompts_per_step=2", "stage.group_size=4", "stage.steps=3")
    assert runs.start(tmp_path / "one", *args) == 0, runs.log(tmp_path / "one")
    four = ("trainer.devices=4", "trainer.strategy=ddp")
    status = runs.start(tmp_path / "four", *args, *four, ranks=4, seconds=240)
    assert status == 0, runs.log(tmp_path / "four")
    same(tmp_path / "one", tmp_path / "four")


@pytest.mark.slow
@pytest.mark.parametrize("surplus", ["keep", "drop"])
def test_dynamic_sampling_goes_on_where_it_was_killed_and_on_other_ranks(
    runs: Runs, tmp_path: Path, surplus: str
) -> None:
    """Groups may wait for the next step; the run is killed in step 3 and finished by two ranks."""
    more = ("stage.sampling_rounds=3", f"stage.surplus={surplus}")
    args = (*ARGS, *more)
    assert runs.start(tmp_path / "one", *args) == 0, runs.log(tmp_path / "one")
    numbers = lines(tmp_path / "one", "group/")
    counted = {"keep": "group/kept_for_later", "drop": "group/surplus_dropped"}[surplus]
    assert max(row.get(counted, 0) for row in numbers) > 0  # evaluations have no groups
    assert max(row.get("group/rounds", 0) for row in numbers) > 1
    fault = {"target": "igpo_lightning.rl.module:clipped_step", "call": 6, "action": "kill"}
    folder = tmp_path / "run"
    assert runs.start(folder, *args, faults=[fault]) == -9
    assert runs.start(folder, *args, *TWO, "trainer.strategy=ddp", ranks=2) == 0, runs.log(folder)
    same(tmp_path / "one", folder)
