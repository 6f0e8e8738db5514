"""Runs the host's side of a launch without a GPU: Triton compiles for a fake driver, and the launch itself does
nothing. The program prints as JSON how often kernels were compiled and launched, and the microseconds that Python
takes.

    python triton_host.py        (not under TRITON_INTERPRET)
"""

import json
import sys
import time
from functools import partial

import torch
import triton
from forms import of_form
from triton.backends.compiler import GPUTarget
from triton.compiler.compiler import CompiledKernel

launches = []


class NoDriver:
    get_current_target = staticmethod(lambda: GPUTarget("cuda", 90, 32))
    get_current_device = staticmethod(lambda: 0)
    get_current_stream = staticmethod(lambda device: 0)
    get_active_torch_device = staticmethod(lambda: torch.device("cpu"))


def no_handles(self):
    self._run, self.function, self.module = lambda *arguments: launches.append(arguments[:3]), 1, 1


triton.runtime.driver.set_active(NoDriver())
CompiledKernel._init_handles = no_handles
torch.cuda.current_device = lambda: -1  # the device of CPU tensors
torch.cuda.is_current_stream_capturing = lambda: False
torch.cuda.current_stream = lambda device: type("Stream", (), {"cuda_stream": 0})


def least_us(f, n=200, rounds=15):
    """The time of the best round, in us. Other work of the machine can only make a round slower."""
    times = []
    for _ in range(rounds):
        begin = time.thread_time()
        for _ in range(n):
            f()
        times.append((time.thread_time() - begin) / n * 1e6)
    return min(times)


def objective(batch, features=64, dims=4, likelihood="bernoulli", form=None, reduction=1, terms=False, backward=False,
              mask=None, latent_weight=None, floor=0, correct=False, log_total=False, draws=1):  # fmt: skip
    """The objective of a batch with all gradients. `form` is the form of every parameter but the first; `mask` and
    `latent_weight` are the forms of these, or None. correct: gradients that the forward pass has computed. draws: so
    many samples of the parameters stand beside each of the batch."""
    from vae_kernels.backends.triton import kernels
    from vae_kernels.formulas import ALL

    of_x = batch, features
    shape, batch = (batch * draws, features), batch * draws
    others = len(ALL[likelihood].PARAMETERS) - 1 if form else 0
    params = [torch.zeros(shape), *[of_form(shape, form)] * others]
    latent = [torch.zeros(batch, dims), torch.zeros(batch, dims)] if dims else []
    total = torch.zeros(batch, 1) if log_total else None
    need = (1 << len(params) + len(latent) + log_total) - 1
    weights = of_form(of_x, mask, torch.bool), of_form((batch, dims), latent_weight)
    of_terms = torch.zeros(of_x), params, likelihood, latent, None, None, *weights, None, total
    settings, expected = (*of_terms, 1.0, 1.0, 0.3, floor, reduction, need), 1.0 if reduction else 1 / (batch + 1)
    if correct:
        grads = [torch.zeros_like(t) for t in (*params, *latent)]
        return kernels.correct_(grads, torch.zeros(batch), expected, *settings)
    if backward:
        return kernels.elbo_backward(torch.zeros(() if reduction else batch), *settings)
    return kernels.elbo(*settings, terms, expected)


def log_prob(batch, features=64, form="row"):
    from vae_kernels.backends.triton import kernels

    shape = batch, features
    kernels.log_prob("gaussian", torch.zeros(shape), [torch.zeros(shape), of_form(shape, form)])


def sample(batch, dims=20, draws=0, weight=None):
    from vae_kernels.backends.triton import kernels

    mu, logvar, rng = torch.zeros(batch, dims), torch.zeros(batch, dims), torch.zeros(2, dtype=torch.int64)
    weight = of_form((batch, dims), weight)
    z, _ = kernels.sample(mu, logvar, [], weight, rng, draws, True)
    kernels.sample_backward(z, torch.zeros(batch), mu, logvar, [], weight, rng, draws, 3, False)


