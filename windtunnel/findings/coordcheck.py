"""The coordinate check: changes of activations against width, under each parametrization."""

from dataclasses import dataclass
from typing import Any, ClassVar

from windtunnel.findings.base import Finding, Quantity
from windtunnel.findings.records import Records

DECAY = "weight decay of"


@dataclass(frozen=True, kw_only=True)
class CoordinateFinding(Finding):
    """The kept coordinate checks of a study; each as `windtunnel check mup --json` prints it."""

    checks: tuple[dict[str, Any], ...]

    kind: ClassVar[str] = "coordinate-check"
    title: ClassVar[str] = "Coordinate check"

    @property
    def lead(self) -> str:
        """The steepest slope of each parametrization."""
        clauses = []
        for check in self.checks:
            steepest = max(check["sites"], key=lambda site: abs(site["slope"]))
            outcome = "passes" if check["passed"] else "fails"
            clauses.append(
                f"{parametrization_name(check)} {outcome}; steepest of its {len(check['sites'])} "
                f"slopes: {steepest['slope']:+.2f}, {steepest['name']}"
            )
        widths = self.checks[0]["widths"]
        updates = len(self.checks[0]["sites"][0]["changes"])
        return (
            f"Changes of activations from initialisation after {updates} updates, against width "
            f"from {widths[0]} to {widths[-1]}, as slopes of logarithms: {'. '.join(clauses)}."
        )

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """The steepest slope of each parametrization, then every slope; means of three seeds."""
        found = []
        for check in self.checks:
            of_size = max((site["slope"] for site in check["sites"]), key=abs)
            found.append(
                self.quantity(
                    "steepest-slope", of_size, parametrization=parametrization_name(check)
                )
            )
        for check in self.checks:
            found += [
                self.quantity(
                    "slope",
                    site["slope"],
                    site=site["name"],
                    parametrization=parametrization_name(check),
                )
                for site in (*check["sites"], *check["decays"])
            ]
        return tuple(found)


def parametrization_name(check: dict[str, Any]) -> str:
    """`muP` or `standard`."""
    return "muP" if check["parametrization"] == "mup" else str(check["parametrization"])


def coordinates(records: Records) -> tuple[CoordinateFinding, ...]:
    """One finding, where a check was kept."""
    if not records.coordinate_checks:
        return ()
    return (CoordinateFinding(experiment="check mup", checks=records.coordinate_checks),)
