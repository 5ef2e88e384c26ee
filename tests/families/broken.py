"""A module that fails when it is imported."""

nothing  # noqa: B018, F821
