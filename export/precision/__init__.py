"""Half precision written into the graph: what is lowered, scaled and rounded."""
