"""A local server that speaks the Gemini embedding API, so that everything runs without a key."""
