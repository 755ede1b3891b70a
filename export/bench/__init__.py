"""What a map costs beside a forward pass and beside peers."""
