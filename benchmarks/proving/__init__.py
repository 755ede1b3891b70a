"""A proving ground: many small networks, trained here, and the boxes that are found with them."""
