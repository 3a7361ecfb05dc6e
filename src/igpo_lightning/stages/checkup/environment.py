"""What is installed, plugged in, mounted and reachable."""

import importlib.metadata
import os
import platform
import shutil
import time
from dataclasses import replace
from urllib.parse import urlparse

import torch
from packaging.requirements import Requirement

from igpo_lightning.models.cpu_memory import available_bytes
from igpo_lightning.settings import RLStage
from igpo_lightning.stages import plan
from igpo_lightning.stages.capacity import GIB, capacity, misfits, size_text
from igpo_lightning.stages.checkup.finding import FAILED, OK, SKIPPED, WARNING, Finding, Site

PACKAGE = "igpo_lightning"
# Versions that install side by side and do not work: (package, those that do not, why, what to do).
CONFLICTS = (
    (
        "antlr4-python3-runtime",
        "!=4.9.*",
        "Hydra's grammar was made for 4.9",
        "pip install 'antlr4-python3-runtime==4.9.3' 'math-verify[antlr4_9_3]'",
    ),
    (
        "huggingface-hub",
        "<1.0",
        "transformers 5 needs its successor",
        "pip install -U huggingface_hub",
    ),
)
_HUB_SECONDS = 2.0
_TEST_FILE = 64 * 2**20  # bytes
_SLOW_DISK = 50e6  # bytes per second


