"""`bulkembed search`: a query embedded, and the rows nearest to it, exactly."""
