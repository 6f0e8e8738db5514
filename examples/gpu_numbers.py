"""Tests a GPU and times it, in ten minutes. One file gets everything: versions, the outcome of the tests, all times.

    pip install -e ".[test]" && python examples/gpu_numbers.py       # writes gpu_numbers.csv

gpu_numbers.ipynb does the same on Colab and Kaggle. Send the file in with the issue form "Numbers of a GPU". The lines
that begin with # say what ran where. The other lines are the table of `python -m bench.gpu`, which pandas reads with
`read_csv(..., comment="#")`. Without a GPU this is a dry run: the tests are skipped, and Triton's interpreter computes
toy sizes.
"""

import argparse
import importlib.util
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OUT = "gpu_numbers.csv"
TESTS = "tests/gpu/test_gpu.py"
SHARE = 0.4  # of the minutes, at most, for the tests
VERSIONS = "device", "torch", "python", "commit", "triton", "backends"  # bench.gpu prints these first
LAST = 60  # seconds that the last case of the times may take, and the end of both programs


def run(command, seconds=None, **variables):
    """Runs a command in the source tree, and prints its lines as they come. After this many seconds the command is
    stopped as by Ctrl-C, so that it says what it has found. Returns (the exit status, the lines)."""
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "encoding": "utf-8", "errors": "replace"}
    lines = []
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started with & in a script: the command would ignore Ctrl-C
        signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(command, cwd=ROOT, env=os.environ | variables, **piped) as process:
        stops = [(seconds, signal.SIGINT), (seconds + LAST, signal.SIGTERM)] if seconds else []
        timers = [threading.Timer(after, process.send_signal, [name]) for after, name in stops]
        for timer in timers:
            timer.start()
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line.rstrip())
        for timer in timers:
            timer.cancel()
    return process.returncode, lines


def said_by(*command):
    """What a program prints, on one line; "" if there is no such program."""
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    return "; ".join(line.strip() for line in done.stdout.splitlines() if line.strip())


def capability():
    """The compute capability of the GPU as in VAE_KERNELS_CUDA_ARCHS, such as "75"; None without a GPU."""
    import torch

    if not torch.cuda.is_available():
        return None
    major, minor = torch.cuda.get_device_capability()
    return f"{major}{minor}"


def install():
    """Installs the source tree and the packages of its tests, with CUDA kernels for this GPU alone, which is faster."""
    if importlib.util.find_spec("vae_kernels") is not None:
        print("vae_kernels is installed")
        return
    archs = os.environ.get("VAE_KERNELS_CUDA_ARCHS") or capability() or ""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "-e", ".[test]"]
    status, _ = run(command, VAE_KERNELS_CUDA_ARCHS=archs)
    if status:
        raise RuntimeError(f"pip has ended with {status}: its message is above")


def measure(out=OUT, minutes=10.0):
    """Runs the tests and the times, and writes the file. Returns whether nothing has failed."""
    begin, gpu = time.monotonic(), capability()
    facts = [
        ("dry run", "no" if gpu else "yes: there is no GPU, and the times mean nothing"),
        ("system", platform.platform()),
        ("driver", said_by("nvidia-smi", "--query-gpu=name,driver_version,memory.total,power.limit", "--format=csv")),
        ("compute capability", gpu or ""),
        ("nvcc", said_by("nvcc", "--version").rpartition("; ")[2]),
    ]
    status, lines = run([sys.executable, "-m", "pytest", "-q", TESTS], 60 * minutes * SHARE)
    facts += [("tests", f"exit status {status}: {lines[-1].strip('= ') if lines else 'no output'}")]
    facts += [("test", line) for line in lines if line.startswith(("FAILED ", "ERROR "))]
    failed = status
    with tempfile.TemporaryDirectory() as folder:
        left = max(minutes - (time.monotonic() - begin + LAST) / 60, 0.5)
        command = [sys.executable, "-m", "bench.gpu", "--out", folder, "--minutes", f"{left:.1f}"]
        status, lines = run([*command, *([] if gpu else ["--dry", "--seconds", "0.05"])], 60 * left + LAST)
        ends = [line for line in lines if " failures in " in line] or ["the program has not come to its end"]
        facts += [("times", f"exit status {status}: {ends[-1]}")]
        facts += [("case", line) for line in dict.fromkeys(lines) if line.startswith("FAILED ")]
        facts += [tuple(line.split(": ", 1)) for line in lines if line.partition(": ")[0] in VERSIONS]
        tables = [path.read_text(encoding="utf-8") for path in Path(folder).glob("*.csv")]
    facts += [("minutes", f"{(time.monotonic() - begin) / 60:.1f}")]
    text = "".join(f"# {name}: {value}\n" for name, value in facts if value) + "".join(tables)
    Path(out).write_text(text, encoding="utf-8", newline="\n")
    print(f"\n{Path(out).resolve()}:")
    return not (failed or status)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", default=OUT)
    parser.add_argument("--minutes", type=float, default=10.0)
    arguments = parser.parse_args()
    raise SystemExit(not measure(arguments.out, arguments.minutes))
