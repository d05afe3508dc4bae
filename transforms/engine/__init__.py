"""The running job inside one process: one event loop, calls under the quota, units of work."""
