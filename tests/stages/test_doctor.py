"""stage=doctor: every check says what is wrong, with machines handed in that are not here."""

import json
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from igpo_lightning.diffusion.paired_inputs import dense_layout
from igpo_lightning.errors import ConfigError, RunError
from igpo_lightning.models.loading import ARCHITECTURES
from igpo_lightning.rewards.worker_pool import GradingPool, Verdict
from igpo_lightning.settings import DoctorStage, Settings, TrainerConfig
from igpo_lightning.stages import doctor
from igpo_lightning.stages.checkup import environment, numerics, processes, speed
from igpo_lightning.stages.checkup.finding import Finding, Site, finish, installed
from igpo_lightning.stages.checkup.forked import Forks
from tests.composing import composed


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(Settings(), torch.device("cpu"), 0, tmp_path)


def versions_of(**named: str | None) -> Any:
    return lambda name: named.get(name.replace("-", "_"), installed(name))


def test_versions_that_are_there_are_fine(site: Site) -> None:
    finding = environment.versions(site)
    assert finding.verdict in ("ok", "warning")  # a checkout that is not installed says so
    assert f"torch {torch.__version__}" in finding.said


def test_an_old_and_an_absent_package_are_named_with_the_command(site: Site) -> None:
    if not environment.requirements():
        pytest.skip("the package is not installed, so its requirements are not known")
    old = environment.versions(replace(site, version=versions_of(torch="2.1.0", peft=None)))
    assert old.verdict == "failed"
    assert "torch 2.1.0 (needs >=2.6)" in old.said
    assert "peft absent" in old.said
    assert "pip install 'torch>=2.6'" in old.fix


@pytest.mark.parametrize(
    ("package", "version"), [("antlr4_python3_runtime", "4.13.2"), ("huggingface_hub", "0.36.0")]
)
def test_a_known_conflict_is_found(site: Site, package: str, version: str) -> None:
    finding = environment.versions(replace(site, version=versions_of(**{package: version})))
    assert finding.verdict == "failed"
    assert version in finding.said
    assert "pip install" in finding.fix


def test_an_optional_package_fails_only_where_it_is_needed(site: Site) -> None:
    without = replace(site, version=versions_of(bitsandbytes=None))
    plain = environment.packages(without)
    if plain.verdict == "skipped":
        pytest.skip(plain.said)
    assert plain.verdict == "ok"
    assert "[quantization] lacks bitsandbytes" in plain.said
    lora = ("stage=doctor", "model.quantization=4bit", "logger=[]")
    needed = environment.packages(replace(without, config=composed(*lora)))
    assert needed.verdict == "failed"
    assert needed.fix == "pip install 'igpo_lightning[quantization]'"


def test_gpus_that_are_absent_or_idle(site: Site) -> None:
    assert environment.devices(site).verdict == "ok"
    idle = environment.devices(replace(site, gpus=2))
    assert idle.verdict == "warning"
    assert "trainer=gpu" in idle.fix
    wants = replace(Settings(), trainer=TrainerConfig(accelerator="gpu"))
    absent = environment.devices(replace(site, config=wants))
    assert absent.verdict == "failed"
    assert "torch" in absent.fix


def test_too_few_gpus_name_how_many_there_are(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    class Properties:
        total_memory = 80 * 2**30

    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "H100")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: Properties)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    trainer = TrainerConfig(accelerator="gpu", devices=8, strategy="ddp")
    few = environment.devices(replace(site, gpus=2, config=replace(Settings(), trainer=trainer)))
    assert (few.verdict, few.fix) == ("failed", "set trainer.devices=2")
    assert "2 x H100, 80.00 GiB each" in few.said
    enough = replace(trainer, devices=2)
    fine = environment.devices(replace(site, gpus=2, config=replace(Settings(), trainer=enough)))
    assert fine.verdict == "ok"


def test_no_network_is_a_warning(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int, float]] = []

    def refuse(host: str, port: int, seconds: float) -> None:
        asked.append((host, port, seconds))
        raise TimeoutError("timed out")

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example:8443")
    finding = environment.hub(replace(site, connect=refuse))
    assert finding.verdict == "warning"
    assert "IGPO_DATA_DIR" in finding.fix
    assert asked == [("mirror.example", 8443, 2.0)]
    assert environment.hub(replace(site, connect=lambda *_: None)).verdict == "ok"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert environment.hub(replace(site, connect=refuse)).verdict == "skipped"


