"""The data-model law: what it says under every convention, and whether its forecast held."""
