"""Build the C++ kernels once per machine and load them; a compiler is all they need.

The shared object lies in the user's own cache folder (0700, outside any store), under a name that
hashes the sources, the flags, the compiler and what it takes this processor for.
"""

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal, cast

from windtunnel.errors import ConfigError, boundary
from windtunnel.user_cache import user_cache

SOURCES = ("product.cpp", "attention.cpp", "elementwise.cpp")
HEADERS = ("vector.h",)
FLAGS = (
    "-std=c++17",
    "-O3",
    "-march=native",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-Wno-psabi",
)
HERE = Path(__file__).parent

TYPES = {"p": ctypes.c_void_p, "f": ctypes.c_float, "i": ctypes.c_int64, "b": ctypes.c_bool}
SIGNATURES = {
    "add_norm": "ppfpffpppii",
    "norm_backward": "pppfppppii",
    "swiglu": "ppii",
    "swiglu_backward": "pfpii",
    "split_heads": "pppfpppiiiii",
    "attention": "pfpppp iiiii",
    "attention_backward": "pppff ppfpp pppp pp iiiii",
    "cross_entropy": "ppbpiiif",
}
UNTYPED_SIGNATURES = {
    "embed": "ppfpiii",
    "embed_backward": "ppfpiii",
    "clear": "pi",
    "product": "pi pii pii iii fb",
    "adamw": "pppp f fffff ff i",
}
"""Arguments of the kernels: pointer, float, int64, bool."""


@functools.cache
def compiler() -> str | None:
    """The path of a C++ compiler, `$CXX` before the usual names; None where there is none."""
    for name in (os.environ.get("CXX"), "g++", "clang++", "c++"):
        if name and (path := shutil.which(name)):
            return path
    return None


@functools.cache
def identity() -> str | None:
    """A name for the machine code that would run here; None without a compiler.

    Two machines with the same name run the same instructions, so their results are the same bits.
    """
    if (found := compiler()) is None:
        return None
    probe = subprocess.run(  # prints the version, and -march=native spelt out
        [found, *FLAGS, "-E", "-v", "-x", "c++", os.devnull],
        capture_output=True,
        text=True,
        env=os.environ | {"LC_ALL": "C"},
        check=False,
    )
    if probe.returncode:
        return None
    digest = hashlib.sha256(probe.stderr.encode())
    for name in (*SOURCES, *HEADERS):
        digest.update((HERE / name).read_bytes())
    return digest.hexdigest()[:12]


@functools.cache
def function(kernel: str, precision: Literal["fp32", "bf16"]) -> Callable[..., float]:
    """A kernel by name, for activations of a precision; pointers are passed as integers."""
    typed = kernel in SIGNATURES
    types = SIGNATURES[kernel] if typed else UNTYPED_SIGNATURES[kernel]
    found = getattr(_library(), f"{kernel}_{precision}" if typed else kernel)
    found.argtypes = [TYPES[each] for each in types.replace(" ", "")]
    found.restype = ctypes.c_double if kernel == "cross_entropy" else None
    return cast("Callable[..., float]", found)


@functools.cache
def _library() -> ctypes.CDLL:
    """The kernels, built on first use.

    Raises:
        ConfigError: There is no compiler, it does not take the sources, or what it made cannot be
            loaded.
    """
    name = identity()
    if name is None:
        raise ConfigError(
            "the native kernels need a C++ compiler (g++ or clang++, or $CXX), and none is here; "
            "install one, or set resources.kernels: torch"
        )
    path = user_cache("native") / f"{name}.so"
    if path.exists():
        with suppress(OSError):  # damaged: it is built again
            return ctypes.CDLL(str(path))
    _build(path)
    fix = (
        "set XDG_CACHE_HOME to a folder that programs may be run from, or resources.kernels: torch"
    )
    with boundary(path, fix, ConfigError, what="the native kernels cannot be loaded"):
        return ctypes.CDLL(str(path))


def _build(path: Path) -> None:
    """Compile beside and rename, since several workers may do it at once."""
    found = compiler()
    assert found is not None
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        built = Path(scratch) / path.name
        sources = [str(HERE / name) for name in SOURCES]
        made = subprocess.run(
            [found, *FLAGS, "-shared", "-fPIC", *sources, "-o", str(built)],
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            raise ConfigError(
                f"{found} does not build the native kernels: {made.stderr.strip()[-800:]}\n"
                "set resources.kernels: torch, or point $CXX at another compiler"
            )
        built.replace(path)
