"""Tables of runs from any file: columns, units, selected rows, checked numbers."""
