"""`vae-kernels train --beta 0.5,1,4`: one run for each beta, and their picture on the plane of rate and distortion."""

import math

from . import UserError, checkpoint, plots, ranks


def betas_of(text):
    """The numbers of --beta. UserError if the text holds anything else."""
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"--beta: got {text!r}, expected a number, or several with commas: 0.5,1,4") from None
    if not all(0 <= beta < math.inf for beta in found):
        raise UserError(f"--beta: got {text}, expected finite numbers >= 0")
    if len(set(found)) < len(found):
        raise UserError(f"--beta: got {text}, expected each number once")
    return found


def sweep(betas, train_one, out, name, resume):
    """Train with each beta, and draw the last held-out terms of all runs. Returns the exit code.

    train_one: (beta, name of the run or None) -> (exit code, rows of metrics)
    """
    if resume is not None:
        raise UserError("--beta: got several numbers beside --resume, expected one; a resumed run keeps its beta")
    if ranks.count() > 1:
        raise UserError("--beta: got several numbers under torchrun, expected one")
    points = []
    for beta in betas:
        code, rows = train_one(beta, None if name is None else f"{name}-beta-{beta:g}")
        if code:
            return code
        points.append((beta, rows[-1]["test_kl_nats"], rows[-1]["test_reconstruction_nats"]))
        print(flush=True)
    picture = out / (f"{name}-beta.png" if name else "rate-distortion.png")
    checkpoint.write(picture, plots.rate_distortion(points))
    best = min(points, key=lambda point: point[1] + point[2])
    print(f"smallest test -ELBO: {best[1] + best[2]:.2f} nats, with beta {best[0]:g}; the picture of all: {picture}")
    return 0
