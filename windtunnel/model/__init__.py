"""The network. Torch starts here."""

from windtunnel.model.decoder import Decoder, build, initialise

__all__ = ["Decoder", "build", "initialise"]
