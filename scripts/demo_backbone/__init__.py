"""Trains the small backbone that `e2vpt demo` adapts, on images that it draws itself."""
