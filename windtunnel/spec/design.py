"""A design of mixtures for a mixture law: corners, their centre, and draws between them."""

import random
from typing import Annotated

from pydantic import Field

from windtunnel.spec.data import Sources, no_source
from windtunnel.spec.duration import Duration
from windtunnel.spec.shares import whole_shares
from windtunnel.spec.strict import Misfit, Strict

MOST_DRAWS = 100
"""For each mixture: few sources, or a low concentration, give the same ones again and again."""


class MixtureDesign(Strict):
    """Mixtures of some sources, each a variant `mix00`, `mix01`, ...

    The first are each source alone and all of them in equal shares, so that a law need not
    extrapolate; the rest are drawn from a Dirichlet distribution, the same for the same seed. No
    two are alike, so that there are fewer where so many are not to be had.
    """

    sources: Annotated[tuple[str, ...], Field(min_length=2, description="Names of data.sources")]
    mixtures_drawn: Annotated[
        int, Field(ge=1, le=500, description="Besides each source alone, and all in equal shares")
    ] = 20
    concentration: Annotated[
        float, Field(gt=0, le=1e6, description="1: uniform; below: towards single sources")
    ] = 1.0
    seed: int = 0
    decay: Annotated[
        Duration | None,
        Field(description="How long; default: schedule.decay_fraction of all training"),
    ] = None

    def check_sources(self, sources: Sources) -> None:
        """Refuse a source that the study has not, and one that is named twice."""
        known = {source.label for source in sources}
        for number, source in enumerate(self.sources):
            if source not in known:
                raise Misfit(f"{source!r} is {no_source(source, sources)}", "sources", number)
            if source in self.sources[:number]:
                raise Misfit(f"{source!r} is named twice; name it once", "sources", number)

    def mixtures(self) -> dict[str, dict[str, float]]:
        """Weights by source in whole thousandths, by the name of the variant."""
        count = len(self.sources)
        shares = [[float(k == one) for k in range(count)] for one in range(count)]
        shares.append([1.0 / count] * count)
        # The standard library's generator: the same numbers on every machine and version.
        draw = random.Random(self.seed)
        found = [whole_shares(each) for each in shares]
        for _ in range(MOST_DRAWS * self.mixtures_drawn):
            if len(found) == count + 1 + self.mixtures_drawn:
                break
            gammas = [draw.gammavariate(self.concentration, 1.0) for _ in self.sources]
            if not any(gammas):
                continue  # a concentration near 0
            drawn = whole_shares(gammas)
            if drawn not in found:
                found.append(drawn)
        digits = len(str(len(found) - 1))
        return {
            f"mix{number:0{digits}}": {
                source: float(whole)
                for source, whole in zip(self.sources, each, strict=True)
                if whole
            }
            for number, each in enumerate(found)
        }