def test_the_disk_is_measured_and_left_empty(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    finding = environment.disk(site)
    assert finding.numbers["bytes_per_second"] > 0
    assert list(site.folder.iterdir()) == []
    usage = type("Usage", (), {"free": 2**20})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    full = environment.disk(site)
    assert full.verdict == "failed"
    assert "1.00 MiB free" in full.said


def test_the_plan_of_the_configured_model(site: Site) -> None:
    fine = environment.fits(replace(site, config=composed("stage=doctor", "trainer.memory_gb=8")))
    assert fine.verdict == "ok"
    large = ("stage=doctor", "model=llada_8b", "trainer=gpu", "trainer.memory_gb=24")
    finding = environment.fits(replace(site, config=composed(*large)))
    assert finding.verdict == "warning"
    assert "of 24.00 GiB" in finding.fix


def test_every_bundled_architecture_is_compared() -> None:
    names = [name for name, _ in numerics.small_backbones()]
    assert set(names) == {"tiny", *(file.stem for file in ARCHITECTURES.glob("*.json"))}
    assert {"llada_8b", "dream_7b", "illada_8b", "sdar_8b"} < set(names)
    assert [name for name, _ in numerics.small_transformers()] == ["bert", "gpt2"]


def test_logits_agree_and_wrong_ones_are_found(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    finding = numerics.logits(site)
    assert finding.verdict == "ok"
    assert {"bert float32", "gpt2 bfloat16"} < set(finding.numbers)
    assert f"{len(finding.numbers) // 2} architectures" in finding.said
    assert finding.numbers["llada_8b float32"] < 1e-5 < finding.numbers["llada_8b bfloat16"] < 0.1
    # A device whose float32 products keep 11 bits, as TF32 does.
    monkeypatch.setitem(numerics.ALLOWED, torch.float32, 1e-9)
    wrong = numerics.logits(site)
    assert wrong.verdict == "failed"
    assert "llada_8b float32" in wrong.said


def test_block_masks_agree_and_a_wrong_one_is_found(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    finding = numerics.block_masks(site)
    assert finding.verdict == "ok"
    assert {"sdar_8b logits", "llada2_mini gradient"} < set(finding.numbers)
    monkeypatch.setattr(numerics, "paired_layout", lambda mask, size: dense_layout(mask, size + 1))
    wrong = numerics.block_masks(site)
    assert wrong.verdict == "failed"
    assert "sdar_8b gradient" in wrong.said


def test_sampler_tokens_equal_the_plain_loops(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    assert numerics.sampler(site).verdict == "ok"

    def off_by_one(*args: Any, **kwargs: Any) -> Any:
        output = numerics_denoise(*args, **kwargs)
        return replace(output, completion_ids=output.completion_ids + 1)

    numerics_denoise = numerics.denoise
    monkeypatch.setattr(numerics, "denoise", off_by_one)
    wrong = numerics.sampler(site)
    assert wrong.verdict == "failed"
    assert "0.0%" in wrong.said


def test_compiling_needs_a_compiler_and_graphs_a_gpu(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert numerics.graphs(site).verdict == "skipped"
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert "compiler" in numerics.compiling(site).said
    # Compiled, the model would give these tokens.
    monkeypatch.setattr("shutil.which", lambda name: name)
    monkeypatch.setattr(
        "igpo_lightning.diffusion.compilation.torch.compile", lambda body, mode: body
    )
    assert numerics.compiling(site).verdict == "ok"


def test_memory_and_speed_are_measured(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    small = speed.Size(layers=2, width=64, vocab=64, rows=2, prompt=8, completion=32)
    monkeypatch.setattr(speed, "size_of", lambda _: small)
    fast = speed.speed(site)
    assert fast.verdict == "ok"
    assert "trainer.tflops=" in fast.said
    assert 0 < fast.numbers["update_flops"] < fast.numbers["peak_flops"]
    model = speed.middle_model(small, site.device)
    planned = 4 * sum(p.numel() for p in model.parameters())
    monkeypatch.setattr(speed, "peak_bytes", lambda *_: 2**40)
    over = speed.memory(site)
    assert over.verdict == "warning"
    assert "more room" in over.fix
    monkeypatch.setattr(speed, "peak_bytes", lambda *_: planned)
    assert speed.memory(site).verdict == "ok"
    monkeypatch.setattr(speed, "peak_bytes", lambda *_: None)
    assert speed.memory(site).verdict == "skipped"


@pytest.mark.slow  # two interpreters import torch; what is said of failures is tested below
def test_two_processes_find_each_other(site: Site) -> None:
    finding = processes.connection(site)
    assert finding.verdict == "ok", finding
    assert finding.numbers["ranks"] == 2


def test_a_rank_that_fails_is_named_with_its_message(site: Site) -> None:
    def broken(commands: Sequence[Sequence[str]], seconds: float) -> list[tuple[int, str]]:
        assert len(commands) == 4
        assert "nccl" in commands[0]
        return [(0, "1e9"), (1, "RuntimeError: unhandled system error\n"), (0, "1"), (0, "1")]

    gpus = replace(site, device=torch.device("cuda"), gpus=4, finish=broken)
    finding = processes.connection(gpus)
    assert finding.verdict == "failed"
    assert "nccl, rank 1 of 4: RuntimeError: unhandled system error" in finding.said
    assert "NCCL_DEBUG" in finding.fix
    assert finding.output == "RuntimeError: unhandled system error\n"


@pytest.mark.slow  # two graders start; tests/rewards grade with such a pool
def test_graders_start_and_tell_right_from_wrong(site: Site) -> None:
    finding = processes.grader(site)
    assert finding.verdict == "ok", finding
    assert finding.numbers["seconds"] > 0


def test_graders_that_tell_nothing_apart_are_found(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GradingPool, "grade", lambda *_: [Verdict(True), Verdict(True)])
    wrong = processes.grader(site)
    assert wrong.verdict == "failed"
    assert "(x+1)^2 are right and right" in wrong.said


def test_what_does_not_run_commands_goes_on_beside_them(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = threading.Event()

    def step(_: Site) -> Finding:
        return Finding("ok" if compiled.wait(60) else "failed", "ended after the other check")

    def compile_(_: Site) -> Finding:
        compiled.set()
        return Finding("ok", "")

    monkeypatch.setattr(processes, "steps", lambda *_: {"step": step})
    found = doctor.look(site, {"step": step, "compile": compile_})
    assert list(found) == ["step", "compile"]
    assert found["step"][0].verdict == "ok"


def test_processes_that_hang_are_ended() -> None:
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
    ((status, output),) = finish([sleeper], 0.2)
    assert status != 0
    assert "no end after 0.2 s" in output


def test_a_step_of_rl_in_each_way_to_train() -> None:
    here = processes.steps(on_gpu=False, gpus=0)
    assert [name.removeprefix("RL step, ") for name in here] == [
        *("cpu", "cpu, LoRA", "ddp", "ddp, LoRA", "fsdp", "fsdp, LoRA"),
    ]
    assert next(iter(processes.steps(on_gpu=True, gpus=4))) == "RL step, gpu"


@pytest.mark.parametrize(
    ("statuses", "norm", "verdict", "said"),
    [
        ((0, 0), "0.25", "ok", "gradient norm 0.2500"),
        ((0, 0), "nan", "failed", "loss 0.5, gradient norm nan"),
        ((0, 0), "0.0", "failed", "loss 0.5, gradient norm 0.0"),
        ((0, 2), "0.25", "failed", "rank 1: error: trainer.devices=2: too many"),
    ],
)
def test_a_steps_verdict(
    site: Site, statuses: tuple[int, int], norm: str, verdict: str, said: str
) -> None:
    def ran(command: Sequence[str], ranks: int, seconds: float) -> list[tuple[int, str]]:
        assert ranks == 2
        folder = Path(command[-1].removeprefix("hydra.run.dir="))
        folder.mkdir()
        (folder / "metrics.csv").write_text(f"step,policy/loss,policy/grad_norm\n0,0.5,{norm}\n")
        text = "Plan of ...\nerror: trainer.devices=2: too many\n"
        return [(status, text) for status in statuses]

    step = processes.steps(on_gpu=False, gpus=0)["RL step, ddp"]
    finding = step(replace(site, launch=ran))
    assert (finding.verdict, finding.said) == (verdict, said)
    assert list(site.folder.iterdir()) == []


@pytest.mark.slow  # a server imports all that a run needs
def test_forked_ranks_tell_status_and_output() -> None:
    launch = Forks()
    wrong = launch(["stage=nonsense"], 2, 60)
    assert [status for status, _ in wrong] == [2, 2]
    assert all("nonsense" in output for _, output in wrong)
    ((status, output),) = launch(["--help"], 1, 60)
    assert status == 0
    assert "experiment=tiny" in output


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'ImportError: libcudart.so' >&2\nexit 1\n")
    broken.chmod(0o755)
    with pytest.raises(RuntimeError, match=r"no run can be started: ImportError: libcudart\.so"):
        Forks(str(broken))(["stage=rl"], 1, 5)


def test_the_stage_writes_a_table_and_a_file(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def breaks(_: Site) -> Finding:
        raise RuntimeError("CUDA error: no kernel image\nmore")

    found: dict[str, Any] = {
        "good": lambda _: Finding("ok", "fine [not markup]"),
        "bad": breaks,
    }
    monkeypatch.setattr(doctor, "checks", lambda _: found)
    monkeypatch.setattr(doctor, "site_of", lambda _: site)
    config = composed("stage=doctor", "logger=[]")
    with pytest.raises(RunError, match=r"1 of 2 checks failed: bad") as failed:
        doctor.run(config)
    assert failed.value.status == 1
    written = json.loads((site.folder / "doctor.json").read_text())
    assert written["good"]["verdict"] == "ok"
    assert written["bad"]["said"] == "RuntimeError: CUDA error: no kernel image"
    assert "[not markup]" in " ".join(capsys.readouterr().out.split())
    assert doctor.run(replace(config, stage=DoctorStage(only=("good",))))["good"]["fix"] == ""
    with pytest.raises(ConfigError, match=r"stage\.only=goood: .* good, bad"):
        doctor.run(replace(config, stage=DoctorStage(only=("goood",))))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_this_machine_passes(site: Site) -> None:
    config = composed("stage=doctor", "trainer.threads=1", "logger=[]")
    here = replace(site, config=config)
    found = doctor.look(here, doctor.checks(here))
    assert {name: f for name, (f, _) in found.items() if f.verdict == "failed"} == {}
