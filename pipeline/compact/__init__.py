"""`bulkembed compact`: few large parts instead of many small ones."""
