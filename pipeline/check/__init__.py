"""What bulkembed assumes of the service, tried out with small requests."""
