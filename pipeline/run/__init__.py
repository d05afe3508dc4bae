"""One run: request, plan, shared texts, settlement and summary."""
