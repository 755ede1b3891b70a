"""A model in the form that the rules assume, with its image and its scores found."""
