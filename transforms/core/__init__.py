"""Pure decisions: packing, quota, backoff, hashing, tokens, prompts and ranges."""
