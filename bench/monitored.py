"""python -m bench.monitored: two trainings of a minute, watched by vk.Monitor: bench/results/monitor/digits.csv.

One has beta = 1, the other beta = 30, which collapses. bench/pictures.py draws the KL of each latent dimension.
"""

import torch

import vae_kernels as vk
from vae_kernels.cli.data import load
from vae_kernels.timing import results

from .rows import RESULTS

CSV = RESULTS / "monitor" / "digits.csv"
BETAS, EPOCHS, EVERY, LATENTS, BATCH = (1.0, 30.0), 20, 45, 10, 100
COMMAND = "python -m bench.monitored"


def trained(images, beta):
    """The rows of the Monitor of a training with this beta."""
    torch.manual_seed(0)
    vae = vk.mlp_vae(images.shape[1:], LATENTS, (200,), beta=beta)
    optimizer = torch.optim.Adam(vae.parameters(), lr=1e-3)
    rows = []
    with vk.Monitor(every=EVERY, to=rows.append) as monitor:
        for _ in range(EPOCHS):
            for index in torch.randperm(len(images)).split(BATCH):
                x = images[index]
                mu, logvar = vae.encode(x)
                z, kl = vk.sample_kl(mu, logvar, per_dim=True)
                terms = vk.fused_elbo(vae.decode(z), x, kl=kl, beta=beta, return_terms=True)
                optimizer.zero_grad()
                terms.loss.backward()
                optimizer.step()
                monitor.update(terms, mu=mu, logvar=logvar)
    return rows


def main():
    data = load(None, "bernoulli")
    images = data.images[data.split()[0]]
    found = []
    for beta in BETAS:
        for row in trained(images, beta):
            kl = {f"kl_{i}": results.shown(float(value)) for i, value in enumerate(row["kl_per_dim"])}
            shared = {"torch": torch.__version__, "commit": results.commit(), "command": COMMAND}
            found.append({"beta": beta, "step": row["step"], "active_units": row["active_units"]} | kl | shared)
    results.write(CSV, found)


if __name__ == "__main__":
    main()