def levels(batch, positions=(), n=10, mask=None, draws=1):
    from vae_kernels.backends.triton import kernels

    x = torch.zeros(batch, *positions, dtype=torch.int64)
    batch *= draws
    logits = torch.zeros(batch, n, *positions)
    weight = of_form(x.shape, mask, torch.bool)
    _, top_and_total = kernels.position("categorical", x, logits, weight)
    kernels.position_backward(torch.zeros(batch), "categorical", x, logits, weight, top_and_total)


def mixture(batch):
    from vae_kernels.backends.triton import kernels

    inputs = [torch.zeros(batch, 3), torch.zeros(70, 3), torch.zeros(70, 3), torch.zeros(70)]
    _, *sums = kernels.mixture(*inputs, 0)
    kernels.mixture_backward(torch.zeros(batch), *inputs, *sums, 15)


def rescale(batch):
    from vae_kernels.backends.triton import kernels

    kernels.rescale_([torch.zeros(batch, 37), torch.zeros(batch)], torch.ones(()))


# The calls of a training loop. The loop makes each call with many batches, and the last batch is smaller.
FAMILIES = {
    "loss": objective,
    "terms": log_prob,
    "terms of one row": partial(log_prob, features=37, form="number"),
    "loss of 37 features": partial(objective, features=37, dims=3),
    "loss of 2000 features": partial(objective, features=2000),
    "loss and terms": partial(objective, terms=True),
    "loss of each sample": partial(objective, features=37, reduction=0),
    "gradients of each sample": partial(objective, features=37, reduction=0, backward=True),
    "gradients": partial(objective, backward=True),
    "loss of each sample alone": partial(objective, features=37, dims=0, reduction=0),
    "corrected gradients": partial(objective, features=37, reduction=0, correct=True),
    "free bits of dims": partial(objective, floor=1, terms=True),
    "free bits of dims, backward": partial(objective, floor=1, reduction=0, backward=True),
    "free bits of samples": partial(objective, features=37, floor=3),
    "a number for all": partial(objective, likelihood="gaussian", form="number"),
    "a row for all": partial(objective, likelihood="gaussian", form="row"),
    "a row of 2000 for all": partial(objective, features=2000, likelihood="gaussian", form="row"),
    "two of each": partial(objective, features=37, likelihood="gaussian", form="element"),
    "a number for each sample": partial(objective, features=37, likelihood="gaussian", form="sample"),
    "a mask": partial(objective, mask="element"),
    "a mask of 37 features and a row for all": partial(
        objective, features=37, likelihood="gaussian", form="row", mask="element"
    ),
    "a mask of each sample": partial(objective, features=37, mask="sample"),
    "a mask of features and counts": partial(objective, likelihood="poisson", mask="row", reduction=0),
    "weights of the latents": partial(objective, terms=True, latent_weight="element"),
    "weights of the latents of each sample": partial(objective, backward=True, latent_weight="sample"),
    "rows": partial(objective, likelihood="negative_binomial", form="row", log_total=True),
    "rows of 37 features": partial(
        objective,
        features=37,
        likelihood="negative_binomial",
        form="element",
        log_total=True,
        reduction=0,
        backward=True,
    ),
    "masked rows of 2000 features": partial(
        objective, features=2000, likelihood="poisson", log_total=True, mask="element"
    ),
    "rows alike": partial(objective, features=2000, likelihood="poisson", log_total=True, terms=True),
    "counted rows": partial(objective, features=37, likelihood="multinomial", reduction=0),
    "draws": partial(objective, features=37, dims=0, draws=2, reduction=0, correct=True),
    "masked draws, backward": partial(objective, dims=0, draws=3, reduction=0, mask="element", backward=True),
    "draws of levels": partial(levels, draws=2),
    "sample": sample,
    "sample with weights": partial(sample, weight="element"),
    "samples": partial(sample, dims=21, draws=5),
    "levels": levels,
    "masked levels": partial(levels, mask="element"),
    "masked levels of 3 positions": partial(levels, positions=(3,), mask="sample"),
    "levels of 3 positions": partial(levels, positions=(3,)),
    "levels of 7 x 7 positions": partial(levels, positions=(7, 7), n=256),
    "mixture": mixture,
    "rescale": rescale,
}
BATCHES = (128, 37, 36, 1, 2, 3, 100, 127, 250)


