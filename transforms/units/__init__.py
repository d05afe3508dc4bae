"""From rows to committed units: read, prepare, embed, write and commit."""
