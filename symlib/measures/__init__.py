"""Measures: arrays in, numbers out.  Modules: rank, collapse, similarity, symmetry, escape."""
