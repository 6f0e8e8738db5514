"""The host code of vae_kernels/triton on CPU tensors. A launch runs the PTX of Triton's compiler in the simulator.

To be imported before vae_kernels.triton, and not under TRITON_INTERPRET."""

import os
import struct
import sys

os.environ.pop("TRITON_INTERPRET", None)

import torch
import triton
import triton_aot
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

import vae_kernels.layout
from vae_kernels import backends, ops
from vae_kernels import triton as product
from vae_kernels.triton import kernels, launch

from .machine import Machine
from .module import Module, SimError

ARCH = int(os.environ.get("ARCH", "90"))
# The parameters of kernels that are written to; all others are inputs.
WRITTEN = ("ticket", "t0", "t1", "t2", "t3", "g0", "g1", "g2", "g3")


class Triton(Machine):
    """`modules`: {(kernel, PTX): module}. `swap`: {PTX: the PTX that runs in its place}, to plant a fault."""

    def __init__(self):
        super().__init__(triton=triton.__version__, arch=ARCH)
        self.modules, self.swap = {}, {}
        self._compiled, self._tickets = {}, {}

    def attach(self):
        """The product's backend "triton" launches here, on CPU tensors."""
        self.watch(Torch(self))
        launch.Launch.__call__ = lambda launched, *given: self.run(launched, given)
        kernels._ticket = self._ticket

    def watch(self, mine):
        """Tensors that the backend makes are known to be new; the product takes the backend for CPU tensors. mine: the
        Torch that its modules see."""
        vae_kernels.layout.torch = mine
        for name, module in list(sys.modules.items()):
            if name.startswith("vae_kernels.triton") and getattr(module, "torch", None) is torch:
                module.torch = mine
        if not product.INTERPRETED:
            ops.attach_triton(kernels, "CPU")
        refusal = backends._refusal
        backends._no_triton = lambda: None
        backends._refusal = lambda name, tensors: None if name == "triton" else refusal(name, tensors)

    def run(self, launched, given):
        """A launch of the product: compiled for ARCH, and run."""
        arguments = launched.arguments.copy()
        for place, value in zip(launched.places, given, strict=True):
            arguments[place] = value
        arguments = dict(zip(launched.kernel.arg_names, arguments, strict=True))
        ptx, metadata, packed = self._compile(launched.kernel, arguments, launched.options)
        ptx = self.swap.get(ptx, ptx)
        module = self.modules[metadata.name, ptx] = Module(ptx)
        for name, value in arguments.items():
            if isinstance(value, torch.Tensor) and value.numel() and not self._is_known(value):
                self.memory.tensor(value, name, name not in WRITTEN)
        size = module.functions[metadata.name].param_bytes
        threads, numbers = 32 * metadata.num_warps, {k: str(v)[:40] for k, v in arguments.items() if not is_tensor(v)}
        parameters = pack(packed, size)
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

    def _compile(self, kernel, arguments, options):
        """(PTX, metadata, the values to pass); what has been compiled once is kept."""
        signature, fixed, attributes, packed = specialized(kernel, arguments)
        names = {k: (v.fn.__module__, v.fn.__name__) if hasattr(v, "fn") else v for k, v in fixed.items()}
        key = kernel.fn.__name__, str(signature), str(names), str(attributes), str(options)
        if key not in self._compiled:
            source = ASTSource(kernel, signature=signature, constexprs=fixed, attrs=attributes)
            code = triton.compile(source, target=GPUTarget("cuda", ARCH, 32), options=options)
            self._compiled[key] = code.asm["ptx"], code.metadata
            self.stats["compiled"] += 1
        return *self._compiled[key], packed

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


def specialized(kernel, arguments):
    """As Triton 3.x specializes for the alignment of pointers, and for integers that are 1 or divisible by 16:
    (signature, constants, attributes, [(struct's letter, value)])."""
    unspecialized = set(kernel.do_not_specialize)
    constants = {p.name for p in kernel.params if p.is_constexpr}
    signature, fixed, attributes, packed = {}, {}, {}, []
    for i, (name, value) in enumerate(arguments.items()):
        signature[name] = "constexpr"
        if name in constants or value is None or (type(value) is int and value == 1 and name not in unspecialized):
            fixed[(i,)] = value
        elif is_tensor(value):
            signature[name] = "*" + triton_aot.TYPES[value.dtype]
            if value.data_ptr() % 16 == 0:
                attributes[(i,)] = [["tt.divisibility", 16]]
            packed.append(("Q", value.data_ptr()))
        elif isinstance(value, float):
            signature[name] = "fp32"
            packed.append(("f", value))
        else:
            assert type(value) is int, (name, value)
            signature[name] = "i64" if not -(2**31) <= value < 2**31 else "i32"
            packed.append(("q" if signature[name] == "i64" else "i", value))
            if value % 16 == 0 and name not in unspecialized:
                attributes[(i,)] = [["tt.divisibility", 16]]
    return signature, fixed, attributes, packed


def pack(packed, size):
    """The bytes of a kernel's parameters: two pointers to scratch memory, which no kernel of ours uses, come last."""
    out = b""
    for kind, value in (*packed, ("Q", 0), ("Q", 0)):
        width = struct.calcsize(kind)
        out += b"\0" * (-len(out) % width) + struct.pack("<" + kind, value)
    return out[:size]
