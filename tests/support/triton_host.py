"""The host's side of a launch without a GPU: Triton compiles for a driver that is not there, and the launch itself does
nothing. Prints as JSON how often kernels were compiled and launched, and the microseconds of Python.

    python triton_host.py        (not under TRITON_INTERPRET)
"""

import json
import time

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler.compiler import CompiledKernel

launches = []


class NoDriver:
    get_current_target = staticmethod(lambda: GPUTarget("cuda", 90, 32))
    get_current_device = staticmethod(lambda: 0)
    get_current_stream = staticmethod(lambda device: 0)
    get_active_torch_device = staticmethod(lambda: torch.device("cpu"))


def no_handles(self):
    self._run, self.function = lambda *arguments: launches.append(arguments[:3]), 1


triton.runtime.driver.set_active(NoDriver())
CompiledKernel._init_handles = no_handles
torch.cuda.current_device = lambda: -1  # the device of CPU tensors
torch.cuda.is_current_stream_capturing = lambda: False
torch.cuda.current_stream = lambda device: type("Stream", (), {"cuda_stream": 0})


def least_us(f, n=200, rounds=15):
    """The best round: what else the machine does can only add to it."""
    times = []
    for _ in range(rounds):
        begin = time.thread_time()
        for _ in range(n):
            f()
        times.append((time.thread_time() - begin) / n * 1e6)
    return min(times)


def main():
    torch.set_num_threads(1)
    from vae_kernels.triton import kernels, launch, plan

    def compiled(kernel):  # by Triton, for this device
        return len(kernel.device_caches[0][0])

    def elbo(x, recon, batch=8):
        latent = [torch.zeros(batch, 4), torch.zeros(batch, 4)]
        return kernels.elbo(x, [recon], "bernoulli", latent, None, None, 1.0, 1.0, 1, 7, False)

    recon, x, mu, logvar = torch.zeros(8, 64), torch.zeros(8, 64), torch.zeros(8, 4), torch.zeros(8, 4)
    rng, latent, grad_kl = torch.zeros(2, dtype=torch.int64), [mu, logvar], torch.zeros(8)
    calls = {
        "elbo": lambda: kernels.elbo(x, [recon], "bernoulli", latent, None, None, 1.0, 1.0, 1, 7, False),
        "sample": lambda: kernels.sample(mu, logvar, [], rng, 0, True),
        "sample_backward": lambda: kernels.sample_backward(mu, grad_kl, mu, logvar, [], rng, 0, 3, False),
        "rescale_": lambda: kernels.rescale_([recon, mu, logvar], rng[0].float()),
    }
    result = {}
    for name, call in calls.items():
        made = len(launches)
        call(), call()
        result[name] = {"launched": len(launches) - made, "us": least_us(call)}
    elbo_kernel = plan.elbo_kernel
    known = compiled(elbo_kernel)
    for batch in (3, 9, 100):
        elbo(torch.zeros(batch, 64), torch.zeros(batch, 64), batch)
    result["compiled for other batches"] = compiled(elbo_kernel) - known
    elbo(torch.zeros(8 * 64 + 1)[1:].view(8, 64), recon)
    result["compiled for another alignment"] = compiled(elbo_kernel) - known
    arguments = kernels._rescale_launch((512, 32, 32, 0)).arguments.copy()
    arguments[:5] = torch.ones(()), recon, mu, logvar, None
    result["kernel[grid] us"] = least_us(lambda: kernels.rescale_kernel[(1,)](*arguments, **launch.OPTIONS))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
