"""One example for each use of embeddings; docs/examples.md has their output and pictures."""
