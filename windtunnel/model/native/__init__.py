"""The decoder's forward and backward pass on one CPU core, by our own C++ kernels."""

from windtunnel.model.native.decoder import WHOLE_HEAD, NativePass, adamw, supports
from windtunnel.model.native.kernels import compiler, identity

__all__ = ["WHOLE_HEAD", "NativePass", "adamw", "compiler", "identity", "supports"]
