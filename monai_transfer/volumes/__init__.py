"""Volumes on disk: one reader, one writer, one idea of a grid, one rule for names."""
