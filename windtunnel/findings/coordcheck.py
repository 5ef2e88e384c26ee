"""The coordinate check: changes of activations against width, under each parametrization."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from windtunnel.findings.base import Finding, Quantity
from windtunnel.findings.records import Records


@dataclass(frozen=True, kw_only=True)
class CoordinateFinding(Finding):
    """The kept coordinate checks of a study; each as `windtunnel check mup --json` prints it."""

    checks: tuple[dict[str, Any], ...]

    kind: ClassVar[str] = "coordinate-check"
    title: ClassVar[str] = "Coordinate check"

    @property
    def lead(self) -> str:
        """The steepest slope of each parametrization, of its layers' updates, and over depth."""
        clauses = []
        for check in self.checks:
            steepest = max(check["sites"], key=lambda site: abs(site["slope"]))
            clauses.append(
                f"{parametrization_name(check)} {_outcome(check)}; steepest of its "
                f"{len(check['sites'])} slopes: {steepest['slope']:+.2f}, {steepest['name']}"
                + _layers_clause(check)
                + _depth_clause(check)
            )
        widths = self.checks[0]["widths"]
        updates = len(self.checks[0]["sites"][0]["changes"])
        return (
            f"Changes of activations from initialisation after {updates} updates, against width "
            f"from {widths[0]} to {widths[-1]}, as slopes of logarithms: {'. '.join(clauses)}."
        )

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """The steepest and worst slopes of each parametrization, then all; means of three seeds."""
        found = []
        for check in self.checks:
            slopes = {
                "steepest-slope": max((site["slope"] for site in check["sites"]), key=abs),
                "worst-effective-slope": _worst_slope(check.get("effective")),
                "worst-propagated-slope": _worst_slope(check.get("propagated")),
                "worst-depth-slope": _worst_slope(_over_depth(check)),
            }
            found += [
                self.quantity(name, slope, parametrization=parametrization_name(check))
                for name, slope in slopes.items()
                if slope is not None
            ]
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


def beyond(site: Mapping[str, Any]) -> float:
    """How far a slope lies outside what passes; below 0 inside."""
    return float(max(site["lowest"] - site["slope"], site["slope"] - site["highest"]))


def _outcome(check: Mapping[str, Any]) -> str:
    return "passes" if check["passed"] else "fails"


def _worst(sites: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The site that lies furthest outside what passes, or nearest to its edge."""
    return max(sites, key=beyond)


def _worst_slope(sites: Sequence[Mapping[str, Any]] | None) -> float | None:
    return _worst(sites)["slope"] if sites else None


def _over_depth(check: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    depth = check.get("depth")
    return [*depth["sites"], *depth["effective"], *depth["propagated"]] if depth else []


def _layers_clause(check: Mapping[str, Any]) -> str:
    if "effective" not in check:  # kept before layers were judged
        return ""
    own, earlier = _worst(check["effective"]), _worst(check["propagated"])
    return (
        f"; of its layers' changes by their own updates {own['slope']:+.2f}, {own['name']}, and "
        f"by earlier layers {earlier['slope']:+.2f}, {earlier['name']}"
    )


def _depth_clause(check: Mapping[str, Any]) -> str:
    depth = check.get("depth")
    if not depth:
        return ""
    worst = _worst(_over_depth(check))
    first, *_, last = depth["depths"]
    return (
        f"; against depth from {first} to {last} it {_outcome(depth)}, with {worst['slope']:+.2f} "
        f"of {worst['name']}"
    )


def parametrization_name(check: dict[str, Any]) -> str:
    """`muP`, `CompleteP` or `standard`."""
    name = str(check["parametrization"])
    return {"mup": "muP", "completep": "CompleteP"}.get(name, name)


def coordinates(records: Records) -> tuple[CoordinateFinding, ...]:
    """One finding, where a check was kept."""
    if not records.coordinate_checks:
        return ()
    return (CoordinateFinding(experiment="check mup", checks=records.coordinate_checks),)
