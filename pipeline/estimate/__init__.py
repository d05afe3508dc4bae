"""What a run will send, cost and last, found out before anything is sent."""
