"""csrc/torch_abi.h declares torch's C functions by hand; here torch's own headers check these declarations. The built
library may import these functions, and versioned symbols of libc and libstdc++, and nothing else. So one library works
with every torch."""

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from places import CSRC
from torch.torch_version import TorchVersion

HEADER = CSRC / "torch_abi.h"
TORCH_INCLUDE = Path(torch.__file__).parent / "include"
# With USE_CUDA torch's header also declares the functions for CUDA; these declarations need no CUDA header.
TORCH = '#define USE_CUDA\n#include "torch/csrc/stable/c/shim.h"\n'
# With the oldest torch that we support as the target, torch's header hides functions that only newer versions have.
OLDEST = "#define TORCH_TARGET_VERSION 0x020a000000000000\n"


def compile_with_torch(source, target=OLDEST):
    """The compiler's errors about torch's header followed by this source. The text is empty if there are none."""
    cxx = shlex.split(os.environ.get("CXX", "g++"))
    if not shutil.which(cxx[0]):
        pytest.skip(f"no C++ compiler ({cxx[0]}) to check csrc/torch_abi.h with")
    command = [*cxx, "-fsyntax-only", "-std=c++20", f"-I{TORCH_INCLUDE}", "-x", "c++", "-"]
    r = subprocess.run(command, input=target + TORCH + source, capture_output=True, text=True)
    assert (r.returncode != 0) == bool(r.stderr), r.stderr
    return r.stderr


def declarations():
    block = re.search(r'extern "C" \{\n(.*?)\n\}', HEADER.read_text(), re.S)[1]
    return re.sub(r"//.*", "", block)


@pytest.mark.full
@pytest.mark.parametrize("target", [OLDEST, ""], ids=["oldest", "installed"])
def test_declarations_agree_with_torch(target):
    # The block of declarations would be enough; the whole header shows that the rest compiles too.
    source = f'#include "{HEADER}"\n#include "{HEADER.with_name("torch_library.h")}"\n'
    assert compile_with_torch(source, target) == ""


def addresses(names):
    return "void* all[] = {" + ", ".join(f"(void*)&{n}" for n in names) + "};\n"


@pytest.mark.full
def test_every_function_is_in_torch():
    """Every function that we declare exists in torch. The test above cannot see a function that torch lacks, because
    its declaration conflicts with nothing. Only a weak function may be missing in the oldest torch; there its address
    is null."""
    function = r"\b((?:aoti_)?torch_\w+)\("
    names = re.findall(function, declarations())
    weak = re.findall(r"__attribute__\(\(weak\)\)\s+AOTITorchError\s+" + function, declarations())
    assert len(names) > 30 and set(weak) < set(names)
    assert compile_with_torch(addresses(n for n in names if n not in weak)) == ""
    if TorchVersion(torch.__version__) >= (2, 11):  # torch 2.11 has all weak functions
        assert compile_with_torch(addresses(weak), target="") == ""


@pytest.mark.full
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (
            "aoti_torch_get_dim(AtenTensorHandle t, int64_t* ret)",
            "aoti_torch_get_dim(AtenTensorHandle t, int32_t* ret)",
        ),
        ("int32_t aoti_torch_dtype_uint8()", "int64_t aoti_torch_dtype_uint8()"),
        ("aoti_torch_get_current_cuda_stream(int32_t", "aoti_torch_get_current_cuda_stream(int64_t"),
        ("using StableIValue = uint64_t", "using StableIValue = void*"),
    ],
)
def test_a_wrong_declaration_is_rejected(right, wrong):
    assert right in declarations()
    message = compile_with_torch(f'extern "C" {{\n{declarations().replace(right, wrong)}\n}}\n')
    assert re.search("conflicting|ambiguating|differ|redefinition", message), message


