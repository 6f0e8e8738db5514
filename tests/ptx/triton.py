"""The host code of backends/triton on CPU tensors. A launch runs the PTX of Triton's compiler in the simulator.

To be imported before vae_kernels.backends.triton, and not under TRITON_INTERPRET."""

import os
import struct
import sys

os.environ.pop("TRITON_INTERPRET", None)

import torch
import triton
from triton.backends.compiler import GPUTarget

import vae_kernels.core.layout
from vae_kernels import backends
from vae_kernels.backends import compiled as ops
from vae_kernels.backends import triton as product
from vae_kernels.backends.triton import kernels, launch, tickets

from .machine import Machine
from .module import Module, SimError

ARCH = int(os.environ.get("ARCH", "90"))
# The arguments of kernels that are written to; all others are inputs. What the backend has made is known to be new.
WRITTEN = ("ticket", "tensors", "grads", "latent_grads")
LETTERS = {"i32": "i", "i64": "q", "fp32": "f", "fp64": "d"}  # of the struct module


class NoDriver:
    """A GPU for Triton to compile for. Nothing is launched on it."""

    get_current_target = staticmethod(lambda: GPUTarget("cuda", ARCH, 32))
    get_current_device = staticmethod(lambda: 0)
    get_current_stream = staticmethod(lambda device: 0)
    get_active_torch_device = staticmethod(lambda: torch.device("cpu"))


class Triton(Machine):
    """`modules`: {(kernel, PTX): module}. `swap`: {PTX: the PTX that runs in its place}, to plant a fault."""

    def __init__(self):
        super().__init__(triton=triton.__version__, arch=ARCH)
        self.modules, self.swap = {}, {}
        self._tickets = {}

    def attach(self):
        """The product's backend "triton" launches here, on CPU tensors."""
        triton.runtime.driver.set_active(NoDriver())
        self.watch(Torch(self))
        launch.Launch.__call__ = lambda launched, *values: self.run(launched, values)
        tickets.ticket = self._ticket

    def watch(self, mine):
        """Tensors that the backend makes are known to be new; the product takes the backend for CPU tensors. mine: the
        Torch that its modules see."""
        vae_kernels.core.layout.torch = mine
        for name, module in list(sys.modules.items()):
            if name.startswith("vae_kernels.backends.triton") and getattr(module, "torch", None) is torch:
                module.torch = mine
        if not product.INTERPRETED:
            ops.attach_triton(kernels, "CPU")
        refusal = backends.choice._refusal
        backends.choice._no_triton = lambda: None
        backends.choice._refusal = lambda name, tensors: None if name == "triton" else refusal(name, tensors)

    def run(self, launched, values):
        """A launch of the product: compiled for ARCH, and run."""
        arguments = dict(zip(launched.kernel.arg_names, launched.bound(values)[0], strict=True))
        # As a launch on a GPU compiles: for these types and, as Triton does it, these alignments and numbers.
        compiled = launched.kernel.warmup(*arguments.values(), grid=launched.grid, **launched.options)
        ptx, metadata = compiled.asm["ptx"], compiled.metadata
        ptx = self.swap.get(ptx, ptx)
        module = self.modules[metadata.name, ptx] = Module(ptx)
        members = {name: list(flat(value, kind)) for (name, kind), value in zip(
            compiled.src.signature.items(), arguments.values(), strict=True
        )}  # fmt: skip
        for name, several in members.items():
            for _, value in several:
                if is_tensor(value) and value.numel() and not self._is_known(value):
                    self.memory.tensor(value, name, name not in WRITTEN)
        passed = [(kind, value) for several in members.values() for kind, value in several if kind != "constexpr"]
        parameters = pack(passed, module.functions[metadata.name].param_bytes)
        threads, numbers = 32 * metadata.num_warps, {k: str(v)[:40] for k, v in arguments.items() if not is_tensor(v)}
        error = self.launch(
            module, metadata.name, launched.grid, threads, parameters, shared=metadata.shared, fixed=numbers
        )
        if error:
            raise SimError(f"{metadata.name}: {error}")

    def reset_tickets(self):
        """After a launch that was cut short: between launches a ticket is 0."""
        for ticket in self._tickets.values():
            ticket.zero_()

    def _is_known(self, tensor):
        return self.is_fresh(tensor) and self.memory.knows(tensor.untyped_storage().data_ptr())

    def _ticket(self, device):
        if device not in self._tickets:
            self._tickets[device] = torch.zeros(1, dtype=torch.int32)
        return self._tickets[device]


class Torch:
    """torch, as the modules of the product see it: what is new is known to the machine."""

    def __init__(self, machine):
        self._machine = machine

    def __getattr__(self, name):
        found = getattr(torch, name)
        return self._noted(found) if name in ("empty", "empty_strided", "empty_like") else found

    def _noted(self, make):
        def made(*arguments, **options):
            tensor = make(*arguments, **options)
            if tensor.numel():
                storage = tensor.untyped_storage()
                self._machine.fresh(storage.data_ptr(), storage.nbytes())
                self._machine.keep(tensor)
            return tensor

        return made


def is_tensor(value):
    return isinstance(value, torch.Tensor)


def flat(value, kind):
    """(type, value) of an argument, or of each member of a tuple, as the compiled kernel takes them."""
    if isinstance(kind, tuple):
        for one, of_one in zip(value, kind, strict=True):
            yield from flat(one, of_one)
    else:
        yield kind, value


def pack(passed, size):
    """The bytes of a kernel's parameters: two pointers to scratch memory, which no kernel of ours uses, come last."""
    out = b""
    for kind, value in (*passed, ("*i8", 0), ("*i8", 0)):
        value = value.data_ptr() if is_tensor(value) else value
        letter = "Q" if kind.startswith("*") else LETTERS[kind]
        out += b"\0" * (-len(out) % struct.calcsize(letter)) + struct.pack("<" + letter, value)
    return out[:size]
