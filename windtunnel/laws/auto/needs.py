"""What a table must have for law `auto`: a small one is refused before scipy is loaded."""

from windtunnel.laws.chinchilla import Auto
from windtunnel.laws.point_estimate import require_identified
from windtunnel.laws.table import Table

COEFFICIENTS = 5
"""That rows have to decide, as of the Chinchilla law; the prior of k may decide the sixth."""


def require_rows(table: Table) -> None:
    """Refuse a table that cannot carry the law.

    Raises:
        FitError: too few rows or distinct values, two inputs that are one, or a loss that is none.
    """
    require_identified(Auto, table, COEFFICIENTS)
    Auto.check({name: table[name] for name in Auto.inputs}, table.loss)
