"""Benchmarks of bulkembed, also against other libraries; `make help` lists the targets."""
