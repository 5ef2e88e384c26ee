"""The decoder's forward and backward pass on one CPU core, by kernels of our own."""

from windtunnel.model.native.decoder import WHOLE_HEAD, NativeDecoder, adamw, supports
from windtunnel.model.native.kernels import compiler, identity

__all__ = ["WHOLE_HEAD", "NativeDecoder", "adamw", "compiler", "identity", "supports"]
