"""The wheel carries code, configuration and the embedded model, and works where it is installed."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def call(*command: str, cwd: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_wheel_works_in_a_new_environment(tmp_path: Path) -> None:
    build = ("-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT))
    call(sys.executable, *build, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "igpo_lightning/conf/config.yaml" in names
    embedded = "igpo_lightning/models/embedded/model.safetensors"
    assert zipfile.ZipFile(wheel).getinfo(embedded).file_size <= 4_000_000

    call(sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv"), cwd=tmp_path)
    python = str(tmp_path / "venv" / "bin" / "python")
    install = ("--python", python, "install", "--no-deps", "--no-index", "--quiet", str(wheel))
    call(sys.executable, "-m", "pip", *install, cwd=tmp_path)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = tmp_path / "venv" / "lib" / version / "site-packages"
    # The dependencies come from this environment; the package itself from the wheel, found first.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}

    where = call(
        python, "-c", "import igpo_lightning; print(igpo_lightning.__file__)", cwd=tmp_path, env=env
    )
    assert Path(where.strip()).is_relative_to(site)
    shown = call(
        str(tmp_path / "venv" / "bin" / "igpo-lightning"),
        *("stage=generate", "stage.prompt='A+3 from 12'"),
        "stage.hint='\\boxed{17}'",
        cwd=tmp_path,
        env=env,
    )
    assert "\\boxed{17}" in shown
