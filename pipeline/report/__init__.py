"""`bulkembed report`: one page about a dataset."""