def requirements(extra: str | None = None) -> list[Requirement]:
    """What this package requires, or one of its extras adds; empty where it is not installed."""
    try:
        named = importlib.metadata.requires(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    return [needed for needed in map(Requirement, named) if _is_of(needed, extra)]


def _is_of(needed: Requirement, extra: str | None) -> bool:
    if needed.marker is None or needed.marker.evaluate({"extra": ""}):
        return extra is None
    return extra is not None and needed.marker.evaluate({"extra": extra})


def versions(site: Site) -> Finding:
    """Required versions, and pairs that are known not to work together."""
    needed = requirements()
    wrong, fixes = [], []
    for one in needed:
        found = site.version(one.name)
        if found is None or not one.specifier.contains(found, prereleases=True):
            wrong.append(f"{one.name} {found or 'absent'} (needs {one.specifier})")
            fixes.append(f"pip install '{one.name}{one.specifier}'")
    for name, bad, why, fix in CONFLICTS:
        found = site.version(name)
        if found is not None and Requirement(f"x{bad}").specifier.contains(found):
            wrong.append(f"{name} {found}: {why}")
            fixes.append(fix)
    if wrong:
        return Finding(FAILED, "; ".join(wrong), "; ".join(fixes))
    main = ("torch", "lightning", "transformers", "peft")
    said = ", ".join(f"{name} {site.version(name)}" for name in main)
    said = f"Python {platform.python_version()}, {said}"
    if not needed:
        return Finding(WARNING, f"{said}; the package itself is not installed", "pip install -e .")
    return Finding(OK, said)


def packages(site: Site) -> Finding:
    """Optional packages; one that the configuration needs has to be there."""
    try:
        extras = importlib.metadata.metadata(PACKAGE).get_all("Provides-Extra") or []
    except importlib.metadata.PackageNotFoundError:
        return Finding(SKIPPED, f"{PACKAGE} is not installed, so its extras are not known")
    names = {
        extra: [one.name for one in requirements(extra) if site.version(one.name) is None]
        for extra in extras
        if extra not in ("dev", "docs")
    }
    absent = {extra: ", ".join(missing) for extra, missing in names.items() if missing}
    said = "; ".join(f"[{extra}] lacks {missing}" for extra, missing in absent.items())
    if site.config.model.quantization != "none" and "quantization" in absent:
        return Finding(FAILED, said, f"pip install '{PACKAGE}[quantization]'")
    here = ", ".join(f"[{extra}]" for extra in names if extra not in absent)
    return Finding(OK, "; ".join(filter(None, (f"all of {here}" if here else "", said))))


def devices(site: Site) -> Finding:
    """Processors and GPUs, and whether there are as many as the trainer is told to use."""
    trainer, memory = site.config.trainer, available_bytes()
    said = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    said += f", {size_text(memory)} free" if memory is not None else ""
    numbers = {"cores": float(os.cpu_count() or 1), "gpus": float(site.gpus)}
    if trainer.accelerator == "cpu":
        if site.gpus:
            fix = "add trainer=gpu to check and use them"
            return Finding(WARNING, f"{said}; {site.gpus} GPUs that stay idle", fix, numbers)
        return Finding(OK, f"{said}; no GPU", numbers=numbers)
    if site.gpus == 0:
        built = torch.version.cuda
        fix = (
            "install a build of torch for CUDA (pytorch.org)"
            if built is None
            else f"look at nvidia-smi: torch is built for CUDA {built}, which needs a newer driver"
        )
        return Finding(FAILED, f"{said}; trainer.accelerator=gpu, and torch sees no GPU", fix)
    names = sorted({torch.cuda.get_device_name(i) for i in range(site.gpus)})
    total = min(torch.cuda.get_device_properties(i).total_memory for i in range(site.gpus))
    said += f"; {site.gpus} x {', '.join(names)}, {size_text(total)} each"
    numbers["gpu_memory"] = float(total)
    if site.gpus < trainer.devices:
        fix = f"set trainer.devices={site.gpus}"
        return Finding(FAILED, f"{said}; trainer.devices={trainer.devices}", fix, numbers)
    if not torch.cuda.is_bf16_supported():
        fix = "set trainer.precision=32-true and model.dtype=float32"
        return Finding(WARNING, f"{said}; no bfloat16", fix, numbers)
    return Finding(OK, said, numbers=numbers)


def fits(site: Site) -> Finding:
    """The plan of an RL run with this model and trainer against the machine."""
    config = replace(site.config, stage=RLStage())
    work, made = plan.planned(config)
    there = capacity(config.trainer, site.folder)
    why = misfits(made, work, there)
    said = f"stage=rl with {config.model.path} needs {size_text(made.total)}"
    said += " a GPU" if work.on_gpu else " a process"
    said += f", {size_text(made.disk_total)} of the disk"
    numbers = {"total": float(made.total), "disk": float(made.disk_total)}
    if why:
        return Finding(WARNING, f"{said}: does not fit", "; ".join(why), numbers)
    return Finding(OK, said, numbers=numbers)


def disk(site: Site) -> Finding:
    """Speed and space of the run's folder, where checkpoints and exports are written."""
    file, block = site.folder / "doctor.partial", os.urandom(2**20)
    start = time.perf_counter()
    try:
        with file.open("wb") as stream:
            for _ in range(_TEST_FILE // len(block)):
                stream.write(block)
            stream.flush()
            os.fsync(stream.fileno())
    finally:
        file.unlink(missing_ok=True)
    speed = _TEST_FILE / (time.perf_counter() - start)
    free = shutil.disk_usage(site.folder).free
    said = f"{size_text(free)} free, {speed / 1e6:.0f} MB/s written to {site.folder}"
    numbers = {"bytes_per_second": speed, "free": float(free)}
    if free < GIB:
        return Finding(FAILED, said, "make room, or choose another hydra.run.dir", numbers)
    if speed < _SLOW_DISK:
        fix = "choose a faster hydra.run.dir, or raise stage.checkpoint_every"
        return Finding(WARNING, said, fix, numbers)
    return Finding(OK, said, numbers=numbers)


def hub(site: Site) -> Finding:
    """Whether models and data can be fetched."""
    if os.environ.get("HF_HUB_OFFLINE", "") in ("1", "true", "yes", "on"):
        return Finding(SKIPPED, "HF_HUB_OFFLINE is set: only the local cache is read")
    address = urlparse(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    host, port = address.hostname or "huggingface.co", address.port or 443
    try:
        site.connect(host, port, _HUB_SECONDS)
    except OSError as error:
        fix = "set HF_HUB_OFFLINE=1, and give folders: model.path=FOLDER, IGPO_DATA_DIR=FOLDER"
        return Finding(WARNING, f"{host} does not answer ({error})", fix)
    return Finding(OK, f"{host} answers")
