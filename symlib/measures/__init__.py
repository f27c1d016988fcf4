"""Measures: arrays in, numbers out.  Modules: rank, symmetry, escape."""
