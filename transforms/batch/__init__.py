"""The work on a batch job that needs its texts or its vectors: its file, and its results.

The launcher and the workers of clusters use the same functions.
"""
