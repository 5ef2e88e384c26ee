"""Laws that are found in stages: runs become optima, and a curve goes through those."""
