"""Searches over a study: trials, the log of what samplers suggested, seed noise, the winner."""
