"""The Beam stages, over plain functions that need no runner."""
