"""The reference workload: a model, its entities and the requests against them, made so that anyone can measure it.

Everything comes from a seed and passes through the product's own parts: log, training, proof, registry, materialize. So
a measurement on it is a measurement of what users run. Loads the training libraries inside the calls that need them.
"""
