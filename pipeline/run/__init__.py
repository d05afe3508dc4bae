"""A run: its request, plan, shared texts, settlement and summary."""
