"""Paths or pixels into prepared pixels, and the way back."""
