"""A local server for the Gemini embedding API, so that bulkembed runs without a key."""
