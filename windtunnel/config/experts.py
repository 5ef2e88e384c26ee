"""Shape fields of a mixture of experts: of the family minicpm-moe, and of upcycling."""

from typing import Annotated, Literal

from pydantic import Field

from windtunnel.config.units import Strict

Balance = Literal["switch", "bias", "none"]


class Routers(Strict):
    """How a router chooses, and how the load of the experts is balanced.

    Attributes:
        experts: Number that are routed to.
        top_k: Experts that compute a token.
        normalise_gates: Gates of a token sum to 1; else they are its probabilities.
        router_std: Init std of routers, at base width (MiniCPM-MoE's: variance 0.01).
        balance: `switch`, by a loss (Fedus et al. 2022, arXiv 2101.03961, equation 4); `bias`, by a
            bias on the choice that follows the load (Wang et al. 2024, arXiv 2408.15664); or none.
        balance_weight: Weight of the loss, summed over layers.
        bias_rate: Change of the bias an update.
        z_loss: Weight of the mean square of ln Z of a router's logits (Zoph et al. 2022, arXiv
            2202.08906, equation 5), summed over layers.
    """

    experts: Annotated[
        int, Field(ge=1, description="Experts that a token chooses from", examples=[8])
    ] = 8
    top_k: Annotated[int, Field(ge=1, description="Experts that compute a token")] = 2
    normalise_gates: Annotated[
        bool,
        Field(description="Gates of a token sum to 1; an upcycled model is then the dense one"),
    ] = True
    router_std: Annotated[float, Field(gt=0, description="Init std of routers")] = 0.1
    balance: Annotated[
        Balance, Field(description="Of the load: by the Switch loss, by a bias, or none")
    ] = "switch"
    balance_weight: Annotated[
        float | None, Field(ge=0, description="Of the Switch loss; default: 0.01")
    ] = None
    bias_rate: Annotated[
        float | None, Field(gt=0, description="Change of the bias an update; default: 0.001")
    ] = None
    z_loss: Annotated[float, Field(ge=0, description="Weight of the router's z-loss")] = 0.0


class ExpertFields(Routers):
    """The own shape fields of the family minicpm-moe.

    Attributes:
        shared_experts: Experts that compute every token beside those, ungated.
        granularity: The inner width of an expert is that of the feed-forward over this.
    """

    shared_experts: Annotated[int, Field(ge=0)] = 0
    granularity: Annotated[int, Field(ge=1)] = 1
