"""What a study's recipe asks of its model family: sites for multipliers, a readout of its own."""

from collections.abc import Iterable
from typing import Protocol

from windtunnel.config.model import ModelFamily, Recipe
from windtunnel.config.units import Misfit
from windtunnel.family import MINICPM
from windtunnel.mup import Parametrization, Role, SiteName

SITE_OF: dict[str, SiteName] = {"scale_emb": "embed", "scale_depth": "residual"}
"""Recipe fields that are the multiplier of one site."""


def idle_fields(model: ModelFamily) -> frozenset[str]:
    """Fields of a recipe that the family does not use."""
    if model.family == MINICPM:
        return frozenset()
    sites = model.spec(model.sizes[0], vocab_size=256).sites
    return frozenset({"kv_rule", *(name for name, site in SITE_OF.items() if site not in sites)})


class FamilyAndRecipe(Protocol):
    """The parts of a study that are checked."""

    @property
    def model(self) -> ModelFamily:
        """The model family."""

    @property
    def recipe(self) -> Recipe:
        """The recipe."""


def check_family(study: FamilyAndRecipe, parametrizations: Iterable[Parametrization]) -> None:
    """Check that the family can be trained as the recipe says.

    Args:
        study: Its model and recipe.
        parametrizations: That of the recipe, and those that experiments vary it to.

    Raises:
        Misfit: A multiplier without a site, or a rule that the family cannot follow.
    """
    family, recipe = study.model.family, study.recipe
    if family == MINICPM:
        return
    model = study.model.spec(study.model.sizes[0], vocab_size=256)
    for name, site in SITE_OF.items():
        default = Recipe.model_fields[name].default
        if site not in model.sites and getattr(recipe, name) != default:
            raise Misfit(
                "no-site",
                f"family {family} has no {site} multiplier for {name} to set; leave it out",
                "recipe",
                name,
                family=family,
                site=site,
            )
    if "attention" in model.sites and model.attention_dim is None:
        raise Misfit(
            "no-head-dim",
            f"family {family} takes an attention multiplier, 1 / sqrt(head_dim), and has no field "
            "head_dim; give its `Fields` one",
            "model",
            "family",
            family=family,
            site="attention",
        )
    if recipe.kv_rule != "hidden":
        raise Misfit(
            "no-site",
            f"kv_rule: {recipe.kv_rule} is of the family {MINICPM}; family {family} starts keys "
            "and values as other hidden matrices: leave it out",
            "recipe",
            "kv_rule",
            family=family,
        )
    chosen = set(parametrizations)
    if "completep" in chosen and "residual" not in model.sites:
        raise Misfit(
            "no-site",
            f"parametrization: completep scales residual branches, and family {family} has no "
            "multiplier of them; take mup",
            "recipe",
            "parametrization",
            family=family,
            site="residual",
        )
    if chosen - {"standard"} and Role.READOUT not in model.roles and "logits" not in model.sites:
        raise Misfit(
            "tied-readout",
            f"family {family} has no multiplier of its logits, so that muP must scale its readout, "
            "and here the readout is the embedding: untie them (`model: {tied: false}`), or take "
            "parametrization: standard",
            "model",
            family=family,
            site="logits",
        )
