"""One law over one table: scaled, started from many points, polished, many times at once."""
