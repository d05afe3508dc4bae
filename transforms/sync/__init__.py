"""The rows of the input and of a dataset: compared by id, staged and removed.

The launcher and the workers of clusters use the same functions.
"""