# Two threads, of which one or both throw
THREADS = """
#include <cstdio>
#include <thread>
#include "torch_abi.h"
int32_t torch_parallel_for(int64_t begin, int64_t end, int64_t, ParallelFunc f, void* context) {
  std::thread other(f, begin, end / 2, context);
  f(end / 2, end, context);
  other.join();
  return 0;
}
int main() {
  const auto attempt = [](auto f) {
    try {
      vk::parallel_for(0, 2, 1, f);
      std::puts("nothing");
    } catch (const std::bad_alloc& error) {
      std::puts("bad_alloc");
    } catch (const std::runtime_error& error) {
      std::puts(error.what());
    }
  };
  attempt([](int64_t, int64_t) {});
  attempt([](int64_t begin, int64_t) { VK_CHECK(begin, "row ", begin, '/', size_t(7), std::string(" is odd")); });
  attempt([](int64_t, int64_t) { throw std::logic_error("both"); });
  attempt([](int64_t begin, int64_t) {
    if (!begin) throw std::bad_alloc();
  });
  attempt([](int64_t, int64_t) { throw 7; });
}
"""


@pytest.mark.full
def test_what_a_thread_throws_reaches_the_caller(tmp_path):
    cxx = shlex.split(os.environ.get("CXX", "g++"))
    if not shutil.which(cxx[0]):
        pytest.skip(f"no C++ compiler ({cxx[0]})")
    program = tmp_path / "threads"
    command = [*cxx, "-std=c++20", "-pthread", "-iquote", str(CSRC), "-x", "c++", "-", "-o", str(program)]
    subprocess.run(command, input=THREADS, text=True, check=True)
    said = subprocess.run([program], capture_output=True, text=True, check=True).stdout.splitlines()
    unknown = "vae_kernels: a thread threw what is no std::exception"
    assert said == ["nothing", "vae_kernels: row 0/7 is odd", "both", "bad_alloc", unknown]


# ---------------------------------------------------------------- the imports of the library

LIBRARY = Path(importlib.util.find_spec("vae_kernels").origin).parent / "_C.so"
# NEEDED: the libraries of every C++ program, and torch. OPTIONAL: symbols that start files use if they are present.
NEEDED = r"lib(torch|stdc\+\+|m|gcc_s|c|pthread|dl|rt)\.so(\.\d+)?|ld-linux.*"
OPTIONAL = {"__gmon_start__", "_ITM_deregisterTMCloneTable", "_ITM_registerTMCloneTable"}
VERSIONED = r".+@(GLIBC|GLIBCXX|CXXABI|GCC)_[\d.]+"


def tool(name, *arguments):
    if not LIBRARY.exists():
        pytest.skip("the compiled library was not built")
    if not shutil.which(name):
        pytest.skip(f"no {name} here")
    return subprocess.run([name, *arguments, str(LIBRARY)], capture_output=True, text=True, check=True).stdout


def strangers(symbols, declared):
    """The symbols in the output of `nm -D --undefined-only` that neither torch nor libc nor libstdc++ has."""
    names = [line.split()[-1] for line in symbols.splitlines()]
    assert len(names) > 30
    return [n for n in names if n not in declared | OPTIONAL and not re.fullmatch(VERSIONED, n)]


def test_every_symbol_is_of_the_stable_abi_or_of_libc():
    declared = set(re.findall(r"\b((?:aoti_)?torch_\w+)\(", declarations()))
    symbols = tool("nm", "-D", "--undefined-only")
    assert strangers(symbols, declared) == []
    # the check finds a symbol that is not declared
    assert strangers(symbols, declared - {"torch_parallel_for"}) == ["torch_parallel_for"]
    assert strangers(symbols + " U _ZN2at6Tensor3sumEv\n U PyList_New\n", declared) == [
        "_ZN2at6Tensor3sumEv",
        "PyList_New",
    ]


def test_it_needs_no_other_library_and_exports_nothing_of_its_own():
    needed = re.findall(r"NEEDED.*\[(.*)\]", tool("readelf", "-d"))
    assert "libtorch.so" in needed and [n for n in needed if not re.fullmatch(NEEDED, n)] == []
    # only templates of the standard library are exported: all copies of a template are equal, so any copy may be used
    exported = tool("nm", "-DC", "--defined-only").splitlines()
    assert [line for line in exported if not re.match(r"\w+ [WVu] (std::|.* std::)", line)] == []
