"""Tries thousands of cases of each property in test_properties.py: `python -m soak.properties` in tests/."""

import os
import re
import subprocess
import sys
from pathlib import Path

from .record import record

PROFILES = {"soak": "not triton", "soak-triton": "triton"}  # Triton's interpreter is slow


def main():
    tried, properties = 0, 0
    for profile, which in PROFILES.items():
        command = [sys.executable, "-m", "pytest", "-q", "--full", "kernels/test_properties.py", "-k", which]
        done = subprocess.run(
            [*command, "--hypothesis-show-statistics", "-p", "no:cacheprovider"],
            cwd=Path(__file__).resolve().parents[1],
            env=os.environ | {"HYPOTHESIS_PROFILE": profile},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            sys.exit(done.stdout[-10_000:])
        tried += sum(int(n) for n in re.findall(r"(\d+) passing", done.stdout))
        properties += int(re.search(r"(\d+) passed", done.stdout)[1])
    figures = {"random cases of the properties": tried, "properties, each counted once a backend": properties}
    record("properties", "make soak-properties", figures)


if __name__ == "__main__":
    main()
