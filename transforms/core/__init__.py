"""Pure decisions: packing, quota, backoff, hashing, tokens, passages and ranges."""
