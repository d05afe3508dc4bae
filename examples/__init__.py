"""What embeddings are for, an example each; docs/examples.md shows what they print and draw."""