def compiled():
    """The number of kernels that Triton has compiled for this device, over all our kernels."""
    modules = [module for name, module in sys.modules.items() if name.startswith("vae_kernels.backends.triton.")]
    found = [k for module in modules for k in vars(module).values() if isinstance(k, triton.runtime.JITFunction)]
    kernels = {id(k): k for k in found}.values()  # a module may import a kernel from another, so each is counted once
    return sum(len(cache[0]) for kernel in kernels for cache in kernel.device_caches.values())


def batches():
    """{name: the number of kernels that each batch after the first compiles}."""
    found = {}
    for name, call in FAMILIES.items():
        found[name] = []
        call(BATCHES[0])
        for batch in BATCHES[1:]:
            known = compiled()
            call(batch)
            found[name].append(compiled() - known)
    return found


def captured():
    """The errors of a launch inside a capture: for a new kernel, for a kernel that was compiled but never ran, and for
    a kernel that ran before (no error)."""
    said = []
    for warm_up in (False, False, True):
        if warm_up:
            objective(9, likelihood="poisson")
        torch.cuda.is_current_stream_capturing = lambda: True
        try:
            objective(8, likelihood="poisson")
            said.append("")
        except RuntimeError as error:
            said.append(str(error))
        torch.cuda.is_current_stream_capturing = lambda: False
    return said


def main():
    torch.set_num_threads(1)
    from vae_kernels.backends.triton import kernels, launch, rescale
    from vae_kernels.core.objective import KlFloor, Reduction

    def elbo(x, recon):
        settings = *[None] * 6, 1.0, 1.0, 0.0, KlFloor.NONE, Reduction.MEAN
        return kernels.elbo(x, [recon], "bernoulli", [mu, logvar], *settings, 7, False, 1.0)

    recon, x, mu, logvar = torch.zeros(8, 64), torch.zeros(8, 64), torch.zeros(8, 4), torch.zeros(8, 4)
    rng, grad_kl = torch.zeros(2, dtype=torch.int64), torch.zeros(8)
    calls = {
        "elbo": lambda: elbo(x, recon),
        "log_prob": lambda: kernels.log_prob("bernoulli", x, [recon]),
        "sample": lambda: kernels.sample(mu, logvar, [], None, rng, 0, True),
        "sample_backward": lambda: kernels.sample_backward(mu, grad_kl, mu, logvar, [], None, rng, 0, 3, False),
        "rescale_": lambda: kernels.rescale_([recon, mu, logvar], rng[0].float()),
    }
    result = {}
    for name, call in calls.items():
        made = len(launches)
        call(), call()
        result[name] = {"launched": len(launches) - made, "us": least_us(call)}
    known = compiled()
    elbo(torch.zeros(8 * 64 + 1)[1:].view(8, 64), recon)
    result["compiled for another alignment"] = compiled() - known
    objective(8, mask="element")
    known = compiled()
    objective(8, mask="element")
    result["compiled for another mask"] = compiled() - known
    result["compiled for other batches"] = batches()
    result["captured"] = captured()
    arguments = rescale._launch((512, 32, 32, 0)).bound((torch.ones(()), (recon, mu, logvar, None)))[0]
    result["kernel[grid] us"] = least_us(lambda: rescale.rescale_kernel[(1,)](*arguments, **launch.OPTIONS))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
