"""Finds constants of float64 kernels that have only the precision of float32, and prints them as JSON.

    python triton_constants.py        (not under TRITON_INTERPRET)

Triton before 3.9 reads a Python number as a float32 in tl.fma, in a comparison, and in tl.where beside another number.
This program translates each kernel to Triton's own language, in which every constant is a number. A constant has lost
its digits if it is a number of the source rounded to float32, and is not itself in the source.
"""

import ast
import json
import re
from pathlib import Path

import numpy as np
import torch
import triton
from triton._C.libtriton import ir
from triton.backends.compiler import GPUTarget
from triton.compiler.compiler import make_backend
from triton_aot import F64, U8, levels, mixture, objective, recorded, sample, source_of

import vae_kernels
from vae_kernels.backends.triton import kernels
from vae_kernels.formulas import LIKELIHOODS

CONSTANT = re.compile(r"arith\.constant (?:dense<)?([-+.\dEe]+)>? : (?:tensor<[\dx]+x)?f(32|64)")
CASES = {f"objective {name}": objective(F64, likelihood=name, form="element") for name in LIKELIHOODS} | {
    "rows": objective(F64, likelihood="negative_binomial", form="element", log_total=True),
    "rows alike": objective(F64, likelihood="poisson", log_total=True),
    "objective u8": objective(F64, of_x=U8),
    "objective prior terms": objective(F64, prior=True, terms=True),
    "objective backward": objective(F64, incoming="row", reduction=0),
    "sample": sample(F64, prior=True),
    "sample 21": sample(F64, shape=(128, 21)),
    "sample backward": sample(F64, backward=True, prior=True),
    "levels": levels(F64, of_x=torch.int64),
    "levels backward": levels(F64, of_x=torch.int64, backward=True),
    "mixture": mixture(F64),
    "mixture backward z": mixture(F64, backward="z"),
    "mixture backward components": mixture(F64, backward="components"),
    "rescale": lambda: kernels.rescale_([torch.zeros(1 << 20, dtype=F64)], torch.ones((), dtype=F64)),
}  # fmt: skip


def literals():
    """The numbers in the source of the kernels and of the formulas, with both signs."""
    package = Path(vae_kernels.__file__).parent
    folders = ("backends/triton", "formulas")
    trees = [ast.parse(path.read_text()) for folder in folders for path in (package / folder).glob("*.py")]
    numbers = {node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    return {sign * n for n in numbers if type(n) is float for sign in (1, -1)}


def to_float32(number):
    with np.errstate(over="ignore"):
        return float(np.float32(number))


def in_tritons_language(kernel, arguments, options):
    """The text of the kernel after Triton's own simplification, which removes unused code."""
    target, source = GPUTarget("cuda", 90, 32), source_of(kernel, arguments)
    backend = make_backend(target)
    options = backend.parse_options(options | source.parse_options())
    context, stages = ir.context(), {}
    ir.load_dialects(context)
    backend.load_dialects(context)
    backend.add_stages(stages, options, source.language)
    functions = backend.get_codegen_implementation(options), backend.get_module_map()
    return str(stages["ttir"](source.make_ir(target, options, *functions, context), {}))


def main():
    known = literals()
    rounded = {to_float32(c): c for c in known}
    found, read = {}, set()
    for name, call in CASES.items():
        for kernel, arguments, options in recorded(call):
            written = CONSTANT.findall(in_tritons_language(kernel, arguments, options))
            constants = {to_float32(text) if bits == "32" else float(text) for text, bits in written}
            read |= constants & known
            lost = sorted(rounded[c] for c in constants - known if c in rounded)
            if lost:
                found[f"{name}: {kernel.fn.__name__}"] = lost
    print(json.dumps({"triton": triton.__version__, "read": len(read), "lost": found}, indent=1))


if __name__ == "__main__":
    main()
