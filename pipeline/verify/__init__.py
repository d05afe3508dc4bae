"""`bulkembed verify`: checks a dataset against its commit records and settings, and repairs it."""
