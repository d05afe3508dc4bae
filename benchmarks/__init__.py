"""What is measured, and against whom; `make help` lists the targets."""
