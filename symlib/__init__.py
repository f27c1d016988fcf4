"""symlib: parameter-space symmetries as values that prove, check, conserve and train.

Modules: ops, groups, activations, symmetry, architectures, models, asymmetric, proofs, conserved, counting, checks,
dynamics, measures, data, plots, results, answers.
"""
