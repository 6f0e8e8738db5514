"""PTX's names, and the numbers that sim/insn.h has for them."""

import re

from .work import HERE


def words(text):
    return text.split()


OPS = re.findall(r"X\((\w+)\)", (HERE / "sim/ops.h").read_text())
OP = {name: i for i, name in enumerate(OPS)}
_TYPES = "pred b8 b16 b32 b64 u8 u16 u32 u64 s8 s16 s32 s64 f16 f16x2 bf16 bf16x2 f32 f64 b128 f32x2 s16x2 u16x2"
TYPE = {name: i for i, name in enumerate(_TYPES.split())}
_SIZES = {
    1: "pred b8 u8 s8", 2: "b16 u16 s16 f16 bf16", 8: "b64 u64 s64 f64 f32x2", 16: "b128",
}  # fmt: skip
_SIZE = {name: size for size, names in _SIZES.items() for name in names.split()}
SPACE = {"global": 1, "shared": 2, "shared::cta": 2, "local": 3, "param": 4, "const": 5}
_FLAGS = "FTZ SAT APPROX FULL HI LO WIDE NANF NC WRAP CLAMP RELEASE ACQUIRE UNI VOLATILE XORSIGN CC TOSPACE CG RELAXED"
FLAG = {name: 1 << i for i, name in enumerate(_FLAGS.split())}
# The modifiers that are a flag, of any instruction.
MODIFIER = {
    "ftz": "FTZ", "sat": "SAT", "approx": "APPROX", "full": "FULL", "hi": "HI", "lo": "LO", "wide": "WIDE",
    "NaN": "NANF", "uni": "UNI",
}  # fmt: skip
ROUND = {name: i + 1 for i, name in enumerate(words("rn rz rm rp rni rzi rmi rpi rna"))}
COMPARE = {
    name: i for i, name in enumerate(words("eq ne lt le gt ge lo ls hi hs equ neu ltu leu gtu geu num nan"))
}  # fmt: skip
BOOLEAN = {"and": 1, "or": 2, "xor": 3}
ATOMIC = {name: i + 1 for i, name in enumerate(words("add min max exch cas and or xor inc dec"))}
SPECIAL = words(
    "tid.x tid.y tid.z ntid.x ntid.y ntid.z ctaid.x ctaid.y ctaid.z nctaid.x nctaid.y nctaid.z laneid warpid "
    "lanemask_eq lanemask_lt lanemask_le lanemask_gt lanemask_ge cluster_ctarank cluster_nctarank nwarpid "
    "dynamic_smem_size WARP_SZ"
)  # registers, in the order in which schedule.cpp sets them


def size_of(name):
    """Of a type, in bytes."""
    return _SIZE.get(name, 4)
