"""Makes a virtual environment and installs a requirements file: `python3 requirements/install.py VENV FILE`.

It says first what that downloads, and about how long it takes on a fast line. Where there is no NVIDIA GPU,
PyTorch comes from its index of CPU builds, which saves some 3 GB; where that index cannot be reached, from
the usual one. `TORCH=cpu` and `TORCH=cuda` decide instead. Sizes are sums of the wheels for Linux on x86_64
of November 2026.
"""

import os
import shutil
import subprocess
import sys
import urllib.request
import venv
from pathlib import Path

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
SECONDS = 5  # to wait for that index
CPU = "about 0.5 GB to download and two minutes"
CUDA = "about 3.3 GB to download and five minutes"
FURTHER = {"requirements-dev.txt": "about 0.3 GB more to download and a minute, for tests and lint"}
"""Files that are installed on top of requirements.txt → what they take."""


def wants_cuda() -> bool:
    """What TORCH says, or else whether there is an NVIDIA GPU."""
    chosen = os.environ.get("TORCH", "")
    if chosen not in ("", "cpu", "cuda"):
        sys.exit(f"error: TORCH={chosen}: give cpu or cuda, or leave it out")
    return chosen == "cuda" or (not chosen and shutil.which("nvidia-smi") is not None)


def reached(index: str) -> bool:
    """Whether an index answers and has PyTorch."""
    try:
        with urllib.request.urlopen(f"{index}/torch/", timeout=SECONDS) as answer:
            return answer.status == 200
    except (OSError, ValueError):
        return False


def main(folder: str, file: str) -> None:
    """Installs a file into a new or present environment, and ends with pip's exit status."""
    extra: list[str] = []
    if wants_cuda():
        size, why = CUDA, "with CUDA"
    elif reached(CPU_INDEX):
        size, why, extra = CPU, "CPU builds of PyTorch, as no GPU is here", ["--extra-index-url", CPU_INDEX]
    else:
        size, why = CUDA, f"{CPU_INDEX} cannot be reached, so with CUDA though no GPU is here"
    print(f"installing into {folder}: {FURTHER.get(Path(file).name) or f'{size} ({why})'}", flush=True)
    if not (Path(folder) / "bin" / "python").exists():
        venv.create(folder, with_pip=True)
    command = [f"{folder}/bin/python", "-m", "pip", "install", "--quiet", *extra, "--requirement", file]
    sys.exit(subprocess.run(command).returncode)


if __name__ == "__main__":
    main(*sys.argv[1:])
