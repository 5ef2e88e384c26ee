"""What each trainer is given: one module a target."""
