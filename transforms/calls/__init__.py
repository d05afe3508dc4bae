"""From contents to vectors: calls under the shared quota, retries and spending."""
