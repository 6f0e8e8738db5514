"""Reads what Triton's compiler made for a GPU of AMD: triton_aot.report does this for GPUs of NVIDIA."""

import re

LANES = 64  # of a wavefront of gfx9, which is a warp to Triton

# Instructions that are off by one unit in the last place, or two.
# tests/gpu/test_approximate.py holds the kernels to their budget under errors of 2 and 3 units.
APPROXIMATE = re.compile(r"v_(exp|log|rcp|rsq|sqrt|sin|cos)_f32")
STORE, LOAD, WIDE = ("_store_", "_load_", "_dwordx4")


def report(code):
    text = code.asm["amdgcn"]
    number = lambda key: int(re.search(rf"^\s*\.{key}:\s+(\d+)", text, re.M).group(1))  # noqa: E731
    lines = re.findall(r"^\t([a-z][a-z0-9_]*)[ \t]*([^;\n]*)", text, re.M)
    ops = [op for op, _ in lines if op.startswith(("v_", "s_", "ds_", "global_", "buffer_", "flat_", "scratch_"))]
    memory = [op for op in ops if op.startswith(("global_", "buffer_", "flat_"))]
    count = lambda part, of=memory: sum(part in op for op in of)  # noqa: E731
    return {
        "warps": code.metadata.num_warps,
        "lanes": code.metadata.target.warp_size,
        "registers": number("vgpr_count"),  # with the accumulation registers, of which a kernel without dots has none
        "local_bytes": number("private_segment_fixed_size"),
        "spilled": number("vgpr_spill_count"),  # a spilled scalar register goes to a vector register, not to memory
        "shared_bytes": code.metadata.shared,
        "instructions": len(ops) - count("s_nop", ops),
        "loads": count(LOAD),
        "loads_128": sum(LOAD in op and op.endswith(WIDE) for op in memory),
        "stores": count(STORE),
        "stores_128": sum(STORE in op and op.endswith(WIDE) for op in memory),
        "flat": count("flat_"),
        "approximate": sorted({found[1] for op in ops if (found := APPROXIMATE.match(op))}),
        "tickets": len(_before_tickets(code.asm["llir"])),
        "early_tickets": sum(not _ordered(lines) for lines in _before_tickets(code.asm["llir"])),
    }


def _before_tickets(llvm):
    """For each ticket, the lines of LLVM's language from the last store to global memory before the ticket on."""
    lines = llvm.splitlines()
    tickets = [i for i, line in enumerate(lines) if "atomicrmw add" in line and 'syncscope("agent") acq_rel' in line]
    stores = [i for i, line in enumerate(lines) if re.search(r"store .*(?:addrspace\([17]\)|buffer\.store)", line)]
    return [lines[max((s for s in stores if s < ticket), default=0) : ticket] for ticket in tickets]


def _ordered(lines):
    """Whether a fence for all memory stands before the last barrier. A fence with !mmra is for shared memory alone.
    The ticket's own acq_rel takes what the fence has ordered to all wavefronts of the GPU."""
    barrier = max((i for i, line in enumerate(lines) if "amdgcn.s.barrier" in line), default=0)
    return any(re.search(r'fence syncscope\("(?:workgroup|agent)"\) release(?!.*!mmra)', x) for x in lines[:barrier])
