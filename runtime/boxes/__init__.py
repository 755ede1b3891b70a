"""Maps into boxes: recipes, seeds, the graph cut, geometry."""
