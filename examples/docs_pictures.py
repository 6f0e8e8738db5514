"""Makes every picture of docs/doctor.md: each shows an ill model and its cure.

    python examples/docs_pictures.py docs/doctor

The models are small and are trained here, on the MNIST digits of `vae-kernels train`: some minutes on one core. The
picture of the report needs Chromium or Chrome; without a browser this picture is left out. This example needs the extra
"demo".
"""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from html import unescape
from pathlib import Path

import doctor_cases
import numpy as np
import torch
from matplotlib.image import imread, imsave

from vae_kernels.cli.data import load

ILL = ("--beta", "30", "--epochs", "20", "--latent-dim", "10")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIDTH, SCALE = 600, 2  # pixels of the page, and pixels of the picture for each
HEIGHTS = 725, 330  # of the ill model and of its cure


def report(path, browser, options=ILL):
    """The top of the report of an ill run, and below the top of the report of the run that the report suggests."""
    parts = []
    with tempfile.TemporaryDirectory() as folder:
        command = ["vae-kernels", "train", *options]
        for name, height in zip(("ill", "cured"), HEIGHTS, strict=True):
            page = train(command, Path(folder), name)
            parts.append(seen(browser, page, height))
            suggested = re.search(r"<pre><code>(.*?)</code>", page.read_text(encoding="utf-8"))
            command = shlex.split(unescape(re.sub("<.*?>", "", suggested[1]))) if suggested else command
    line = np.full((6, *parts[0].shape[1:]), 0.5, parts[0].dtype)
    imsave(path, np.concatenate([parts[0], line, parts[1]])[..., :3].copy())


def train(command, folder, name):
    """Train with the options of a `vae-kernels train` command, and give the path of the report."""
    words = [sys.executable, "-m", "vae_kernels", *command[1:], "--threads", "1", "--out", str(folder), "--name", name]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return folder / name / "report.html"


def seen(browser, page, height):
    """The first `height` pixels of a page as an array, on a light page."""
    picture = page.with_suffix(".png")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--screenshot={picture}"]
    options += [f"--window-size={WIDTH},{height}", f"--force-device-scale-factor={SCALE}"]
    subprocess.run([browser, *options, page.as_uri()], check=True, stderr=subprocess.DEVNULL)
    return imread(picture)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, help="of every model of the cases")
    parser.add_argument("--only", help="the name of one picture, such as report or beta-too-high")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    data = load(None, "bernoulli")
    for name, case in doctor_cases.CASES.items():
        file = name.replace(" ", "-")
        if case.ill and arguments.only in (None, file):
            stages = doctor_cases.judged(name, 0, arguments.epochs, data)
            doctor_cases.draw(stages, arguments.folder / f"{file}.png")
    if arguments.only in (None, "report"):
        browser = next(filter(None, map(shutil.which, BROWSERS)), None)
        if browser is None:
            print(f"no report.png: none of {', '.join(BROWSERS)} is installed")
        else:
            report(arguments.folder / "report.png", browser)


if __name__ == "__main__":
    main()
