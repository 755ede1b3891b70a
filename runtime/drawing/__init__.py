"""Pictures of results. Draws, and decides nothing."""
