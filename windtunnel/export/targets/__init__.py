"""Files for each trainer: one module per target."""
