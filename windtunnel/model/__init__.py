"""The decoder network; the lowest room that imports torch."""

from windtunnel.model.decoder import Decoder, build, initialise

__all__ = ["Decoder", "build", "initialise"]
