"""The Ray engine: the only importer of ray. `run` drives a graph on a local or joined cluster."""
