"""The network: requests to the Gemini API and the decoding of its answers."""
