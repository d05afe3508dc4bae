"""`bulkembed search`: exact search in the vectors of a dataset."""
