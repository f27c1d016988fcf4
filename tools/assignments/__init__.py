"""The problem sets: their source, the editions made from it, and grading."""
